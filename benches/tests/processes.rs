//! `compare` with ends that are processes: what it reports if one of them fails, and what it leaves behind.

#![cfg(feature = "processes")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A run of `compare`, with a folder of its own for temporary files.
struct Comparison {
    child: Child,
    folder: PathBuf,
}

impl Comparison {
    fn start(test: &str, arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_blockcast-bench"))
            .arg("compare")
            .args(arguments)
            .env("TMPDIR", &folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// The processes of its ends, even if their parent has ended: each has the folder in its environment.
    fn ends(&self) -> Vec<i32> {
        let variable = format!("TMPDIR={}", self.folder.display());
        let mut ends = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let is_end = read("cmdline").split(|&byte| byte == 0).nth(1) == Some(b"end");
            if is_end && read("environ").split(|&byte| byte == 0).any(|line| line == variable.as_bytes()) {
                ends.push(pid);
            }
        }
        ends
    }

    /// Whether all ends of a comparison of `count` ends have met, so that nobody needs files.
    fn have_met(&self, count: usize) -> bool {
        self.ends().len() == count && fs::read_dir(&self.folder).unwrap().next().is_none()
    }

    fn signal(pid: i32, signal: Signal) {
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn finish(self) -> Output {
        let Self { child, folder } = self;
        let output = child.wait_with_output().unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "files are left behind");
        fs::remove_dir(folder).unwrap();
        output
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn every_candidate_delivers_every_message_between_processes() {
    let rows = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rows-{}.json", std::process::id()));
    let benches = ["two-processes", "two-processes-written", "ping-pong-processes", "fan-out-processes"];
    let arguments: Vec<&str> = benches.iter().flat_map(|bench| ["--bench", *bench]).collect();
    let json = ["--quick", "--json", rows.to_str().unwrap()];
    let output = Comparison::start("every", &[&json[..], &arguments].concat()).finish();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&rows).unwrap();
    fs::remove_file(rows).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    for bench in benches {
        let candidates = ["blockcast", "blockcast-threads", "unix-socket", "pipe", "limit"];
        for candidate in candidates {
            let is_there = |row: &serde_json::Value| {
                row["bench"] == bench && row["candidate"] == candidate && row["ns_min"].as_f64() > Some(0.0)
            };
            // Two ends at the same time need two processors.
            let is_possible = bench == "fan-out-processes" || blockcast_bench::machine::has_two_processors();
            assert_eq!(rows.iter().any(is_there), is_possible, "{bench}, {candidate}");
        }
    }
}

#[test]
fn an_end_that_fails_is_an_error_with_its_standard_error_and_not_a_time() {
    let only = ["--bench", "fan-out-processes", "--candidate", "nobody"];
    let comparison = Comparison::start("fails", &only);
    let mut ends = Vec::new();
    wait_until("ends start", || {
        ends = comparison.ends();
        !ends.is_empty()
    });
    // Its standard error is a pipe. As long as it is stopped, it is there.
    Comparison::signal(ends[0], Signal::STOP);
    let mut errors = fs::File::options().write(true).open(format!("/proc/{}/fd/2", ends[0])).unwrap();
    errors.write_all(b"this end has a reason\n").unwrap();
    drop(errors);
    Comparison::signal(ends[0], Signal::KILL);
    let ends = || comparison.ends();
    wait_until("all other ends leave", || ends().is_empty());
    let output = comparison.finish();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("blockcast: a process ended with signal: 9 (SIGKILL)"), "{errors}");
    assert!(errors.contains("this end has a reason"), "{errors}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ns per message"), "it has a time");
}

#[test]
fn ends_leave_with_the_process_that_compares_even_if_it_is_killed() {
    let comparison = Comparison::start("killed", &["--bench", "fan-out-processes", "--candidate", "nobody"]);
    // Blockcast and the limit have two ends each. The state cannot change while it is stopped.
    wait_until("two candidates run", || {
        Comparison::signal(comparison.pid(), Signal::STOP);
        let have_met = comparison.have_met(4);
        if !have_met {
            Comparison::signal(comparison.pid(), Signal::CONT);
        }
        have_met
    });
    Comparison::signal(comparison.pid(), Signal::KILL);
    wait_until("the ends leave", || comparison.ends().is_empty());
    assert!(!comparison.finish().status.success());
}

#[test]
fn an_end_that_nobody_commands_says_whom_it_is_for() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_blockcast-bench")).arg("end").stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("for `compare` only"));
}
