//! What home does of its work before it is asked to decide, and what becomes of it.

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use gavel_protocol::Isolation;
use gavel_protocol::batch::MemberIndex;
use gavel_protocol::message::{FailedMember, HeadStarted};
use gavel_protocol::outcome::StatementResult;

use super::Driver;
use super::happened::{Happened, called};
use crate::lanes::{Approach, Side};

/// What home has done of its work before it was asked to decide.
pub(super) enum AtHome {
    Nothing,
    /// It is at it.
    Working,
    /// Everything, with these results; a session holds it open.
    Done(Vec<Vec<StatementResult>>),
    /// Nothing that counts. Its answer may have been lost, and a session hold it open.
    Unclear,
}

impl Driver {
    /// Who works first. Home does nothing ahead of the votes with work that may do anything to
    /// its session, nor where a later snapshot could make the difference (40001).
    pub(super) fn approach(&self) -> Approach {
        let has_branches = self.identities.keys().any(|shard| *shard != self.home.tag);
        match &self.seat {
            Some(seat)
                if has_branches
                    && self.batch_safe
                    && self.isolation == Isolation::ReadCommitted =>
            {
                seat.approach()
            }
            Some(_) | None => Approach::BranchesFirst,
        }
    }

    /// Home begins its work before it is asked to decide.
    pub(super) fn start_ahead(
        &mut self,
        first: bool,
        under_way: &mut FuturesUnordered<BoxFuture<'static, Happened>>,
    ) {
        let started = self.head_start(first);
        under_way.push(self.call(called::WORK_AHEAD, self.home.tag, started));
    }

    pub(super) fn note_head_start(&mut self, started: HeadStarted, is_first: bool) {
        if !matches!(self.at_home, AtHome::Working) {
            // It was given up in the meantime, and its session ended.
            return;
        }
        self.at_home = match started {
            HeadStarted::Ready { left_out, .. } if !is_first && !left_out.is_empty() => {
                tracing::warn!(batch = %self.batch, "home left out members that the branches run");
                AtHome::Unclear
            }
            HeadStarted::Ready { left_out, results } => {
                if !left_out.is_empty() {
                    self.failed(Side::Home);
                }
                self.left_out = left_out;
                AtHome::Done(results)
            }
            HeadStarted::Not { detail } => {
                tracing::debug!(batch = %self.batch, "no head start: {detail}");
                AtHome::Unclear
            }
        };
    }

    /// Decides, on top of what home has done already if that is what every branch did.
    pub(super) fn decide_now(
        &mut self,
        members: Vec<MemberIndex>,
        failed: Vec<FailedMember>,
        under_way: &mut FuturesUnordered<BoxFuture<'static, Happened>>,
    ) {
        // The branches agreed with home about everybody that they were asked for; so whoever
        // failed did so at home.
        let everybody = members.len() == self.asked().count();
        match std::mem::replace(&mut self.at_home, AtHome::Nothing) {
            AtHome::Working => {
                self.at_home = AtHome::Working;
                self.waiting_decide = Some((members, failed));
            }
            AtHome::Done(results) if everybody => {
                if let Some(seat) = &self.seat {
                    seat.executed();
                }
                self.executed = members;
                let decided = self.decide_in_session(results);
                under_way.push(self.call(called::DECIDE, self.home.tag, decided));
            }
            AtHome::Done(_) | AtHome::Unclear | AtHome::Nothing => {
                let decided = self.decide(&members, failed);
                under_way.push(self.call(called::DECIDE, self.home.tag, decided));
                self.executed = members;
            }
        }
    }

    pub(super) fn decide_if_it_waits(
        &mut self,
        under_way: &mut FuturesUnordered<BoxFuture<'static, Happened>>,
    ) {
        if let Some((members, failed)) = self.waiting_decide.take() {
            self.decide_now(members, failed, under_way);
        }
    }
}
