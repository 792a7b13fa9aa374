//! Processes of components take part in topics like any other component.

mod support;

use blockcast::{
    Broker, ComponentOptions, ExitReason, Grants, ProcessSource, RecvError, Session, SubscriberOptions,
};

use support::{Numbers, deadline, options, program, publish, publisher, receive, start, subscriber, until};

#[test]
fn a_process_receives_and_publishes_without_a_host_that_serves() {
    let broker = Broker::new();
    let (echo, said) = start(&broker, "echo");
    said.await_running();
    let (mut numbers, mut answers) = (publisher(&broker), subscriber(&broker));
    // More messages than blocks: each end waits for the other again and again.
    let publishing = std::thread::spawn(move || (0..1000).for_each(|number| publish(&mut numbers, number)));
    for number in 1..=1000 {
        assert_eq!(receive(&mut answers), number);
    }
    publishing.join().expect("it published");
    assert_eq!(echo.wait().reason, ExitReason::Finished);
    assert_eq!(answers.blocking_recv_ref(deadline()).err(), Some(RecvError::Ended));
}

#[test]
fn processes_and_linked_apps_of_one_broker_meet() {
    let broker = Broker::new();
    let (echo, said) = start(&broker, "echo");
    said.await_running();
    let linked = |session: Session| {
        let mut answers =
            session.blocking_subscriber::<Numbers>("out", SubscriberOptions::new()).expect("granted");
        let mut numbers = session.blocking_publisher::<Numbers>("in", Default::default()).expect("granted");
        for number in 0..100 {
            numbers.blocking_loan(deadline()).expect("a block").send(&[number][..]).expect("it fits");
            let answer = answers.blocking_recv_ref(deadline()).expect("an answer").view()[0];
            if answer != number + 1 {
                return Err(format!("{answer} to {number}"));
            }
        }
        Ok(())
    };
    let linked = broker.run("linked", Grants::all(), [], linked).expect("it starts");
    assert_eq!(linked.wait().reason, ExitReason::Finished);
    assert_eq!(echo.wait().reason, ExitReason::Finished);
}

/// Both have the same topic, in either order.
#[test]
fn a_broker_serves_others_while_it_has_processes() {
    let folder = std::env::temp_dir().join(format!("blockcast-process-tests-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the socket");
    let broker = Broker::new();
    let (echo, said) = start(&broker, "echo");
    said.await_running();
    let serving = broker.serve(folder.join("socket"), Default::default()).expect("nobody else serves there");
    assert!(broker.serve(folder.join("another"), Default::default()).is_err(), "it serves already");
    let connection = blockcast::Connection::connect(serving.path()).expect("it answers");
    let (mut numbers, mut answers) = (publisher(connection.broker()), subscriber(connection.broker()));
    publish(&mut numbers, 1);
    assert_eq!(receive(&mut answers), 2);
    drop(serving);
    // The process is not one of those that have connected.
    let mut own = subscriber(&broker);
    publish(&mut numbers, 2);
    assert_eq!((receive(&mut answers), receive(&mut own)), (3, 3));
    let refused = connection.broker().spawn_process(&program(), Grants::new(), []).err();
    assert!(
        refused.is_some_and(|error| error.to_string().contains("connected to a host in another process"))
    );
    drop(numbers);
    assert_eq!(echo.wait().reason, ExitReason::Finished);
    // The socket is free again.
    let again = Broker::new().serve(folder.join("socket"), Default::default());
    assert!(again.is_ok(), "{again:?}");
    drop(again);
    std::fs::remove_dir_all(folder).expect("it exists");
}

#[test]
fn a_process_has_its_parameters_however_long_and_its_own_counters() {
    let broker = Broker::new();
    let (with, said) = options("parameter", |_| {});
    let component = broker.supervise_process(&program(), with.parameter("long", "x".repeat(1 << 20)));
    let report = component.expect("it starts").wait();
    assert_eq!((report.reason, said.lines()), (ExitReason::Finished, vec!["1048576".to_owned()]));
    assert_eq!(report.stats.log_lines, 1);

    let (echo, said) = start(&broker, "echo");
    said.await_running();
    let (mut numbers, mut answers) = (publisher(&broker), subscriber(&broker));
    for number in 0..10 {
        publish(&mut numbers, number);
        receive(&mut answers);
    }
    let stats = || futures_of(echo.stats());
    until("it has answered", || stats().received >= 9);
    let running = stats();
    assert_eq!((running.published, running.subscriptions, running.publishers), (10, 1, 1), "{running:?}");
    assert!(running.memory > 0 && !running.computed.is_zero(), "{running:?}");
    drop(numbers);
    let ended = echo.wait().stats;
    let counts = (ended.received, ended.received_bytes, ended.lost, ended.published, ended.published_bytes);
    assert_eq!(counts, (10, 80, 0, 10, 80), "{ended:?}");
    assert!(ended.memory > 0 && ended.computed >= running.computed, "{ended:?}");
    assert_eq!(futures_of(echo.stats()).published, 10);
}

fn futures_of<T>(future: impl Future<Output = T>) -> T {
    blockcast::park::block_on(future)
}

#[test]
fn a_process_opens_only_what_it_was_granted() {
    let broker = Broker::new();
    let (with, said) = options("open", |limits| (limits.publishers, limits.topics) = (2, 2));
    let with = with.parameter("publish", "secret out new/1 new/2").parameter("subscribe", "secret in");
    let report = broker.supervise_process(&program(), with).expect("it starts").wait();
    assert_eq!(report.reason, ExitReason::Finished);
    let lines = said.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines[0], "not granted: publish \"secret\"");
    assert!(lines[1].contains("a process may have 2 publishers"), "{lines:?}");
    assert_eq!(lines[2], "not granted: subscribe \"secret\"");
    assert!(lines[3].contains("a process may create 2 topics"), "{lines:?}");
    assert_eq!(lines[4], "2 and 0");
}

#[test]
fn a_source_that_cannot_run_is_refused_with_a_reason() {
    let broker = Broker::new();
    let refused = |source: ProcessSource| {
        let started = broker.supervise_process(&source, ComponentOptions::new());
        started.expect_err("it cannot run").to_string()
    };
    assert_eq!(
        refused(ProcessSource::program("/no/such/program")),
        "there is no program \"/no/such/program\""
    );
    let file = std::env::temp_dir().join(format!("blockcast-not-a-program-{}", std::process::id()));
    std::fs::write(&file, "text").expect("written");
    assert!(refused(ProcessSource::program(&file)).contains("is not a program that this process may run"));
    std::fs::remove_file(file).expect("it exists");
    assert_eq!(refused(ProcessSource::library("/no/such.so")), "there is no library at /no/such.so");
    // Not even a thread was started.
    assert_eq!(broker.topics().len(), 0);
}
