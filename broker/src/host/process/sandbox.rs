//! Walls around a process that nobody trusts: [`Sandbox`].

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, Scope,
};

use super::error::ProcessError;
use super::walls::Walls;

/// The version of Landlock that a sandbox needs: that of Linux 6.12, the first that keeps signals in.
const LANDLOCK: ABI = ABI::V6;

/// Where programs find libraries, and other files that every user may read. Those that do not exist are left
/// out.
const SYSTEM: [&str; 9] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
];

/// Devices that only produce or swallow bytes.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Confines a component's process to its part in topics: for programs and libraries that nobody vouches for.
/// See [`ProcessSource::sandbox`](crate::ProcessSource::sandbox).
///
/// Every process of a component has the limits of the system and cannot gain privileges. A process of the
/// same user can still read the user's files, and change the memory of the user's other processes. In a
/// sandbox, it can do neither:
///
/// | | allowed | enforced by |
/// | --- | --- | --- |
/// | files | reading and running what is in `/usr`, `/lib`, `/bin` and the like, the program itself, and what [`read`](Self::read) and [`write`](Self::write) name | Landlock |
/// | changes of permissions, owners, times and attributes of files | nothing | seccomp |
/// | sockets | those that it inherits; with [`network`](Self::network) also new ones of IPv4 and IPv6 | seccomp |
/// | signals, `ptrace`, the memory of others | itself, and processes that it starts | Landlock, seccomp |
/// | new processes | none, unless [allowed](Self::processes); then they end with the component | seccomp |
/// | System V and POSIX message queues, semaphores and shared memory with names, keys of the kernel, `io_uring`, `bpf`, `perf`, namespaces, mounts, calls that administer the machine, and calls that Linux 6.17 does not have | nothing | seccomp |
/// | privileges of root | none | capabilities |
///
/// A refused call fails with `EPERM` or `EACCES`. The process can still learn which files exist. It can use
/// processor time up to its [limit](crate::ComponentLimits::compute), and fill the disks of folders in which
/// it may write.
///
/// Publishers in a sandbox are [walled](crate::Trust::Walled): the host copies their messages, so that they
/// cannot change under a reader. That costs a copy and a wake-up for each message, and the host counts as one
/// subscriber of each publisher.
///
/// Needs Linux 6.12. Starting the component fails where the system does not offer all of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    has_network: bool,
    may_start_processes: bool,
}

impl Sandbox {
    /// A sandbox that allows nothing but taking part in topics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the process read and run a file, or everything in a folder. A relative path starts at this
    /// program's folder.
    #[must_use]
    pub fn read(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.push(path.into());
        self
    }

    /// Lets the process read, create, change and remove files and folders in a folder, or read and change a
    /// file. It cannot run what it finds there.
    #[must_use]
    pub fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    /// Sets whether the process may open sockets of IPv4 and IPv6: `false` by default. Looking up names also
    /// needs [`read("/etc")`](Self::read). Sockets of the machine, such as that of the system's service
    /// manager, cannot be opened in any case.
    #[must_use]
    pub fn network(mut self, allow: bool) -> Self {
        self.has_network = allow;
        self
    }

    /// Sets whether the process may start other processes, in the same sandbox: `false` by default.
    #[must_use]
    pub fn processes(mut self, allow: bool) -> Self {
        self.may_start_processes = allow;
        self
    }

    /// Opens all files that the rules name, and compiles the rules, for a process that runs `programs`.
    ///
    /// Copies nothing. Uses one descriptor until the process has started, and a few more during the call.
    pub(super) fn build(&self, programs: &[&Path]) -> Result<Walls, ProcessError> {
        let landlock = self.landlock(programs)?;
        Walls::new(landlock, self.has_network, self.may_start_processes)
    }

    fn landlock(&self, programs: &[&Path]) -> Result<std::os::fd::OwnedFd, ProcessError> {
        let refused = |error: &dyn std::fmt::Display| ProcessError::Sandbox { reason: error.to_string() };
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(LANDLOCK))
            .and_then(|ruleset| ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket))
            .and_then(Ruleset::create)
            .map_err(|error| refused(&error))?;
        let mut ruleset = ruleset.set_compatibility(CompatLevel::HardRequirement);
        let run = AccessFs::from_read(LANDLOCK);
        let change = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
        let device = AccessFs::ReadFile | AccessFs::WriteFile;
        let system = SYSTEM.iter().map(|path| (Path::new(path), run));
        let devices = DEVICES.iter().map(|path| (Path::new(path), device));
        for (path, access) in system.chain(devices) {
            // Not every system has all of them, and one that cannot be opened is not needed.
            if let Ok(file) = PathFd::new(path) {
                ruleset = ruleset.add_rule(rule(file, path, access)).map_err(|error| refused(&error))?;
            }
        }
        let programs = programs.iter().map(|path| (*path, run));
        let read = self.read.iter().map(|path| (&**path, run));
        let write = self.write.iter().map(|path| (&**path, change));
        for (path, access) in programs.chain(read).chain(write) {
            let file = PathFd::new(path).map_err(|error| {
                use std::error::Error as _;
                let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                ProcessError::SandboxPath { path: path.to_owned(), reason }
            })?;
            ruleset = ruleset.add_rule(rule(file, path, access)).map_err(|error| refused(&error))?;
        }
        // Present, because nothing less than the whole ruleset was accepted.
        Option::from(ruleset).ok_or_else(|| refused(&"the system does not offer Landlock"))
    }
}

/// Allows these kinds of access, as far as they make sense for a file if it is one.
fn rule(file: PathFd, path: &Path, access: BitFlags<AccessFs>) -> PathBeneath<PathFd> {
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK) };
    PathBeneath::new(file, access)
}
