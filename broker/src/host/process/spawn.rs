//! Starting a child: [`spawn`].

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::child::SOCKET_FD;
use super::rlimits::Confinement;
use super::source::ProcessProgram;
use super::walls::Walls;
use crate::component::limits::ComponentLimits;

/// A running child. Dropping it kills and reaps the child.
#[derive(Debug)]
pub(super) struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    is_reaped: bool,
}

/// This process's ends of the connections with a child.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) socket: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) how: How,
    /// Processor time of the child, and of those children that it has waited for.
    pub(super) computed: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Exited(i32),
    Signalled(i32),
    /// Something else has waited for it, such as the program's handler for `SIGCHLD`.
    Unknown,
}

/// Starts a child. Call this on a thread that lives as long as the child: the system kills the child when the
/// thread ends.
///
/// # Errors
/// The reason why the system refuses.
pub(super) fn spawn(program: &ProcessProgram, limits: &ComponentLimits) -> Result<(Running, Ends), String> {
    let failed =
        |action: &str, error: &dyn std::fmt::Display| format!("the system refused to {action}: {error}");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (socket, theirs) = pair.map_err(|error| failed("create a pair of sockets", &error))?;
    // The standard streams of the child replace the first three descriptors.
    let theirs = fcntl_dupfd_cloexec(&theirs, 3).map_err(|error| failed("copy a descriptor", &error))?;
    set_socket_passcred(&socket, true).map_err(|error| failed("name the sender of packets", &error))?;
    let parent = getpid();
    let confinement = Confinement::new(parent, theirs.as_raw_fd(), limits);
    let walls = program.walls().map_err(|error| error.to_string())?;
    let mut command = Command::new(program.file());
    command
        .args(program.arguments())
        .env_clear()
        .envs(program.environment())
        .env(SOCKET_FD, format!("{}:{}", theirs.as_raw_fd(), parent.as_raw_nonzero()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's signals do not reach it, and it can be killed with the processes that it starts.
        .process_group(0);
    if let Some(folder) = program.folder() {
        command.current_dir(folder);
    }
    // SAFETY: the closure only makes system calls, as `Confinement::apply` and `Walls::apply` explain. It
    // does not use the descriptors of this process, except for numbers of its own copies.
    unsafe {
        command.pre_exec(move || {
            confinement.apply()?;
            walls.as_ref().map_or(Ok(()), Walls::apply)
        })
    };
    let child = command.spawn().map_err(|error| failed(&format!("run {:?}", program.file()), &error))?;
    // The child has its own.
    drop((command, theirs));
    let pid = Pid::from_child(&child);
    let (Some(stdout), Some(stderr)) = (child.stdout, child.stderr) else {
        kill_and_reap(pid);
        return Err("its output was not connected".to_owned());
    };
    // Nobody has waited for it, so that no other process has its ID.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| {
        kill_and_reap(pid);
        failed("open a pidfd of the process", &error)
    })?;
    let ends = Ends { socket, stdout: stdout.into(), stderr: stderr.into() };
    Ok((Running { pid, pidfd, is_reaped: false }, ends))
}

impl Running {
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether another process may have its ID by now.
    pub(super) fn is_reaped(&self) -> bool {
        self.is_reaped
    }

    /// Becomes readable when the child has ended.
    pub(super) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Kills the child, even if it is stopped.
    pub(super) fn kill(&self) {
        // This fails only if the child has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until the child has ended, and kills the processes that it has left behind in its group.
    pub(super) fn reap(&mut self) -> Ended {
        self.is_reaped = true;
        let ended = loop {
            match waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(Errno::INTR) => {}
                ended => break ended,
            }
        };
        // As long as nobody has waited for the child, no other group has its ID.
        if ended.is_ok() {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        wait(self.pid)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _ = kill_process_group(self.pid, Signal::KILL);
            kill_and_reap(self.pid);
        }
    }
}

fn kill_and_reap(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    let _ = wait(pid);
}

/// Waits until a child has ended, and releases its ID.
fn wait(pid: Pid) -> Ended {
    let mut status = 0;
    // SAFETY: a plain record of the system, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let waited = loop {
        // SAFETY: both are valid places for the answer. rustix does not have this call.
        let waited = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage) };
        if waited >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            break waited;
        }
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let how = if waited < 0 {
        How::Unknown
    } else if libc::WIFSIGNALED(status) {
        How::Signalled(libc::WTERMSIG(status))
    } else {
        How::Exited(libc::WEXITSTATUS(status))
    };
    Ended { how, computed: time(usage.ru_utime) + time(usage.ru_stime) }
}
