//! The faces of the coordinator over a scripted engine: what they refuse, with which code, and
//! how they say what an engine answers. Nothing here is about PostgreSQL.

mod answers;
mod bad_input;
mod grpc;
mod hostile;
mod openapi;
mod roles;
mod scripted;
mod submits;
