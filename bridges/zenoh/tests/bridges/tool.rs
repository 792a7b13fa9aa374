//! The tool `blockcast-bridge`.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use blockcast_blocks::Bytes;
use blockcast_bridge_core::Attachment;
use blockcast_broker::{Broker, ServeOptions};
use blockcast_publisher::PublisherOptions;
use rustix::process::{Pid, Signal, kill_process};
use zenoh::Wait;
use zenoh::sample::Sample;

use crate::support::{Folder, PATIENCE, expect_end, publish, publisher, receive, session, subscriber, until};

/// A running tool. Killed when dropped.
struct Tool {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
}

impl Tool {
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(Path::new("."), arguments)
    }

    fn start_in(folder: &Path, arguments: &[impl AsRef<OsStr>]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_blockcast-bridge"))
            .args(arguments)
            .current_dir(folder)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line
    }

    /// Waits for a line that contains the text.
    fn says(&mut self, text: &str) {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "it never said {text}");
            if line.contains(text) {
                return;
            }
        }
    }

    /// Waits until it runs. Zenoh may log something before.
    fn runs(&mut self) {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "it has ended");
            if line == "blockcast-bridge: running\n" {
                return;
            }
        }
    }

    /// Its exit code, once it has ended by itself.
    fn child_ended(mut self) -> Option<i32> {
        while !self.line().is_empty() {}
        self.child.wait().expect("it was started").code()
    }

    /// Asks it to end. Returns its last line.
    fn end(mut self, signal: Signal) -> String {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        let (mut last, mut line) = (String::new(), self.line());
        while !line.is_empty() {
            // Zenoh may log something at any time.
            if line.starts_with("blockcast-bridge: ") {
                last = line;
            }
            line = self.line();
        }
        assert!(self.child.wait().expect("it was started").success());
        last
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_tool_carries_topics_between_hosts_and_ends_cleanly() {
    let folder = Folder::new();
    let hosts = [(); 2].map(|()| Broker::new());
    let serve = |index: usize, name: &str| {
        let options = ServeOptions::new().patience(PATIENCE);
        hosts[index].serve(folder.socket(name), options).expect("nobody else serves there")
    };
    let _serving = [serve(0, "one"), serve(1, "other")];
    let path = |name: &str| folder.socket(name).display().to_string();
    let (place, quiet) = (folder.endpoint("link"), folder.quiet());
    let (one, other) = (path("one"), path("other"));
    let mut first = Tool::start(&[
        "--socket",
        &one,
        "--zenoh",
        &quiet,
        "--listen",
        &place,
        "--out",
        "open/*",
        "--deny",
        "open/secret",
        "--back-pressure",
        "--stats",
        "1",
    ]);
    first.runs();
    let mut second = Tool::start(&[
        "--socket",
        &other,
        "--zenoh",
        &quiet,
        "--connect",
        &place,
        "--listen",
        &folder.endpoint("unused"),
        "--in",
        "*",
    ]);
    second.runs();

    let topics = ["open/numbers", "open/secret"];
    let mut subscribers = topics.map(|topic| subscriber(&hosts[1], topic));
    let mut publishers = topics.map(|topic| publisher(&hosts[0], topic));
    until("the tool has joined", || publishers[0].subscriber_count() == 1);
    publishers.iter_mut().for_each(|publisher| publish(publisher, 0..100));
    receive(&mut subscribers[0], 0..100);
    assert_eq!((publishers[1].subscriber_count(), subscribers[1].backlog()), (0, 0));
    first.says(", round trip ");

    let sent = first.end(Signal::INT);
    let expected = "; sent 100 messages, 2400 bytes, of 1 topics, 0 lost before; received 0, 0 bytes, of 0 topics; 0 missing";
    assert!(sent.starts_with("blockcast-bridge: 1 peers") && sent.contains(expected), "{sent}");
    assert!(sent.contains(", round trip "), "{sent}");
    expect_end(&mut subscribers[0]);
    assert_eq!(publishers[0].subscriber_count(), 0);
    let received = second.end(Signal::TERM);
    assert!(received.contains("received 100, 2400 bytes"), "{received}");
}

#[test]
fn the_tool_says_what_is_wrong() {
    let folder = Folder::new();
    let nobody = folder.socket("nobody").display().to_string();
    for (arguments, expected) in [
        (&["--prefix", "a*"][..], "--prefix a*: "),
        (&["--schema", "words"], "there is no ="),
        (&["--key", "words=a*"], "--key words: \"a*\" is not a key"),
        // Of the topic `words=a`, and of `words\`.
        (&["--key", r"words\=a=b*"], "--key words=a: \"b*\" is not a key"),
        (&["--key", r"words\\=a=b*"], r#"--key words\: "a=b*" is not a key"#),
        (&["--key", r"words\=a"], "there is no ="),
        (&["--batch", "many"], "many"),
        (&["--in", ""], "--in : "),
        (&["--mode", "boss"], "--mode boss: "),
        (&["--connect", "tcp/[::1]:1", "--connect", "here"], "--connect here: "),
        (&["--zenoh", &nobody], "nobody"),
    ] {
        for check in [&["--check"][..], &[]] {
            let mut tool = Tool::start(&[arguments, check].concat());
            let line = tool.line();
            assert!(line.contains(expected), "{line}");
            assert_eq!(tool.child.wait().expect("it was started").code(), Some(2), "{line}");
        }
    }
    // Correct, but nobody serves there.
    let arguments =
        ["--socket", &nobody, "--mode", "client", "--key", "a=b", "--schema", "a=flat1/u32:string"];
    let checked = Tool::start(&[&arguments[..], &["--connect", "tcp/127.0.0.1:1", "--check"]].concat());
    assert_eq!(checked.child_ended(), Some(0));
    let place = folder.endpoint("one");
    let failed = Tool::start(&["--socket", &nobody, "--zenoh", &folder.quiet(), "--listen", &place]);
    assert_eq!(failed.child_ended(), Some(1));
}

/// Names with quotes and backslashes, which are different in Rust and in JSON.
#[test]
fn the_tool_passes_unusual_endpoints_on() {
    let folder = Folder::new();
    let host = Broker::new();
    let options = ServeOptions::new().patience(PATIENCE);
    let serving = host.serve(folder.socket("host"), options).expect("nobody else serves there");
    let socket = serving.path().display().to_string();
    let place = folder.endpoint("größe\u{301}\u{7f}\"\\");
    let arguments = ["--socket", &socket, "--zenoh", &folder.quiet(), "--listen", &place, "--both", "*"];
    let mut tool = Tool::start(&arguments);
    tool.runs();
    assert!(folder.socket("größe\u{301}\u{7f}\"\\").exists());
    tool.end(Signal::TERM);
}

/// Names, paths and keys with bytes that mean something elsewhere.
#[test]
fn the_tool_carries_topics_with_unusual_names_for_a_host_with_an_unusual_path() {
    let folder = Folder::new();
    let host = Broker::new();
    let options = ServeOptions::new().patience(PATIENCE);
    let name = OsStr::from_bytes(b"-host=\xff\\");
    let _serving = host.serve(folder.socket("").join(name), options).expect("nobody else serves there");
    let link = folder.endpoint("link");
    let mut socket = OsString::from("--socket=");
    socket.push(name);
    let mut tool = Tool::start_in(
        &folder.socket(""),
        &[
            &socket,
            &OsString::from(format!("--zenoh={}", folder.quiet())),
            &OsString::from(format!("--listen={link}")),
            &OsString::from(r"--key=a\=b\\\=c=d/e=f"),
            &OsString::from("--out=a=b*"),
            &OsString::from("--batch=1000"),
            &OsString::from("--unchecked"),
            &OsString::from("--without-ends"),
        ],
    );
    tool.runs();
    let client = session(&[], &[link]);
    let (sender, samples) = mpsc::channel::<Sample>();
    let subscriber = client.declare_subscriber("d/e=f").callback(move |sample| drop(sender.send(sample)));
    let _subscriber = subscriber.wait().expect("it is declared");
    let mut numbers = publisher(&host, r"a=b\=c");
    until("the tool has joined", || numbers.subscriber_count() == 1);
    publish(&mut numbers, 7..8);
    let sample = samples.recv_timeout(PATIENCE).expect("it was published");
    let attachment = sample.attachment().expect("bridges attach something").to_bytes();
    let attachment = Attachment::decode(&attachment).expect("a correct one");
    assert_eq!((attachment.messages, attachment.check), (1, None));
    drop(numbers);
    tool.end(Signal::INT);
    assert!(samples.try_recv().is_err(), "the end is not sent");
}

/// Nobody takes what it sends, so it would wait for that.
#[test]
fn a_second_signal_ends_the_tool_at_once() {
    let folder = Folder::new();
    let host = Broker::new();
    let options = ServeOptions::new().patience(PATIENCE);
    let serving = host.serve(folder.socket("host"), options).expect("nobody else serves there");
    let socket = serving.path().display().to_string();
    let config = folder.socket("patient.json5").display().to_string();
    // Otherwise zenoh gives up the link after some seconds.
    let text = r#"{ mode: "peer", scouting: { multicast: { enabled: false }, gossip: { enabled: false } },
        transport: { link: { tx: { queue: { congestion_control: { block: { wait_before_close: 600000000 } } } } } } }"#;
    std::fs::write(&config, text).expect("it is written");
    let link = folder.endpoint("link");
    let mut tool = Tool::start(&[
        "--socket",
        &socket,
        "--zenoh",
        &config,
        "--listen",
        &link,
        "--out",
        "*",
        "--back-pressure",
    ]);
    tool.runs();
    let client = session(&[], &[link]);
    let (go_on, wait) = mpsc::channel::<()>();
    let (arrive, arrived) = mpsc::channel();
    let wait = Mutex::new(wait);
    let subscriber = client.declare_subscriber("blockcast/**").callback(move |_| {
        let _ = arrive.send(());
        // Until the test ends.
        let _ = wait.lock().expect("nobody has panicked").recv();
    });
    let _subscriber = subscriber.wait().expect("it is declared");
    // More than the buffers of both ends hold.
    let options = PublisherOptions::new().blocks(64).block_size(1 << 20);
    let mut bytes = host.publisher::<Bytes>("bytes", options).expect("it opens");
    until("the tool has joined", || bytes.subscriber_count() == 1);
    // Until no block comes back.
    let mut sent = 0;
    while let Ok(loan) = bytes.blocking_loan(Some(Instant::now() + Duration::from_secs(1))) {
        loan.send(&[0; 1 << 20][..]).expect("it fits");
        sent += 1;
        assert!(sent < 1000, "somebody takes what the tool sends");
    }
    arrived.recv_timeout(PATIENCE).expect("the first one arrives");
    let pid = Pid::from_child(&tool.child);
    kill_process(pid, Signal::INT).expect("it runs");
    tool.says("a second signal ends it at once");
    kill_process(pid, Signal::INT).expect("it runs");
    let status = tool.child.wait().expect("it was started");
    assert_eq!(status.signal(), Some(2), "{status}");
    drop(go_on);
}
