//! What the black-box tests share: real PostgreSQL servers with an account table each, checked
//! by direct SQL, never through Gavel.

pub mod bank;
pub mod embedded;
pub mod fleet;
pub mod history;
pub mod load;
