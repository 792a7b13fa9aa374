//! Standard output and standard error of a program: lines of the guest's log.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::guest::abi::Level;
use crate::guest::excess::{Excess, Limit};
use crate::guest::meter::{Admission, LineGate};
use crate::guest::state::{LogSink, MAX_TEXT, line};

/// Bytes that a program may write at a time.
const PERMIT: usize = 64 << 10;

/// A stream that becomes lines of a log. Clones, and all handles of a guest on it, are the same stream.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Lines>>);

struct Lines {
    level: Level,
    sink: LogSink,
    /// The beginning of a line whose end was not written yet, at most [`MAX_TEXT`] bytes.
    line: Vec<u8>,
    /// The same for all lines of the guest's log.
    gate: LineGate,
    excess: Excess,
}

impl Output {
    /// Lines of this level go to `sink`.
    pub(crate) fn new(level: Level, sink: &LogSink, gate: LineGate, excess: Excess) -> Self {
        Self(Arc::new(Mutex::new(Lines { level, sink: Arc::clone(sink), line: Vec::new(), gate, excess })))
    }

    fn append(&self, bytes: &[u8]) {
        // A sink that panics leaves a line too many or too few.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(bytes);
    }
}

impl Lines {
    fn append(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = MAX_TEXT - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        match self.gate.line() {
            Admission::Line => {}
            Admission::LineAfter(dropped) => {
                (self.sink)(Level::Warn, &format!("{dropped} lines were dropped: too many in a second"));
            }
            Admission::Dropped => return self.excess.note(Limit::LogLines),
        }
        (self.sink)(self.level, &line(&String::from_utf8_lossy(&bytes)));
    }
}

impl Drop for Lines {
    /// What the program wrote last is a line, also if it did not say so.
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
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
        // Always; a program that only writes still lets others run on its thread now and then.
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
    use crate::guest::limits::{GuestLimits, Rate};

    /// Lines that the grant lets through.
    const LINES: u64 = 10;

    /// What becomes of `written`.
    fn lines(written: &[&[u8]]) -> Vec<String> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let sink: LogSink = Arc::new(move |_, line| sink.lock().expect("no panic").push(line.to_owned()));
        let gate = LineGate::new(Rate::per_second(0).burst(LINES));
        let output = Output::new(Level::Info, &sink, gate, Excess::new(&GuestLimits::default()));
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
    fn a_line_without_an_end_is_kept_to_a_bound() {
        let seen = lines(&[&[b'x'; 3 * MAX_TEXT], b"y\nz\n"]);
        assert_eq!((seen[0].len(), seen[1].as_str()), (MAX_TEXT, "z"));
    }

    #[test]
    fn lines_beyond_the_grants_rate_are_dropped() {
        assert_eq!(lines(&[&b"x\n".repeat(5000)]).len() as u64, LINES);
    }
}
