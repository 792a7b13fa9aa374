//! Processes that have ended leave nothing behind. This program has one test, because it counts the resources
//! of the whole process.

mod support;

use std::time::Duration;

use blockcast::Broker;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use support::{options, program, publish, publisher, receive, send, start, subscriber};

/// Counts descriptors, mappings and threads of this process.
fn count() -> (usize, usize, usize) {
    let entries = |folder: &str| std::fs::read_dir(folder).expect("readable").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
    let shared = maps.lines().filter(|line| line.contains("/memfd:")).count();
    (entries("/proc/self/fd"), shared, entries("/proc/self/task"))
}

fn files() -> String {
    let files = std::fs::read_dir("/proc/self/fd").expect("readable").filter_map(Result::ok);
    let files = files.filter_map(|file| Some(std::fs::read_link(file.path()).ok()?.display().to_string()));
    files.collect::<Vec<_>>().join(", ")
}

#[test]
fn nothing_is_left_of_processes_however_they_end() {
    let before = count();
    for _ in 0..5 {
        round();
    }
    // The broker's threads end after its components.
    let mut after = count();
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while after != before && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
        after = count();
    }
    assert_eq!(after, before, "descriptors, mappings and threads: {}", files());
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    assert_eq!(waitid(WaitId::All, options).err(), Some(Errno::CHILD), "there are children");
}

fn round() {
    let broker = Broker::new();
    {
        let (echo, said) = start(&broker, "echo");
        said.await_running();
        let (mut numbers, mut answers) = (publisher(&broker), subscriber(&broker));
        publish(&mut numbers, 1);
        assert_eq!(receive(&mut answers), 2);
        drop(numbers);
        assert!(echo.wait().reason.is_success());
    }
    let mut numbers = publisher(&broker);
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let (with, said) = options("subscribe", |_| {});
        let component = broker.supervise_process(&program(), with).expect("it starts");
        let pid = said.await_running();
        (0..4).for_each(|number| publish(&mut numbers, number));
        said.await_line("attached");
        send(pid, signal);
        assert_eq!(component.wait().reason, blockcast::ExitReason::Signalled { signal });
    }
    let (with, said) = options("wait", |limits| limits.shutdown_grace = Duration::from_millis(10));
    let component = broker.supervise_process(&program(), with).expect("it starts");
    send(said.await_running(), libc::SIGSTOP);
    let (with, _) = options("finish", |_| {});
    assert!(broker.supervise_process(&program(), with).expect("it starts").wait().reason.is_success());
    // Dropping the broker ends the stopped one.
    drop(broker);
    assert_eq!(component.wait().reason, blockcast::ExitReason::Cancelled);
}
