//! How processes of components end, and that they always do.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use blockcast::{
    Broker, ComponentOptions, ComponentState, ExitReason, Limit, ProcessSource, RecvError, Restart,
    RestartPolicy,
};

use support::{
    PATIENCE, Process, deadline, options, program, publish, publisher, receive, send, start, subscriber,
    until,
};

/// The role of this program, if a test has started it.
const ROLE: &str = "PROCESS_TESTS_ROLE";

fn reason(task: &str) -> ExitReason {
    start(&Broker::new(), task).0.wait().reason
}

#[test]
fn an_app_ends_in_a_process_as_it_does_elsewhere() {
    assert_eq!(reason("finish"), ExitReason::Finished);
    assert_eq!(reason("fail"), ExitReason::Failed("as asked".to_owned()));
    let panicked = reason("panic");
    assert!(
        matches!(&panicked, ExitReason::Trapped { message, .. } if message.contains("as asked")),
        "{panicked}"
    );
}

#[test]
fn a_process_that_crashes_ends_by_its_signal() {
    assert_eq!(reason("abort"), ExitReason::Signalled { signal: libc::SIGABRT });
    assert_eq!(reason("segv"), ExitReason::Signalled { signal: libc::SIGSEGV });
    assert_eq!(reason("segv").to_string(), "ended by signal 11 (SIGSEGV)");
}

#[test]
fn a_process_that_exits_by_itself_ends_by_its_status() {
    for (status, expected) in
        [("0", ExitReason::Finished), ("3", ExitReason::Failed("exit status 3".to_owned()))]
    {
        let with = options("exit", |_| {}).0.parameter("status", status);
        let component = Broker::new();
        let component = component.supervise_process(&program(), with).expect("it starts");
        assert_eq!(component.wait().reason, expected);
    }
}

#[test]
fn a_program_that_never_connects_is_ended_or_says_why_it_ended() {
    let broker = Broker::new();
    let (with, _) = options("", |limits| limits.start_up = Duration::from_millis(50));
    let sleep = broker.supervise_process(&ProcessSource::program("sleep").argument("100000"), with);
    assert_eq!(sleep.expect("it starts").wait().reason, ExitReason::Killed(Limit::StartUp));
    let (with, said) = options("", |_| {});
    let echo =
        broker.supervise_process(&ProcessSource::program("sh").arguments(["-c", "echo hello; exit 7"]), with);
    let reason = echo.expect("it starts").wait().reason;
    assert!(
        matches!(&reason, ExitReason::NotStarted(why) if why.contains("exit status 7 before it connected")),
        "{reason}"
    );
    assert_eq!(said.lines(), ["hello"]);
    let (with, _) = options("", |_| {});
    let killed =
        broker.supervise_process(&ProcessSource::program("sh").arguments(["-c", "kill -TERM $$"]), with);
    assert_eq!(killed.expect("it starts").wait().reason, ExitReason::Signalled { signal: libc::SIGTERM });
}

#[test]
fn what_a_killed_process_held_comes_free_and_a_restart_takes_its_place() {
    let broker = Broker::new();
    let (with, said) = options("subscribe", |_| {});
    let policy =
        RestartPolicy { initial: Duration::ZERO, max: Duration::ZERO, ..RestartPolicy::on_failure() };
    let component = broker.supervise_process(&program(), with.restart(policy)).expect("it starts");
    let pid = said.await_running();
    let mut numbers = publisher(&broker);
    assert_eq!(numbers.subscriber_count(), 1);
    (0..8).for_each(|number| publish(&mut numbers, number));
    said.await_line("attached");
    assert!(numbers.try_loan().is_err(), "the process holds the publisher back");
    send(pid, libc::SIGKILL);
    until("it is restarted", || component.restarts() == 1);
    assert_eq!(component.exits()[0].reason, ExitReason::Signalled { signal: libc::SIGKILL });
    until("it runs again", || said.lines().iter().filter(|line| line.starts_with("running ")).count() == 2);
    (8..11).for_each(|number| publish(&mut numbers, number));
    until("it is attached again", || said.lines().iter().filter(|line| *line == "attached").count() == 2);
    component.request_shutdown();
    assert_eq!(component.wait().reason, ExitReason::Finished);
    until("every block has come back", || numbers.reclaim() == 8);
    assert_eq!(numbers.subscriber_count(), 0);
}

#[test]
fn subscribers_of_a_killed_process_see_the_end() {
    let broker = Broker::new();
    let mut numbers = subscriber(&broker);
    let (component, said) = start(&broker, "publish");
    let pid = said.await_running();
    let first = receive(&mut numbers);
    send(pid, libc::SIGKILL);
    assert_eq!(component.wait().reason, ExitReason::Signalled { signal: libc::SIGKILL });
    let mut next = first + 1;
    loop {
        match numbers.blocking_recv_ref(deadline()) {
            Ok(message) => assert_eq!(message.view()[0], next),
            Err(error) => break assert_eq!(error, RecvError::Ended),
        }
        next += 1;
    }
    assert!(next > first);
}

#[test]
fn a_process_finishes_when_it_is_asked_to_and_is_cancelled_at_once() {
    let broker = Broker::new();
    let (component, said) = start(&broker, "wait");
    said.await_running();
    component.request_shutdown();
    assert_eq!(component.wait().reason, ExitReason::Finished);
    assert_eq!(said.lines()[1], "asked to finish");
    let (component, said) = start(&broker, "subscribe");
    said.await_running();
    // This is within the grace period, for which no test waits.
    component.cancel();
    assert_eq!(component.wait().reason, ExitReason::Cancelled);
    assert_eq!(said.lines().len(), 1);
}

#[test]
fn a_process_that_ignores_everything_or_is_stopped_is_killed_after_its_grace_period() {
    let grace = |milliseconds| {
        move |limits: &mut blockcast::ComponentLimits| {
            limits.shutdown_grace = Duration::from_millis(milliseconds);
        }
    };
    let broker = Broker::new();
    let (with, said) = options("ignore", grace(20));
    let component = broker.supervise_process(&program(), with).expect("it starts");
    said.await_running();
    component.request_shutdown();
    assert_eq!(component.wait().reason, ExitReason::Killed(Limit::ShutdownGrace));
    for stopped in [false, true] {
        let (with, said) = options("ignore", grace(20));
        let component = broker.supervise_process(&program(), with).expect("it starts");
        let pid = said.await_running();
        if stopped {
            send(pid, libc::SIGSTOP);
        }
        component.cancel();
        assert_eq!(component.wait().reason, ExitReason::Cancelled, "never abandoned");
        assert_eq!(component.state(), ComponentState::Ended);
    }
}

#[test]
fn processes_end_with_the_broker_that_has_started_them() {
    let broker = Broker::new();
    let (component, said) = start(&broker, "wait");
    let process = Process::new(said.await_running());
    drop(broker);
    assert_eq!(component.wait().reason, ExitReason::Cancelled);
    process.await_end();
}

#[test]
fn a_process_ends_with_its_host_even_if_that_is_killed() {
    if std::env::var_os(ROLE).is_some() {
        let broker = Broker::new();
        let (_component, said) = start(&broker, "ignore");
        eprintln!("child {}", said.await_running());
        std::thread::sleep(Duration::MAX);
    }
    let mut host = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_process_ends_with_its_host_even_if_that_is_killed", "--nocapture"])
        .env(ROLE, "host")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(host.stderr.take().expect("piped")));
    let child = lines.find_map(|line| line.expect("text").strip_prefix("child ").map(str::to_owned));
    let child = Process::new(child.expect("it has one").parse().expect("a number"));
    host.kill().expect("it runs");
    host.wait().expect("it was started");
    child.await_end();
}

#[test]
fn processes_that_a_process_leaves_behind_end_with_it_and_get_no_part_in_its_topics() {
    let broker = Broker::new();
    let (component, said) = start(&broker, "grandchild");
    let started = Process::new(said.await_line("started ").parse().expect("a number"));
    assert_eq!(component.wait().reason, ExitReason::Finished);
    started.await_end();
    // A process that has left the group keeps nobody waiting.
    let with = options("grandchild", |_| {});
    let component = broker.supervise_process(&program(), with.0.parameter("leaves", "1")).expect("it starts");
    let pid: u32 = with.1.await_line("started ").parse().expect("a number");
    assert_eq!(component.wait().reason, ExitReason::Finished);
    // SAFETY: sends a signal to a process that was started for this test, and ends only on request.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) }, 0);
    let reason = reason("impostor");
    assert!(matches!(&reason, ExitReason::System(why) if why.contains("a packet of process")), "{reason}");
}

#[test]
fn a_program_that_is_restarted_too_often_is_given_up() {
    let broker = Broker::new();
    let (with, _) = options("abort", |_| {});
    let policy = RestartPolicy {
        restart: Restart::OnFailure,
        initial: Duration::ZERO,
        limit: Some(2),
        period: PATIENCE,
        ..RestartPolicy::never()
    };
    let component = broker.supervise_process(&program(), with.restart(policy)).expect("it starts");
    assert_eq!(component.wait().reason, ExitReason::Signalled { signal: libc::SIGABRT });
    assert_eq!((component.state(), component.restarts()), (ComponentState::GivenUp, 2));
}

#[test]
fn a_name_is_that_of_the_file_or_of_the_options() {
    let broker = Broker::new();
    let named = |options| broker.supervise_process(&program(), options).expect("it starts").name().to_owned();
    assert_eq!(named(ComponentOptions::new()), "process_child");
    assert_eq!(named(ComponentOptions::new().name("mine")), "mine");
}
