//! Spans of transactions, for distributed tracing.
//!
//! Whoever does something that takes time says so with a [`Span`]; a process that was told where to
//! send them ([`install`]) keeps it, in any other it costs a look at a flag. Which transactions are
//! traced is decided where they come in ([`incoming`]) and travels with them: within a process as
//! [`current`], between processes as `traceparent`. There are no spans of what is not traced.
//!
//! Not made with `tracing`'s spans: a batch serves many transactions, so that one piece of work
//! has several parents in several traces, and thousands of transactions a second that nobody traces
//! are to pay nothing.

mod context;
#[cfg(feature = "otlp")]
mod otlp;
mod span;

use std::future::Future;
use std::sync::OnceLock;

pub use context::{MalformedTraceparent, SpanId, TraceContext, TraceId, Traceparent};
#[cfg(feature = "otlp")]
pub use otlp::{Collector, CollectorError, Service};
pub use span::{Kind, Span, Value};

/// The header, and the key in gRPC's metadata, that names the caller's span.
pub const TRACEPARENT: &str = "traceparent";

/// Where spans go.
pub trait Sink: Send + Sync {
    /// Keeps a span. Never waits: what there is no room for is dropped.
    fn keep(&self, span: Span);

    /// Sends what is kept.
    fn flush(&self);
}

struct Installed {
    sink: Box<dyn Sink>,
    /// Share of the transactions without a trace of their own that get one.
    roots: f64,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// From now on, this process keeps spans. A share of the transactions that come without a trace
/// gets one: `roots`, from 0 to 1. Only the first call counts.
pub fn install(sink: Box<dyn Sink>, roots: f64) {
    let _first_one_stays = INSTALLED.set(Installed { sink, roots });
}

/// The trace of something that comes in with this `traceparent`: the caller's if he wants spans,
/// none if he says that he does not, and perhaps a new one if he says nothing.
pub fn incoming(traceparent: Option<&str>) -> Option<TraceContext> {
    let installed = INSTALLED.get()?;
    match traceparent.map(str::parse) {
        Some(Ok(Traceparent::Sampled(context))) => Some(context),
        Some(Ok(Traceparent::NotSampled)) => None,
        None | Some(Err(MalformedTraceparent)) => {
            (rand::random::<f64>() < installed.roots).then(TraceContext::root)
        }
    }
}

/// The same between services: no new trace begins there.
pub fn continued(traceparent: Option<&str>) -> Option<TraceContext> {
    INSTALLED.get()?;
    match traceparent?.parse() {
        Ok(Traceparent::Sampled(context)) => Some(context),
        Ok(Traceparent::NotSampled) | Err(MalformedTraceparent) => None,
    }
}

/// The span within which this task works, if it is traced.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Does `work` within a span. Tasks that it spawns are not within it by themselves.
pub async fn within<F: Future>(context: Option<TraceContext>, work: F) -> F::Output {
    match context {
        None => work.await,
        Some(context) => CURRENT.scope(context, work).await,
    }
}

fn keep(span: Span) {
    if let Some(installed) = INSTALLED.get() {
        installed.sink.keep(span);
    }
}

/// Sends what is kept: for the end of the process. Waits for the collector, some seconds at most.
pub fn flush() {
    if let Some(installed) = INSTALLED.get() {
        installed.sink.flush();
    }
}
