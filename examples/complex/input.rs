//! Reads the text from a file directly into loaned blocks, without a buffer in between.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use blockcast::{Bytes, LoanError, Publisher, SendError};
use complex_subscriber::Tally;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::waiting::{SILENCE, remember, say};

/// The text to publish if no other is given: the Book of Genesis, King James Version.
const GENESIS: &str = include_str!("genesis.txt");

/// How long the feeder waits for input or for a block before it checks whether to stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// A text to publish.
pub enum Input {
    /// The shipped text.
    Shipped,
    /// A file.
    File { name: String, file: File, len: u64 },
    /// Standard input.
    Standard,
}

impl Input {
    /// Opens the input that the user named.
    pub fn open(name: Option<&str>) -> Result<Self, String> {
        match name {
            None => Ok(Self::Shipped),
            Some("-") => Ok(Self::Standard),
            Some(name) => {
                let unreadable = |error: io::Error| format!("cannot read {name}: {error}");
                let file = File::open(name).map_err(unreadable)?;
                let metadata = file.metadata().map_err(unreadable)?;
                if metadata.is_dir() {
                    return Err(format!("cannot read {name}: it is a folder"));
                }
                Ok(Self::File { name: name.to_owned(), len: metadata.len(), file })
            }
        }
    }

    /// Name of the input in messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Shipped => "the shipped text",
            Self::File { name, .. } => name,
            Self::Standard => "standard input",
        }
    }

    /// Length in bytes, if known.
    fn len(&self) -> Option<u64> {
        match self {
            Self::Shipped => Some(GENESIS.len() as u64),
            Self::File { len, .. } if *len > 0 => Some(*len),
            Self::File { .. } | Self::Standard => None,
        }
    }
}

/// Shows on a terminal how much of the input was read, until it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(input: &Input, terminal: bool) -> Self {
        if !terminal {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match input.len() {
            Some(len) => {
                (ProgressBar::new(len), "{spinner} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            }
            None => (ProgressBar::no_length(), "{spinner} {bytes} {bytes_per_sec}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The text that was read, and the counts that a subscriber should report.
#[derive(Debug)]
pub struct Fed {
    /// Name of the input in messages.
    pub name: String,
    /// Bytes read and published.
    pub bytes: u64,
    /// The lines before the first that cannot be published, counted directly from the input.
    pub expected: Tally,
    /// Whether some line cannot be published.
    pub refused: Option<Refused>,
    /// Why reading ended early, unless it was stopped.
    pub failure: Option<String>,
}

/// Why a line cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not fit in a block.
    TooLong,
    /// It is not UTF-8.
    NotUtf8,
}

/// Reads the input into blocks until it ends or is stopped.
pub struct Feeder {
    stopped: AtomicBool,
}

impl Feeder {
    pub fn new() -> Self {
        Self { stopped: AtomicBool::new(false) }
    }

    /// Makes [`feed`](Self::feed) return within [`PATIENCE`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Publishes the input in chunks of one block. Lines longer than `limit` bytes are expected to be
    /// refused.
    pub fn feed(
        &self,
        mut input: Input,
        limit: usize,
        mut text: Publisher<Bytes>,
        progress: &Progress,
    ) -> Fed {
        let mut counted = Counted::new(limit);
        let mut bytes = 0;
        let failure = self.read(&mut input, &mut text, progress, |chunk| {
            counted.add(chunk);
            bytes += chunk.len() as u64;
            progress.0.set_position(bytes);
        });
        let name = input.name().to_owned();
        let failure = failure.err().map(|error| format!("cannot read {name}: {error}"));
        let (expected, refused) = counted.finish();
        Fed { name, bytes, expected, refused, failure }
    }

    /// Reads into one loaned block after another and publishes each. Calls `seen` with every chunk before it
    /// is published.
    fn read(
        &self,
        input: &mut Input,
        text: &mut Publisher<Bytes>,
        progress: &Progress,
        mut seen: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut shipped = GENESIS.as_bytes();
        let (from, mut wait) = (format!("text from {}", input.name()), Wait::default());
        remember(&from);
        while !self.is_stopped() {
            if !ready(input)? {
                wait.goes_on(&from, progress);
                continue;
            }
            let loan = match text.blocking_loan(Some(Instant::now() + PATIENCE)) {
                Ok(loan) => loan,
                Err(LoanError::Deadline) => {
                    wait.goes_on("the apps to receive what was read", progress);
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            let sent = loan.send_with(|block| {
                let mut block = block.builder();
                let read = match input {
                    Input::Shipped => shipped.read(block.block())?,
                    Input::File { file, .. } => file.read(block.block())?,
                    Input::Standard => rustix::io::read(io::stdin().as_fd(), block.block())?,
                };
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                seen(&block.block()[..read]);
                block.finish(read).map_err(io::Error::other)
            });
            match sent {
                Ok(_) if wait.since.is_some() => {
                    wait = Wait::default();
                    remember(&from);
                }
                Ok(_) => {}
                Err(SendError::Build(error)) => match error.kind() {
                    io::ErrorKind::UnexpectedEof => break,
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {}
                    _ => return Err(error),
                },
                Err(SendError::Publish(error)) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }
}

/// One wait of the feeder.
#[derive(Default)]
struct Wait {
    since: Option<Instant>,
    /// Whether the user was informed.
    said: bool,
}

impl Wait {
    /// Notes that there is still nothing.
    fn goes_on(&mut self, what: &str, progress: &Progress) {
        let since = *self.since.get_or_insert_with(Instant::now);
        remember(what);
        if !self.said && since.elapsed() >= SILENCE {
            self.said = true;
            progress.0.suspend(|| say(what));
        }
    }
}

/// Waits briefly, and returns whether there is something to read.
fn ready(input: &Input) -> io::Result<bool> {
    let readable = |file: BorrowedFd<'_>| {
        let mut files = [PollFd::from_borrowed_fd(file, PollFlags::IN)];
        let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(PATIENCE.subsec_nanos()) };
        match poll(&mut files, Some(&patience)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    match input {
        Input::Shipped => Ok(true),
        Input::File { file, .. } => readable(file.as_fd()),
        Input::Standard => readable(io::stdin().as_fd()),
    }
}

/// Counts the text independently of the apps.
struct Counted {
    limit: usize,
    tally: Tally,
    rest: Vec<u8>,
    refused: Option<Refused>,
}

impl Counted {
    fn new(limit: usize) -> Self {
        Self { limit, tally: Tally::default(), rest: Vec::new(), refused: None }
    }

    fn add(&mut self, chunk: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        self.rest.extend_from_slice(chunk);
        if let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') {
            let rest = self.rest.split_off(end + 1);
            let complete = std::mem::replace(&mut self.rest, rest);
            complete.split_inclusive(|&byte| byte == b'\n').for_each(|line| self.count(line));
        }
        // The line is too long, with either line ending.
        if self.rest.len() > self.limit + 1 {
            self.refused.get_or_insert(Refused::TooLong);
        }
    }

    /// Counts a line, which includes its ending. Lines are those of the standard library.
    fn count(&mut self, line: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        let bytes = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        match std::str::from_utf8(bytes) {
            _ if bytes.len() > self.limit => self.refused = Some(Refused::TooLong),
            Ok(line) => self.tally.add(line),
            Err(_) => self.refused = Some(Refused::NotUtf8),
        }
    }

    fn finish(mut self) -> (Tally, Option<Refused>) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.count(&rest);
        }
        (self.tally, self.refused)
    }
}
