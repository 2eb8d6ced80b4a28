//! Spans of a batch. A batch is one piece of work for many transactions: whoever of them is traced
//! has it in his own trace. What participants do is below the first one's, to which the others
//! link.

use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use gavel_protocol::{BatchId, ShardTag};
use gavel_spans::{Kind, Span, TraceContext};

use super::happened::Happened;
use crate::ticket::Ticket;

/// Members of one batch that have its spans; a trace is of no use to anybody where hundreds are
/// alike.
const TRACED_MAX: usize = 16;

/// The members that are traced.
pub(super) struct Traces {
    members: Vec<(String, TraceContext)>,
    batch: BatchId,
    size: usize,
}

impl Traces {
    /// Of the batch that goes to work now: until here, its members have waited.
    pub(super) fn of(tickets: &[Arc<Ticket>], batch: BatchId) -> Self {
        let traced = tickets.iter().filter_map(|ticket| {
            let span = ticket.span.as_ref()?;
            Some((ticket, span))
        });
        let mut members = Vec::new();
        for (ticket, span) in traced.take(TRACED_MAX) {
            let txid = ticket.submission.txid.to_string();
            if !ticket.has_run() {
                Span {
                    begun: span.begun,
                    ended: SystemTime::now(),
                    ..Span::begin(&span.context, "queue", Kind::Internal)
                }
                .with("gavel.txid", txid.as_str())
                .keep();
            }
            members.push((txid, span.context));
        }
        Self {
            members,
            batch,
            size: tickets.len(),
        }
    }

    /// Does `work`, a call to a shard, within a span of that name.
    pub(super) fn call(
        &self,
        name: &'static str,
        shard: ShardTag,
        work: BoxFuture<'static, Happened>,
    ) -> BoxFuture<'static, Happened> {
        let spans = self.members.iter().map(|(txid, parent)| {
            Span::begin(parent, name, Kind::Client)
                .with("gavel.txid", txid.as_str())
                .with("gavel.batch", self.batch.to_string())
                .with("gavel.batch.members", self.size as i64)
                .with("gavel.shard.tag", i64::from(shard.0))
        });
        let mut spans: Vec<Span> = spans.collect();
        let Some(first) = spans.first().map(|span| span.context) else {
            return work;
        };
        spans[1..]
            .iter_mut()
            .for_each(|span| span.links.push(first));
        Box::pin(async move {
            let happened = gavel_spans::within(Some(first), work).await;
            let trouble = happened.trouble();
            for mut span in spans {
                span.error = trouble.clone();
                span.end();
            }
            happened
        })
    }
}
