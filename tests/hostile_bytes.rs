//! A guest publishes bytes that claim to be values but have false lengths and offsets, invalid text, or too
//! few or too many bytes.
//!
//! The host must agree with the layout's own validation: exactly the bytes that are valid natively reach a
//! typed subscriber, whether copied or built in place.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast::{
    ArchiveType, Broker, Component, ComponentLimits, ExitReason, Flat, Grants, GuestSource, Payload,
    PublisherOptions, RecvError, Rkyv, SubscriberOptions, Validator,
};

#[derive(Flat)]
struct Entry {
    name: String,
    numbers: Vec<u32>,
    note: Option<String>,
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Archived {
    name: String,
    numbers: Vec<u32>,
    note: Option<String>,
}

// SAFETY: only rkyv's own code writes the archive, and no other layout has this name.
unsafe impl ArchiveType for Archived {
    const NAME: &'static str = "test.hostile-bytes.v1";
}

/// A valid message and many that are almost valid.
fn candidates(valid: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..valid.len()).map(|len| valid[..len].to_vec()).collect();
    for position in 0..valid.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff, valid[position].wrapping_add(1)] {
            let mut changed = valid.to_vec();
            changed[position] = byte;
            all.push(changed);
        }
    }
    all.push([valid, &[0]].concat());
    all.push([valid, valid].concat());
    all.push(valid.to_vec());
    all
}

fn bytes_of<P: Payload>(send: impl FnOnce(&mut blockcast::Publisher<P>)) -> Vec<u8> {
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<P>("t", SubscriberOptions::new()).expect("a new topic");
    let mut publisher = broker.publisher::<P>("t", PublisherOptions::new()).expect("the same layout");
    send(&mut publisher);
    subscriber.try_recv_ref().expect("published").bytes().to_vec()
}

/// A guest that publishes all of `messages`, in place if the host wants that, and then waits until it is
/// asked to finish. It traps if a message is refused with an error other than `invalid-payload`.
fn publisher(name: &str, fingerprint: u64, messages: &[Vec<u8>], blocks: usize) -> String {
    let table = 8192;
    let mut next = table + messages.len() * 8;
    let mut data = String::new();
    let mut entries = String::new();
    for message in messages {
        for number in [next as u32, message.len() as u32] {
            number.to_le_bytes().iter().for_each(|byte| write!(entries, "\\{byte:02x}").expect("text"));
        }
        message.iter().for_each(|byte| write!(data, "\\{byte:02x}").expect("text"));
        next += message.len();
    }
    include_str!("hostile_bytes.wat")
        .replace("{schema}", name)
        .replace("{schema-len}", &name.len().to_string())
        .replace("{fingerprint}", &fingerprint.to_string())
        .replace("{pages}", &(next / 65_536 + 1).to_string())
        .replace("{table}", &table.to_string())
        .replace("{entries}", &(entries + &data))
        .replace("{end}", &(table + messages.len() * 8).to_string())
        .replace("{blocks}", &blocks.to_string())
        .replace("{block-size}", &messages.iter().map(Vec::len).max().unwrap_or(1).to_string())
}

fn start(broker: &Broker, code: String, in_place: u32) -> Component {
    let program = broker.load(&GuestSource::bytes("guest", code.into_bytes())).expect("loads");
    let mut limits = ComponentLimits::default();
    limits.in_place = in_place;
    broker.spawn_guest(&program, Grants::all().limits(limits), []).expect("starts")
}

/// Bounds the wait for one message, or until all are published. The guest is already compiled.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// A rule that accepts everything.
fn lenient() -> Option<Validator> {
    Some(Arc::new(|_| Ok(())))
}

/// If a typed subscriber joined before, only valid messages arrive, and they are not checked again. A rule
/// that accepts everything makes no difference.
fn check_host<P: Payload>(valid: &[u8]) {
    for rule in [None, lenient()] {
        check_host_with::<P>(valid, rule);
    }
}

fn check_host_with<P: Payload>(valid: &[u8], rule: Option<Validator>) {
    let messages = candidates(valid);
    let good: Vec<&Vec<u8>> = messages.iter().filter(|message| P::validate(message).is_ok()).collect();
    assert!(!good.is_empty() && good.len() < messages.len());
    for in_place in [1, u32::MAX] {
        let broker = Broker::new();
        broker.declare("t", &P::schema(), rule.clone()).expect("a new topic");
        let mut subscriber = broker.subscriber::<P>("t", SubscriberOptions::new()).expect("the same layout");
        let guest =
            start(&broker, publisher(P::schema().name(), P::schema().fingerprint(), &messages, 8), in_place);
        for message in &good {
            let received = subscriber.blocking_recv_ref(Some(deadline()));
            let received = received.unwrap_or_else(|error| panic!("{error}: {:?}", guest.report()));
            assert_eq!(received.bytes(), &message[..]);
        }
        guest.request_shutdown();
        assert_eq!(guest.wait().reason, ExitReason::Finished);
        assert!(matches!(subscriber.blocking_recv_ref(Some(deadline())), Err(RecvError::Ended)));
    }
}

/// If nobody who knows the layout joined before, everything is published. A subscriber then validates
/// messages itself, whatever a rule has accepted.
fn check_subscriber<P: Payload>(valid: &[u8]) {
    for rule in [None, lenient()] {
        check_subscriber_with::<P>(valid, rule);
    }
}

fn check_subscriber_with<P: Payload>(valid: &[u8], rule: Option<Validator>) {
    let messages = candidates(valid);
    let broker = Broker::new();
    broker.declare("t", &P::schema(), rule).expect("a new topic");
    let guest = start(
        &broker,
        publisher(P::schema().name(), P::schema().fingerprint(), &messages, messages.len() + 2),
        u32::MAX,
    );
    let until = deadline();
    while broker.topic("t").is_none_or(|topic| topic.published() < messages.len() as u64) {
        assert!(Instant::now() < until && guest.report().is_none(), "{:?}", guest.report());
        std::thread::sleep(Duration::from_millis(1));
    }
    let options = SubscriberOptions::new().history(u32::MAX);
    let mut subscriber = broker.subscriber::<P>("t", options).expect("the same layout");
    for message in &messages {
        match (subscriber.blocking_recv_ref(Some(deadline())), P::validate(message)) {
            (Ok(received), Ok(())) => assert_eq!(received.bytes(), &message[..]),
            (Err(RecvError::Invalid(_)), Err(_)) => {}
            (received, expected) => panic!("{:?}, expected {expected:?}", received.map(|_| ())),
        }
    }
    guest.request_shutdown();
    assert_eq!(guest.wait().reason, ExitReason::Finished);
}

fn flat() -> Vec<u8> {
    let entry = Entry { name: "n\u{e4}me".to_owned(), numbers: vec![1, 2, 3], note: Some("note".to_owned()) };
    bytes_of::<Flat<Entry>>(|publisher| {
        publisher.try_loan().expect("a block").send(&entry).expect("fits");
    })
}

fn archive() -> Vec<u8> {
    let entry = Archived {
        name: "a name that is not inline".to_owned(),
        numbers: vec![1, 2, 3],
        note: Some("note".to_owned()),
    };
    bytes_of::<Rkyv<Archived>>(|publisher| {
        publisher.try_loan().expect("a block").send(&entry).expect("fits");
    })
}

#[test]
fn hostile_flat_bytes_of_a_guest_are_refused_before_anybody_sees_them() {
    check_host::<Flat<Entry>>(&flat());
}

#[test]
fn hostile_archives_of_a_guest_are_refused_before_anybody_sees_them() {
    check_host::<Rkyv<Archived>>(&archive());
}

#[test]
fn hostile_flat_bytes_that_nobody_could_check_are_errors_of_the_subscriber() {
    check_subscriber::<Flat<Entry>>(&flat());
}

#[test]
fn hostile_archives_that_nobody_could_check_are_errors_of_the_subscriber() {
    check_subscriber::<Rkyv<Archived>>(&archive());
}
