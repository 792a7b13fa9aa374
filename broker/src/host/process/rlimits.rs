//! The system's limits for a process: [`Confinement`].

use std::io;

use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, setrlimit};

use crate::component::limits::ComponentLimits;

/// Bytes of memory that a process may use in addition to its limit: static data, and the stacks of the
/// threads that connect it with topics.
pub(crate) const BASE_MEMORY: u64 = 32 << 20;

/// Maximum number of open files. Each publisher takes two, and each publisher that it subscribes to three.
const FILES: u64 = 1024;

/// The limits that a child puts on itself before it becomes the program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confinement {
    parent: Pid,
    /// The descriptor that the program inherits.
    socket: i32,
    memory: u64,
    /// Limit of processor time in seconds.
    compute: Option<u64>,
}

impl Confinement {
    pub(super) fn new(parent: Pid, socket: i32, limits: &ComponentLimits) -> Self {
        // The host measures it more exactly. This is for the case that the host is stopped.
        let compute = limits.compute.map(|time| time.as_secs().saturating_add(2));
        Self { parent, socket, memory: limits.memory.saturating_add(BASE_MEMORY), compute }
    }

    /// Confines the calling process.
    ///
    /// Called between `fork` and `exec`, in a child that has only this thread, while other threads of the
    /// parent may have held any lock: every call is a system call and nothing else. It neither allocates nor
    /// takes a lock, not even for an error, which is a number.
    pub(super) fn apply(self) -> io::Result<()> {
        // The signal comes when the thread that has started the child ends.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before.
        if getppid() != Some(self.parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        rustix::thread::set_no_new_privs(true)?;
        lower(Resource::Core, 0, 0)?;
        lower(Resource::Nofile, FILES, FILES)?;
        // RLIMIT_DATA: heap, stacks and other private memory that is writable. Blocks are shared.
        lower(Resource::Data, self.memory, self.memory)?;
        if let Some(seconds) = self.compute {
            lower(Resource::Cpu, seconds, seconds.saturating_add(1))?;
        }
        close_all_on_exec()?;
        // SAFETY: a system call with numbers only. Nothing else in this process owns the descriptor.
        match unsafe { libc::fcntl(self.socket, libc::F_SETFD, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Lowers a limit, unless it is lower already.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let now = getrlimit(resource);
    let lower = |limit: Option<u64>, most: u64| Some(limit.map_or(most, |limit| limit.min(most)));
    let limit = Rlimit { current: lower(now.current, soft), maximum: lower(now.maximum, hard) };
    Ok(setrlimit(resource, limit)?)
}

/// Closes all descriptors but the standard streams when this process becomes another program.
fn close_all_on_exec() -> io::Result<()> {
    const FIRST: u32 = 3;
    // SAFETY: a system call with numbers only, which closes nothing now.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } == 0;
    if done {
        return Ok(());
    }
    // Linux before 5.11. No descriptor is beyond the limit, unless the limit was lowered meanwhile.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(1 << 20) as i32;
    for fd in FIRST as i32..most {
        // SAFETY: a system call with numbers only. It fails for numbers that are no descriptors.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
