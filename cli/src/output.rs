//! Results on standard output: text for people, or one JSON document.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::{Value, json};

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// As JSON.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a result.
    pub(crate) fn result(self, text: impl Display, json: &Value) {
        // Whoever closed the pipe does not want to know.
        let _closed = if self.json {
            writeln!(io::stdout(), "{json}")
        } else {
            writeln!(io::stdout(), "{text}")
        };
    }

    /// Prints a failure: as JSON where results go, or as text on standard error.
    pub(crate) fn failure(self, error: &anyhow::Error) {
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        if self.json {
            let document = json!({"error": {"message": error.to_string(), "causes": causes}});
            self.result("", &document);
            return;
        }
        let mut stderr = io::stderr();
        let _closed = writeln!(stderr, "gavel: {error}");
        for cause in causes {
            let _closed = writeln!(stderr, "  because: {cause}");
        }
    }
}
