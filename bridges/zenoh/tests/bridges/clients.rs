//! Clients of zenoh that know nothing of bridges.

use std::sync::mpsc;

use blockcast_blocks::Payload;
use blockcast_subscriber::RecvError;
use blockcast_zenoh::{Direction, Rule, Rules};
use zenoh::Wait;
use zenoh::sample::Sample;

use crate::support::{
    Folder, Numbers, PATIENCE, Side, deadline, declare, options, publish, publisher, receive, session,
    subscriber, until,
};

fn bytes(number: u64) -> Vec<u8> {
    [number; 3].map(u64::to_ne_bytes).concat()
}

/// The rules name the schema of `open`, but not that of `closed`.
fn rules() -> Rules {
    let rules = Rules::new("test").expect("a prefix");
    let rules = rules.with(Rule::new("open", Direction::Both).schema(Numbers::schema())).expect("correct");
    rules.with(Rule::new("closed", Direction::Both)).expect("correct")
}

#[test]
fn messages_without_attachment_are_accepted_where_the_rules_name_a_schema() {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let side = Side::new(&session(&place, &[]), rules(), options());
    let mut open = subscriber(&side.broker, "open");
    let client = session(&[], &place);
    let numbers = declare(&client, "test/open");
    until("the bridge receives", || numbers.matching_status().wait().expect("it answers").matching());
    for number in 0..100 {
        numbers.put(bytes(number)).wait().expect("it is sent");
        receive(&mut open, number..number + 1);
    }
    // Not a list of numbers: nobody sees it, and it counts as lost.
    numbers.put("no numbers").wait().expect("it is sent");
    assert_eq!(open.blocking_recv_ref(deadline()).err(), Some(RecvError::Lost(1)));
    // A client may attach whatever it likes.
    numbers.put(bytes(100)).attachment("by hand").wait().expect("it is sent");
    receive(&mut open, 100..101);
    // A message is counted after it was published.
    until("all are counted", || side.bridge.stats().received == 101);
    let stats = side.bridge.stats();
    assert_eq!((stats.refused, stats.missing), (1, 0));
}

#[test]
fn messages_without_attachment_are_refused_where_the_rules_name_no_schema() {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let one = Side::new(&session(&place, &[]), rules(), options());
    // Another bridge has a publisher, so this one receives.
    let other = Side::new(&session(&[], &place), rules(), options());
    let mut closed = subscriber(&one.broker, "closed");
    let mut good = publisher(&other.broker, "closed");
    other.sends(1);
    let client = session(&[], &place);
    let numbers = declare(&client, "test/closed");
    until("the bridge receives", || numbers.matching_status().wait().expect("it answers").matching());
    numbers.put(bytes(7)).wait().expect("it is sent");
    until("the message is refused", || one.bridge.stats().refused == 1);
    publish(&mut good, 0..3);
    receive(&mut closed, 0..3);
}

#[test]
fn a_client_receives_the_bytes_the_schema_and_the_attachment() {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let side = Side::new(&session(&place, &[]), rules(), options().back_pressure(true));
    let client = session(&[], &place);
    let (sender, samples) = mpsc::channel::<Sample>();
    let subscriber = client.declare_subscriber("test/**").callback(move |sample| drop(sender.send(sample)));
    let _subscriber = subscriber.wait().expect("it is declared");
    let mut numbers = publisher(&side.broker, "closed");
    side.sends(1);
    publish(&mut numbers, 0..10);
    for number in 0..10 {
        let sample = samples.recv_timeout(PATIENCE).expect("it was published");
        assert_eq!(sample.key_expr().as_str(), "test/closed");
        assert_eq!(sample.payload().to_bytes(), bytes(number));
        let encoding = format!("application/vnd.blockcast;{}", Numbers::schema().name());
        assert_eq!(sample.encoding().to_string(), encoding);
        let attachment = sample.attachment().expect("bridges attach something").to_bytes();
        let attachment = blockcast_bridge_core::Attachment::decode(&attachment).expect("a correct one");
        assert!(attachment.check.is_some() && attachment.verify(sample.payload().slices()).is_ok());
        assert_eq!(attachment.origin, side.bridge.origin());
        assert_eq!((attachment.sequence, attachment.messages), (number, 1));
        assert_eq!(attachment.fingerprint, Numbers::schema().fingerprint());
        assert!(attachment.time > 1_700_000_000_000_000_000, "{}", attachment.time);
    }
    drop(numbers);
    let end = samples.recv_timeout(PATIENCE).expect("the end is sent");
    let attachment = end.attachment().expect("bridges attach something").to_bytes();
    let attachment = blockcast_bridge_core::Attachment::decode(&attachment).expect("a correct one");
    assert_eq!((attachment.sequence, attachment.messages), (10, 0));
    assert!(attachment.check.is_some() && attachment.verify([]).is_ok());
}

#[test]
fn a_client_receives_no_end_if_ends_are_not_sent() {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let side = Side::new(&session(&place, &[]), rules(), options().back_pressure(true).ends(false));
    let client = session(&[], &place);
    let (sender, samples) = mpsc::channel::<Sample>();
    let subscriber = client.declare_subscriber("test/**").callback(move |sample| drop(sender.send(sample)));
    let _subscriber = subscriber.wait().expect("it is declared");
    // One publisher after another.
    for number in 0..3 {
        let mut numbers = publisher(&side.broker, "closed");
        side.sends(1);
        publish(&mut numbers, number..number + 1);
        drop(numbers);
        side.sends(0);
    }
    // Nothing comes between them.
    for number in 0..3 {
        let sample = samples.recv_timeout(PATIENCE).expect("it was published");
        assert_eq!(sample.payload().to_bytes(), bytes(number));
    }
}
