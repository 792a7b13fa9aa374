//! Tasks that try what a sandbox refuses.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use blockcast::{AppError, Session, SubscriberOptions};

use super::{Numbers, few_blocks, say};

/// Tries to reach other processes, and says what comes of each try.
pub fn escape(session: &Session) -> Result<(), AppError> {
    let host: i32 = session.parameter("host").unwrap_or_default().parse()?;
    let mut byte = 0_u8;
    let remote = session.parameter("address").unwrap_or_default().parse::<usize>()?;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: std::ptr::without_provenance_mut(remote), iov_len: 1 };
    let call = |name: &str, number: libc::c_long, arguments: [libc::c_long; 6]| {
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: the pointers among the arguments are to `local`, `there` and texts, which outlive the call.
        // Where the call succeeds, the test fails.
        let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
        say(
            session,
            &format!(
                "{name}: {}",
                outcome(if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) })
            ),
        )
    };
    let number = libc::c_long::from;
    let (local, there) = ((&raw const local) as libc::c_long, (&raw const there) as libc::c_long);
    let host_number = number(host);
    call("signal", libc::SYS_kill, [host_number, 0, 0, 0, 0, 0])?;
    // It does not stop the process, unlike PTRACE_ATTACH.
    call("ptrace", libc::SYS_ptrace, [number(libc::PTRACE_SEIZE as i32), host_number, 0, 0, 0, 0])?;
    call("read memory", libc::SYS_process_vm_readv, [host_number, local, 1, there, 1, 0])?;
    call("write memory", libc::SYS_process_vm_writev, [host_number, local, 1, there, 1, 0])?;
    call("limits", libc::SYS_prlimit64, [host_number, number(libc::RLIMIT_CORE as i32), 0, 0, 0, 0])?;
    call("priority", libc::SYS_setpriority, [0, host_number, 1, 0, 0, 0])?;
    call("priority of a group", libc::SYS_setpriority, [1, 0, 1, 0, 0, 0])?;
    call("processors", libc::SYS_sched_setaffinity, [host_number, 0, 0, 0, 0, 0])?;
    // A key that nobody uses: nothing is created.
    call("shared memory", libc::SYS_shmget, [0x6bc5_70b1, 0, 0, 0, 0, 0])?;
    call("keys", libc::SYS_keyctl, [0, -3, 0, 0, 0, 0])?;
    call("rings", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0])?;
    call("namespace", libc::SYS_unshare, [number(libc::CLONE_NEWUSER), 0, 0, 0, 0, 0])?;
    call("leave the group", libc::SYS_setsid, [0; 6])?;
    call("a call of the future", 100_000, [0; 6])?;
    let path = CString::new(session.parameter("secret").unwrap_or_default())?;
    let path = path.as_ptr() as libc::c_long;
    call("permissions", libc::SYS_fchmodat, [number(libc::AT_FDCWD), path, 0o777, 0, 0, 0])?;
    call("times", libc::SYS_utimensat, [number(libc::AT_FDCWD), path, 0, 0, 0, 0])?;
    let name = CString::new("user.test")?;
    let value = name.as_ptr() as libc::c_long;
    call("attributes", libc::SYS_setxattr, [path, value, value, 1, 0, 0])?;
    call("read attributes", libc::SYS_getxattr, [path, value, 0, 0, 0, 0])?;
    call("list attributes", libc::SYS_listxattr, [path, 0, 0, 0, 0, 0])?;
    // For a new listener of changes, and for one that does not exist.
    call("listen for changes", libc::SYS_inotify_init1, [0; 6])?;
    call("listen to a file", libc::SYS_inotify_add_watch, [-1, path, libc::IN_OPEN.into(), 0, 0, 0])?;
    // The version of a file's directory entry, which its owner may change through any descriptor.
    call("requests of file systems", libc::SYS_ioctl, [0, 0x4008_7602, 0, 0, 0, 0])?;
    call("requests of drives", libc::SYS_ioctl, [0, 0xd401, 0, 0, 0, 0])?;
    call("survive the host", libc::SYS_prctl, [libc::PR_SET_PDEATHSIG.into(), 0, 0, 0, 0, 0])?;
    call(
        "end with the host",
        libc::SYS_prctl,
        [libc::PR_SET_PDEATHSIG.into(), libc::SIGKILL.into(), 0, 0, 0, 0],
    )?;
    call("files as a record asks", libc::SYS_openat2, [number(libc::AT_FDCWD), path, 0, 0, 0, 0])?;
    let socket = session.parameter("socket").unwrap_or_default();
    say(session, &format!("datagram: {}", outcome(send_datagram(&socket, libc::SOCK_DGRAM))))?;
    say(session, &format!("raw datagram: {}", outcome(send_datagram(&socket, libc::SOCK_RAW))))?;
    say(session, &format!("streams: {}", outcome(UnixStream::pair())))?;
    say(session, &format!("packets between threads: {}", outcome(pair(libc::SOCK_SEQPACKET))))?;
    say(session, &format!("readable bytes: {}", outcome(readable_bytes())))?;
    // SAFETY: the child does nothing but end.
    let forked = match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: no destructor runs.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    };
    say(session, &format!("fork: {}", outcome(forked)))?;
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{host}/mem"));
    say(session, &format!("open memory: {}", outcome(memory)))?;
    say(session, &format!("command: {}", outcome(Command::new("/bin/true").status())))?;
    say(session, &format!("sockets of the machine: {}", outcome(UnixDatagram::unbound())))?;
    say(session, &format!("network: {}", outcome(TcpListener::bind("127.0.0.1:0"))))?;
    say(session, &format!("packets: {}", outcome(UdpSocket::bind("127.0.0.1:0"))))?;
    // A thread is not a process.
    let sum = std::thread::spawn(|| 1 + 1).join().expect("it does not panic");
    say(session, &format!("thread: {sum}"))
}

/// Sends a datagram to a socket of the machine, through half a pair of sockets.
fn send_datagram(path: &str, kind: libc::c_int) -> io::Result<()> {
    let [one, _other] = pair(kind)?;
    let one = UnixDatagram::from(one);
    one.send_to(b"datagram", path).map(drop)
}

/// Creates two sockets that are connected with each other.
fn pair(kind: libc::c_int) -> io::Result<[OwnedFd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is a place for two descriptors.
    match unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) } {
        // SAFETY: both are new, and nothing else owns them.
        0 => Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks a socket how many bytes it has.
fn readable_bytes() -> io::Result<()> {
    let [one, _other] = pair(libc::SOCK_STREAM)?;
    let mut bytes = 0;
    // SAFETY: `bytes` is a place for the number.
    match unsafe { libc::ioctl(one.as_raw_fd(), libc::FIONREAD, &raw mut bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Tries what one can do with files.
pub fn files(session: &Session) -> Result<(), AppError> {
    let readable = session.parameter("readable").unwrap_or_default();
    let writable = session.parameter("writable").unwrap_or_default();
    let secret = session.parameter("secret").unwrap_or_default();
    let try_all = |folder: &str| -> Result<(), AppError> {
        let name = folder.rsplit('/').next().unwrap_or_default();
        let file = |name: &str| format!("{folder}/{name}");
        let tries: [(&str, &dyn Fn() -> io::Result<()>); 14] = [
            ("list", &|| fs::read_dir(folder).map(drop)),
            ("read", &|| fs::read_to_string(file("text")).map(drop)),
            ("change", &|| OpenOptions::new().append(true).open(file("text")).map(drop)),
            ("truncate", &|| OpenOptions::new().write(true).truncate(true).open(file("text")).map(drop)),
            ("create", &|| File::create_new(file("new")).map(drop)),
            ("create folder", &|| fs::create_dir(file("folder"))),
            ("rename", &|| {
                fs::rename(file("text"), file("moved")).and_then(|()| fs::rename(file("moved"), file("text")))
            }),
            ("link", &|| fs::hard_link(file("text"), file("other"))),
            ("remove", &|| fs::remove_file(file("text"))),
            ("create for all", &|| create(&file("all"), libc::O_CREAT, 0o777)),
            ("lend the user's rights", &|| create(&file("user"), libc::O_CREAT, 0o4755)),
            ("lend the group's rights", &|| create(&file("group"), libc::O_CREAT, 0o2755)),
            ("lend rights without a name", &|| create(folder, libc::O_TMPFILE, 0o4755)),
            ("lend rights by a node", &|| node(&file("node"), libc::S_IFREG | 0o4755)),
        ];
        for (what, attempt) in tries {
            say(session, &format!("{name}: {what}: {}", outcome(attempt())))?;
        }
        Ok(())
    };
    try_all(&readable)?;
    try_all(&writable)?;
    try_all(&secret)
}

/// Opens a file for writing, with these further flags. If it is new, it gets these permissions.
fn create(path: &str, flags: libc::c_int, permissions: libc::mode_t) -> io::Result<()> {
    OpenOptions::new().write(true).custom_flags(flags).mode(permissions).open(path).map(drop)
}

/// Creates a file of any kind.
fn node(path: &str, mode: libc::mode_t) -> io::Result<()> {
    let path = CString::new(path)?;
    // SAFETY: the path outlives the call.
    match unsafe { libc::mknod(path.as_ptr(), mode, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Starts a process whose parent is this one's, and does not wait for it.
pub fn sibling(session: &Session) -> Result<(), AppError> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: like `fork`, with a stack that is a copy of this one. The new process does nothing but end.
    let cloned = match unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: no destructor runs.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    };
    say(session, &format!("sibling: {}", outcome(cloned)))
}

/// Starts a program, and does not wait for it.
pub fn start(session: &Session) -> Result<(), AppError> {
    match Command::new("/bin/sleep").arg("100000").spawn() {
        Ok(child) => say(session, &format!("start: {}", child.id()))?,
        Err(error) => say(session, &format!("start: {}", outcome::<()>(Err(error))))?,
    }
    session.blocking_shutdown();
    Ok(())
}

/// Publishes a number, and changes it once its subscriber has it.
pub fn change(session: &Session) -> Result<(), AppError> {
    let mut own = session.blocking_subscriber::<Numbers>("out", SubscriberOptions::new())?;
    let mut changes = session.blocking_subscriber::<Numbers>("in", SubscriberOptions::new())?;
    let mut numbers = session.blocking_publisher::<Numbers>("out", few_blocks())?;
    numbers.blocking_loan(None)?.send(&[1][..])?;
    let sample = own.blocking_recv(None)?;
    changes.blocking_recv_ref(None)?;
    let place = sample.view().as_ptr().cast_mut();
    // SAFETY: this process has mapped its own block for writing, and nobody reads it here any more. That
    // another process does is the point.
    unsafe { place.write_volatile(2) };
    say(session, "changed")?;
    session.blocking_shutdown();
    Ok(())
}

fn outcome<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM) => "EPERM".to_owned(),
            Some(libc::EACCES) => "EACCES".to_owned(),
            Some(libc::ENOSYS) => "ENOSYS".to_owned(),
            Some(libc::EXDEV) => "EXDEV".to_owned(),
            _ => error.to_string(),
        },
    }
}
