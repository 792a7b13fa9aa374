//! Which process is the host.

use std::sync::Barrier;

use blockcast_blocks::OpenError;
use blockcast_broker::{Broker, ConnectError, Connection, ServeError};

use crate::support::{
    Folder, Host, Numbers, Other, This, connect_options, expect_end, few_blocks, publish, publisher, receive,
    serve_options, subscriber, test_name, until,
};

#[test]
fn of_many_that_start_at_once_one_becomes_the_host_and_all_are_connected() {
    const PROCESSES: usize = 6;
    for _ in 0..5 {
        let (folder, start) = (Folder::new(), Barrier::new(PROCESSES));
        let connections: Vec<_> = std::thread::scope(|scope| {
            let connect = || {
                start.wait();
                Connection::connect_or_serve(folder.socket(), &connect_options(), &serve_options())
                    .expect("one of them serves")
            };
            let threads: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(connect)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it connects")).collect()
        });
        assert_eq!(connections.iter().filter(|one| one.is_host()).count(), 1);
        let mut subscribers: Vec<_> =
            connections.iter().map(|connection| subscriber(connection.broker(), "numbers")).collect();
        for connection in &connections {
            let mut numbers = publisher(connection.broker(), "numbers");
            publish(&mut numbers, 0..1);
            subscribers.iter_mut().for_each(|subscriber| receive(subscriber, 0..1));
        }
    }
}

#[test]
fn the_socket_of_a_killed_host_is_replaced() {
    const NAME: &str = "the_socket_of_a_killed_host_is_replaced";
    if let Some(mut this) = This::get() {
        let _host =
            Connection::connect_or_serve(&this.path, &connect_options(), &serve_options()).expect("serves");
        this.talk.say("serving");
        this.talk.hear();
        unreachable!("it is killed");
    }
    let folder = Folder::new();
    let mut other = Other::start(test_name!(NAME), "host", &folder.socket());
    other.talk.expect("serving");
    assert!(Connection::connect_with(folder.socket(), &connect_options()).is_ok());
    other.kill();
    let refused = Connection::connect_with(folder.socket(), &connect_options()).err();
    assert_eq!(refused, Some(ConnectError::NoHost(folder.socket())));
    let connection = Connection::connect_or_serve(folder.socket(), &connect_options(), &serve_options());
    let connection = connection.expect("nobody else serves");
    assert!(connection.is_host());
    drop(connection);
    assert_eq!(folder.entries(), 0, "nothing is left behind");
}

/// In a process of its own, whose mappings are counted.
#[test]
fn a_subscriber_that_leaves_while_there_is_no_host_is_detached_by_the_next() {
    const NAME: &str = "a_subscriber_that_leaves_while_there_is_no_host_is_detached_by_the_next";
    if let Some(mut this) = This::get() {
        let annexes = || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("a Linux process");
            maps.lines().filter(|line| line.contains("memfd:blockcast-annex")).count()
        };
        let (one, other) = (this.connect(), this.connect());
        let mut numbers = publisher(one.broker(), "numbers");
        let leaves = subscriber(other.broker(), "numbers");
        assert!(annexes() > 0 && numbers.subscriber_count() == 1);
        this.talk.say("joined");
        this.talk.hear();
        until("both have noticed", || !one.is_connected() && !other.is_connected());
        drop(leaves);
        this.talk.say("left");
        this.talk.hear();
        until("both are connected again", || one.is_connected() && other.is_connected());
        until("the annex is detached", || annexes() == 0);
        let mut again = subscriber(other.broker(), "numbers");
        publish(&mut numbers, 0..5);
        receive(&mut again, 0..5);
        return;
    }
    let Host { broker, serving, folder } = Host::new();
    let mut clients = Other::start(test_name!(NAME), "clients", &folder.socket());
    clients.talk.expect("joined");
    drop(serving);
    clients.talk.say("the host is gone");
    clients.talk.expect("left");
    let serving = broker.serve(folder.socket(), serve_options()).expect("it no longer serves");
    clients.talk.say("there is another host");
    clients.end();
    drop(serving);
}

/// The child has all descriptors of the host, such as its lock and its socket.
#[test]
fn a_child_that_a_killed_host_has_forked_does_not_keep_its_path() {
    const NAME: &str = "a_child_that_a_killed_host_has_forked_does_not_keep_its_path";
    if let Some(mut this) = This::get() {
        let _host =
            Connection::connect_or_serve(&this.path, &connect_options(), &serve_options()).expect("serves");
        // SAFETY: the child uses nothing that relies on the parent's other threads.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: makes the system end the child, if the test does not.
            unsafe { libc::alarm(600) };
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        this.talk.say(&child.to_string());
        this.talk.hear();
        unreachable!("it is killed");
    }
    let folder = Folder::new();
    let mut other = Other::start(test_name!(NAME), "host", &folder.socket());
    let child: i32 = other.talk.hear().parse().expect("a number");
    let client = Connection::connect_with(folder.socket(), &connect_options()).expect("it serves");
    other.kill();
    let refused = Connection::connect_with(folder.socket(), &connect_options()).err();
    assert_eq!(refused, Some(ConnectError::NoHost(folder.socket())));
    let connection = Connection::connect_or_serve(folder.socket(), &connect_options(), &serve_options());
    let connection = connection.expect("nobody else serves");
    assert!(connection.is_host());
    until("the client is taken back", || client.is_connected());
    let mut numbers = subscriber(client.broker(), "numbers");
    publish(&mut publisher(connection.broker(), "numbers"), 0..1);
    receive(&mut numbers, 0..1);
    // SAFETY: ends the process that the host has forked, which waits for nothing else.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
}

#[test]
fn a_path_or_a_broker_serves_once() {
    let host = Host::new();
    let other = Broker::new();
    let refused = other.serve(host.path(), serve_options()).err();
    assert_eq!(refused, Some(ServeError::Served(host.path().to_owned())));
    let elsewhere = Folder::new();
    assert_eq!(host.broker.serve(elsewhere.socket(), serve_options()).err(), Some(ServeError::Linked));
    let connection = host.connect();
    assert_eq!(
        connection.broker().serve(elsewhere.socket(), serve_options()).err(),
        Some(ServeError::Linked)
    );
    assert_eq!(elsewhere.entries(), 0, "what was refused leaves nothing");
    other.shut_down();
    assert_eq!(other.serve(elsewhere.socket(), serve_options()).err(), Some(ServeError::Closed));
    let missing = elsewhere.socket();
    assert_eq!(Connection::connect(&missing).err(), Some(ConnectError::NoHost(missing)));
}

/// The host is asked to end, not killed.
#[test]
fn those_who_have_joined_go_on_after_the_host_has_ended_serving() {
    let Host { broker, serving, folder } = Host::new();
    let connection = Connection::connect_with(folder.socket(), &connect_options()).expect("it serves");
    let mut numbers = subscriber(connection.broker(), "numbers");
    let mut publisher_of_host = publisher(&broker, "numbers");
    drop(serving);
    assert_eq!(folder.entries(), 0);
    until("the client has noticed", || !connection.is_connected());
    let refused = connection.publisher::<Numbers>("numbers", few_blocks()).err();
    assert_eq!(refused, Some(OpenError::Disconnected));
    // The host's own topics continue in its process, and its publisher in both.
    let mut local = subscriber(&broker, "numbers");
    for number in 0..500 {
        publish(&mut publisher_of_host, number..number + 1);
        receive(&mut numbers, number..number + 1);
        receive(&mut local, number..number + 1);
    }
    // It can serve again, at once, and the old participants are found.
    let serving = broker.serve(folder.socket(), serve_options()).expect("it no longer serves");
    let again = Connection::connect_with(folder.socket(), &connect_options()).expect("it serves");
    until("the old publisher is offered", || {
        let stats = again.broker().topic("numbers");
        let mut new = subscriber(again.broker(), "numbers");
        new.backlog();
        drop(stats);
        new.subscription().readers().count() == 1
    });
    let mut new = subscriber(again.broker(), "numbers");
    publish(&mut publisher_of_host, 500..501);
    for subscriber in [&mut numbers, &mut local, &mut new] {
        receive(subscriber, 500..501);
    }
    drop(publisher_of_host);
    for subscriber in [&mut numbers, &mut local, &mut new] {
        expect_end(subscriber);
    }
    drop((again, serving));
}

/// The host is killed, and another process serves at the same path.
#[test]
fn clients_join_a_new_host_with_all_that_they_have() {
    const NAME: &str = "clients_join_a_new_host_with_all_that_they_have";
    if let Some(mut this) = This::get() {
        if this.role == "host" {
            let broker = Broker::new();
            let _serving = broker.serve(&this.path, serve_options()).expect("it serves");
            this.talk.say("serving");
            this.talk.hear();
            unreachable!("it is killed");
        }
        let connection = this.connect();
        let mut numbers = subscriber(connection.broker(), "numbers");
        let mut replies = publisher(connection.broker(), "replies");
        this.talk.say("ready");
        // Each arrives once, with any host.
        for number in 0..300 {
            receive(&mut numbers, number..number + 1);
            publish(&mut replies, number..number + 1);
        }
        this.talk.expect("end");
        return;
    }
    let folder = Folder::new();
    let connect = || Connection::connect_with(folder.socket(), &connect_options()).expect("it answers");
    let mut host = Other::start(test_name!(NAME), "host", &folder.socket());
    host.talk.expect("serving");
    let mut other = Other::start(test_name!(NAME), "client", &folder.socket());
    other.talk.expect("ready");
    let connection = connect();
    let mut numbers = publisher(connection.broker(), "numbers");
    let mut replies = subscriber(connection.broker(), "replies");
    assert_eq!(numbers.subscriber_count(), 1);
    for round in 0..3 {
        host.kill();
        until("the connection is lost", || !connection.is_connected());
        for number in 100 * round..100 * round + 50 {
            publish(&mut numbers, number..number + 1);
            receive(&mut replies, number..number + 1);
        }
        host = Other::start(test_name!(NAME), "host", &folder.socket());
        host.talk.expect("serving");
        until("the connection is made again", || connection.is_connected());
        // A third process finds both.
        let third = connect();
        let mut witness = subscriber(third.broker(), "replies");
        until("both are offered", || {
            witness.backlog();
            let mut probe = subscriber(third.broker(), "numbers");
            probe.backlog();
            witness.subscription().readers().count() == 1 && probe.subscription().readers().count() == 1
        });
        until("the probes have left", || numbers.subscriber_count() == 1);
        for number in 100 * round + 50..100 * round + 100 {
            publish(&mut numbers, number..number + 1);
            receive(&mut replies, number..number + 1);
            receive(&mut witness, number..number + 1);
        }
        // Those who subscribed before the old host was killed join the publishers opened now.
        let mut late = publisher(third.broker(), "replies");
        assert_eq!(late.subscriber_count(), 2);
        publish(&mut late, 0..1);
        receive(&mut replies, 0..1);
        receive(&mut witness, 0..1);
    }
    // One seat in each direction, although there were four hosts.
    let stats = connection.broker().topic("numbers").expect("it has a publisher");
    assert_eq!(stats.publishers[0].subscribers.len(), 1, "{stats}");
    assert_eq!(replies.lost(), 0);
    other.talk.say("end");
    other.end();
}
