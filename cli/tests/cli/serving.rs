//! `serve` hosts topics for other processes, and `topic` looks into the host.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use blockcast::{
    Bytes, ConnectError, ConnectOptions, Connection, Flat, Payload, Pod, Publisher, PublisherOptions,
    SubscriberOptions,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use super::{
    Folder, PATIENCE, POLITE, REPOSITORY, Running, STUBBORN, blockcast, component, output, stderr, stdout,
    without_a_reader,
};

/// Connects to a host, however busy the machine is.
fn connect(socket: impl AsRef<Path>) -> Connection {
    Connection::connect_with(socket, &ConnectOptions::new().patience(PATIENCE)).expect("a host serves")
}

/// A tool that serves.
struct Host {
    running: Running,
    socket: String,
    _folder: Folder,
}

impl Host {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let folder = Folder::new(name);
        let socket = folder.0.join("socket").display().to_string();
        let arguments = [&["serve", "--socket", &socket], arguments].concat();
        let running = Running::until(&arguments, "serving at");
        assert!(running.said.iter().any(|line| line.contains(&socket)), "{:?}", running.said);
        Self { running, socket, _folder: folder }
    }

    fn connect(&self) -> Connection {
        connect(&self.socket)
    }

    fn publisher<P: Payload>(&self, topic: &str) -> (Connection, Publisher<P>) {
        let connection = self.connect();
        let options = PublisherOptions::new().blocks(8).history(4).name("sensor");
        let publisher = connection.publisher(topic, options).expect("a publisher");
        (connection, publisher)
    }

    fn topic(&self, arguments: &[&str]) -> std::process::Output {
        output(&[&["topic"], arguments, &["--socket", &self.socket]].concat())
    }

    /// Starts to print a topic, and waits until it has subscribed.
    fn echo(&self, arguments: &[&str]) -> Running {
        let arguments = [&["topic", "echo", "--socket", &self.socket], arguments].concat();
        Running::until(&arguments, "subscribed to")
    }
}

#[test]
fn a_host_survives_its_clients_and_ends_at_one_interrupt() {
    let mut host = Host::start("survives", &[]);
    let path = PathBuf::from(&host.socket);
    assert_eq!(std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o600);
    let (one, mut publisher) = host.publisher::<Pod<u32>>("numbers");
    let two = host.connect();
    let mut subscriber =
        two.subscriber::<Pod<u32>>("numbers", SubscriberOptions::new()).expect("a subscriber");
    publisher.try_loan().expect("a block").send(&[7][..]).expect("sent");
    assert_eq!(subscriber.blocking_recv_ref(None).expect("a message").view(), [7]);
    host.running.says("publisher joined");
    drop((subscriber, publisher, one, two));
    host.running.says("publisher left");
    host.running.says("process disconnected");
    drop(host.publisher::<Bytes>("others"));
    host.running.interrupt();
    host.running.says("ends");
    let (status, printed) = host.running.end();
    assert!(status.success() && printed.is_empty(), "{status}: {printed}");
    assert!(!path.exists());
}

#[test]
fn a_host_runs_a_manifest_and_says_what_it_waits_for() {
    let folder = Folder::new("components");
    folder.file("polite.wat", &component(POLITE));
    folder.file("stubborn.wat", &component(STUBBORN));
    let socket = folder.0.join("here").display().to_string();
    let manifest = folder.file(
        "host.toml",
        "[serve]\nsocket = \"here\"\nmode = \"0660\"\n[[serve.group]]\nid = 12345\nsubscribe = [\"*\"]\n\
         [[guest]]\nsource = \"polite.wat\"\n\
         [[guest]]\nsource = \"stubborn.wat\"\nlimits = { shutdown-grace = \"50ms\" }\n",
    );
    let mut host = Running::until(&["serve", &manifest], "serving at");
    host.says("polite");
    assert_eq!(std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o660);
    drop(connect(&socket));
    host.interrupt();
    host.says("waiting for polite, stubborn");
    let (status, printed) = host.end();
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(printed.contains("it did not stop when asked to"), "{printed}");
    // The same manifest is not for `run`, which would not serve.
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("use `blockcast serve`"), "{}", stderr(&run));
}

#[test]
fn only_one_host_serves_at_a_path_and_bad_options_are_named() {
    let host = Host::start("one", &[]);
    let second = output(&["serve", "--socket", &host.socket]);
    assert_eq!(second.status.code(), Some(2));
    assert!(stderr(&second).contains("another broker serves"), "{}", stderr(&second));
    let folder = Folder::new("bad");
    let manifest = folder.file("bad.toml", "[serve]\nmode = \"rw\"\n");
    let bad = output(&["serve", &manifest]);
    assert!(stderr(&bad).contains("bad.toml:2:8: \"rw\" are not permissions"), "{}", stderr(&bad));
    let manifest = folder.file("bad.toml", "[serve]\nstall = \"kill\"\n");
    let bad = output(&["serve", &manifest]);
    assert!(stderr(&bad).contains("bad.toml:2:9: \"kill\" is not a policy for stalls"), "{}", stderr(&bad));
    let bad = output(&["serve", "--stall", "kill:9ms"]);
    assert!(stderr(&bad).contains("the shortest time is \"10ms\""), "{}", stderr(&bad));
    let nowhere = blockcast(&["topic", "list"]).env_remove("XDG_RUNTIME_DIR").output().expect("starts");
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("--socket"), "{}", stderr(&nowhere));
}

/// The variable with the socket's path, if a test has started this program to stall a publisher.
const STALLS_AT: &str = "BLOCKCAST_CLI_TESTS_STALL_AT";

#[test]
fn a_host_kills_a_process_that_stalls_a_publisher_if_it_is_told_to() {
    if let Some(socket) = std::env::var_os(STALLS_AT) {
        let connection = connect(socket);
        let _subscriber =
            connection.subscriber::<Pod<u32>>("numbers", SubscriberOptions::new()).expect("a subscriber");
        eprintln!("subscribed to numbers");
        std::thread::sleep(Duration::MAX);
    }
    let folder = Folder::new("stall");
    let manifest = folder.file("stall.toml", "[serve]\nstall = \"kill:50ms\"\n");
    let kinder = folder.file("wait.toml", "[serve]\nstall = \"wait\"\n");
    for arguments in [&["--stall", "kill:50ms", &kinder][..], &[&manifest]] {
        let mut host = Host::start("stalls", arguments);
        let mut stalls = Command::new(std::env::current_exe().expect("this program"));
        let this = "serving::a_host_kills_a_process_that_stalls_a_publisher_if_it_is_told_to";
        stalls.args(["--exact", this, "--nocapture"]).env(STALLS_AT, &host.socket);
        let mut stalls = Running::start(stalls);
        stalls.says("subscribed to numbers");
        let (_connection, mut publisher) = host.publisher::<Pod<u32>>("numbers");
        // More than it has blocks.
        for number in 0..20 {
            let loan = publisher.blocking_loan(Some(Instant::now() + PATIENCE)).expect("a block comes free");
            loan.send(&[number][..]).expect("sent");
        }
        host.running.says("killed a process that stalls a publisher");
        assert_eq!(stalls.end().0.signal(), Some(9));
        host.running.interrupt();
        assert!(host.running.end().0.success());
    }
}

/// Starts the service with a socket, as systemd does: the shell becomes the tool, with its process number in
/// the environment. Runs the command of the example's unit.
fn activated(listener: OwnedFd, environment: &str) -> Running {
    let unit = std::fs::read_to_string(format!("{REPOSITORY}/examples/deployment/blockcast.service"));
    let unit = unit.expect("the example");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let arguments = command.strip_prefix("/usr/local/bin/blockcast ").expect("the tool");
    let script = format!("exec 3<&0 0</dev/null; {environment} exec \"$0\" {arguments}");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_blockcast")]).current_dir(REPOSITORY);
    shell.env_remove("RUST_LOG").env_remove("XDG_RUNTIME_DIR").stdin(listener);
    Running::start(shell)
}

fn listener(path: &PathBuf, kind: SocketType) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("a path")).expect("bound");
    listen(&socket, 8).expect("it listens");
    socket
}

#[test]
fn a_service_takes_the_socket_that_systemd_passes_and_leaves_it_there() {
    let unit = std::fs::read_to_string(format!("{REPOSITORY}/examples/deployment/blockcast.socket"));
    assert!(unit.expect("the example").contains("ListenSequentialPacket="));
    let folder = Folder::new("activated");
    let path = folder.0.join("socket");
    let socket = listener(&path, SocketType::SEQPACKET);
    let passed = socket.try_clone().expect("a copy");
    // A process may connect before the service has started.
    let client = std::thread::spawn({
        let path = path.clone();
        move || connect(path)
    });
    let mut service = activated(passed, "LISTEN_PID=$$ LISTEN_FDS=1");
    service.says("serving at");
    assert!(service.said.iter().any(|line| line.contains(&*path.to_string_lossy())), "{:?}", service.said);
    let client = client.join().expect("the service has answered");
    service.interrupt();
    let (status, _) = service.end();
    assert!(status.success(), "{status}");
    assert!(path.exists(), "the socket is systemd's");
    // The next one serves the same socket.
    let mut again = activated(socket, "LISTEN_PID=$$ LISTEN_FDS=1");
    again.says("process connected");
    drop(client);
    again.interrupt();
    assert!(again.end().0.success());
}

#[test]
fn descriptors_that_are_not_the_services_socket_are_refused() {
    let folder = Folder::new("passed");
    let stream = listener(&folder.0.join("stream"), SocketType::STREAM);
    let mut refused = activated(stream, "LISTEN_PID=$$ LISTEN_FDS=1");
    refused.says("not a listening Unix socket of type SOCK_SEQPACKET");
    assert_eq!(refused.end().0.code(), Some(2));
    let mut two =
        activated(listener(&folder.0.join("two"), SocketType::SEQPACKET), "LISTEN_PID=$$ LISTEN_FDS=2");
    two.says("passes 2 sockets");
    assert_eq!(two.end().0.code(), Some(2));
    // The variables are meant for another process: there is no socket then, and no default path.
    let other = listener(&folder.0.join("other"), SocketType::SEQPACKET);
    let mut other = activated(other, "LISTEN_PID=1 LISTEN_FDS=1");
    other.says("XDG_RUNTIME_DIR is not set");
    assert_eq!(other.end().0.code(), Some(2));
}

#[test]
fn topics_are_listed_with_the_counters_that_their_publishers_report() {
    let host = Host::start("list", &[]);
    let empty = host.topic(&["list", "--json"]);
    assert!(empty.status.success() && empty.stdout.is_empty(), "{}", stderr(&empty));
    let (_one, mut publisher) = host.publisher::<Pod<u32>>("numbers");
    let two = host.connect();
    let mut subscriber =
        two.subscriber::<Pod<u32>>("numbers", SubscriberOptions::new()).expect("a subscriber");
    for number in 0..3 {
        publisher.try_loan().expect("a block").send(&[number, number][..]).expect("sent");
    }
    drop(subscriber.blocking_recv_ref(None).expect("a message"));
    let list = host.topic(&["list"]);
    let row: Vec<_> = stdout(&list).lines().nth(1).expect("a topic").split_whitespace().collect();
    assert_eq!(row, ["numbers", "pod:u32:4", "1", "1", "3", "24", "B", "0"], "{}", stdout(&list));
    let info = host.topic(&["info", "numbers"]);
    let shown = stdout(&info);
    assert!(shown.contains(&format!("publisher sensor of process {}", std::process::id())), "{shown}");
    assert!(shown.contains("3 messages published, 24 B"), "{shown}");
    assert!(shown.contains("1 received, 0 lost, 2 behind"), "{shown}");
    let json = stdout(&host.topic(&["info", "numbers", "--json"])).to_owned();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["publishers"][0]["counters"]["published"], 3);
    assert_eq!(json["publishers"][0]["counters"]["subscribers"][0]["received"], 1);
    let missing = host.topic(&["info", "nothing"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("no topic \"nothing\""), "{}", stderr(&missing));
    // This has lost no message.
    for number in 1..3 {
        assert_eq!(subscriber.blocking_recv_ref(None).expect("a message").view(), [number; 2]);
    }
}

#[test]
fn messages_are_printed_as_their_schema_says_until_the_publishers_leave() {
    let host = Host::start("values", &[]);
    let (_one, mut numbers) = host.publisher::<Pod<f32>>("numbers");
    let (_two, mut lines) = host.publisher::<Flat<Vec<String>>>("lines");
    let (_three, mut bytes) = host.publisher::<Bytes>("bytes");
    let echoes = ["numbers", "lines", "bytes"].map(|topic| host.echo(&[topic, "--json"]));
    numbers.try_loan().expect("a block").send(&[0.5, -1.25][..]).expect("sent");
    lines.try_loan().expect("a block").send(&["to be", "or not"][..]).expect("sent");
    bytes.try_loan().expect("a block").send(&b"text\n"[..]).expect("sent");
    bytes.try_loan().expect("a block").send(&[0xff, 0][..]).expect("sent");
    drop((numbers, lines, bytes));
    let values = echoes.map(|mut echo| {
        echo.says("the publishers have left");
        let (status, printed) = echo.end();
        assert!(status.success(), "{status}");
        let lines = printed.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        lines.collect::<Vec<serde_json::Value>>()
    });
    let [numbers, lines, bytes] = &values;
    assert_eq!(numbers[0]["value"], serde_json::json!([0.5, -1.25]));
    assert_eq!((&numbers[0]["sequence"], &numbers[0]["length"]), (&0.into(), &8.into()));
    assert!(numbers[0]["time"].is_u64());
    assert_eq!(lines[0]["value"], serde_json::json!(["to be", "or not"]));
    assert_eq!(bytes[0]["value"], "text\n");
    assert_eq!(bytes[1]["value"], serde_json::json!({ "hex": "ff00" }));
}

#[test]
fn a_stopped_reader_never_stops_a_publisher_and_reports_every_loss() {
    let host = Host::start("losses", &[]);
    let (_connection, mut publisher) = host.publisher::<Pod<u32>>("numbers");
    let mut echo = host.echo(&["numbers"]);
    echo.stop();
    for number in 0..10_000 {
        // There are eight blocks, and none of them waits for the reader.
        publisher.try_loan().expect("a block").send(&[number][..]).expect("sent");
    }
    echo.resume();
    drop(publisher);
    echo.says("the publishers have left");
    let total = echo.said.iter().rev().find_map(|line| line.split_once("messages, ")?.1.split(' ').next());
    let lost: usize = total.expect("a loss").parse().expect("a number");
    let (status, printed) = echo.end();
    assert!(status.success(), "{status}");
    assert_eq!(printed.lines().count() + lost, 10_000, "{printed}");
}

#[test]
fn printing_ends_after_the_count_or_when_nobody_reads() {
    let host = Host::start("count", &[]);
    let (_connection, mut publisher) = host.publisher::<Bytes>("words");
    for word in ["a", "b", "c"] {
        publisher.try_loan().expect("a block").send(word.as_bytes()).expect("sent");
    }
    let counted = host.topic(&["echo", "words", "--history", "3", "--count", "2"]);
    let values: Vec<_> = stdout(&counted).lines().filter_map(|line| line.split_once("bytes: ")).collect();
    assert_eq!(values.iter().map(|value| value.1).collect::<Vec<_>>(), ["\"a\"", "\"b\""]);
    let arguments = ["topic", "echo", "words", "--history", "3", "--socket", &host.socket];
    let unread = blockcast(&arguments).stdout(without_a_reader()).output().expect("starts");
    assert!(unread.status.success(), "{}", unread.status);
    assert!(!stderr(&unread).contains("cannot write"), "{}", stderr(&unread));
}

#[test]
fn another_user_sees_what_the_host_grants_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run processes of other users");
        return;
    }
    let host = Host::start("users", &["--allow-user", "65534", "--subscribe", "open/*"]);
    let (_one, _open) = host.publisher::<Bytes>("open/words");
    let (_two, _secret) = host.publisher::<Bytes>("secret");
    // Others may not reach the folder of the tool.
    let folder = PathBuf::from(&host.socket).with_file_name("tool");
    std::fs::copy(env!("CARGO_BIN_EXE_blockcast"), &folder).expect("a copy");
    let as_user = |user: u32, arguments: &[&str]| {
        let mut command = std::process::Command::new(&folder);
        command.uid(user).gid(user).current_dir("/").args(["topic"]).args(arguments);
        command.args(["--socket", &host.socket]);
        loop {
            match command.output() {
                // Another test has forked while the copy was open for writing, and is about to call `exec`.
                Err(busy) if busy.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                output => return output.expect("starts"),
            }
        }
    };
    let list = as_user(65534, &["list", "--host-user", "0"]);
    assert!(list.status.success(), "{}", stderr(&list));
    assert!(stdout(&list).contains("open/words") && !stdout(&list).contains("secret"), "{}", stdout(&list));
    let secret = as_user(65534, &["echo", "secret", "--host-user", "0"]);
    assert_eq!(secret.status.code(), Some(1), "{}", stderr(&secret));
    let stranger = as_user(65533, &["list", "--host-user", "0"]);
    assert_eq!(stranger.status.code(), Some(2));
    assert!(stderr(&stranger).contains("user 65533 may not connect"), "{}", stderr(&stranger));
}

#[test]
fn nobody_serves_is_an_error_of_its_own() {
    let folder = Folder::new("nobody");
    let path = folder.0.join("socket").display().to_string();
    assert!(matches!(Connection::connect(&path), Err(ConnectError::NoHost(_))));
    let list = output(&["topic", "list", "--socket", &path]);
    assert_eq!(list.status.code(), Some(2));
    assert!(stderr(&list).contains("no process serves at"), "{}", stderr(&list));
}
