//! Publishers in processes that are restarted look to subscribers like those of any component.

mod support;

use std::time::Duration;

use blockcast::{
    AppError, Broker, Component, ComponentOptions, ComponentState, ExitReason, Grants, PublisherOptions,
    RecvError, Restart, RestartPolicy, Session, Subscriber, SubscriberOptions,
};

use support::{Numbers, PATIENCE, Said, deadline, options, program, receive, send, start, subscriber, until};

/// Restarts once, after this pause.
fn once(pause: Duration) -> RestartPolicy {
    RestartPolicy {
        restart: Restart::OnFailure,
        initial: pause,
        max: pause,
        limit: Some(1),
        period: PATIENCE,
        ..RestartPolicy::never()
    }
}

fn start_publishing(broker: &Broker, policy: RestartPolicy) -> (Component, Said) {
    let (with, said) = options("publish", |_| {});
    (broker.supervise_process(&program(), with.restart(policy)).expect("it starts"), said)
}

/// A subscriber that does not end while publishers may come back.
fn waiting(broker: &Broker) -> Subscriber<Numbers> {
    broker.subscriber("out", SubscriberOptions::new().await_restarts(true)).expect("it opens")
}

/// Receives until the numbers begin, and returns how many came before.
fn until_it_begins(numbers: &mut Subscriber<Numbers>) -> u64 {
    (0..).find(|_| receive(numbers) == 0).expect("there is no last number")
}

/// Receives until the end.
fn until_it_ends(numbers: &mut Subscriber<Numbers>) {
    let error = loop {
        if let Err(error) = numbers.blocking_recv_ref(deadline()) {
            break error;
        }
    };
    assert_eq!(error, RecvError::Ended);
}

#[test]
fn a_subscriber_that_waits_receives_from_every_run_and_the_end_after_the_last() {
    let broker = Broker::new();
    let (mut waits, mut does_not) = (waiting(&broker), subscriber(&broker));
    let (component, said) = start_publishing(&broker, once(Duration::ZERO));
    let pid = said.await_running();
    until_it_begins(&mut waits);
    send(pid, libc::SIGKILL);
    // Meanwhile, it may have been restarted.
    let before = until_it_begins(&mut waits);
    until_it_begins(&mut does_not);
    drop(does_not);
    assert!(before < 1000, "8 blocks, and those that were received");
    until("it runs again", || component.restarts() == 1 && component.state() == ComponentState::Running);
    let pids =
        || said.lines().iter().filter_map(|line| line.strip_prefix("running ")?.parse().ok()).collect();
    until("it says so", || Vec::<u32>::len(&pids()) == 2);
    let pids: Vec<u32> = pids();
    send(pids[1], libc::SIGKILL);
    assert_eq!(component.wait().reason, ExitReason::Signalled { signal: libc::SIGKILL });
    assert_eq!(component.state(), ComponentState::GivenUp);
    until_it_ends(&mut waits);
}

#[test]
fn a_topic_ends_during_a_pause_only_for_subscribers_that_do_not_wait() {
    let broker = Broker::new();
    let (mut waits, mut does_not) = (waiting(&broker), subscriber(&broker));
    let (component, said) = start_publishing(&broker, once(PATIENCE));
    send(said.await_running(), libc::SIGKILL);
    until("it has ended", || component.state() == ComponentState::Pausing);
    until_it_ends(&mut does_not);
    while waits.try_recv_ref().is_ok() {}
    assert_eq!(waits.try_recv_ref().err(), Some(RecvError::Empty));
    component.cancel();
    assert_eq!(
        component.wait().reason,
        ExitReason::Signalled { signal: libc::SIGKILL },
        "it never ran again"
    );
    until_it_ends(&mut waits);
}

#[test]
fn a_process_that_waits_receives_from_every_run_and_the_end_after_the_last() {
    let broker = Broker::new();
    let follow = |waits| {
        let (with, said) = options("follow", |_| {});
        let with = with.grants(Grants::new().subscribe("out")).await_restarts(waits);
        (broker.supervise_process(&program(), with).expect("it starts"), said)
    };
    let ((waits, told), (does_not, told_end)) = (follow(true), follow(false));
    let begun = |said: &Said| said.lines().iter().filter(|line| *line == "begins").count();
    told.await_running();
    told_end.await_running();
    let (component, said) = start_publishing(&broker, once(Duration::from_millis(50)));
    told.await_line("begins");
    told_end.await_line("begins");
    send(said.await_running(), libc::SIGKILL);
    // It may have joined the next run by then, and receives from it.
    until("the next run begins", || begun(&told) == 2);
    component.cancel();
    assert_eq!(component.wait().reason, ExitReason::Cancelled);
    assert_eq!(waits.wait().reason, ExitReason::Finished);
    assert_eq!(does_not.wait().reason, ExitReason::Finished);
    assert_eq!((begun(&told), told.lines().last().map(|line| &**line)), (2, Some("ends")));
    // Nobody waits for one that is not restarted.
    let (waits, told) = follow(true);
    told.await_running();
    let (component, said) = start(&broker, "publish");
    told.await_line("begins");
    send(said.await_running(), libc::SIGKILL);
    assert_eq!(component.wait().reason, ExitReason::Signalled { signal: libc::SIGKILL });
    assert_eq!(waits.wait().reason, ExitReason::Finished);
}

#[test]
fn a_process_waits_for_restarts_of_components_in_other_processes() {
    let broker = Broker::new();
    let (with, told) = options("follow", |_| {});
    let with = with.grants(Grants::new().subscribe("out")).await_restarts(true);
    let follows = broker.supervise_process(&program(), with).expect("it starts");
    told.await_running();
    let publishes = |session: Session| {
        let few = PublisherOptions::new().blocks(8).block_size(64);
        let mut numbers = session.blocking_publisher::<Numbers>("out", few)?;
        for number in 0..20 {
            numbers.blocking_loan(deadline())?.send(&[number][..])?;
        }
        Err::<(), AppError>("as asked".into())
    };
    // While it pauses, nobody of this process takes part in the topic.
    let grants = Grants::new().publish("out");
    let with = ComponentOptions::new().name("linked").grants(grants).restart(once(Duration::from_millis(50)));
    let component = broker.supervise(with, publishes).expect("it starts");
    assert_eq!(component.wait().reason, ExitReason::Failed("as asked".to_owned()));
    assert_eq!(follows.wait().reason, ExitReason::Finished);
    assert_eq!(told.lines()[1..], ["begins", "begins", "ends"]);
}
