//! Runs a test in a process of its own, because a bug would kill the process, or because the test inspects
//! the whole process (its open files, its mappings), which other tests change concurrently.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "BLOCKCAST_TEST_CHILD";

/// The exit code of a child whose test has completed.
const DONE: i32 = 77;

/// How long a child may run before it counts as hung. It takes seconds, most of them for compiling guests.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The name by which the test harness knows the test with this name in the calling module.
macro_rules! test_name {
    ($name:expr) => {
        &$crate::guest_support::child::full_name(module_path!(), $name)
    };
}

/// Runs a closure, the body of the test with this name in the calling module, in a process of its own. Fails
/// if that process dies.
macro_rules! in_child {
    ($name:expr, $body:expr) => {
        $crate::guest_support::child::run($crate::guest_support::child::test_name!($name), $body)
    };
}

/// Like [`in_child!`], for a future.
macro_rules! in_child_async {
    ($name:expr, $body:expr) => {
        $crate::guest_support::child::run_async($crate::guest_support::child::test_name!($name), $body)
    };
}

pub(crate) use {in_child, in_child_async, test_name};

/// Runs `body`, the body of the test with this full name, in a process of its own.
pub fn run(name: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some_and(|child| child == name) {
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
        if let Some(status) = child.try_wait().expect("the child can be awaited") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("the child can be killed");
            child.wait().expect("the child can be awaited");
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
pub fn full_name(path: &str, name: &str) -> String {
    match path.split_once("::") {
        Some((_crate, modules)) => format!("{modules}::{name}"),
        None => name.to_owned(),
    }
}

/// Like [`run`], for a future.
pub fn run_async(name: &str, body: impl Future<Output = ()>) {
    run(name, || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(body);
    });
}

/// Runs `child` in a forked child of this process. Fails if the child panics, is killed, or hangs.
pub fn in_forked_child(child: impl FnOnce()) {
    // SAFETY: the child calls code that does not rely on other threads of this process, and exits without
    // returning.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        // SAFETY: sets an alarm in this process, which has no handler for it. It kills a child that hangs.
        unsafe { libc::alarm(PATIENCE.as_secs() as u32) };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if outcome.is_ok() { DONE } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child, and `status` is valid for the write.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    let status = std::process::ExitStatus::from_raw(status);
    assert_eq!(status.code(), Some(DONE), "the forked child died: {status} (signal {:?})", status.signal());
}
