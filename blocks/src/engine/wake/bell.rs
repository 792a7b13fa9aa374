//! Waking a process from another one: [`Bell`].

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

/// One of two connected ends by which two processes wake each other, for one channel that they share.
///
/// Each process has one end. It rings to wake the other one. A thread of it waits until the end is readable,
/// calls [`drain`](Self::drain), then [`Channel::bell_rang`](crate::Channel::bell_rang).
///
/// The ends are a pair of Unix sockets, which no third process has. A process can neither make its peer wait
/// nor take a ring that is for the peer, and what it does to its own end affects this pair only. (Processes
/// that share one eventfd can do both: they share its flags and its counter.) A process that rings all the
/// time keeps the thread busy that answers its peer's end.
///
/// Cloning is cheap: clones share one descriptor, which is closed with the last of them.
#[derive(Clone, Debug)]
pub struct Bell(Arc<OwnedFd>);

/// Rings that one call drains. Further ones leave the end readable.
const MAX_DRAINED: usize = 64;

/// A descriptor is not an end of a bell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BellError {
    /// The descriptor is not a Unix stream socket.
    #[error("the bell is not a Unix stream socket")]
    NotSocket,
}

impl Bell {
    /// Creates both ends. Three system calls.
    ///
    /// # Errors
    /// The system's error, such as too many open files.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        refuse_descriptors(&one);
        refuse_descriptors(&other);
        Ok((Self(Arc::new(one)), Self(Arc::new(other))))
    }

    /// Checks and takes the descriptor of an end that another process created. Two system calls.
    ///
    /// That process must be trusted, and must keep no copy: a process with a copy of an end can drain it.
    ///
    /// # Errors
    /// [`BellError`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, BellError> {
        // Other descriptors have neither a domain nor a type.
        let is_unix = socket_domain(&fd) == Ok(AddressFamily::UNIX);
        if !is_unix || socket_type(&fd) != Ok(SocketType::STREAM) {
            return Err(BellError::NotSocket);
        }
        Ok(Self(Arc::new(fd)))
    }

    /// Wakes the process that has the other end. Never waits. One system call.
    pub fn ring(&self) {
        // If the buffer is full, the other end rings already. If it is closed, nobody is left to wake.
        while send(&self.0, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) == Err(Errno::INTR) {}
    }

    /// Resets this end, and returns whether it rang. Call this before
    /// [`Channel::bell_rang`](crate::Channel::bell_rang), so that a ring in between is not lost. Never waits.
    /// One system call.
    ///
    /// After more than 64 rings, the end may stay readable.
    pub fn drain(&self) -> bool {
        let mut rings = [0; MAX_DRAINED];
        loop {
            match recv(&self.0, &mut rings, RecvFlags::DONTWAIT) {
                Ok((_, count)) => return count > 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether the other end is closed, or shut down so that it can no longer ring. This end then stays
    /// readable, so stop waiting for it. One system call.
    pub fn is_hung_up(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let mut ends = [PollFd::new(&self.0, PollFlags::RDHUP)];
            match poll(&mut ends, Some(&now)) {
                Err(Errno::INTR) => {}
                polled => {
                    let hung_up = PollFlags::HUP | PollFlags::RDHUP;
                    return polled.is_ok() && ends[0].revents().intersects(hung_up);
                }
            }
        }
    }
}

/// Lets nobody send descriptors to this end, as far as the system knows how to (Linux 6.16): draining the end
/// would close them, and closing a socket with `SO_LINGER` waits. Returns whether it does.
fn refuse_descriptors(end: &OwnedFd) -> bool {
    /// `SO_PASSRIGHTS`, which neither rustix nor libc has yet.
    const PASS_RIGHTS: libc::c_int = 83;
    let no: libc::c_int = 0;
    // SAFETY: a socket, and an integer of the given size. An unknown option changes nothing.
    unsafe {
        libc::setsockopt(
            end.as_raw_fd(),
            libc::SOL_SOCKET,
            PASS_RIGHTS,
            (&raw const no).cast(),
            size_of_val(&no) as libc::socklen_t,
        ) == 0
    }
}

/// The end's descriptor, to pass to the process that uses it.
impl From<Bell> for Arc<OwnedFd> {
    fn from(bell: Bell) -> Self {
        bell.0
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::unix::net::UnixStream;

    use rustix::io::ioctl_fionbio;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, Shutdown, sendmsg, shutdown};

    use super::*;

    #[test]
    fn each_end_rings_at_the_other_until_it_is_drained() {
        let (one, other) = Bell::pair().expect("descriptors are left");
        assert!(!one.drain() && !other.drain(), "nobody rang");
        let other = Bell::from_fd(other.as_fd().try_clone_to_owned().expect("a descriptor is left"));
        let other = other.expect("an end");
        for _ in 0..3 {
            other.ring();
        }
        assert!(!other.drain(), "the rings are for the other end");
        assert!(one.drain());
        assert!(!one.drain());
        one.ring();
        assert!(other.drain());
        assert!(!other.drain());
    }

    /// A process does to its own end whatever it can.
    #[test]
    fn nothing_that_a_process_does_to_its_end_makes_its_peer_wait() {
        let (own, peers) = Bell::pair().expect("descriptors are left");
        for blocks in [true, false] {
            ioctl_fionbio(&peers, !blocks).expect("a socket");
            assert!(!own.drain(), "nobody rang");
            // Many more than there is room for.
            (0..10_000).for_each(|_| own.ring());
            (0..10_000).for_each(|_| peers.ring());
            assert!(own.drain());
            while own.drain() {}
            while peers.drain() {}
        }
        assert!(!own.is_hung_up());
        shutdown(&peers, Shutdown::Both).expect("a connected socket");
        own.ring();
        assert!(!own.drain());
        assert!(own.is_hung_up());
        drop(peers);
        own.ring();
        assert!(!own.drain());
        assert!(own.is_hung_up());
    }

    /// Its peer's end stays readable, but never rings again.
    #[test]
    fn an_end_that_is_shut_down_in_one_direction_is_hung_up() {
        let (own, peers) = Bell::pair().expect("descriptors are left");
        peers.ring();
        shutdown(&peers, Shutdown::Write).expect("a connected socket");
        assert!(own.drain(), "it rang before");
        assert!(!own.drain());
        assert!(own.is_hung_up());
        own.ring();
        assert!(peers.drain(), "in the other direction, it rings on");
        assert!(!peers.is_hung_up());
    }

    /// Draining closes descriptors that were sent, and that may wait.
    #[test]
    fn nobody_sends_descriptors_through_a_bell_if_the_system_can_prevent_it() {
        let (mut one, mut other) = Bell::pair().expect("descriptors are left");
        let prevents = refuse_descriptors(&UnixStream::pair().expect("descriptors are left").0.into());
        for _ in 0..2 {
            let file = one.as_fd().try_clone_to_owned().expect("a descriptor is left");
            let files = [file.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut with = SendAncillaryBuffer::new(&mut space);
            assert!(with.push(SendAncillaryMessage::ScmRights(&files)));
            let sent = sendmsg(&one, &[IoSlice::new(&[1])], &mut with, SendFlags::DONTWAIT);
            assert_eq!(sent, if prevents { Err(Errno::PERM) } else { Ok(1) });
            std::mem::swap(&mut one, &mut other);
        }
    }

    #[test]
    fn what_is_not_a_unix_stream_socket_is_refused() {
        let (pipe, _other) = io::pipe().expect("descriptors are left");
        assert_eq!(Bell::from_fd(pipe.into()).err(), Some(BellError::NotSocket));
        let (packets, _other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("descriptors are left");
        assert_eq!(Bell::from_fd(packets).err(), Some(BellError::NotSocket));
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
        let event = event.expect("a descriptor is left");
        assert_eq!(Bell::from_fd(event).err(), Some(BellError::NotSocket));
    }
}
