//! Tests that a mistake would end with the process: they run in a process of their own.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "BLOCKCAST_TEST_CHILD";

/// With which a child ends that has come to the end of its test.
const DONE: i32 = 77;

/// Longest time that a child may take: what takes longer hangs, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs `body`, the content of the test called `name`, in a process of its own, and fails if that dies.
pub fn in_child(name: &str, body: impl FnOnce()) {
    let name = &full_name(name);
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

/// The name by which the test harness knows the test `name` of the file that uses this module.
fn full_name(name: &str) -> String {
    let path = module_path!().trim_end_matches("guest_support::child");
    let (_crate, modules) = path.split_once("::").expect("a crate and a module");
    format!("{modules}{name}")
}

/// As [`in_child`], for an async body.
pub fn in_child_async(name: &str, body: impl Future<Output = ()>) {
    in_child(name, || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(body);
    });
}
