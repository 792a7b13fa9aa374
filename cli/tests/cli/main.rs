//! The command-line tool: its runs, its output, and its exit codes.

#[path = "../../../broker/tests/guest_support/wasi.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the broker's tests")]
mod wasi;
#[path = "../../../broker/tests/guest_support/wat.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the broker's tests")]
mod wat;

mod bridge;
mod compiling;
mod inputs;
mod inspect;
mod interrupts;
mod libraries;
mod manifest;
mod processes;
mod run;
mod serving;
mod texts;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The tool, started in the root of the repository.
fn blockcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockcast"));
    command.args(arguments).current_dir(REPOSITORY).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    blockcast(arguments).output().expect("the tool starts")
}

/// The writing end of a pipe without a reader.
fn without_a_reader() -> Stdio {
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer.into()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// A folder for one test. Dropping this removes the folder.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blockcast-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A component that imports only `blockcast:blocks/session`. `body` is the content of its module, in which
/// `$log` takes the level, address and length of a text. The text `ready` is at address 16.
fn component(body: &str) -> String {
    format!(
        r#"(component
          (import "blockcast:blocks/session@0.1.0" (instance $session
            (type $level_ (enum "error" "warn" "info" "debug" "trace"))
            (export "level" (type $level (eq $level_)))
            (export "log" (func (param "level" $level) (param "text" string)))
            (export "shutdown-requested" (func (result bool)))))
          (core module $memory (memory (export "memory") 1) (data (i32.const 16) "ready"))
          (core instance $memory (instantiate $memory))
          (core func $log (canon lower (func $session "log") (memory (core memory $memory "memory"))))
          (core func $asked (canon lower (func $session "shutdown-requested")))
          (core module $main
            (import "host" "log" (func $log (param i32 i32 i32)))
            (import "host" "asked" (func $asked (result i32)))
            {body})
          (core instance $main (instantiate $main
            (with "host" (instance (export "log" (func $log)) (export "asked" (func $asked))))))
          (func (export "run") (result u32) (canon lift (core func $main "run"))))"#
    )
}

/// Logs that it is ready, then computes until it is asked to finish.
const POLITE: &str = r#"(func (export "run") (result i32)
  (call $log (i32.const 2) (i32.const 16) (i32.const 5))
  (loop $on (br_if $on (i32.eqz (call $asked)))) (i32.const 0))"#;

/// Logs that it is ready, then computes forever.
const STUBBORN: &str = r#"(func (export "run") (result i32)
  (call $log (i32.const 2) (i32.const 16) (i32.const 5)) (loop $on (br $on)) unreachable)"#;

const TRAPS: &str =
    r#"(func $deep unreachable) (func (export "run") (result i32) (call $deep) (i32.const 0))"#;

/// A running tool whose output has been read up to some line.
struct Running {
    child: Child,
    said: Vec<String>,
    /// Its further output. All of it is read, so that a full pipe never stops the tool.
    lines: mpsc::Receiver<String>,
}

/// How long to wait for a line of a running tool, or for its end.
const PATIENCE: Duration = Duration::from_secs(600);

impl Running {
    /// Starts the tool and waits for a line that contains `word`.
    fn until(arguments: &[&str], word: &str) -> Self {
        let mut running = Self::start(blockcast(arguments));
        running.says(word);
        running
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let errors = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || errors.for_each(|line| drop(say.send(line.expect("UTF-8")))));
        Self { child, said: Vec::new(), lines }
    }

    /// Waits for a line that contains `word`.
    fn says(&mut self, word: &str) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            let found = line.contains(word);
            self.said.push(line);
            if found {
                return;
            }
        }
        self.child.kill().expect("ended");
        panic!("it never said {word:?}: {:?}", self.said);
    }

    fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Returns once it no longer runs.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/task", self.child.id());
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.expect("a thread").path().join("stat")).expect("runs");
            stat.rsplit_once(") ").expect("a state").1.starts_with('T')
        };
        while !std::fs::read_dir(&stat).expect("its threads").all(is_stopped) {
            std::thread::yield_now();
        }
    }

    fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(child, signal).expect("signalled");
    }

    fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().expect("ended");
                panic!("it did not end: {:?}", self.said);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut printed = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut printed).expect("UTF-8");
        (status, printed)
    }
}

impl Drop for Running {
    /// Leaves no process behind when a test is done with it, or has failed.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
