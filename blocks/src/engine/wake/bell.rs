//! Waking a process from another one: [`Bell`].

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;

/// An eventfd by which other processes wake this one, or this one another.
///
/// A process has one bell, and passes its descriptor to the processes that it shares channels with. A thread
/// of it waits until the descriptor is readable, calls [`drain`](Self::drain) and then
/// [`Channel::bell_rang`](crate::Channel::bell_rang) of every channel that it shares or has opened.
///
/// Cloning it is cheap: clones are the same descriptor, which is closed with the last of them.
#[derive(Clone, Debug)]
pub struct Bell(Arc<OwnedFd>);

/// A descriptor is not a bell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BellError {
    /// The descriptor is not an eventfd.
    #[error("the bell is not an eventfd")]
    NotEventfd,
    /// The eventfd blocks: create it with `EFD_NONBLOCK`.
    #[error("the bell is an eventfd that blocks: create it with EFD_NONBLOCK")]
    Blocking,
    /// The operating system refused to describe the descriptor.
    #[error("the system refused to describe the bell: {0}")]
    System(String),
}

impl Bell {
    /// Creates the bell of this process. One system call.
    ///
    /// # Errors
    /// The system's, such as too many open files.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Checks and takes the descriptor of another process's bell. Three system calls.
    ///
    /// The other process shares the open file. It can make the eventfd block later, and fill it so that
    /// ringing waits. Take bells only from processes that may stop this one.
    ///
    /// # Errors
    /// [`BellError`]. If `/proc` is not mounted, any descriptor that does not block is accepted.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, BellError> {
        let refused = |error: Errno| BellError::System(error.to_string());
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if let Ok(target) = fs::read_link(link)
            && target.as_os_str() != "anon_inode:[eventfd]"
        {
            return Err(BellError::NotEventfd);
        }
        if !fcntl_getfl(&fd).map_err(refused)?.contains(OFlags::NONBLOCK) {
            return Err(BellError::Blocking);
        }
        Ok(Self(Arc::new(fd)))
    }

    /// Wakes the process whose bell this is. Never waits. One system call.
    pub fn ring(&self) {
        // A full counter says that the bell rings already. Nothing can be done about other errors.
        while rustix::io::write(&self.0, &1_u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }

    /// Resets this process's bell, and returns whether it rang. Call this before
    /// [`Channel::bell_rang`](crate::Channel::bell_rang), so that a bell that rings again meanwhile is
    /// noticed. Never waits. One system call.
    pub fn drain(&self) -> bool {
        loop {
            match rustix::io::read(&self.0, &mut [0; 8]) {
                Err(Errno::INTR) => {}
                read => return read.is_ok(),
            }
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_rings_until_it_is_drained_however_often_it_was_rung() {
        let bell = Bell::new().expect("a descriptor is left");
        assert!(!bell.drain(), "nobody rang");
        let other = Bell::from_fd(bell.as_fd().try_clone_to_owned().expect("a descriptor is left"));
        let other = other.expect("an eventfd");
        for _ in 0..3 {
            other.ring();
        }
        assert!(bell.drain());
        assert!(!bell.drain());
        // As full as it can be.
        rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).expect("it fits");
        other.ring();
        assert!(bell.drain());
    }

    #[test]
    fn what_is_not_an_eventfd_or_blocks_is_refused() {
        let (pipe, _other) = io::pipe().expect("descriptors are left");
        assert_eq!(Bell::from_fd(pipe.into()).err(), Some(BellError::NotEventfd));
        let blocking = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor is left");
        assert_eq!(Bell::from_fd(blocking).err(), Some(BellError::Blocking));
    }
}
