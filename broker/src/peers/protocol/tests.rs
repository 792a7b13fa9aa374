//! Tests of the messages between processes.

use proptest::prelude::*;

use super::*;
use crate::peers::topics::{HostPublisher, SubscriberCounters};

fn versions() -> Versions {
    Versions { protocol: 1, layout: 2, page_size: 4096, barriers: true }
}

fn counters() -> PublisherCounters {
    let subscriber = SubscriberCounters { name: "reader".to_owned(), received: 3, lost: 1, behind: 2 };
    PublisherCounters { published: 6, subscribers: vec![subscriber], ..PublisherCounters::default() }
}

fn host_topic() -> HostTopic {
    let publisher = HostPublisher {
        number: 7,
        name: "camera".to_owned(),
        process: "robot (process 5)".to_owned(),
        relay: true,
        counters: Some(counters()),
    };
    let (name, subscribers) = ("topic".to_owned(), vec!["viewer (process 6)".to_owned()]);
    let schema = SchemaRecord::from(&Schema::named("numbers"));
    HostTopic { name, schema, publishers: vec![publisher], subscribers, omitted: 0 }
}

fn requests() -> Vec<Request> {
    let schema = SchemaRecord::from(&Schema::named("numbers"));
    let publisher = PublisherRecord { number: 7, name: "camera".to_owned(), history: 1, relay: false };
    let (topic, why) = ("topic".to_owned(), "why".to_owned());
    let (seat, channel) = (SeatId(3), ChannelNumber(u64::MAX));
    vec![
        Request::Hello { versions: versions(), name: "name".to_owned() },
        Request::OpenPublisher { channel, topic: topic.clone(), schema: schema.clone(), publisher },
        Request::ClosePublisher { channel },
        Request::Subscribe { request: 1, topic: topic.clone(), schema },
        Request::Unsubscribe { topic },
        Request::Annex { seat },
        Request::Declined { seat, why: why.clone() },
        Request::Attached { seat },
        Request::NotAttached { seat, why },
        Request::Joined { seat },
        Request::Left { seat },
        Request::Announced,
        Request::Expect { topic: "numbers".to_owned(), is_expected: false },
        Request::Topics { request: 1, selection: Selection::After(String::new()) },
        Request::Topics { request: 2, selection: Selection::Named("topic".to_owned()) },
        Request::Report { query: 1, counters: vec![(channel, counters())] },
        Request::Log { level: 2, text: "line".to_owned() },
        Request::Tally { tally: Tally::default() },
        Request::Outcome { outcome: Outcome::Failed("why".to_owned()), tally: Tally::default() },
    ]
}

fn notices() -> Vec<Notice> {
    let publisher = PublisherRecord { number: 7, name: "camera".to_owned(), history: 1, relay: false };
    let (topic, why) = ("topic".to_owned(), "why".to_owned());
    let (seat, channel, terms) = (SeatId(3), ChannelNumber(4), Terms::default());
    let owner = PeerRecord { id: PeerId(5), label: "camera (6)".to_owned() };
    let refusal = Refusal::SchemaMismatch(SchemaRecord::from(&Schema::named("other")));
    vec![
        Notice::Refused { ours: versions(), theirs: versions(), why: why.clone() },
        Notice::Welcome { peer: PeerId(1), first_publisher: 1 << 40, patience: 5000 },
        Notice::Opened { channel },
        Notice::OpenRefused { channel, why: refusal.clone() },
        Notice::Subscribed { request: 1, seats: vec![seat, SeatId(9)] },
        Notice::SubscribeRefused { request: 1, why: refusal },
        Notice::Channel { seat, topic, publisher, owner: owner.clone(), terms },
        Notice::Attach { seat, channel, subscriber: owner, terms },
        Notice::Attached { seat },
        Notice::Failed { seat, why, is_error: true },
        Notice::Late { seat },
        Notice::LeftBefore { channel: ChannelNumber(3), annex: (4, 5) },
        Notice::Left { seat },
        Notice::Ended { seat },
        Notice::Known,
        Notice::Topics { request: 1, topics: vec![host_topic()], is_last: true },
        Notice::Report { query: 1, channels: vec![channel] },
        Notice::Job,
        Notice::Finish,
        Notice::Cancel,
        Notice::Count,
        Notice::Expect { topic: "numbers".to_owned(), is_expected: true },
    ]
}

fn round_trip<M: Message + PartialEq>(message: &M) {
    let bytes = message.encode().expect("it is short");
    assert_eq!(M::decode(&bytes, message.files()).as_ref(), Ok(message));
    for files in (0..=MAX_FILES).filter(|&files| !message.may_have(files)) {
        assert_eq!(M::decode(&bytes, files), Err(CodecError::Files(files, message.files())));
    }
    for len in 0..bytes.len() {
        assert!(M::decode(&bytes[..len], message.files()).is_err(), "{message:?} is complete after {len}");
    }
    let longer = [bytes, vec![0]].concat();
    assert!(matches!(M::decode(&longer, message.files()), Err(CodecError::Malformed(_))));
}

/// Processes of any version must be told how they differ, and no process may lack its notice.
#[test]
fn a_hello_may_have_a_descriptor_and_an_offer_may_have_none() {
    let hello = Request::Hello { versions: Versions::current(), name: String::new() };
    assert_eq!([0, 1, 2].map(|files| hello.may_have(files)), [true, true, false]);
    let offers = notices().into_iter().filter(|notice| matches!(notice, Notice::Channel { .. }));
    for offer in offers {
        assert_eq!([0, 3, 4].map(|files| offer.may_have(files)), [true, false, true]);
    }
}

#[test]
fn every_message_arrives_as_it_was_sent_and_only_as_a_whole() {
    requests().iter().for_each(round_trip);
    notices().iter().for_each(round_trip);
}

#[test]
fn messages_that_exceed_a_packet_or_have_long_names_are_refused() {
    let long = Request::Unsubscribe { topic: "t".repeat(MAX_PACKET) };
    assert!(matches!(long.encode(), Err(CodecError::TooLong(_))));
    let name = Request::Unsubscribe { topic: "t".repeat(MAX_TEXT + 1) };
    let bytes = name.encode().expect("it fits");
    assert_eq!(Request::decode(&bytes, 0), Err(CodecError::LongText(MAX_TEXT + 1)));
    assert!(matches!(Request::decode(&vec![0; MAX_PACKET + 1], 0), Err(CodecError::TooLong(_))));
}

#[test]
fn a_count_that_exceeds_the_packet_allocates_nothing() {
    let honest = Notice::Subscribed { request: 0, seats: Vec::new() }.encode().expect("it is short");
    // The length of the list comes last: as large as it can be written.
    let huge =
        [&honest[..honest.len() - 1], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
    assert!(matches!(Notice::decode(&huge, 0), Err(CodecError::Malformed(_))));
}

/// Processes of another version must be able to read these.
#[test]
fn the_first_messages_keep_their_encoding() {
    let hello = Request::Hello { versions: versions(), name: "n".to_owned() }.encode();
    assert_eq!(hello.unwrap(), [0, 1, 2, 0x80, 0x20, 1, 1, b'n']);
    let refused = Notice::Refused { ours: versions(), theirs: versions(), why: "w".to_owned() }.encode();
    assert_eq!(refused.unwrap(), [0, 1, 2, 0x80, 0x20, 1, 1, 2, 0x80, 0x20, 1, 1, b'w']);
    let welcome = Notice::Welcome { peer: PeerId(1), first_publisher: 2, patience: 3 }.encode();
    assert_eq!(welcome.unwrap(), [1, 1, 2, 3]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_decode(&bytes);
    }

    #[test]
    fn changed_messages_are_decoded_or_refused(at in any::<(usize, usize)>(), to in any::<u8>()) {
        let change = |mut bytes: Vec<u8>| {
            let index = at.1 % bytes.len();
            bytes[index] = to;
            fuzz_decode(&bytes);
        };
        let (requests, notices) = (requests(), notices());
        change(requests[at.0 % requests.len()].encode().unwrap());
        change(notices[at.0 % notices.len()].encode().unwrap());
    }
}
