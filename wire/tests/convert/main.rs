//! Conversions between domain types and messages: what goes through comes back, and what should
//! not have been sent is refused.

mod hostile;
mod round_trip;
mod values;
