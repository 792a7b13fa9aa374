//! This program, running once more as another process, and the helpers of both sides.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use blockcast_blocks::Pod;
use blockcast_broker::{Broker, ConnectOptions, Connection, ServeOptions, Serving};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{RecvError, Subscriber, SubscriberOptions};

use crate::tracee::Tracee;

/// The role of this process, if it is not the one that cargo has started.
const ROLE: &str = "BLOCKCAST_TEST_ROLE";
/// Path of the host's socket.
const PATH: &str = "BLOCKCAST_TEST_PATH";

/// How long to wait for other processes before a test fails. None of them takes a second.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn deadline() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

pub fn connect_options() -> ConnectOptions {
    ConnectOptions::new().patience(PATIENCE)
}

pub fn serve_options() -> ServeOptions {
    ServeOptions::new().patience(PATIENCE)
}

/// A folder with the socket of one test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("blockcast-peers-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the socket");
        Self(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    pub fn entries(&self) -> usize {
        fs::read_dir(&self.0).expect("it exists").count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker that serves in this process.
pub struct Host {
    pub broker: Broker,
    pub serving: Serving,
    pub folder: Folder,
}

impl Host {
    pub fn new() -> Self {
        Self::with(serve_options())
    }

    pub fn with(options: ServeOptions) -> Self {
        let (broker, folder) = (Broker::new(), Folder::new());
        let serving = broker.serve(folder.socket(), options).expect("nobody else serves there");
        Self { broker, serving, folder }
    }

    pub fn path(&self) -> &Path {
        self.serving.path()
    }

    pub fn connect(&self) -> Connection {
        connect(self.path())
    }
}

pub fn connect(path: &Path) -> Connection {
    Connection::connect_with(path, &connect_options()).expect("the host answers")
}

/// A conversation in lines of text.
pub struct Talk {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Talk {
    fn new(stream: UnixStream) -> Self {
        Self { writer: stream.try_clone().expect("a descriptor is left"), reader: BufReader::new(stream) }
    }

    pub fn say(&mut self, text: &str) {
        self.writer.write_all(format!("{text}\n").as_bytes()).expect("the other process runs");
    }

    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the other process runs");
        assert!(line.ends_with('\n'), "the other process has ended");
        line.trim_end().to_owned()
    }

    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.hear(), text);
    }
}

/// The information of a process that a test has started.
pub struct This {
    pub role: String,
    pub path: PathBuf,
    pub talk: Talk,
}

impl This {
    /// `None` in the process that cargo has started.
    pub fn get() -> Option<Self> {
        let role = std::env::var(ROLE).ok()?;
        let path = std::env::var_os(PATH).expect("it comes with the role").into();
        let stream: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().expect("a descriptor is left");
        Some(Self { role, path, talk: Talk::new(stream.into()) })
    }

    pub fn connect(&self) -> Connection {
        let options = connect_options().name(self.role.clone());
        Connection::connect_with(&self.path, &options).expect("the host answers")
    }
}

/// Another process, which runs the same test in another role. Killed when dropped.
pub struct Other {
    child: Child,
    pub talk: Talk,
}

impl Other {
    /// Runs the test with this full name.
    pub fn start(test: &str, role: &str, path: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        Self::start_program(&mut Command::new(program), test, role, path)
    }

    fn start_program(program: &mut Command, test: &str, role: &str, path: &Path) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("descriptors are left");
        let child = program
            .args(["--nocapture", "--exact", test])
            .env(ROLE, role)
            .env(PATH, path)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .expect("this program runs");
        Self { child, talk: Talk::new(ours) }
    }

    /// Like [`start`](Self::start), as this user, who needs a copy of the program that it may read.
    pub fn start_as(user: u32, test: &str, role: &str, host: &Host) -> Self {
        let open =
            |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let program = host.folder.0.join("program");
        // If this process wrote it, a child that another test forks meanwhile could hold it open, and
        // starting it would fail with ETXTBSY.
        let mut copies = Command::new("cp");
        copies.arg(std::env::current_exe().expect("this program")).arg(&program);
        assert!(copies.status().expect("cp starts").success());
        open(&program);
        open(&host.folder.0);
        Self::start_program(Command::new(program).uid(user).gid(user), test, role, host.path())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process, which must not have ended by itself.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("it was started");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "the other process ended itself: {status}");
    }

    /// Like [`kill`](Self::kill), while a thread of the process is traced.
    pub fn kill_traced(mut self, thread: Tracee) {
        self.child.kill().expect("it runs");
        thread.wait_for_death();
        self.child.wait().expect("it was started");
    }

    /// Returns the ID of the process's thread with this name. The thread may not have taken its name yet.
    pub fn thread(&self, name: &str) -> i32 {
        let mut found = None;
        until("there is such a thread", || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
            let mut tasks = tasks.map(|task| task.expect("it runs").path());
            let is_named = |task: &PathBuf| {
                fs::read_to_string(task.join("comm")).is_ok_and(|found| found.trim_end() == name)
            };
            found = tasks.find(is_named);
            found.is_some()
        });
        let number = found.and_then(|task| task.file_name()?.to_str()?.parse().ok());
        number.expect("the number of a thread")
    }

    /// Stops all threads of the process, and returns when they are.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let (pid, mut status) = (self.child.id() as i32, 0);
        // SAFETY: waits for a child of ours, which has not ended, and `status` is a valid place for the
        // answer.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) }, pid);
        assert!(libc::WIFSTOPPED(status), "the other process has ended");
    }

    /// Lets a stopped process continue.
    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to a child of ours, for which nobody has waited.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Waits until the process has ended. Another process must have killed it.
    pub fn expect_killed(mut self) {
        let status = self.child.wait().expect("it was started");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "the other process ended itself: {status}");
    }

    /// Waits until the process has ended, which must succeed.
    pub fn end(mut self) {
        let status = self.child.wait().expect("it was started");
        assert!(status.success(), "the other process failed: {status}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The full name of the test `name` in this module.
macro_rules! test_name {
    ($name:expr) => {
        &format!("{}::{}", module_path!().split_once("::").expect("a module of the crate").1, $name)
    };
}
pub(crate) use test_name;

pub type Numbers = Pod<u64>;

/// Returns options with few blocks, so that publishers have to reclaim them all the time.
pub fn few_blocks() -> PublisherOptions {
    PublisherOptions::new().blocks(8).block_size(64)
}

pub fn publisher(broker: &Broker, topic: &str) -> Publisher<Numbers> {
    broker.publisher(topic, few_blocks()).expect("it opens")
}

pub fn subscriber(broker: &Broker, topic: &str) -> Subscriber<Numbers> {
    broker.subscriber(topic, SubscriberOptions::new()).expect("it opens")
}

pub fn publish(publisher: &mut Publisher<Numbers>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let loan = publisher.blocking_loan(deadline()).expect("a block comes free");
        loan.send(&[number; 3][..]).expect("it fits");
    }
}

/// Receives these numbers in this order.
#[track_caller]
pub fn receive(subscriber: &mut Subscriber<Numbers>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let message = subscriber.blocking_recv_ref(deadline()).expect("it was published");
        assert_eq!(message.view(), [number; 3]);
    }
}

#[track_caller]
pub fn expect_end(subscriber: &mut Subscriber<Numbers>) {
    assert_eq!(subscriber.blocking_recv_ref(deadline()).err(), Some(RecvError::Ended));
}

/// Waits until other threads or processes have made `is_true` return `true`.
#[track_caller]
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
