//! The tool `blockcast`, which starts the tool `blockcast-bridge`.
//!
//! The variable `BLOCKCAST_TOOL` names the former, which another workspace builds. Without it, the tests say
//! so and do nothing.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStderr, Command, Stdio};

use blockcast_broker::Connection;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Folder, Side, all, expect_end, patient, publish, publisher, receive, session, subscriber, until,
};

const BRIDGE: &str = env!("CARGO_BIN_EXE_blockcast-bridge");

/// The tool with these arguments, unless there is none.
fn tool(arguments: &[&str]) -> Option<Command> {
    let Some(tool) = std::env::var_os("BLOCKCAST_TOOL") else {
        // Past the capture of output.
        writeln!(std::io::stderr(), "hosting: skipped: BLOCKCAST_TOOL is not set").expect("it is open");
        return None;
    };
    let mut command = Command::new(tool);
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped());
    Some(command)
}

/// A running tool. Killed when dropped.
struct Host {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Host {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, lines }
    }

    /// The next line that contains the text.
    fn says(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("a line");
            assert!(!line.is_empty(), "it never said {text}");
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_manifest_carries_the_topics_of_a_host_to_other_machines() {
    let folder = Folder::new();
    let manifest = folder.socket("host.toml").display().to_string();
    let text = format!(
        "[serve]\nsocket = \"host\"\n[bridge]\nprogram = {BRIDGE:?}\nzenoh = {:?}\nlisten = [{:?}]\nprefix = \
         \"test\"\nout = [\"*\"]\nback-pressure = true\ndeny = [\"secret*\"]\n",
        folder.quiet(),
        folder.endpoint("link")
    );
    fs::write(&manifest, text).expect("it is written");
    let Some(command) = tool(&["serve", &manifest]) else { return };
    let mut host = Host::start(command);
    assert_eq!(host.says("running"), "bridge INFO  running\n");
    let connection = Connection::connect(folder.socket("host")).expect("it serves");
    let other = Side::new(&session(&[], &[folder.endpoint("link")]), all(), patient());
    let mut received = subscriber(&other.broker, "numbers");
    let mut numbers = publisher(connection.broker(), "numbers");
    until("the bridge has joined", || numbers.subscriber_count() == 1);
    publish(&mut numbers, 0..100);
    receive(&mut received, 0..100);
    publish(&mut numbers, 100..150);
    kill_process(Pid::from_child(&host.child), Signal::INT).expect("it runs");
    receive(&mut received, 100..150);
    expect_end(&mut received);
    let last = host.says("sent 150 messages");
    assert!(last.starts_with("bridge INFO  1 peers"), "{last}");
    assert!(host.child.wait().expect("it was started").success());
}

#[test]
fn errors_of_the_bridge_name_the_manifests_line() {
    let folder = Folder::new();
    let manifest = folder.socket("host.toml").display().to_string();
    for (key, expected) in [
        ("connect = [\"nobody\"]", "host.toml:3:11: the bridge refuses this: --connect nobody: "),
        ("prefix = \"a*\"", "host.toml:3:10: the bridge refuses this: --prefix a*: "),
        ("key = { a = \"b*\" }", "host.toml:3:7: the bridge refuses this: --key a: "),
        ("mode = \"boss\"", "host.toml:3:8: the bridge refuses this: --mode boss: "),
        ("zenoh = \"none.json5\"", "host.toml:3:9: the bridge refuses this: --zenoh "),
    ] {
        fs::write(&manifest, format!("[bridge]\nprogram = {BRIDGE:?}\n{key}\n")).expect("it is written");
        let Some(mut command) = tool(&["serve", &manifest]) else { return };
        let run = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn the_subcommand_runs_the_tool() {
    let Some(mut command) = tool(&["bridge", "--version"]) else { return };
    let place = std::path::Path::new(BRIDGE).parent().expect("a folder");
    let run = command.env("PATH", place).output().expect("it starts");
    assert!(run.status.success());
    assert!(String::from_utf8_lossy(&run.stdout).starts_with("blockcast-bridge "), "{run:?}");
}
