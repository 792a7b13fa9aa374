//! The limits, descriptors and environment of components' processes.

mod support;

use std::path::Path;
use std::time::Duration;

use blockcast::{Broker, ComponentLimits, ExitReason, Level, Limit, ProcessSource, Rate};

use support::{Said, options, program};

fn run(task: &str, limits: impl FnOnce(&mut ComponentLimits)) -> (ExitReason, Said) {
    let (with, said) = options(task, limits);
    (Broker::new().supervise_process(&program(), with).expect("it starts").wait().reason, said)
}

#[test]
fn memory_beyond_the_limit_is_refused_by_the_system() {
    let allocate = |bytes: u64| {
        let (with, said) = options("allocate", |limits| limits.memory = 64 << 20);
        let with = with.parameter("bytes", bytes.to_string());
        let component = Broker::new();
        let component = component.supervise_process(&program(), with).expect("it starts");
        (component.wait().reason, said.lines())
    };
    assert_eq!(allocate(40 << 20), (ExitReason::Finished, vec![format!("{} bytes", 40 << 20)]));
    let (reason, lines) = allocate(200 << 20);
    assert_eq!(reason, ExitReason::Signalled { signal: libc::SIGABRT });
    assert!(
        lines.iter().any(|line| line.contains("memory allocation of 209715200 bytes failed")),
        "{lines:?}"
    );
}

#[test]
fn time_beyond_the_limits_ends_a_process() {
    let time = Duration::from_millis(50);
    assert_eq!(run("compute", |limits| limits.compute = Some(time)).0, ExitReason::Killed(Limit::Compute));
    assert_eq!(run("ignore", |limits| limits.run_time = Some(time)).0, ExitReason::Killed(Limit::RunTime));
}

#[test]
fn what_a_process_writes_becomes_lines_of_its_log() {
    let (reason, said) = run("log", |_| {});
    assert_eq!(reason, ExitReason::Finished);
    let mut levels = said.levels();
    // The session and the streams take different paths.
    levels.sort();
    let line = |level, text: &str| (level, text.to_owned());
    assert_eq!(
        levels,
        [
            line(Level::Warn, "by the session\\nin one line"),
            line(Level::Warn, "standard error"),
            line(Level::Info, "not terminated"),
            line(Level::Info, "standard output"),
        ]
    );
}

#[test]
fn lines_beyond_the_limit_are_dropped_and_counted_or_end_the_process() {
    let few = Rate { per_second: 0, burst: 10 };
    let (with, said) = options("flood", |limits| limits.log_lines = few);
    let broker = Broker::new();
    let report = broker.supervise_process(&program(), with).expect("it starts").wait();
    assert_eq!(report.reason, ExitReason::Finished);
    assert_eq!((said.lines().len(), report.stats.log_lines, report.stats.log_lines_dropped), (10, 10, 9990));
    let (reason, _) = run("flood", |limits| {
        limits.log_lines = few;
        limits.end_at = vec![Limit::LogLines];
    });
    assert_eq!(reason, ExitReason::Killed(Limit::LogLines));
}

#[test]
fn a_log_sink_that_panics_ends_the_process() {
    let (with, _) = options("wait", |_| {});
    let with = with.log(std::sync::Arc::new(|_, _| panic!("a log sink with a mistake")));
    let broker = Broker::new();
    let reason = broker.supervise_process(&program(), with).expect("it starts").wait().reason;
    assert!(
        matches!(&reason, ExitReason::HostPanicked(why) if why.contains("a log sink with a mistake")),
        "{reason}"
    );
}

#[test]
fn a_process_has_only_what_the_documentation_says() {
    // A descriptor that programs inherit.
    let file = std::fs::File::open("/dev/null").expect("it is there");
    // SAFETY: no memory. A file of this test's own.
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_SETFD, 0) };
    let (with, said) = options("confinement", |limits| limits.compute = Some(Duration::from_secs(1000)));
    let source = program().environment("ADDED", "value").argument("--flag").folder("/tmp");
    let broker = Broker::new();
    let reason = broker.supervise_process(&source, with).expect("it starts").wait().reason;
    let lines = said.lines();
    assert_eq!(reason, ExitReason::Finished, "{lines:?}");
    let has = |line: &str| lines.iter().any(|found| found == line);
    let with = |beginning: &str| {
        lines.iter().filter_map(|line| line.strip_prefix(beginning)).map(str::to_owned).collect::<Vec<_>>()
    };

    let inherited =
        ["PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "RUST_BACKTRACE"];
    for variable in with("env ") {
        let name = variable.split('=').next().expect("a name");
        let known = inherited.contains(&name) || ["ADDED", "BLOCKCAST_SOCKET_FD"].contains(&name);
        assert!(known, "{variable}");
    }
    assert!(has("env ADDED=value"), "{lines:?}");

    let files = with("fd ");
    assert!(files.contains(&"0 /dev/null".to_owned()), "{files:?}");
    assert!(files.iter().filter(|file| file.contains("socket:")).count() == 1, "{files:?}");
    assert!(!files.iter().skip(1).any(|file| file.ends_with("/dev/null")), "{files:?}");

    let limits = with("limit ");
    let limit =
        |name: &str| limits.iter().find_map(|limit| limit.strip_prefix(name)).expect("the limit").to_owned();
    assert_eq!(limit("Max core file size"), " 0 0 bytes");
    assert_eq!(limit("Max data size"), format!(" {0} {0} bytes", (64 + 32) << 20));
    assert_eq!(limit("Max cpu time"), " 1002 1003 seconds");
    assert!(limit("Max open files").starts_with(" 1024 1024"), "{limits:?}");
    assert!(has("status NoNewPrivs: 1"), "{lines:?}");
    assert!(has("folder /tmp") && has("leads its group: true"), "{lines:?}");
    assert!(has("arguments [\"--flag\"]"), "{lines:?}");
}

#[test]
fn a_program_cannot_have_limits_that_nobody_enforces() {
    let (with, _) = options("finish", |limits| limits.publish_messages = Some(Rate::per_second(1)));
    let error =
        Broker::new().supervise_process(&program(), with).expect_err("nobody enforces it").to_string();
    assert!(error.contains("publish-messages"), "{error}");
    let missing = ProcessSource::library(Path::new("/no/such.so"));
    let (with, _) = options("finish", |limits| limits.publish_messages = Some(Rate::per_second(1)));
    let error = Broker::new().supervise_process(&missing, with).expect_err("there is none").to_string();
    assert!(error.contains("/no/such.so"), "a library's calls are limited: {error}");
}
