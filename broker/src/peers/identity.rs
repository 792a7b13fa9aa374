//! Who is at the other end of a socket: [`Credentials`] and pidfds. The numbers that identify brokers.

use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Instant;

use blockcast_blocks::text;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getegid, geteuid, getpid, pidfd_open};

/// The user, the group and the ID of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Its process ID, or 0 if it is outside of this process's namespace.
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Credentials {
    /// Returns the credentials of this process.
    pub(crate) fn own() -> Self {
        Self { pid: getpid().as_raw_nonzero().get(), uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// Returns those of the process that connected or listens, as the system recorded them at that time.
    pub(crate) fn of_peer(socket: impl AsFd) -> Result<Self, Errno> {
        // rustix has this call, but cannot represent the process IDs of other namespaces.
        let found: libc::ucred =
            option(socket.as_fd(), libc::SO_PEERCRED, libc::ucred { pid: 0, uid: 0, gid: 0 })?;
        Ok(Self { pid: found.pid, uid: found.uid, gid: found.gid })
    }
}

/// 128 bits of the system's random numbers.
pub(crate) fn random() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(Instant::now()));
    half() << 64 | half()
}

/// Identifies the topics of the host of this machine that has this number. `None` if the system does not
/// identify the machine.
pub(crate) fn of_host(number: u32) -> Option<u128> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = boot.trim().split('-').collect();
    let boot = u128::from_str_radix(&digits, 16).ok()?;
    // Multiplying by an odd number keeps different numbers different, and changes all bits.
    Some(boot ^ u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Maximum length of a process's name in bytes.
const MAX_NAME: usize = 128;

/// Formats a process for statistics: its name, if it has one, and its ID.
pub(crate) fn label(name: &str, pid: i32) -> String {
    let name = text::line_within(name, MAX_NAME);
    if name.is_empty() { format!("process {pid}") } else { format!("{name} (process {pid})") }
}

/// Opens a pidfd of this process.
pub(crate) fn own_pidfd() -> Result<OwnedFd, Errno> {
    pidfd_open(getpid(), PidfdFlags::empty())
}

/// Opens a pidfd of the process at the other end of a socket. It becomes readable once the process has ended.
pub(crate) fn pidfd_of_peer(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    match peer_pidfd(socket.as_fd()) {
        // Linux before 6.5.
        Err(Errno::NOPROTOOPT) => pidfd_by_number(socket),
        found => found,
    }
}

/// Whether the process that listens at the other end has ended, as far as the system knows. A child that it
/// has forked may still have its socket, but does not accept connections.
pub(crate) fn has_ended(socket: impl AsFd) -> bool {
    match peer_pidfd(socket.as_fd()) {
        Ok(pidfd) => is_readable(&pidfd),
        Err(error) => matches!(error, Errno::SRCH | Errno::INVAL),
    }
}

/// Whether the process of a pidfd has ended.
fn is_readable(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// `SO_PEERPIDFD`, which rustix does not name.
fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let fd: libc::c_int = option(socket, libc::SO_PEERPIDFD, -1)?;
    // SAFETY: the system has just created the descriptor, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads an option of a socket, whose value consists of integers.
fn option<T: Copy>(socket: BorrowedFd<'_>, name: libc::c_int, mut value: T) -> Result<T, Errno> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` and `len` are valid places for the answer, and `len` is the size of the first.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut len)
    };
    if done == 0 {
        return Ok(value);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

/// Opens a pidfd by the process's number. If the process has ended meanwhile, another one may have its
/// number. Then the connection has hung up.
fn pidfd_by_number(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(Credentials::of_peer(&socket)?.pid).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    if is_hung_up(&socket)? { Err(Errno::SRCH) } else { Ok(pidfd) }
}

fn is_hung_up(socket: impl AsFd) -> Result<bool, Errno> {
    let mut polled = [PollFd::new(&socket, PollFlags::empty())];
    poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn a_peer_is_known_by_its_credentials_and_a_pidfd_of_a_living_process() {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        assert_eq!(Credentials::of_peer(&one), Ok(Credentials::own()));
        assert!(!is_readable(&own_pidfd().unwrap()));
        assert!(!is_readable(&pidfd_of_peer(&one).unwrap()));
        assert!(!is_readable(&pidfd_by_number(&one).unwrap()));
        drop(other);
        // Processes that other tests start may have copies of it for a moment.
        while pidfd_by_number(&one).is_ok() {
            std::thread::yield_now();
        }
        assert_eq!(pidfd_by_number(&one).err(), Some(Errno::SRCH), "its number may be another process's");
    }

    #[test]
    fn a_pidfd_becomes_readable_when_the_process_ends() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(!is_readable(&pidfd));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_readable(&pidfd));
    }
}
