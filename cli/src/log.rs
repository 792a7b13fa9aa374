//! Log lines on standard error, each with the name of its component.

use std::borrow::Cow;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use blockcast::{Level, LogSink, text};

/// Selects the lines to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter(Option<Level>);

impl Filter {
    /// Prints lines up to `info`.
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
            _ => {
                return Err(format!(
                    "{text:?} is not a log level: use off, error, warn, info, debug or trace"
                ));
            }
        }))
    }
}

/// Prints the log lines of component `name` that `filter` admits.
pub fn sink(name: &str, width: usize, filter: Filter) -> LogSink {
    let prefix = padded(name, width);
    Arc::new(move |level, text| {
        if filter.admits(level) {
            print(&prefix, word(level), text);
        }
    })
}

/// Prints a line of this tool about component `name`.
pub fn about(name: &str, width: usize, word: &str, text: &str) {
    print(&padded(name, width), word, text);
}

/// Prints a line of this tool about itself.
pub fn say(text: &str) {
    // `eprintln!` would panic if standard error is closed; then nobody reads the line.
    let _ = writeln!(std::io::stderr(), "blockcast: {}", printable(text));
}

fn padded(name: &str, width: usize) -> String {
    format!("{:<width$}", text::line(name))
}

fn print(prefix: &str, word: &str, text: &str) {
    let mut out = std::io::stderr().lock();
    for line in text.lines() {
        let line = printable(line);
        // Ignore a closed standard error.
        let _ = writeln!(out, "{prefix} {word:<5} {line}");
    }
}

/// Makes text with several lines safe to print. Guests, libraries and files choose much of it; nothing in it
/// may move the cursor or change the text direction.
pub fn printable(text: &str) -> Cow<'_, str> {
    text::lines(text)
}

/// Makes JSON safe to print: invisible characters become JSON escapes.
pub fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if text::is_invisible(c) {
            // In JSON, only a string can contain one.
            let mut units = [0; 2];
            shown.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    shown
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
