//! Tests that run in a process of their own: a mistake would end the process, or they look at all of it (its open
//! files, its mappings), which other tests of the program change meanwhile.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "BLOCKCAST_TEST_CHILD";

/// With which a child ends that has come to the end of its test.
const DONE: i32 = 77;

/// Bounds the run of a child, which takes seconds, with what wasmtime compiles for it: whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Runs a closure, the content of the test with this name in the calling module, in a process of its own, and fails if
/// that dies.
macro_rules! in_child {
    ($name:expr, $body:expr) => {
        $crate::guest_support::child::run(module_path!(), $name, $body)
    };
}

/// Like [`in_child!`], for a future.
macro_rules! in_child_async {
    ($name:expr, $body:expr) => {
        $crate::guest_support::child::run_async(module_path!(), $name, $body)
    };
}

pub(crate) use {in_child, in_child_async};

/// Runs `body`, the content of the test `name` in the module `path`, in a process of its own.
pub fn run(path: &str, name: &str, body: impl FnOnce()) {
    let name = &full_name(path, name);
    if std::env::var_os(CHILD).is_some_and(|child| child == name.as_str()) {
        body();
        std::process::exit(DONE);
    }
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .stdout(Stdio::null())
        .spawn()
        .expect("a child process");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("a child to end");
            child.wait().expect("a child to wait for");
            panic!("{name} takes longer than {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(
        status.code(),
        Some(DONE),
        "{name}: the process died: {status} (signal {:?})",
        status.signal()
    );
}

/// The name by which the test harness knows the test `name` in the module `path`.
fn full_name(path: &str, name: &str) -> String {
    match path.split_once("::") {
        Some((_crate, modules)) => format!("{modules}::{name}"),
        None => name.to_owned(),
    }
}

/// Like [`run`], for a future.
pub fn run_async(path: &str, name: &str, body: impl Future<Output = ()>) {
    run(path, name, || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(body);
    });
}

/// Runs `child` in a child that is forked from this process, and fails if that panics, is ended, or hangs.
pub fn in_forked_child(child: impl FnOnce()) {
    // SAFETY: the child calls code that relies on no other thread of this process, and ends without returning.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "a forked child");
    if pid == 0 {
        // SAFETY: an alarm of this process, which has no handler for it: it ends what hangs.
        unsafe { libc::alarm(PATIENCE.as_secs() as u32) };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if outcome.is_ok() { DONE } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: our own child, and a valid place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    let status = std::process::ExitStatus::from_raw(status);
    assert_eq!(status.code(), Some(DONE), "the forked child died: {status} (signal {:?})", status.signal());
}
