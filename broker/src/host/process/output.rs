//! [`OutputPipe`]: a standard stream of a process, as lines of its component's log.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use blockcast_blocks::abi::Level;
use rustix::io::Errno;

use crate::hosting::lines::LineBuffer;

/// Number of bytes to read at a time.
const CHUNK: usize = 16 << 10;

/// Number of chunks to read before it is the others' turn.
const TURN: usize = 16;

/// The end of a pipe from which a process's output is read.
#[derive(Debug)]
pub(super) struct OutputPipe {
    pipe: OwnedFd,
    level: Level,
    line: LineBuffer,
}

impl OutputPipe {
    /// Gives lines this level.
    pub(super) fn new(pipe: OwnedFd, level: Level) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe, level, line: LineBuffer::default() })
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Reads the available output, up to a bound, without waiting. Calls `line` with every complete line.
    /// Returns `false` at the end of the stream.
    pub(super) fn read(&mut self, mut line: impl FnMut(Level, &[u8])) -> bool {
        let mut chunk = [0; CHUNK];
        for _ in 0..TURN {
            let read = match rustix::io::read(&self.pipe, &mut chunk) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return true,
                Ok(0) | Err(_) => return false,
                Ok(read) => read,
            };
            for piece in chunk[..read].split_inclusive(|&byte| byte == b'\n') {
                if let Some(text) = self.line.append(piece) {
                    line(self.level, &text);
                }
            }
        }
        true
    }

    /// Takes a last line that was not terminated.
    pub(super) fn take_rest(&mut self) -> Option<Vec<u8>> {
        self.line.take_rest()
    }
}

impl AsFd for OutputPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_pipe_is_read_in_lines_without_waiting_until_it_ends() {
        let (reader, mut writer) = io::pipe().expect("descriptors are left");
        let mut pipe = OutputPipe::new(reader.into(), Level::Info).expect("it is a pipe");
        let read = |pipe: &mut OutputPipe| {
            let mut lines = Vec::new();
            let goes_on = pipe.read(|_, line| lines.push(String::from_utf8_lossy(line).into_owned()));
            (lines, goes_on)
        };
        assert_eq!(read(&mut pipe), (vec![], true));
        writer.write_all(b"one\ntw").expect("somebody reads");
        assert_eq!(read(&mut pipe), (vec!["one".to_owned()], true));
        writer.write_all(b"o\n\nrest").expect("somebody reads");
        drop(writer);
        assert_eq!(read(&mut pipe), (vec!["two".to_owned(), String::new()], false));
        assert_eq!((pipe.take_rest(), pipe.take_rest()), (Some(b"rest".to_vec()), None));
    }
}
