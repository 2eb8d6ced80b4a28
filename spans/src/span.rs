//! What took time, when, and below what.

use std::time::SystemTime;

use crate::context::{SpanId, TraceContext};

/// Which side of a call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody was answered.
    Server,
    /// Somebody else was asked.
    Client,
    /// Neither.
    Internal,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Something that has taken time.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Itself.
    pub context: TraceContext,
    /// What it is a part of; all zeros at the root of a trace.
    pub parent: SpanId,
    /// What was done, such as `prepare`: few different ones.
    pub name: &'static str,
    /// Which side of a call it is.
    pub kind: Kind,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What else is known.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of other traces that are about the same work.
    pub links: Vec<TraceContext>,
    /// What went wrong, if anything did.
    pub error: Option<String>,
}

impl Span {
    /// A span below `parent` that begins now and has not ended.
    pub fn begin(parent: &TraceContext, name: &'static str, kind: Kind) -> Self {
        let now = SystemTime::now();
        Self {
            context: parent.child(),
            parent: parent.span,
            name,
            kind,
            begun: now,
            ended: now,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    /// Adds something that is known.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    /// It ends now, and is kept.
    pub fn end(mut self) {
        self.ended = SystemTime::now();
        self.keep();
    }

    /// It is kept as it is.
    pub fn keep(self) {
        crate::keep(self);
    }
}
