//! What a metric is, for its recorder, the documentation and the dashboards' tests.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// What is now.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric: a family of time series.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, by Prometheus' conventions: the unit is part of it.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The labels of every series.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

impl Metric {
    /// Tells the installed recorder about it.
    pub fn describe(&self) {
        let unit = match self.name.contains("_seconds") {
            true => Unit::Seconds,
            false => Unit::Count,
        };
        match self.kind {
            Kind::Counter => describe_counter!(self.name, unit, self.help),
            Kind::Gauge => describe_gauge!(self.name, unit, self.help),
            Kind::Histogram => describe_histogram!(self.name, unit, self.help),
        }
    }
}
