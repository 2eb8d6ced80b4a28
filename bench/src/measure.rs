//! The plan: which runs, in which order, and what they add up to.
//!
//! Repetitions are interleaved (A B C D, A B C D, …), so that a disturbance of the machine hits
//! all variants alike; medians are taken per variant and number of clients.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::load::{self, Counted};
use crate::report::Row;
use crate::variants::{Kind, Layout};
use crate::world::World;

/// How long a run is.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub window: Duration,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Numbers of clients.
    pub clients: Vec<usize>,
    /// Variants, in their order.
    pub variants: Vec<Kind>,
    /// Runs of each.
    pub repetitions: usize,
    /// The length of each.
    pub timing: Timing,
    /// Gavel's executable, for the fleet.
    pub executable: PathBuf,
}

/// One run's numbers.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Committed transfers per second.
    pub tps: f64,
    /// Latencies in microseconds: median, 95th and 99th percentile.
    pub latency_us: [u64; 3],
    /// CPU time per committed transfer in microseconds: client, Gavel, PostgreSQL.
    pub cpu_us: [Option<f64>; 3],
    /// Aborted or refused transfers.
    pub aborts: u64,
    /// Transactions per batch.
    pub batch_mean: Option<f64>,
}

/// The search for the best layout of `2pc-best`.
const SEARCH: Timing = Timing {
    warm_up: Duration::from_millis(300),
    window: Duration::from_millis(1000),
};

/// Runs the plan.
pub async fn run(world: &World, plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for clients in plan.clients.iter().copied() {
        let layout = match plan.variants.contains(&Kind::Best) {
            true => best_layout(world, plan, clients).await?,
            false => Layout::candidates(clients)[0],
        };
        let mut samples = vec![Vec::new(); plan.variants.len()];
        for repetition in 1..=plan.repetitions {
            for (kind, samples) in plan.variants.iter().zip(&mut samples) {
                let sample = measure(world, plan, *kind, layout, clients, plan.timing).await?;
                println!(
                    "{kind:<15} {clients:>4} clients, run {repetition} of {}: {:>8.0} transfers/s",
                    plan.repetitions, sample.tps
                );
                samples.push(sample);
            }
        }
        for (kind, samples) in plan.variants.iter().zip(&samples) {
            let layout = (*kind == Kind::Best).then_some(layout);
            rows.push(Row::of(*kind, clients, layout, samples));
        }
    }
    Ok(rows)
}

async fn best_layout(world: &World, plan: &Plan, clients: usize) -> anyhow::Result<Layout> {
    let candidates = Layout::candidates(clients);
    let mut best = (candidates[0], 0.0);
    if candidates.len() == 1 {
        return Ok(best.0);
    }
    for layout in candidates {
        let sample = measure(world, plan, Kind::Best, layout, clients, SEARCH).await?;
        if sample.tps > best.1 {
            best = (layout, sample.tps);
        }
    }
    println!(
        "{:<15} {clients:>4} clients: best with {:?}",
        Kind::Best.name(),
        best.0
    );
    Ok(best.0)
}

async fn measure(
    world: &World,
    plan: &Plan,
    kind: Kind,
    layout: Layout,
    clients: usize,
    timing: Timing,
) -> anyhow::Result<Sample> {
    world.reset()?;
    let variant = kind.start(world, layout, &plan.executable).await?;
    let counted = load::run(variant.as_ref(), clients, timing, world).await;
    variant.stop().await?;
    let counted = counted.with_context(|| format!("{kind} with {clients} clients failed"))?;
    world
        .audit(counted.committed)
        .with_context(|| format!("{kind} with {clients} clients is wrong"))?;
    Ok(Sample::of(&counted, world.batch_mean()?))
}

impl Sample {
    fn of(counted: &Counted, batch_mean: Option<f64>) -> Self {
        let transfers = counted.latencies.len() as f64;
        let latency = |quantile| counted.latencies.value_at_quantile(quantile);
        let cpu = &counted.cpu;
        let per_transfer = |time: Option<Duration>| {
            time.filter(|_| transfers > 0.0)
                .map(|time| time.as_secs_f64() * 1e6 / transfers)
        };
        Self {
            tps: transfers / counted.window.as_secs_f64(),
            latency_us: [0.5, 0.95, 0.99].map(latency),
            cpu_us: [cpu.client, cpu.gavel, cpu.postgres].map(per_transfer),
            aborts: counted.aborted,
            batch_mean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every variant that needs no other executable, on real servers; `measure` fails if money
    /// is missing.
    #[tokio::test(flavor = "multi_thread")]
    async fn variants_transfer_and_the_audit_agrees() {
        let world = World::start(50).await.unwrap();
        let variants = vec![Kind::Naive, Kind::Best, Kind::Embedded];
        let plan = Plan {
            clients: vec![4],
            variants: variants.clone(),
            repetitions: 1,
            timing: SEARCH,
            executable: PathBuf::new(),
        };
        let layout = Layout {
            connections: 4,
            group: 8,
        };
        for kind in variants {
            let sample = measure(&world, &plan, kind, layout, 4, SEARCH)
                .await
                .unwrap();
            assert!(sample.tps > 0.0, "{kind}: {sample:?}");
            assert_eq!(sample.batch_mean.is_some(), kind == Kind::Embedded);
        }
        // The audit must notice what it is there for.
        let committed = 1;
        assert!(world.audit(committed).is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_audit_finds_half_a_transfer() {
        let world = World::start(10).await.unwrap();
        world.reset().unwrap();
        world.audit(0).unwrap();
        let [one, _] = world.servers() else {
            panic!("two servers")
        };
        let half = "UPDATE account SET balance = balance - 5 WHERE id = 1; \
             INSERT INTO mark VALUES (gen_random_uuid(), 1, -5)";
        one.sql("bank", half).unwrap();
        let error = world.audit(1).unwrap_err().to_string();
        assert!(error.contains("instead of"), "{error}");
    }
}
