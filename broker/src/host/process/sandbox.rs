//! Walls around a process that nobody trusts: [`Sandbox`].

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, Scope,
};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

use super::error::ProcessError;
use super::source::absolute;
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
/// | changes of permissions, owners, times and attributes of files, extended attributes, new files with the set-user-ID or set-group-ID bit, notifications of changes, requests to file systems by `ioctl` | nothing | seccomp |
/// | sockets | those that it inherits, and connected pairs of streams; with [`network`](Self::network) also new ones of IPv4 and IPv6 | seccomp |
/// | signals, `ptrace`, the memory of others | itself, and processes that it starts | Landlock, seccomp |
/// | new processes | none, unless [allowed](Self::processes) | seccomp |
/// | System V and POSIX message queues, semaphores and shared memory with names, keys of the kernel, `io_uring`, `bpf`, `perf`, namespaces, mounts, calls that administer the machine, and calls that are newer than Linux 6.17 | nothing | seccomp |
/// | privileges of root | none | capabilities |
///
/// A refused call fails with `EPERM` or `EACCES`. `clone3`, `openat2` and newer calls fail with `ENOSYS`, so
/// that programs use older ones.
///
/// # What remains possible
/// - It can learn which files and processes exist, the sizes, owners and times of files, and where symbolic
///   links lead.
/// - It can use processor time up to its [limit](crate::ComponentLimits::compute), fill the disks of folders
///   in which it may write, and lock files that it may read.
/// - It can use up memory and what the system counts per user, such as threads and descriptors in flight:
///   the [limit of memory](crate::ComponentLimits::memory) does not count memory that processes can share.
///   Only a limit around the host, such as a control group, prevents that.
/// - It can leave anything in folders in which it may write, such as symbolic links to files that only
///   others may read. Do not follow them.
/// - It can delay or block the publishers and the waiting tasks of processes with which it shares a topic.
/// - Errors of the kernel and side channels of the processor are beyond any sandbox.
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
    /// file. The system does not execute what is there, but an allowed program can load code from it, as
    /// interpreters and the dynamic loader do.
    ///
    /// Other paths of the sandbox, and the program itself, may lie in such a folder. Symbolic links in it
    /// must not lead out of it then: the process could replace them.
    #[must_use]
    pub fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    /// Sets whether the process may open sockets of IPv4 and IPv6: `false` by default. Looking up names also
    /// needs [`read("/etc")`](Self::read). The process then reaches everything that this machine can reach,
    /// including services that listen on `127.0.0.1`. Sockets in the file system, such as that of the
    /// system's service manager, cannot be opened in any case.
    #[must_use]
    pub fn network(mut self, allow: bool) -> Self {
        self.has_network = allow;
        self
    }

    /// Sets whether the process may start other processes, in the same sandbox: `false` by default. They end
    /// with the component, but if the host itself is killed, the system ends only the component's first
    /// process.
    #[must_use]
    pub fn processes(mut self, allow: bool) -> Self {
        self.may_start_processes = allow;
        self
    }

    /// Makes the paths absolute, so that they name the same files when this program's folder changes.
    pub(super) fn absolute(mut self) -> Result<Self, ProcessError> {
        for path in self.read.iter_mut().chain(&mut self.write) {
            *path = absolute(path)?;
        }
        Ok(self)
    }

    /// Opens all files that the rules name, and compiles the rules, for a process that runs `programs`.
    ///
    /// Copies nothing. Uses one descriptor until the process has started, and a few more during the call.
    pub(super) fn build(&self, programs: &[&Path]) -> Result<Walls, ProcessError> {
        let landlock = self.landlock(programs)?;
        Walls::new(landlock, self.has_network, self.may_start_processes)
    }

    fn landlock(&self, programs: &[&Path]) -> Result<OwnedFd, ProcessError> {
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
            if let Ok(file) = open(path, REFERENCE, Mode::empty()) {
                ruleset = ruleset.add_rule(rule(file, access)).map_err(|error| refused(&error))?;
            }
        }
        let programs = programs.iter().map(|path| (*path, run));
        let read = self.read.iter().map(|path| (&**path, run));
        let write = self.write.iter().map(|path| (&**path, change));
        for (path, access) in programs.chain(read).chain(write) {
            let file = self
                .open(path)
                .map_err(|reason| ProcessError::SandboxPath { path: path.to_owned(), reason })?;
            ruleset = ruleset.add_rule(rule(file, access)).map_err(|error| refused(&error))?;
        }
        // Present, because nothing less than the whole ruleset was accepted.
        Option::from(ruleset).ok_or_else(|| refused(&"the system does not offer Landlock"))
    }

    /// Opens the file of a rule.
    ///
    /// An earlier run may have replaced what lies in a folder in which the process may write. Symbolic links
    /// there must not extend the process's rights to what is elsewhere.
    fn open(&self, path: &Path) -> Result<OwnedFd, String> {
        let system = |error: Errno| std::io::Error::from(error).to_string();
        let beneath = |folder: &PathBuf| {
            let within = path.strip_prefix(folder).ok().map(Path::to_owned).or_else(|| {
                path.strip_prefix(std::fs::canonicalize(folder).ok()?).ok().map(Path::to_owned)
            })?;
            (within.components().next().is_some()).then_some((folder.clone(), within))
        };
        // The outermost: all others lie in it.
        let outermost =
            self.write.iter().filter_map(beneath).max_by_key(|(_, path)| path.components().count());
        let Some((folder, within)) = outermost else {
            return open(path, REFERENCE, Mode::empty()).map_err(system);
        };
        let folder_file = open(&folder, REFERENCE, Mode::empty()).map_err(system)?;
        openat2(&folder_file, &within, REFERENCE, Mode::empty(), ResolveFlags::BENEATH).map_err(|error| {
            match error {
                Errno::XDEV => {
                    format!("it leads out of {}, and the process may change where it leads", folder.display())
                }
                error => system(error),
            }
        })
    }
}

/// Refers to a file without opening it for any use.
const REFERENCE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Allows these kinds of access, as far as they make sense for a file if it is one.
fn rule(file: OwnedFd, access: BitFlags<AccessFs>) -> PathBeneath<OwnedFd> {
    let is_folder =
        fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    let access = if is_folder { access } else { access & AccessFs::from_file(LANDLOCK) };
    PathBeneath::new(file, access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_the_same_when_the_folder_changes() {
        let sandbox = Sandbox::new().read("a").write("b/c").absolute().expect("there is a folder");
        assert!(sandbox.read[0].is_absolute() && sandbox.read[0].ends_with("a"), "{sandbox:?}");
        assert!(sandbox.write[0].is_absolute() && sandbox.write[0].ends_with("b/c"), "{sandbox:?}");
    }
}
