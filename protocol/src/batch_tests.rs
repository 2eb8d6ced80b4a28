//! Tests of the batch machine.
