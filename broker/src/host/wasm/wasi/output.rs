//! Standard output and standard error of a program, as lines of the guest's log.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use blockcast_blocks::abi::Level;
use blockcast_blocks::shield::reported;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::component::limit_policy::{Limit, LimitPolicy};
use crate::hosting::lines::LineBuffer;
use crate::hosting::log::LogSink;
use crate::hosting::meter::{Admission, LineRate};

/// The most bytes that a program may write at a time.
const PERMIT: usize = 64 << 10;

/// A stream that becomes lines of a log. Clones, and all of a guest's handles on it, are the same stream.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Lines>>);

struct Lines {
    level: Level,
    sink: LogSink,
    line: LineBuffer,
    /// Shared by all lines of the guest's log.
    rate: LineRate,
    policy: LimitPolicy,
}

impl Output {
    /// A stream whose lines go to `sink` with this level.
    pub(crate) fn new(level: Level, sink: &LogSink, rate: LineRate, policy: LimitPolicy) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            level,
            sink: Arc::clone(sink),
            line: LineBuffer::default(),
            rate,
            policy,
        })))
    }

    /// Appends the program's output. If a sink panics, the rest is lost and the panic reaches the caller.
    fn append(&self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).append(piece);
            // The sink is called after the lock is released.
            if let Some(line) = ended {
                line.write();
            }
        }
    }
}

/// A complete line that is to be written.
struct Line {
    level: Level,
    sink: LogSink,
    admission: Admission,
    text: Vec<u8>,
}

impl Line {
    fn write(self) {
        self.admission.write(&self.sink, self.level, &String::from_utf8_lossy(&self.text));
    }
}

impl Lines {
    /// Appends a piece without a line break except at its end. Returns the line that it completes, if the
    /// line is to be written.
    fn append(&mut self, piece: &[u8]) -> Option<Line> {
        let text = self.line.append(piece)?;
        self.admit(text)
    }

    fn admit(&self, text: Vec<u8>) -> Option<Line> {
        let admission = self.rate.admit();
        if let Admission::Dropped = admission {
            self.policy.note(Limit::LogLines);
            return None;
        }
        Some(Line { level: self.level, sink: Arc::clone(&self.sink), admission, text })
    }
}

impl Drop for Lines {
    /// Flushes an unterminated last line.
    fn drop(&mut self) {
        if let Some(text) = self.line.take_rest()
            && let Some(line) = self.admit(text)
        {
            // The program has ended already, perhaps because the sink panicked.
            reported("a log sink", || line.write());
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        // Always ready. Even a program that only writes lets other tasks run on its thread now and then.
        tokio::task::consume_budget().await;
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::limits::{ComponentLimits, Rate};
    use crate::hosting::log::MAX_TEXT;

    /// The number of lines that the grant allows.
    const LINES: u64 = 10;

    fn stream(sink: &LogSink, rate: Rate) -> Output {
        let policy = LimitPolicy::new(&ComponentLimits::default());
        Output::new(Level::Info, sink, LineRate::new(rate), policy)
    }

    /// The lines that the log receives.
    fn lines(written: &[&[u8]]) -> Vec<String> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let sink: LogSink = Arc::new(move |_, line| sink.lock().expect("no panic").push(line.to_owned()));
        let output = stream(&sink, Rate::per_second(0).burst(LINES));
        for bytes in written {
            output.append(bytes);
        }
        drop(output);
        let seen = seen.lock().expect("no panic");
        seen.clone()
    }

    #[test]
    fn writes_are_cut_into_lines_wherever_they_end() {
        assert_eq!(lines(&[b"one\ntwo", b"", b"\n", b"\nlast"]), ["one", "two", "", "last"]);
        assert_eq!(lines(&[b"\xff\n"]), ["\u{fffd}"]);
        assert!(lines(&[b""]).is_empty());
    }

    #[test]
    fn a_sink_that_panics_is_called_without_a_lock_and_once_more_at_the_end() {
        let seen = Arc::new(Mutex::new(0));
        let (sink, calls) = (Arc::clone(&seen), Arc::clone(&seen));
        let sink: LogSink = Arc::new(move |_, _| {
            *sink.lock().expect("no panic while it is locked") += 1;
            panic!("a log sink with a mistake");
        });
        let output = stream(&sink, Rate::per_second(10));
        let ended = blockcast_blocks::shield::shielded(move || {
            output.append(b"last");
            // Like a guest that is unwound: the line is flushed while this thread panics.
            output.append(b" line\nnot ended");
        });
        assert!(ended.is_err());
        assert_eq!(*calls.lock().expect("no panic while it is locked"), 1, "the rest is lost with the panic");
        let output = stream(&sink, Rate::per_second(10));
        let ended = blockcast_blocks::shield::shielded(move || {
            output.append(b"not ended");
            panic!("first");
        });
        assert!(ended.map(|(): ()| ()).is_err());
        assert_eq!(*calls.lock().expect("no panic while it is locked"), 2);
    }

    #[test]
    fn a_line_without_an_end_is_kept_to_a_bound() {
        let seen = lines(&[&[b'x'; 3 * MAX_TEXT], b"y\nz\n"]);
        assert_eq!((seen[0].len(), seen[1].as_str()), (MAX_TEXT, "z"));
    }

    #[test]
    fn lines_beyond_the_grants_rate_are_dropped() {
        assert_eq!(lines(&[&b"x\n".repeat(5000)]).len() as u64, LINES);
    }
}
