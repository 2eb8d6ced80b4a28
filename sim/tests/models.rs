//! Every way through small worlds with one fault each; `gavel-sim --models large` explores more.

use gavel_sim::model::{Configuration, Size, explore};

#[test]
fn every_way_through_the_small_models_is_good() {
    for configuration in Configuration::all(Size::Small, None) {
        let explored = explore(&configuration, 2);
        println!(
            "{}: {} states, {} transitions, {} deep, {:?}",
            configuration.name,
            explored.states,
            explored.transitions,
            explored.depth,
            explored.elapsed
        );
        if let Some(found) = explored.violation {
            panic!("{}: {}\n{}", configuration.name, found.what, found.trace);
        }
    }
}
