//! Why a component cannot run in a process of its own: [`ProcessError`].

use std::path::PathBuf;

use crate::component::limit_policy::Limit;
use crate::host::library::LibraryError;
use crate::peers::children::NoChildren;

/// A component cannot run in a process of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such program.
    #[error("there is no program {program:?}")]
    Missing {
        /// The program, as it was named.
        program: PathBuf,
    },
    /// The file cannot be run.
    #[error("{program:?} is not a program that this process may run: {reason}")]
    NotExecutable {
        /// The file.
        program: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The native library was refused.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A limit was set that cannot be enforced for a program.
    #[error(
        "the limit {limit:?} was set, which nobody enforces for a program in a process of its own; run it as a library or \
         as a guest, or leave the limit out", limit = .limit.name()
    )]
    Unenforced {
        /// The limit.
        limit: Limit,
    },
    /// The broker belongs to a [`Connection`](crate::Connection), so that another process is the host.
    #[error(
        "this broker is connected to a host in another process: run components in processes at the host, or by hand"
    )]
    NotTheHost,
    /// The parameters cannot be passed to the process.
    #[error("the parameters cannot be passed to a process: {0}")]
    Parameters(String),
    /// The system offers no memory barriers that reach other processes.
    #[error(
        "the system offers this process no memory barriers that reach other processes \
         (membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED): a sandbox around the process may be the cause"
    )]
    Barriers,
    /// The system does not offer what a [sandbox](crate::Sandbox) needs.
    #[error("the process cannot be confined: {reason}; a sandbox needs Linux 6.12 with Landlock and seccomp")]
    Sandbox {
        /// Why.
        reason: String,
    },
    /// A file or folder that the process may use in its sandbox cannot be opened.
    #[error("the sandbox allows {path:?}, which cannot be opened: {reason}")]
    SandboxPath {
        /// The path.
        path: PathBuf,
        /// The system's own message.
        reason: String,
    },
    /// The operating system refused.
    #[error("the system refused to {action}: {reason}")]
    System {
        /// The action that failed.
        action: String,
        /// The system's own message.
        reason: String,
    },
}

impl ProcessError {
    pub(crate) fn system(action: &str, error: impl std::fmt::Display) -> Self {
        Self::System { action: action.to_owned(), reason: error.to_string() }
    }
}

impl From<NoChildren> for ProcessError {
    fn from(error: NoChildren) -> Self {
        use crate::peers::error::ServeError;
        match error {
            NoChildren::Client => Self::NotTheHost,
            NoChildren::Serve(ServeError::Barriers) => Self::Barriers,
            NoChildren::Serve(ServeError::System { action, reason }) => Self::System { action, reason },
            NoChildren::Serve(other) => Self::system("serve a process", other),
        }
    }
}
