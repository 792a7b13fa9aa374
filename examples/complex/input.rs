//! The text on its way into blocks: read from the file straight into loaned blocks, nothing in between.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use blockcast::{Bytes, LoanError, Publisher, SendError};
use complex_subscriber::Tally;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The text that is published unless another one is given: the Book of Genesis, King James Version.
const GENESIS: &str = include_str!("genesis.txt");

/// How long the feeder waits for input or for a block before it looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// A text to publish.
pub enum Input {
    /// The shipped one.
    Shipped,
    /// A file.
    File { name: String, file: File, len: u64 },
    /// Standard input.
    Standard,
}

impl Input {
    /// Opens what the user named.
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

    /// What messages call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Shipped => "the shipped text",
            Self::File { name, .. } => name,
            Self::Standard => "standard input",
        }
    }

    /// Bytes, where that is known.
    fn len(&self) -> Option<u64> {
        match self {
            Self::Shipped => Some(GENESIS.len() as u64),
            Self::File { len, .. } if *len > 0 => Some(*len),
            Self::File { .. } | Self::Standard => None,
        }
    }
}

/// Shows how far the input has been published, on a terminal only.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(input: &Input, terminal: bool) -> Self {
        if !terminal {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match input.len() {
            Some(len) => (ProgressBar::new(len), "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}"),
            None => (ProgressBar::no_length(), "{spinner} {bytes} {bytes_per_sec}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(bar.with_style(style))
    }
}

/// What was read, counted straight from the input, for comparing with what the subscribers counted.
#[derive(Debug)]
pub struct Fed {
    /// What messages call the input.
    pub name: String,
    /// Bytes read and published.
    pub bytes: u64,
    /// What a subscriber should have counted; `None` if the text is not UTF-8.
    pub expected: Option<Tally>,
    /// Whether every block that the text travelled in is back in its pool.
    pub all_blocks_back: bool,
}

/// Reads the input into blocks until its end, or until it is stopped.
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

    /// Publishes the input in chunks of a block.
    pub fn feed(&self, mut input: Input, mut text: Publisher<Bytes>, progress: &Progress) -> Result<Fed, String> {
        let name = input.name().to_owned();
        let mut counted = Counted::default();
        let mut shipped = GENESIS.as_bytes();
        let mut bytes = 0;
        while !self.is_stopped() {
            if !ready(&input).map_err(|error| format!("cannot wait for {name}: {error}"))? {
                continue;
            }
            let loan = match text.blocking_loan(Some(Instant::now() + PATIENCE)) {
                Ok(loan) => loan,
                Err(LoanError::Deadline) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let mut read = 0;
            let sent = loan.send_with(|block| {
                let mut block = block.builder();
                read = match &mut input {
                    Input::Shipped => shipped.read(block.block())?,
                    Input::File { file, .. } => file.read(block.block())?,
                    Input::Standard => rustix::io::read(io::stdin().as_fd(), block.block())?,
                };
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                counted.add(&block.block()[..read]);
                block.finish(read).map_err(io::Error::other)
            });
            match sent {
                Ok(_) => {}
                Err(SendError::Build(error)) => match error.kind() {
                    io::ErrorKind::UnexpectedEof => break,
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => continue,
                    _ => return Err(format!("cannot read {name}: {error}")),
                },
                Err(SendError::Publish(error)) => return Err(error.to_string()),
            }
            bytes += read as u64;
            progress.0.set_position(bytes);
        }
        let all_blocks_back = wait_for_blocks(&mut text);
        progress.0.finish_and_clear();
        Ok(Fed { name, bytes, expected: counted.finish(), all_blocks_back })
    }
}

/// Whether there is something to read, waiting a little.
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

/// Waits until the publisher app has let go of all of the text; false if it does not within ten seconds.
fn wait_for_blocks(text: &mut Publisher<Bytes>) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let free = text.writer_mut().reclaim();
        if free == text.writer().pool().blocks {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Counts the text independently of the apps, with the standard library's lines.
#[derive(Default)]
struct Counted {
    tally: Tally,
    rest: Vec<u8>,
    broken: bool,
}

impl Counted {
    fn add(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
        if let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') {
            let complete: Vec<u8> = self.rest.drain(..=end).collect();
            self.count(&complete);
        }
    }

    fn count(&mut self, text: &[u8]) {
        match std::str::from_utf8(text) {
            Ok(text) => text.lines().for_each(|line| self.tally.add(line)),
            Err(_) => self.broken = true,
        }
    }

    fn finish(mut self) -> Option<Tally> {
        let rest = std::mem::take(&mut self.rest);
        self.count(&rest);
        (!self.broken).then_some(self.tally)
    }
}
