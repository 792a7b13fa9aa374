//! Why a process cannot serve, connect or inspect: [`ServeError`], [`ConnectError`], [`InspectError`].

use std::path::PathBuf;

use crate::peers::protocol::Versions;
use crate::peers::socket::Broken;

/// There is no default path for the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("XDG_RUNTIME_DIR is not set to an absolute path, so there is no default socket: name a path")]
pub struct NoRuntimeDir;

/// A broker cannot serve its topics to other processes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Another process, or another broker of this one, serves at the path: connect to it.
    #[error("another broker serves at {0:?}: connect to it, or choose another path")]
    Served(PathBuf),
    /// The path exists and is not a socket.
    #[error("{0:?} exists and is not a socket: choose another path")]
    NotASocket(PathBuf),
    /// The descriptor is not a listening Unix socket of type `SOCK_SEQPACKET`.
    #[error("the descriptor is not a listening Unix socket of type SOCK_SEQPACKET: {0}")]
    NotAListener(String),
    /// The path is too long for a socket: about 100 bytes.
    #[error("{0:?} is too long for the path of a socket, which has at most 107 bytes")]
    LongPath(PathBuf),
    /// The broker serves already, or belongs to a connection.
    #[error("the broker serves already, or belongs to a connection")]
    Linked,
    /// The broker is shutting down, or belongs to the process that was forked.
    #[error("the broker is shutting down, or belongs to the process that was forked")]
    Closed,
    /// The system offers no memory barriers that reach other processes.
    #[error(
        "the system offers this process no memory barriers that reach other processes \
         (membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED): a sandbox around the process may be the cause"
    )]
    Barriers,
    /// The operating system refused.
    #[error("the system refused to {action}: {reason}")]
    System {
        /// The action that failed.
        action: String,
        /// The system's own message.
        reason: String,
    },
}

/// A process cannot connect to a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No process serves at the path.
    #[error("no process serves at {0:?}: start one that does, or let this process serve if nobody does")]
    NoHost(PathBuf),
    /// The socket belongs to another user's process.
    #[error("the host at {path:?} belongs to user {uid}, whom this process does not trust: see `host_user`")]
    ForeignHost {
        /// Path of the socket.
        path: PathBuf,
        /// User of the host.
        uid: u32,
    },
    /// The host refused.
    #[error("the host refused: {why} (this process: {ours}; the host: {theirs})")]
    Refused {
        /// The versions of this process.
        ours: Versions,
        /// The versions of the host.
        theirs: Versions,
        /// The reason.
        why: String,
    },
    /// The host did not answer in time: it is stopped or overloaded.
    #[error("the host did not answer in time: it is stopped or overloaded")]
    Unresponsive,
    /// The connection broke while it was made.
    #[error("the connection to the host broke: {0}")]
    Broken(#[from] Broken),
    /// This process cannot serve either.
    #[error("this process can neither connect nor serve: {0}")]
    Serve(#[from] ServeError),
    /// The operating system refused.
    #[error("the system refused to {action}: {reason}")]
    System {
        /// The action that failed.
        action: String,
        /// The system's own message.
        reason: String,
    },
}

/// The topics of the host cannot be inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no host at the moment.
    #[error("there is no host")]
    Disconnected,
    /// The host did not answer in time: it is stopped or overloaded.
    #[error("the host did not answer in time: it is stopped or overloaded")]
    Unresponsive,
    /// A waker cannot ask the host: ask on another thread.
    #[error("a waker cannot ask the host: ask on another thread")]
    OwnThread,
}
