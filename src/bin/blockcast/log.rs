//! What guests log, on the standard error: one line each, with the guest's name.

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use blockcast::{Level, LogSink};

/// Which lines are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter(Option<Level>);

impl Filter {
    /// Up to `info`.
    pub const INFO: Self = Self(Some(Level::Info));

    fn admits(self, level: Level) -> bool {
        self.0.is_some_and(|most| level <= most)
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "off" => None,
            "error" => Some(Level::Error),
            "warn" => Some(Level::Warn),
            "info" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            "trace" => Some(Level::Trace),
            _ => return Err(format!("{text:?} is none of off, error, warn, info, debug, trace")),
        }))
    }
}

/// Where the log of the guest `name` goes, as far as `filter` lets it.
pub fn sink(name: &str, width: usize, filter: Filter) -> LogSink {
    let prefix = format!("{name:<width$}");
    Arc::new(move |level, text| {
        if filter.admits(level) {
            print(&prefix, word(level), text);
        }
    })
}

/// A line of this program about the guest `name`.
pub fn about(name: &str, width: usize, word: &str, text: &str) {
    print(&format!("{name:<width$}"), word, text);
}

fn print(prefix: &str, word: &str, text: &str) {
    let mut out = std::io::stderr().lock();
    for line in text.lines() {
        let line = printable(line);
        // Nobody reads it any more: nothing to be done.
        let _ = writeln!(out, "{prefix} {word:<5} {line}");
    }
}

/// A guest writes what it likes (lines of its log, the reason why it failed, names of what it imports), but nothing that
/// moves the cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\t' | '\n') { '\u{fffd}' } else { c }).collect()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}
