//! [`Sleeper`]: detects whether another thread sleeps.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// A thread of this process or another one, as the system reports it.
#[derive(Debug)]
pub(super) struct Sleeper {
    stat: File,
}

impl Sleeper {
    /// Finds a thread by its process ID and thread ID.
    pub(super) fn new(process: u32, thread: u32) -> io::Result<Self> {
        Ok(Self { stat: File::open(format!("/proc/{process}/task/{thread}/stat"))? })
    }

    /// Whether the thread sleeps until somebody wakes it.
    pub(super) fn is_asleep(&self) -> io::Result<bool> {
        let mut text = [0; 256];
        let len = self.stat.read_at(&mut text, 0)?;
        // The state follows the name, which is in parentheses and may contain parentheses.
        let name_end = text[..len].iter().rposition(|&byte| byte == b')');
        Ok(name_end.is_some_and(|at| text[at..len].get(2) == Some(&b'S')))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_sleeps_while_it_waits_for_a_message_and_not_while_it_runs() {
        let thread = || rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let process = std::process::id();
        assert!(!Sleeper::new(process, thread()).unwrap().is_asleep().unwrap(), "this thread runs");
        let (numbers, number) = channel();
        let (wake, woken) = channel::<()>();
        let waiting = thread::spawn(move || {
            numbers.send(thread()).unwrap();
            woken.recv().unwrap_err();
        });
        let sleeper = Sleeper::new(process, number.recv().unwrap()).unwrap();
        while !sleeper.is_asleep().unwrap() {
            thread::yield_now();
        }
        drop(wake);
        waiting.join().unwrap();
    }
}
