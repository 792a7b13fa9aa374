//! A thread of another process that runs one instruction at a time: [`Tracee`].

use std::mem::forget;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};

/// The signal by which a traced thread reports that it is at a mark.
const MARKER: Signal = Signal::SIGUSR1;

/// Returns the ID of the calling thread, for [`Tracee::seize`].
pub fn this_thread() -> i32 {
    gettid().as_raw()
}

/// Marks a place in the code of a traced thread, which stops there.
pub fn mark() {
    raise(MARKER).expect("a signal can be sent");
}

/// A traced thread. It stops at each [mark]. Kills the thread's process when dropped.
#[derive(Debug)]
pub struct Tracee(Pid);

/// How far a traced thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    Instruction,
    SystemCall,
}

/// Where a traced thread has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After one more instruction.
    Instruction,
    /// At a mark.
    Mark,
}

impl Tracee {
    /// Traces a running thread of a child of this process. The calling thread alone controls it from now on,
    /// and its process is killed if the calling thread ends.
    ///
    /// # Errors
    /// The system may not permit that, as in a container.
    pub fn seize(thread: i32) -> Result<Self, Errno> {
        let thread = Pid::from_raw(thread);
        ptrace::seize(thread, Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD)?;
        Ok(Self(thread))
    }

    /// Waits until the running thread has stopped.
    fn wait(&self) -> Stop {
        match waitpid(self.0, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => Stop::Instruction,
            Ok(WaitStatus::Stopped(_, MARKER)) => Stop::Mark,
            other => panic!("the traced thread: {other:?}"),
        }
    }

    /// Waits until the thread, which runs, is at a mark.
    pub fn wait_for_mark(&self) {
        assert_eq!(self.wait(), Stop::Mark);
    }

    /// Lets the stopped thread execute one instruction.
    pub fn step(&self) -> Stop {
        ptrace::step(self.0, None).expect("the thread has stopped");
        self.wait()
    }

    /// Stops the running thread, at any instruction.
    pub fn interrupt(&self) {
        ptrace::interrupt(self.0).expect("the thread is traced");
        loop {
            match waitpid(self.0, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::PtraceEvent(..)) => return,
                Ok(WaitStatus::Stopped(..)) => self.go_on(),
                other => panic!("the traced thread: {other:?}"),
            }
        }
    }

    /// Lets the stopped thread execute one instruction, or run until the next system call begins or ends.
    /// Returns `false` if `is_over` becomes true before it stops again: it runs on then.
    pub fn advance(&self, by: Advance, is_over: impl Fn() -> bool) -> bool {
        match by {
            Advance::Instruction => ptrace::step(self.0, None),
            Advance::SystemCall => ptrace::syscall(self.0, None),
        }
        .expect("the thread has stopped");
        loop {
            match waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if is_over() => return false,
                Ok(WaitStatus::StillAlive) => std::thread::yield_now(),
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceSyscall(_)) => return true,
                other => panic!("the traced thread: {other:?}"),
            }
        }
    }

    /// Lets the stopped thread run on.
    pub fn go_on(&self) {
        ptrace::cont(self.0, None).expect("the thread has stopped");
    }

    /// Lets the stopped thread run on, untraced.
    pub fn release(self) {
        ptrace::detach(self.0, None).expect("the thread has stopped");
        forget(self);
    }

    /// Waits for the end of the thread, whose process was killed. The process ends after it.
    pub fn wait_for_death(self) {
        self.reap();
        forget(self);
    }

    fn reap(&self) {
        loop {
            match waitpid(self.0, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Signaled(..) | WaitStatus::Exited(..)) | Err(Errno::ECHILD) => return,
                Ok(_) => {}
                Err(other) => panic!("the traced thread: {other}"),
            }
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // A test has failed. The process does not end before its traced thread was waited for.
        let _ = kill(self.0, Signal::SIGKILL);
        self.reap();
    }
}
