//! Waking a process from another one: [`Bell`].

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, ReadWriteFlags};

/// An eventfd by which other processes wake this one, or this one wakes another.
///
/// A process has one bell, and passes its descriptor to the processes that it shares channels with. A thread
/// of it waits until the descriptor is readable, calls [`drain`](Self::drain) and then
/// [`Channel::bell_rang`](crate::Channel::bell_rang) of every channel that it shares or has opened.
///
/// Every process that has the descriptor can ring the bell, and can also drain it. A process that does so on
/// purpose delays the bell's owner.
///
/// Cloning is cheap: clones share one descriptor, which is closed with the last of them.
#[derive(Clone, Debug)]
pub struct Bell(Arc<OwnedFd>);

/// The offset that stands for the current position of a file, for files without positions.
const CURRENT_POSITION: u64 = u64::MAX;

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
    /// The system's error, such as too many open files.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Checks and takes the descriptor of another process's bell. Three system calls.
    ///
    /// The other process shares the open file, and can make the eventfd block later. Draining never waits
    /// even then, and [ringing](Self::ring) hardly ever. Every process that has a bell can also drain it, so
    /// that its owner sleeps on.
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

    /// Wakes the process whose bell this is. Two system calls.
    ///
    /// Waits only for a hostile process, which makes the eventfd block and fills its counter between the two
    /// calls. Then it waits until somebody drains the bell. The system offers no write to an eventfd that
    /// never waits.
    pub fn ring(&self) {
        // A full counter says that the bell rings already. Writing would wait for room if another process has
        // made the file block, as it still does if the counter is filled now.
        if !self.is(PollFlags::OUT) {
            return;
        }
        // Nothing can be done about other errors.
        while rustix::io::write(&self.0, &1_u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }

    /// Resets this process's bell, and returns whether it rang. Call this before
    /// [`Channel::bell_rang`](crate::Channel::bell_rang), so that a ring in between is not lost. Never waits.
    /// One system call.
    pub fn drain(&self) -> bool {
        let mut count = [0; 8];
        loop {
            let space = &mut [IoSliceMut::new(&mut count)];
            // The flag belongs to this read, so no other process can make it wait.
            match rustix::io::preadv2(&self.0, space, CURRENT_POSITION, ReadWriteFlags::NOWAIT) {
                Ok(_) => return true,
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => {}
                // Linux before 5.8 knows no such flag for eventfds, and emulators may lack the call.
                Err(_) => return self.is(PollFlags::IN) && rustix::io::read(&self.0, &mut count).is_ok(),
            }
        }
    }

    /// Whether the eventfd is readable or writable now.
    fn is(&self, ready: PollFlags) -> bool {
        loop {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            match poll(&mut [PollFd::new(&self.0, ready)], Some(&now)) {
                Err(Errno::INTR) => {}
                polled => return polled.is_ok_and(|ready| ready > 0),
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
        // The counter is full.
        rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).expect("it fits");
        other.ring();
        assert!(bell.drain());
    }

    /// Both processes share the open file, so each can change it for the other.
    #[test]
    fn a_bell_that_another_process_makes_block_is_drained_and_rung_without_waiting() {
        let bell = Bell::new().expect("a descriptor is left");
        let other = bell.as_fd().try_clone_to_owned().expect("a descriptor is left");
        rustix::io::ioctl_fionbio(&other, false).expect("an eventfd");
        assert!(!fcntl_getfl(&bell).expect("an eventfd").contains(OFlags::NONBLOCK), "it blocks here, too");
        assert!(!bell.drain(), "nobody rang");
        bell.ring();
        assert!(bell.drain());
        assert!(!bell.drain());
        rustix::io::write(&other, &(u64::MAX - 1).to_ne_bytes()).expect("it fits");
        bell.ring();
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
