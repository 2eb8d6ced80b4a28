//! One module per command.

pub(crate) mod actions;
pub(crate) mod audit;
pub(crate) mod certs;
pub(crate) mod chaos;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod damage;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod everybody;
pub(crate) mod health;
pub(crate) mod in_doubt;
pub(crate) mod manual;
pub(crate) mod migrate;
pub(crate) mod outcome;
pub(crate) mod removal;
pub(crate) mod retention;
pub(crate) mod shard;
pub(crate) mod steer;
pub(crate) mod submit;
pub(crate) mod top;
pub(crate) mod tx;
