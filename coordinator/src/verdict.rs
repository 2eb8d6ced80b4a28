//! From a verdict of the batch machine to what a client hears.

use gavel_protocol::batch::Verdict;
use gavel_protocol::message::Recorded;
use gavel_protocol::{Outcome, Refusal, RefusalCode};

/// What a client hears of a verdict. `applied` says whether phase two of *this* batch has
/// nothing left to do for it.
pub fn outcome(verdict: Verdict, applied: bool) -> Outcome {
    match verdict {
        Verdict::Committed => Outcome::Committed { applied },
        Verdict::Aborted(reason) => Outcome::Aborted(reason),
        Verdict::Refused(why) => Outcome::Refused(why),
        Verdict::Recorded(recorded) => recorded_outcome(recorded),
        Verdict::InDoubt(detail) => Outcome::InDoubt { detail },
    }
}

/// What a repeated submit hears (R8).
pub fn recorded_outcome(recorded: Recorded) -> Outcome {
    match recorded {
        // The earlier batch's phase two may still run; this coordinator does not know.
        Recorded::Committed => Outcome::Committed { applied: false },
        Recorded::Aborted(reason) => Outcome::Aborted(reason),
        Recorded::OtherContent => Outcome::Refused(Refusal::new(
            RefusalCode::TxidReused,
            "this txid was used before with other content: mint a new one",
        )),
        Recorded::OtherPrincipal => Outcome::Refused(Refusal::new(
            RefusalCode::NotYours,
            "this txid belongs to somebody else: mint a new one",
        )),
    }
}
