//! Whether an answer fits its question. The driver indexes reports by member and must not be
//! made to stumble by a peer that miscounts.

use gavel_protocol::message::{DecideAnswer, Decided, NoVote, PrepareAnswer, Vote, WhyAborted};
use gavel_protocol::outcome::StatementResult;

/// One report per member, and results for all of them or none.
pub(super) fn vote_fits(answer: &PrepareAnswer, members: usize) -> bool {
    let reports_fit = match &answer.vote {
        Vote::Yes { reports, .. }
        | Vote::ReadOnly { reports }
        | Vote::No(NoVote::NoneExecuted { reports }) => reports.len() == members,
        Vote::No(NoVote::NoCulprit(_) | NoVote::Refused(_)) | Vote::Unknown { .. } => true,
    };
    reports_fit && results_fit(&answer.results, members)
}

/// The members that failed are the batch's.
pub(super) fn decided_fits(answer: &DecideAnswer, members: usize) -> bool {
    let index_fits = match &answer.decided {
        Decided::Aborted(WhyAborted::Member { index, also, .. }) => {
            *index < members && also.iter().all(|index| *index < members)
        }
        Decided::Committed
        | Decided::Aborted(
            WhyAborted::Known(_) | WhyAborted::NoCulprit { .. } | WhyAborted::Refused(_),
        )
        | Decided::Unknown { .. } => true,
    };
    index_fits && results_fit(&answer.results, members)
}

fn results_fit(results: &[Vec<StatementResult>], members: usize) -> bool {
    results.is_empty() || results.len() == members
}
