//! Several bridges of one broker in one network.

use std::sync::Arc;

use blockcast_broker::{Broker, ConnectOptions, Connection, ServeOptions};
use blockcast_zenoh::{Bridge, Source};

use crate::support::{
    Folder, PATIENCE, Side, all, expect_end, options, publish, publisher, receive, session, subscriber, until,
};

/// Fewer than there are blocks.
const MESSAGES: u64 = 50;

/// Both bridges send the messages of `here` to `there`, and each would bring them back to `here`.
fn everything_arrives_once(here: &Broker, twins: [Source; 2]) {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let options = || options().back_pressure(true);
    let there = Side::new(&session(&place, &[]), all(), options());
    let own = [folder.endpoint("two")];
    let sessions = [session(&own, &place), session(&[], &[place[0].clone(), own[0].clone()])];
    let batching = sessions[0].zid();
    let mut sessions = sessions.into_iter();
    let bridges = twins.map(|source| {
        let session = sessions.next().expect("one for each");
        // One of them lets messages share samples.
        let options = options().batch(if session.zid() == batching { 1 << 10 } else { 0 });
        Bridge::new(source, session, all(), options).expect("it starts")
    });
    assert_eq!(bridges[0].origin(), bridges[1].origin());
    assert_ne!(bridges[0].origin(), there.bridge.origin());
    assert_eq!(bridges[0].origin().get(), here.identity());

    let mut subscribers = [here, &there.broker].map(|broker| subscriber(broker, "numbers"));
    let mut numbers = publisher(here, "numbers");
    for bridge in &bridges {
        until("both send", || bridge.stats().sending == 1);
    }
    publish(&mut numbers, 0..MESSAGES);
    // Both are told of the end, and one may be faster with it than the other with the last messages.
    until("both have sent everything", || bridges.iter().all(|bridge| bridge.stats().sent == MESSAGES));
    until("all have arrived", || {
        let stats = there.bridge.stats();
        stats.received + stats.repeated == 2 * MESSAGES
    });
    drop(numbers);
    for subscriber in &mut subscribers {
        receive(subscriber, 0..MESSAGES);
        expect_end(subscriber);
    }
    let stats = there.bridge.stats();
    assert_eq!((stats.received, stats.missing, stats.refused), (MESSAGES, 0, 0));
    let brought_back: u64 = bridges.iter().map(|bridge| bridge.stats().received).sum();
    assert_eq!(brought_back, 0);

    // One of them carries on alone.
    let [first, second] = bridges;
    first.close();
    let mut again = subscriber(here, "back");
    let mut back = publisher(&there.broker, "back");
    there.sends(1);
    until("it is received", || second.stats().receiving == 1);
    publish(&mut back, 0..MESSAGES);
    receive(&mut again, 0..MESSAGES);
}

#[test]
fn two_bridges_of_a_broker_deliver_everything_once() {
    let broker = Broker::new();
    everything_arrives_once(&broker, [(); 2].map(|()| Source::from(&broker)));
}

/// Here, all processes of the host are one.
#[test]
fn two_bridges_of_a_host_deliver_everything_once() {
    let folder = Folder::new();
    let host = Broker::new();
    let serving = host.serve(folder.socket("host"), ServeOptions::new().patience(PATIENCE));
    let serving = serving.expect("nobody else serves there");
    let connect = || {
        let options = ConnectOptions::new().patience(PATIENCE);
        Connection::connect_with(serving.path(), &options).expect("the host answers")
    };
    let [publishing, first, second] = [(); 3].map(|()| connect());
    let twins = [first, second].map(|connection| Source::from(Arc::new(connection)));
    everything_arrives_once(publishing.broker(), twins);
}
