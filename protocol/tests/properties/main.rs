//! Properties of the core that hold for whatever is generated.

mod recovery;
mod sql;
