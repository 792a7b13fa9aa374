//! Where a host is found: the path of its socket, and who may bind it.
//!
//! The host holds a lock on the file beside the socket, `PATH.lock`, as long as it serves. So a socket that
//! exists while its lock is free belongs to a host that has ended, and the next one replaces it. The lock
//! belongs to the process (`F_SETLK`) rather than to the open file (`flock`): children that it forks inherit
//! the file, but must not keep the path.
//!
//! A new socket is bound under another name, and renamed once it listens: it never exists with other
//! permissions, and a process that finds it can connect.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use blockcast_blocks::Process;
use rustix::fs::{FlockOperation, Mode, fchmod, fcntl_lock};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen, socket_with,
};

use crate::peers::error::{NoRuntimeDir, ServeError};

/// Maximum number of connections that wait until the host accepts them.
const BACKLOG: i32 = 128;

/// The path of the socket that processes use by default: `$XDG_RUNTIME_DIR/blockcast.sock`, which only the
/// user's own processes reach.
///
/// # Errors
/// [`NoRuntimeDir`] if the variable is not set, as in some containers and for system services.
pub fn default_socket() -> Result<PathBuf, NoRuntimeDir> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.is_absolute()).ok_or(NoRuntimeDir)?;
    Ok(folder.join("blockcast.sock"))
}

/// The socket at which a host serves. Dropping it removes the socket and the lock's file.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// `None` if somebody else has created the socket and removes it.
    lock: Option<Lock>,
    listener: OwnedFd,
}

/// The process that has locked this file owns the path beside it.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    id: FileId,
    file: Option<File>,
}

/// The device and the inode of a file.
type FileId = (u64, u64);

/// The files that this process has locked. The system does not keep a process from locking a file twice, and
/// unlocks it when the process closes any of its descriptors: such a file must not even be opened.
static LOCKED: Mutex<Vec<(Process, FileId)>> = Mutex::new(Vec::new());

impl Place {
    /// Takes the path, and listens there.
    ///
    /// # Errors
    /// [`ServeError`].
    pub(crate) fn take(path: &Path, mode: u32) -> Result<Self, ServeError> {
        let lock_path = beside(path, ".lock");
        let lock = lock(path, &lock_path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ServeError::NotASocket(path.to_owned()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(refused(&format!("examine {path:?}"), &error));
            }
            _ => {}
        }
        let new = beside(path, ".new");
        let address = SocketAddrUnix::new(&new).map_err(|_| ServeError::LongPath(path.to_owned()))?;
        let system = |action: &str| {
            let action = format!("{action} {path:?}");
            move |error: Errno| refused(&action, &error.into())
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(system("create a socket for"))?;
        // A host that was killed may have left it.
        let _ = fs::remove_file(&new);
        // The file gets these permissions, as far as the process's umask lets it.
        let _ = fchmod(&listener, Mode::from_raw_mode(mode));
        bind(&listener, &address).map_err(system("bind the socket of"))?;
        let published = permit(&new, mode)
            .and_then(|()| listen(&listener, BACKLOG).map_err(Into::into))
            .and_then(|()| fs::rename(&new, path));
        if let Err(error) = published {
            let _ = fs::remove_file(&new);
            return Err(refused(&format!("listen at {path:?}"), &error));
        }
        Ok(Self { path: path.to_owned(), lock: Some(lock), listener })
    }

    /// Uses a socket that listens already. Its creator also removes it.
    ///
    /// # Errors
    /// [`ServeError::NotAListener`].
    pub(crate) fn adopt(listener: OwnedFd) -> Result<Self, ServeError> {
        let unfit = |why: &str| ServeError::NotAListener(why.to_owned());
        let system = |error: Errno| ServeError::NotAListener(error.to_string());
        if socket_domain(&listener).map_err(system)? != AddressFamily::UNIX {
            return Err(unfit("it is of another family"));
        }
        if socket_type(&listener).map_err(system)? != SocketType::SEQPACKET {
            return Err(unfit("it is of another type"));
        }
        if !socket_acceptconn(&listener).map_err(system)? {
            return Err(unfit("it does not listen"));
        }
        fcntl_setfd(&listener, FdFlags::CLOEXEC).map_err(system)?;
        ioctl_fionbio(&listener, true).map_err(system)?;
        let address = SocketAddrUnix::try_from(getsockname(&listener).map_err(system)?).map_err(system)?;
        let path = address.path_bytes().map(|path| PathBuf::from(OsStr::from_bytes(path)));
        Ok(Self { path: path.unwrap_or_default(), lock: None, listener })
    }

    /// Path of the socket; empty if it has none in the file system.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn listener(&self) -> &OwnedFd {
        &self.listener
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody else binds the path while we hold the lock. A process that has opened the lock's file, and
        // locks it after this, notices that the file is gone.
        if let Some(lock) = &self.lock {
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(&lock.path);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut locked = locked();
        // While the file is listed, no other thread opens it, so that closing it unlocks only this lock.
        drop(self.file.take());
        locked.retain(|&(_, id)| id != self.id);
    }
}

fn locked() -> MutexGuard<'static, Vec<(Process, FileId)>> {
    // Only changed by single calls, so it is consistent after a panic.
    LOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id_of(file: &fs::Metadata) -> FileId {
    (file.dev(), file.ino())
}

/// Sets the permissions of a new socket. Leaves the file alone if it is another one by now.
fn permit(new: &Path, mode: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(new)?;
    if !found.file_type().is_socket() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    if found.permissions().mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(new, fs::Permissions::from_mode(mode))
}

/// Locks the file beside the socket.
fn lock(path: &Path, lock_path: &Path) -> Result<Lock, ServeError> {
    let system = |error: io::Error| refused(&format!("lock {lock_path:?}"), &error);
    let served = || ServeError::Served(path.to_owned());
    let mut locked = locked();
    // A child has not inherited the locks.
    locked.retain(|(process, _)| process.is_current());
    loop {
        let found = fs::symlink_metadata(lock_path).ok();
        if found.is_some_and(|found| locked.iter().any(|&(_, id)| id == id_of(&found))) {
            return Err(served());
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(lock_path).map_err(system)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::ACCESS) => return Err(served()),
            done => done.map_err(io::Error::from).map_err(system)?,
        }
        // The host before us may have removed the file that we have locked.
        let id = id_of(&file.metadata().map_err(system)?);
        if fs::symlink_metadata(lock_path).is_ok_and(|found| id_of(&found) == id) {
            locked.push((Process::current(), id));
            return Ok(Lock { path: lock_path.to_owned(), id, file: Some(file) });
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn refused(action: &str, error: &io::Error) -> ServeError {
    ServeError::System { action: action.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A folder that is removed with its contents.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("blockcast-place-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn entries(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_path_has_one_host_and_is_free_again_once_that_has_left() {
        let folder = Folder::new("one");
        let path = folder.0.join("socket");
        let place = Place::take(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Place::take(&path, 0o600).unwrap_err(), ServeError::Served(path.clone()));
        drop(place);
        assert_eq!(folder.entries(), 0, "nothing is left behind");
        // This holds for any umask of the process.
        let _place = Place::take(&path, 0o666).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    }

    #[test]
    fn a_link_in_the_place_of_the_new_socket_is_replaced_and_not_followed() {
        let folder = Folder::new("link");
        let (path, victim) = (folder.0.join("socket"), folder.0.join("victim"));
        fs::write(&victim, "precious").unwrap();
        let mode = fs::metadata(&victim).unwrap().permissions().mode();
        std::os::unix::fs::symlink(&victim, beside(&path, ".new")).unwrap();
        let place = Place::take(&path, 0o666).unwrap();
        assert_eq!(fs::metadata(&victim).unwrap().permissions().mode(), mode);
        drop(place);
        assert_eq!((fs::read(&victim).unwrap(), folder.entries()), (b"precious".to_vec(), 1));
    }

    #[test]
    fn what_a_dead_host_has_left_is_replaced_and_what_is_not_a_socket_is_not() {
        let folder = Folder::new("dead");
        let path = folder.0.join("socket");
        // A socket whose listener is closed, as a killed process leaves it.
        drop(UnixListener::bind(&path).unwrap());
        fs::write(beside(&path, ".lock"), "").unwrap();
        Place::take(&path, 0o600).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(Place::take(&path, 0o600).unwrap_err(), ServeError::NotASocket(path.clone()));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_socket_that_listens_already_is_used_and_not_removed() {
        let folder = Folder::new("adopted");
        let path = folder.0.join("socket");
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None);
        let listener = listener.unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let silent = Place::adopt(listener.try_clone().unwrap()).unwrap_err();
        assert_eq!(silent, ServeError::NotAListener("it does not listen".to_owned()));
        listen(&listener, 1).unwrap();
        let place = Place::adopt(listener).unwrap();
        assert_eq!(place.path(), path);
        drop(place);
        assert!(path.exists());
    }

    #[test]
    fn descriptors_that_are_not_such_a_socket_are_refused_by_name() {
        let folder = Folder::new("unfit");
        let stream = UnixListener::bind(folder.0.join("stream")).unwrap();
        let stream = Place::adopt(stream.into()).unwrap_err();
        assert_eq!(stream, ServeError::NotAListener("it is of another type".to_owned()));
        let internet = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let internet = Place::adopt(internet.into()).unwrap_err();
        assert_eq!(internet, ServeError::NotAListener("it is of another family".to_owned()));
        let file = File::open("/dev/null").unwrap();
        assert!(matches!(Place::adopt(file.into()), Err(ServeError::NotAListener(_))));
    }

    #[test]
    fn paths_that_cannot_be_bound_are_refused_by_name() {
        let folder = Folder::new("bad");
        let long = folder.0.join("s".repeat(100));
        assert_eq!(Place::take(&long, 0o600).unwrap_err(), ServeError::LongPath(long));
        let missing = folder.0.join("missing/socket");
        assert!(matches!(Place::take(&missing, 0o600), Err(ServeError::System { .. })));
    }
}
