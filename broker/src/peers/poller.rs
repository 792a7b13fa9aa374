//! [`Poller`]: waits for several descriptors at once.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// Identifies a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Commands of this process's own threads.
    Commands,
    /// An end of a bell, by the number of its entry.
    Bell(u64),
    /// The socket of a client to its host.
    Host,
    /// The pidfd of a client's host.
    HostProcess,
    /// The listening socket of a host.
    Listener,
    /// A connection of a host, by its number.
    Connection(u64),
    /// The pidfd of the process at the other end of a connection.
    ConnectionProcess(u64),
    /// The pidfd of a process with which this one shares channels, by the number of its entry.
    Process(u64),
}

const KIND_BITS: u32 = 3;

impl Token {
    fn encode(self) -> u64 {
        let (kind, number) = match self {
            Self::Commands => (0, 0),
            Self::Bell(number) => (1, number),
            Self::Host => (2, 0),
            Self::Listener => (3, 0),
            Self::Connection(number) => (4, number),
            Self::ConnectionProcess(number) => (5, number),
            Self::Process(number) => (6, number),
            Self::HostProcess => (7, 0),
        };
        number << KIND_BITS | kind
    }

    fn decode(word: u64) -> Self {
        let number = word >> KIND_BITS;
        match word & ((1 << KIND_BITS) - 1) {
            0 => Self::Commands,
            1 => Self::Bell(number),
            2 => Self::Host,
            3 => Self::Listener,
            4 => Self::Connection(number),
            5 => Self::ConnectionProcess(number),
            6 => Self::Process(number),
            _ => Self::HostProcess,
        }
    }
}

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Watches a descriptor until it is closed or [removed](Self::remove).
    pub(crate) fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token.encode()), EventFlags::IN)?)
    }

    /// Sets whether a descriptor is also watched for being writable.
    pub(crate) fn watch_writable(&self, fd: impl AsFd, token: Token, writable: bool) -> io::Result<()> {
        let flags = if writable { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token.encode()), flags)?)
    }

    /// Stops watching a descriptor. Closing it would not suffice, since other processes may have copies.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // It fails only if the descriptor is not watched.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits until a descriptor is ready or the deadline has passed. Returns the tokens of those that are
    /// ready.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<Vec<Token>> {
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); 64];
        loop {
            let timeout = deadline.map(|deadline| {
                // Not before the deadline.
                let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                Timespec {
                    tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            match epoll::wait(&self.0, &mut space, timeout.as_ref()) {
                Ok((ready, _)) => {
                    return Ok(ready.iter().map(|event| Token::decode(event.data.u64())).collect());
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use blockcast_blocks::Bell;

    use super::*;

    #[test]
    fn what_is_ready_is_found_by_its_token() {
        let poller = Poller::new().unwrap();
        let bells = [(); 3].map(|()| Bell::pair().unwrap());
        let tokens = [Token::Bell(2), Token::Connection(7), Token::Process(u64::MAX >> KIND_BITS)];
        for ((bell, _), token) in bells.iter().zip(tokens) {
            poller.add(bell, token).unwrap();
        }
        let now = Some(Instant::now());
        assert_eq!(poller.wait(now).unwrap(), []);
        for ((bell, other), token) in bells.iter().zip(tokens) {
            other.ring();
            assert_eq!(poller.wait(None).unwrap(), [token]);
            bell.drain();
        }
        bells[0].1.ring();
        poller.remove(&bells[0].0);
        assert_eq!(poller.wait(now).unwrap(), []);
        poller.watch_writable(&bells[1].0, tokens[1], true).unwrap();
        assert_eq!(poller.wait(now).unwrap(), [tokens[1]]);
    }

    #[test]
    fn tokens_survive_their_encoding() {
        let number = u64::MAX >> KIND_BITS;
        for token in [
            Token::Commands,
            Token::Bell(3),
            Token::Host,
            Token::Listener,
            Token::Connection(number),
            Token::ConnectionProcess(0),
            Token::Process(5),
            Token::HostProcess,
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
