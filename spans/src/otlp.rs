//! Sends spans to a collector, by OTLP over gRPC.
//!
//! Spans wait in a bounded queue and travel in batches, on a thread of their own. What does not fit
//! while the collector is slow or away is dropped: traces are never worth a transaction.

use std::time::Duration;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};

use crate::Sink;
use crate::context::TraceContext;
use crate::span::{Kind, Span, Value};

/// How long the collector may take for one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long spans wait for company.
const DELAY: Duration = Duration::from_secs(1);
/// Spans that may wait.
const QUEUE_MAX: usize = 16_384;
/// Spans in one message.
const EXPORT_MAX: usize = 2_048;

/// Which process sends spans.
#[derive(Debug, Clone)]
pub struct Service {
    /// `service.name`, such as `gavel-coordinator`.
    pub name: String,
    /// `service.namespace`: the deployment.
    pub namespace: String,
    /// `service.version`.
    pub version: &'static str,
    /// Further attributes of the process, such as its shard.
    pub attributes: Vec<(&'static str, String)>,
}

/// The collector cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the collector at {endpoint} cannot be used")]
pub struct CollectorError {
    endpoint: String,
    #[source]
    cause: ExporterBuildError,
}

/// A collector of spans.
#[derive(Debug)]
pub struct Collector {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Collector {
    /// Sends to the collector at `endpoint`, such as `http://127.0.0.1:4317`, from now until the
    /// process ends. Connects by itself, and again whenever it must. Call it within a runtime.
    ///
    /// # Errors
    /// The endpoint is no address.
    pub fn start(endpoint: &str, service: &Service) -> Result<Self, CollectorError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|cause| CollectorError {
                endpoint: endpoint.to_owned(),
                cause,
            })?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(EXPORT_MAX)
            .with_scheduled_delay(DELAY)
            .build();
        let mut processor = BatchSpanProcessor::new(exporter, config);
        processor.set_resource(&resource(service));
        Ok(Self {
            processor,
            scope: InstrumentationScope::builder("gavel")
                .with_version(service.version)
                .build(),
        })
    }
}

fn resource(service: &Service) -> Resource {
    let own = [
        KeyValue::new("service.namespace", service.namespace.clone()),
        KeyValue::new("service.version", service.version),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    let more = service.attributes.iter();
    let more = more.map(|(key, value)| KeyValue::new(*key, value.clone()));
    Resource::builder_empty()
        .with_service_name(service.name.clone())
        .with_attributes(own.into_iter().chain(more))
        .build()
}

impl Sink for Collector {
    fn keep(&self, span: Span) {
        let mut links = SpanLinks::default();
        let others = span.links.iter();
        links.links = others
            .map(|other| Link::with_context(sampled(other)))
            .collect();
        self.processor.on_end(SpanData {
            span_context: sampled(&span.context),
            parent_span_id: SpanId::from_bytes(span.parent),
            parent_span_is_remote: span.kind == Kind::Server,
            span_kind: match span.kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
                Kind::Internal => SpanKind::Internal,
            },
            name: span.name.into(),
            start_time: span.begun,
            end_time: span.ended,
            attributes: span
                .attributes
                .into_iter()
                .map(|(key, value)| match value {
                    Value::Text(text) => KeyValue::new(key, text),
                    Value::Number(number) => KeyValue::new(key, number),
                })
                .collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: match span.error {
                None => Status::Unset,
                Some(what) => Status::error(what),
            },
            instrumentation_scope: self.scope.clone(),
        });
    }

    fn flush(&self) {
        if let Err(error) = self.processor.force_flush() {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

fn sampled(context: &TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace),
        SpanId::from_bytes(context.span),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    )
}
