//! What is printed: sentences for people, one progress line below them, colours on a terminal.
//!
//! On a terminal the progress line is rewritten in place; elsewhere it becomes a line every few
//! seconds. `anstream` drops the colours where there is no terminal or `NO_COLOR` is set.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use super::load::Tally;
use super::watch::Handle;

const WIDTH: usize = 78;
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// Where nothing can be rewritten, a log of every redraw would bury the story.
const LINE_EVERY: Duration = Duration::from_secs(3);

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const STEP: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The screen. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Show {
    quiet: bool,
    is_terminal: bool,
}

impl Show {
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            is_terminal: std::io::stdout().is_terminal(),
        }
    }

    pub(super) fn title(&self, text: &str) {
        self.print(&format!("\n{BOLD}{text}{BOLD:#}\n"));
    }

    /// A step of the story: its name, and what it is about.
    pub(super) fn step(&self, name: &str, about: &str) {
        self.print(&format!("\n{STEP}{name}{STEP:#}"));
        self.text(about);
    }

    pub(super) fn text(&self, text: &str) {
        self.print(&wrap(text, "  "));
    }

    /// Something that was found or done.
    pub(super) fn fact(&self, text: &str) {
        self.print(&wrap(text, "  > "));
    }

    pub(super) fn good(&self, text: &str) {
        self.print(&format!("{GOOD}{}{GOOD:#}", wrap(text, "  ")));
    }

    pub(super) fn bad(&self, text: &str) {
        self.print(&format!("{BAD}{}{BAD:#}", wrap(text, "  ")));
    }

    /// A line as it stands, for tables.
    pub(super) fn line(&self, text: &str) {
        self.print(text);
    }

    /// Takes the progress line away.
    pub(super) fn clear(&self) {
        if self.is_terminal && !self.quiet {
            anstream::print!("\r\x1b[K");
            self.flush();
        }
    }

    /// Keeps the progress line up to date until the task is aborted.
    pub(super) fn progress(&self, tally: Arc<Tally>, watch: Handle) -> JoinHandle<()> {
        let show = self.clone();
        tokio::spawn(async move {
            let every = if show.is_terminal {
                REDRAW_EVERY
            } else {
                LINE_EVERY
            };
            let (mut ticks, mut last) = (interval(every), (Instant::now(), 0));
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let committed = tally.committed();
                let per_second = (committed - last.1) as f64 / last.0.elapsed().as_secs_f64();
                last = (Instant::now(), committed);
                show.redraw(&format!(
                    "  {} done, {per_second:.0}/s, {} without funds, {} sent again, {} prepared now",
                    thousands(committed),
                    thousands(tally.aborted()),
                    thousands(tally.repeated()),
                    watch.open()
                ));
            }
        })
    }

    fn redraw(&self, line: &str) {
        if self.quiet {
            return;
        }
        if self.is_terminal {
            let line: String = line.chars().take(WIDTH).collect();
            anstream::print!("\r{DIM}{line}{DIM:#}\x1b[K");
            self.flush();
        } else {
            anstream::println!("{line}");
        }
    }

    fn print(&self, text: &str) {
        if !self.quiet {
            self.clear();
            anstream::println!("{text}");
        }
    }

    /// A screen that is gone is no reason to stop: the report still counts.
    fn flush(&self) {
        let _ = std::io::stdout().flush();
    }
}

/// Breaks text into lines, with `first` before the first and blanks before the others.
fn wrap(text: &str, first: &str) -> String {
    let indent = " ".repeat(first.len());
    let mut lines = vec![first.to_owned()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one");
        let is_fresh = line.len() == first.len();
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{indent}{word}"));
        } else {
            if !is_fresh {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// 1234567 as 1,234,567.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Minor units as an amount of money.
pub(super) fn money(minor_units: i128) -> String {
    let sign = if minor_units < 0 { "-" } else { "" };
    let amount = minor_units.unsigned_abs();
    let whole = u64::try_from(amount / 100).unwrap_or(u64::MAX);
    format!("{sign}{}.{:02}", thousands(whole), amount % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
        assert_eq!(money(100_000_005), "1,000,000.05");
        assert_eq!(money(-1), "-0.01");
    }

    #[test]
    fn text_is_wrapped_at_words() {
        let wrapped = wrap(&"word ".repeat(40), "  > ");
        assert!(wrapped.lines().count() > 1);
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH), "{wrapped}");
        assert!(wrapped.starts_with("  > word"));
        assert!(
            wrapped
                .lines()
                .skip(1)
                .all(|line| line.starts_with("    word"))
        );
    }
}
