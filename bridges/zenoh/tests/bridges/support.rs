//! Brokers with bridges, and other processes.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use blockcast_blocks::Pod;
use blockcast_broker::Broker;
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{RecvError, Subscriber, SubscriberOptions};
use blockcast_zenoh::{Bridge, BridgeOptions, Direction, Rule, Rules};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use zenoh::qos::CongestionControl;
use zenoh::{Config, Session, Wait};

/// The role of this process, if it is not the one that cargo has started.
const ROLE: &str = "BLOCKCAST_TEST_ROLE";
/// Where the process listens or connects.
const PLACE: &str = "BLOCKCAST_TEST_PLACE";

/// How long to wait for other threads and processes before a test fails. Links that are severed take tens of
/// seconds.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub type Numbers = Pod<u64>;

pub fn deadline() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// Waits until something becomes true that other threads or processes are about to do.
#[track_caller]
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A folder with the sockets of one test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("blockcast-bridges-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for sockets");
        Self(path)
    }

    /// The path of a socket.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A configuration of zenoh that finds nobody by itself, such as the processes of other tests.
    pub fn quiet(&self) -> String {
        let path = self.socket("zenoh.json5");
        let text =
            r#"{ mode: "peer", scouting: { multicast: { enabled: false }, gossip: { enabled: false } } }"#;
        fs::write(&path, text).expect("it is written");
        path.display().to_string()
    }

    /// An endpoint of zenoh, which nobody else uses.
    pub fn endpoint(&self, name: &str) -> String {
        format!("unixsock-stream/{}", self.socket(name).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A session that finds nobody by itself.
pub fn session(listen: &[String], connect: &[String]) -> Session {
    let mut config = Config::default();
    let list = |endpoints: &[String]| format!("{endpoints:?}");
    for (key, value) in [
        ("mode", r#""peer""#.to_owned()),
        ("scouting/multicast/enabled", "false".to_owned()),
        ("scouting/gossip/enabled", "false".to_owned()),
        ("listen/endpoints", list(listen)),
        ("connect/endpoints", list(connect)),
        ("connect/retry", "{ period_init_ms: 20, period_max_ms: 200, period_increase_factor: 2 }".to_owned()),
    ] {
        config.insert_json5(key, &value).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    zenoh::open(config).wait().expect("a session")
}

/// Where a session listens that was told to listen at port 0.
pub fn port(session: &Session) -> u16 {
    let locators = session.info().locators().wait();
    let port = |address: &str| address.rsplit_once(':')?.1.parse().ok();
    locators.iter().find_map(|locator| port(locator.address().as_str())).expect("it listens at a port")
}

/// A publisher of a client, which waits for the network.
pub fn declare(client: &Session, key: &str) -> zenoh::pubsub::Publisher<'static> {
    let publisher = client.declare_publisher(key.to_owned()).congestion_control(CongestionControl::Block);
    publisher.wait().expect("it is declared")
}

/// Looks often. A publisher whose end does not arrive ends a while later.
pub fn options() -> BridgeOptions {
    let options = BridgeOptions::new().interval(Duration::from_millis(10)).linger(Duration::from_secs(20));
    options.round_trips(Duration::from_millis(50))
}

/// The same, but waits long for those who cannot be reached: for tests that cut or stop them.
pub fn patient() -> BridgeOptions {
    options().linger(2 * PATIENCE)
}

/// Every topic, both ways.
pub fn all() -> Rules {
    let rules = Rules::new("test").expect("a prefix");
    rules.with(Rule::new("*", Direction::Both)).expect("a correct rule")
}

/// A broker with a bridge.
pub struct Side {
    pub broker: Broker,
    pub bridge: Bridge,
    pub session: Session,
}

impl Side {
    pub fn new(session: &Session, rules: Rules, options: BridgeOptions) -> Self {
        let broker = Broker::new();
        let bridge = Bridge::new(&broker, session.clone(), rules, options).expect("it starts");
        Self { broker, bridge, session: session.clone() }
    }

    /// Waits until the bridge sends this number of topics.
    pub fn sends(&self, topics: u64) {
        until("the bridge sends", || self.bridge.stats().sending == topics);
    }
}

/// Two brokers whose bridges reach each other.
pub fn pair(options: BridgeOptions) -> (Folder, Side, Side) {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let (one, other) = (session(&place, &[]), session(&[], &place));
    let (one, other) = (Side::new(&one, all(), options.clone()), Side::new(&other, all(), options));
    (folder, one, other)
}

pub fn publisher(broker: &Broker, topic: &str) -> Publisher<Numbers> {
    let options = PublisherOptions::new().blocks(64).block_size(64);
    broker.publisher(topic, options).expect("it opens")
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

/// Publishes numbers from `first` on, until one has arrived elsewhere. What is published before zenoh has
/// connected both ends is lost, and not counted. Returns the number that comes next.
pub fn publish_until_one_arrives(
    numbers: &mut Publisher<Numbers>,
    first: u64,
    subscriber: &mut Subscriber<Numbers>,
) -> u64 {
    let mut next = first;
    until("a message arrives", || {
        publish(numbers, next..next + 1);
        next += 1;
        subscriber.backlog() > 0
    });
    next
}

/// Receives these numbers, in this order.
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

/// Receives numbers that ascend by one, except where that many are reported as lost.
pub struct Counting {
    pub subscriber: Subscriber<Numbers>,
    /// The number that comes next.
    pub next: Option<u64>,
    pub received: u64,
    pub lost: u64,
}

impl Counting {
    pub fn new(subscriber: Subscriber<Numbers>) -> Self {
        Self { subscriber, next: None, received: 0, lost: 0 }
    }

    /// Receives one message or loss. Returns `false` at the end.
    #[track_caller]
    pub fn step(&mut self) -> bool {
        match self.subscriber.blocking_recv_ref(deadline()) {
            Ok(message) => {
                let number = message.view()[0];
                assert_eq!(message.view(), [number; 3]);
                assert_eq!(self.next.unwrap_or(number), number, "{} lost so far", self.lost);
                self.next = Some(number + 1);
                self.received += 1;
            }
            Err(RecvError::Lost(count)) => {
                self.next = self.next.map(|next| next + count);
                self.lost += count;
            }
            Err(RecvError::Ended) => return false,
            Err(error) => panic!("{error}"),
        }
        true
    }
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
}

/// What a process that a test has started knows.
pub struct This {
    pub role: String,
    pub place: String,
    pub talk: Talk,
}

impl This {
    /// `None` in the process that cargo has started.
    pub fn get() -> Option<Self> {
        let role = std::env::var(ROLE).ok()?;
        let place = std::env::var(PLACE).expect("it comes with the role");
        let stream: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().expect("a descriptor is left");
        Some(Self { role, place, talk: Talk::new(stream.into()) })
    }
}

/// Another process, which runs the same test in another role. Killed when dropped.
pub struct Other {
    child: Child,
    pub talk: Talk,
}

impl Other {
    /// Runs the test with this full name.
    pub fn start(test: &str, role: &str, place: &str) -> Self {
        Self::start_in(&[], test, role, place)
    }

    /// Runs the test by this other program, which becomes it.
    pub fn start_in(enter: &[&str], test: &str, role: &str, place: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("descriptors are left");
        let program: &Path = &std::env::current_exe().expect("this program");
        let mut words = enter.iter().map(OsStr::new).chain([program.as_os_str()]);
        let child = Command::new(words.next().expect("at least this program"))
            .args(words)
            .args(["--nocapture", "--exact", test])
            .env(ROLE, role)
            .env(PLACE, place)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .expect("this program runs");
        Self { child, talk: Talk::new(ours) }
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Stops all threads of the process, and returns when they are.
    pub fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it runs");
        let waited = waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("it is a child");
        assert!(waited.is_some_and(|(_, status)| status.stopped()), "the other process has ended");
    }

    /// Lets a stopped process continue.
    pub fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it exists");
    }

    /// Kills the process, which must not have ended by itself.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("it was started");
        assert!(status.code().is_none(), "the other process ended itself: {status}");
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
