//! Tests of the registry, without sockets and channels. Files are texts here.

use super::*;
use crate::peers::protocol::{Message as _, Selection};
use crate::peers::topics::{HostTopic, PublisherCounters, SubscriberCounters};
use crate::peers::wall::copies_of;

type File = &'static str;

/// Accepts everything, except for the topic `unsealed` and the file `broken`.
struct Lenient;

impl Inspector<File> for Lenient {
    fn inspect_topic(&self, topic: &str, _: &Schema) -> Result<(), Refusal> {
        if topic == "unsealed" { Err(Refusal::Unsealed) } else { Ok(()) }
    }

    fn inspect_channel(&self, control: &File, _: &File) -> Result<u64, Refusal> {
        if *control == "broken" { Err(Refusal::Other("broken".to_owned())) } else { Ok(1000) }
    }

    fn own_topics(&self) -> Vec<(String, Schema)> {
        vec![("own".to_owned(), Schema::named("numbers"))]
    }
}

struct Host {
    registry: Registry<File>,
    now: Instant,
}

impl Host {
    fn new(options: &ServeOptions) -> Self {
        Self { registry: Registry::new(options, 0), now: Instant::now() }
    }

    fn admit(&mut self, label: &str, grants: Option<Grants>) -> PeerId {
        self.registry.admit(newcomer(label, grants, Trust::Checked)).0
    }

    fn send(
        &mut self,
        from: PeerId,
        request: Request,
        files: &[File],
    ) -> Result<Vec<Outgoing<File>>, Violation> {
        self.registry.request(from, request, files.to_vec(), self.now, &Lenient)?;
        Ok(self.registry.take_outgoing())
    }

    /// Sends a request that must be answered by one notice to the same process.
    fn ask(&mut self, from: PeerId, request: Request, files: &[File]) -> Notice {
        let mut answers = self.send(from, request, files).expect("a correct request");
        let answer = answers.pop().expect("an answer");
        assert_eq!((answer.to, answers), (from, vec![]));
        answer.notice
    }

    /// Sends a request that answers another process.
    fn ask_for(&mut self, to: PeerId, from: PeerId, request: Request) -> Notice {
        let mut answers = self.send(from, request, &[]).expect("a correct request");
        let answer = answers.pop().expect("an answer");
        assert_eq!((answer.to, answers), (to, vec![]));
        answer.notice
    }

    fn open(&mut self, from: PeerId, number: u64, topic: &str) -> Vec<Outgoing<File>> {
        self.send(from, open(number, topic, "numbers"), &["control", "arena"]).expect("a correct request")
    }

    /// Takes a seat in all steps.
    fn take_seat(&mut self, subscriber: PeerId, publisher: PeerId, seat: SeatId) -> Vec<Outgoing<File>> {
        let attach = self.send(subscriber, Request::Annex { seat }, &["annex"]).expect("it was offered");
        assert_eq!(attach.len(), 1);
        assert_eq!((attach[0].to, &attach[0].files), (publisher, &vec!["annex", "bell", "pidfd"]));
        let attached = self.send(publisher, Request::Attached { seat }, &[]).expect("it was asked");
        assert_eq!(attached, [to(subscriber, Notice::Attached { seat })]);
        self.send(subscriber, Request::Joined { seat }, &[]).expect("it is attached")
    }
}

fn newcomer(label: &str, grants: Option<Grants>, trust: Trust) -> Newcomer<File> {
    Newcomer { grants, trust, label: label.to_owned(), bell: "bell", pidfd: "pidfd" }
}

fn open(number: u64, topic: &str, schema: &'static str) -> Request {
    let publisher = PublisherRecord { number, name: "camera".to_owned(), history: 0 };
    let schema = (&Schema::named(schema)).into();
    Request::OpenPublisher { channel: ChannelNumber(number), topic: topic.to_owned(), schema, publisher }
}

fn subscribe(topic: &str, schema: &'static str) -> Request {
    Request::Subscribe { request: 1, topic: topic.to_owned(), schema: (&Schema::named(schema)).into() }
}

fn to(peer: PeerId, notice: Notice) -> Outgoing<File> {
    Outgoing { to: peer, notice, files: vec![] }
}

/// The seats that were offered, in order.
fn offered(outgoing: &[Outgoing<File>]) -> Vec<(PeerId, SeatId)> {
    let seats = outgoing.iter().filter_map(|outgoing| match &outgoing.notice {
        Notice::Channel { seat, .. } => Some((outgoing.to, *seat)),
        _ => None,
    });
    seats.collect()
}

fn three() -> (Host, [PeerId; 3]) {
    let mut host = Host::new(&ServeOptions::new());
    let peers = [("host", None), ("a", Some(Grants::all())), ("b", Some(Grants::all()))];
    let peers = peers.map(|(label, grants)| host.admit(label, grants));
    (host, peers)
}

#[test]
fn a_publisher_is_open_once_every_subscribing_process_has_joined() {
    let (mut host, [own, a, b]) = three();
    for peer in [own, a, b] {
        let subscribed = host.ask(peer, subscribe("topic", "numbers"), &[]);
        assert_eq!(subscribed, Notice::Subscribed { request: 1, seats: vec![] });
    }
    let offers = host.open(a, 7, "topic");
    assert_eq!(offers.len(), 2, "the publisher's own process needs no seat");
    assert_eq!(offers[0].files, ["control", "arena", "bell", "pidfd"]);
    let seats = offered(&offers);
    assert_eq!(host.take_seat(seats[0].0, a, seats[0].1), []);
    let opened = to(a, Notice::Opened { channel: ChannelNumber(7) });
    assert_eq!(host.take_seat(seats[1].0, a, seats[1].1), [opened]);
    assert_eq!(host.registry.next_deadline(), None);
}

#[test]
fn a_subscription_learns_of_every_publisher_of_other_processes() {
    let (mut host, [own, a, b]) = three();
    for (peer, number) in [(own, 1), (a, 2), (b, 3)] {
        assert_eq!(
            host.open(peer, number, "topic"),
            [to(peer, Notice::Opened { channel: ChannelNumber(number) })]
        );
    }
    let mut answers = host.send(b, subscribe("topic", "numbers"), &[]).unwrap();
    let seats = vec![SeatId(0), SeatId(1)];
    assert_eq!(answers.pop(), Some(to(b, Notice::Subscribed { request: 1, seats: seats.clone() })));
    assert_eq!(offered(&answers), [(b, seats[0]), (b, seats[1])]);
    // No publisher is being opened, so nobody waits for them.
    assert_eq!(host.take_seat(b, own, seats[0]), []);
    assert_eq!(
        host.send(b, Request::Left { seat: seats[0] }, &[]),
        Ok(vec![to(own, Notice::Left { seat: seats[0] })])
    );
}

#[test]
fn a_publisher_waits_for_nobody_who_leaves_declines_or_is_late() {
    let (mut host, [own, a, b]) = three();
    let opened = |number| to(a, Notice::Opened { channel: ChannelNumber(number) });
    for peer in [own, b] {
        host.ask(peer, subscribe("topic", "numbers"), &[]);
    }
    let seats = offered(&host.open(a, 1, "topic"));
    let why = String::new();
    assert_eq!(host.send(own, Request::Declined { seat: seats[0].1, why: why.clone() }, &[]), Ok(vec![]));
    host.registry.disconnected(b);
    assert_eq!(host.registry.take_outgoing(), [opened(1)]);

    let seat = offered(&host.open(a, 2, "topic"))[0].1;
    host.send(own, Request::Annex { seat }, &["annex"]).unwrap();
    let why = "there is no memory left".to_owned();
    let failed = to(own, Notice::Failed { seat, why: why.clone(), is_error: true });
    assert_eq!(
        host.send(a, Request::NotAttached { seat, why }, &[]),
        Ok(vec![failed, opened(2)][..].to_vec())
    );

    host.open(a, 3, "topic");
    let deadline = host.registry.next_deadline().expect("it waits");
    host.registry.tick(deadline - Duration::from_nanos(1));
    assert_eq!(host.registry.take_outgoing(), []);
    host.registry.tick(deadline);
    assert_eq!(host.registry.take_outgoing(), [opened(3)]);
    assert_eq!(host.registry.next_deadline(), None);
}

#[test]
fn the_end_of_a_publisher_reaches_those_who_joined_and_those_who_were_about_to() {
    let (mut host, [own, a, b]) = three();
    for peer in [own, b] {
        host.ask(peer, subscribe("topic", "numbers"), &[]);
    }
    let seats = offered(&host.open(a, 1, "topic"));
    host.take_seat(own, a, seats[0].1);
    let mut told = host.send(a, Request::ClosePublisher { channel: ChannelNumber(1) }, &[]).unwrap();
    assert!(matches!(told.pop().unwrap(), Outgoing { to, notice: Notice::Failed { .. }, .. } if to == b));
    assert_eq!(told, [to(own, Notice::Ended { seat: seats[0].1 })]);
    // Their answers cross with the news, and harm nobody.
    assert_eq!(host.send(b, Request::Annex { seat: seats[1].1 }, &["annex"]), Ok(vec![]));
    assert_eq!(host.send(own, Request::Left { seat: seats[0].1 }, &[]), Ok(vec![]));
    assert_eq!(host.send(a, Request::ClosePublisher { channel: ChannelNumber(1) }, &[]), Ok(vec![]));
}

#[test]
fn a_topic_has_one_schema_until_its_last_participant_has_left() {
    let (mut host, [own, a, b]) = three();
    host.open(a, 1, "topic");
    let existing = (&Schema::named("numbers")).into();
    let refused = Notice::SubscribeRefused { request: 1, why: Refusal::SchemaMismatch(existing) };
    assert_eq!(host.ask(b, subscribe("topic", "texts"), &[]), refused);
    host.registry.disconnected(a);
    host.registry.take_outgoing();
    assert_eq!(
        host.ask(b, subscribe("topic", "texts"), &[]),
        Notice::Subscribed { request: 1, seats: vec![] }
    );
    let refused = host.ask(own, open(1, "topic", "numbers"), &["control", "arena"]);
    assert!(matches!(refused, Notice::OpenRefused { why: Refusal::SchemaMismatch(_), .. }));
    host.send(b, Request::Unsubscribe { topic: "topic".to_owned() }, &[]).unwrap();
    assert!(host.registry.topics.is_empty());
}

#[test]
fn grants_names_files_and_limits_are_checked() {
    let limits = PeerLimits { publishers: 2, subscriptions: 1, bytes: 2500, ..PeerLimits::default() };
    let mut host = Host::new(&ServeOptions::new().limits(limits));
    host.admit("host", None);
    let a = host.admit("a", Some(Grants::new().publish("out/*").subscribe("*")));
    let refusal = |notice| match notice {
        Notice::OpenRefused { why, .. } | Notice::SubscribeRefused { why, .. } => why,
        other => panic!("{other:?}"),
    };
    let files: &[File] = &["control", "arena"];
    assert_eq!(refusal(host.ask(a, open(1, "in/1", "s"), files)), Refusal::Denied);
    assert_eq!(refusal(host.ask(a, open(1, "a\nb", "s"), files)), Refusal::BadName);
    assert_eq!(refusal(host.ask(a, subscribe("unsealed", "s"), &[])), Refusal::Unsealed);
    assert!(matches!(refusal(host.ask(a, open(1, "out/1", "s"), &["broken", ""])), Refusal::Other(_)));
    assert!(host.registry.topics.is_empty(), "a refusal leaves nothing");
    host.open(a, 1, "out/1");
    host.open(a, 2, "out/1");
    assert!(matches!(refusal(host.ask(a, open(3, "out/1", "numbers"), files)), Refusal::Limit(_)));
    host.send(a, Request::ClosePublisher { channel: ChannelNumber(2) }, &[]).unwrap();
    host.open(a, 2, "out/1");
    host.ask(a, subscribe("out/1", "numbers"), &[]);
    assert!(matches!(refusal(host.ask(a, subscribe("out/2", "numbers"), &[])), Refusal::Limit(_)));

    let few = PeerLimits { bytes: 999, ..PeerLimits::default() };
    let mut host = Host::new(&ServeOptions::new().limits(few));
    let (own, a) = (host.admit("host", None), host.admit("a", Some(Grants::all())));
    assert!(matches!(refusal(host.ask(a, open(1, "t", "s"), files)), Refusal::Limit(_)));
    assert!(
        matches!(host.ask(own, open(1, "t", "s"), files), Notice::Opened { .. }),
        "the host has no limits"
    );
}

#[test]
fn what_no_correct_process_sends_is_a_violation_and_changes_nothing() {
    let (mut host, [own, a, b]) = three();
    host.ask(b, subscribe("topic", "numbers"), &[]);
    let seat = offered(&host.open(a, 1, "topic"))[0].1;
    let versions = crate::peers::protocol::Versions::current();
    let why = String::new;
    let violations: Vec<(PeerId, Request, &[File])> = vec![
        (a, Request::Hello { versions, name: String::new() }, &["bell"]),
        (a, open(1, "topic", "numbers"), &["control", "arena"]),
        (b, subscribe("topic", "numbers"), &[]),
        // A seat that was never offered, and one of somebody else.
        (b, Request::Annex { seat: SeatId(seat.0 + 1) }, &["annex"]),
        (own, Request::Annex { seat }, &["annex"]),
        (own, Request::Left { seat }, &[]),
        // Answers before the question.
        (a, Request::Attached { seat }, &[]),
        (a, Request::NotAttached { seat, why: why() }, &[]),
        (b, Request::Joined { seat }, &[]),
        (b, Request::Left { seat }, &[]),
    ];
    for (from, request, files) in violations {
        assert!(host.send(from, request.clone(), files).is_err(), "{request:?}");
    }
    let opened = to(a, Notice::Opened { channel: ChannelNumber(1) });
    assert_eq!(host.take_seat(b, a, seat), [opened], "the others go on");
    assert!(host.send(b, Request::Joined { seat }, &[]).is_err(), "it has joined already");
    assert!(host.send(b, Request::Declined { seat, why: why() }, &[]).is_err());
}

#[test]
fn nothing_is_kept_of_processes_that_have_left() {
    let (mut host, [own, a, b]) = three();
    for peer in [own, a, b] {
        host.send(peer, subscribe("topic", "numbers"), &[]).expect("a correct request");
        host.open(peer, 1, "topic");
    }
    for peer in [b, own, a] {
        host.registry.disconnected(peer);
        assert!(host.registry.take_outgoing().iter().all(|outgoing| outgoing.to != peer));
        for peer in host.registry.peers.values() {
            let seats = host.registry.seats.values();
            assert_eq!(
                peer.seats,
                seats.filter(|seat| host.registry.record(seat.subscriber).label == peer.label).count()
            );
        }
    }
    let Registry { peers, topics, channels, seats, .. } = &host.registry;
    assert!(peers.is_empty() && topics.is_empty() && channels.is_empty() && seats.is_empty());
}

/// The publisher's process is stopped: it neither attaches an annex nor says anything.
#[test]
fn a_publisher_that_does_not_attach_subscribers_delays_them_once() {
    let (mut host, [own, a, b]) = three();
    host.open(a, 1, "topic");
    host.open(own, 2, "topic");
    let mut answers = host.send(b, subscribe("topic", "numbers"), &[]).unwrap();
    let seats = vec![SeatId(0), SeatId(1)];
    assert_eq!(answers.pop(), Some(to(b, Notice::Subscribed { request: 1, seats: seats.clone() })));
    assert_eq!(host.take_seat(b, own, seats[0]), []);
    host.send(b, Request::Annex { seat: seats[1] }, &["annex"]).unwrap();
    let deadline = host.registry.next_deadline().expect("the publisher has to answer");
    host.registry.tick(deadline - Duration::from_nanos(1));
    assert_eq!(host.registry.take_outgoing(), []);
    host.registry.tick(deadline);
    assert_eq!(host.registry.take_outgoing(), [to(b, Notice::Late { seat: seats[1] })]);
    assert_eq!(host.registry.next_deadline(), None);
    // The next subscriber does not wait for it, and is offered the publisher later.
    let c = host.admit("c", Some(Grants::all()));
    let mut answers = host.send(c, subscribe("topic", "numbers"), &[]).unwrap();
    let awaited = vec![SeatId(2)];
    assert_eq!(answers.pop(), Some(to(c, Notice::Subscribed { request: 1, seats: awaited })));
    assert_eq!(offered(&answers), [(c, SeatId(2))]);
    // When the process goes on, both join it, and it is waited for again.
    let mut attached = host.send(a, Request::Attached { seat: seats[1] }, &[]).unwrap();
    assert_eq!(attached.pop(), Some(to(b, Notice::Attached { seat: seats[1] })));
    assert_eq!(offered(&attached), [(c, SeatId(3))]);
    assert_eq!(host.send(b, Request::Joined { seat: seats[1] }, &[]), Ok(vec![]));
    assert_eq!(host.take_seat(c, a, SeatId(3)), []);
    let d = host.admit("d", Some(Grants::all()));
    let mut answers = host.send(d, subscribe("topic", "numbers"), &[]).unwrap();
    let awaited = vec![SeatId(4), SeatId(5)];
    assert_eq!(answers.pop(), Some(to(d, Notice::Subscribed { request: 1, seats: awaited })));
}

#[test]
fn a_subscribing_process_that_does_not_answer_delays_publishers_once() {
    let (mut host, [_, a, b]) = three();
    host.ask(b, subscribe("topic", "numbers"), &[]);
    let opened = |number| to(a, Notice::Opened { channel: ChannelNumber(number) });
    let first = offered(&host.open(a, 1, "topic"));
    host.now = host.registry.next_deadline().expect("it waits");
    host.registry.tick(host.now);
    assert_eq!(host.registry.take_outgoing(), [opened(1)]);
    let second = host.open(a, 2, "topic");
    assert!(second.contains(&opened(2)), "{second:?}");
    // It goes on, and joins both.
    host.take_seat(b, a, first[0].1);
    host.take_seat(b, a, offered(&second)[0].1);
    let third = host.open(a, 3, "topic");
    assert!(!third.contains(&opened(3)), "{third:?}");
    assert_eq!(host.take_seat(b, a, offered(&third)[0].1), [opened(3)]);
}

/// Publishers of the former host's processes keep their numbers.
#[test]
fn publishers_that_join_another_host_have_other_numbers() {
    let first = |salt| {
        let mut registry: Registry<File> = Registry::new(&ServeOptions::new(), salt);
        let newcomer = || newcomer("", None, Trust::Checked);
        [(); 3].map(|()| registry.admit(newcomer()).1)
    };
    let numbers: BTreeSet<_> = [0, 5, u64::MAX - 8].into_iter().flat_map(first).collect();
    assert_eq!(numbers.len(), 9, "{numbers:?}");
    assert!(numbers.iter().all(|number| number % (1 << PUBLISHER_BITS) == 1));
}

/// Processes announce what they have in any order.
#[test]
fn a_publisher_learns_who_has_left_it_while_there_was_no_host() {
    let (mut host, [_, a, b]) = three();
    let left = |annex| Request::LeftBefore { publisher: 7, annex };
    let learned = |annex| to(a, Notice::LeftBefore { channel: ChannelNumber(7), annex });
    assert_eq!(host.send(b, left((1, 2)), &[]), Ok(vec![]));
    let opened = to(a, Notice::Opened { channel: ChannelNumber(7) });
    assert_eq!(host.open(a, 7, "topic"), [opened, learned((1, 2))]);
    assert_eq!(host.send(b, left((1, 3)), &[]), Ok(vec![learned((1, 3))]));
    // Nobody leaves in the name of the publisher's own process.
    assert_eq!(host.send(a, left((1, 4)), &[]), Ok(vec![]));
}

/// The host has no room for the files of a request.
#[test]
fn requests_without_their_files_are_refused_one_by_one() {
    let (mut host, [own, a, b]) = three();
    host.ask(b, subscribe("topic", "numbers"), &[]);
    let refused = host.registry.refuse(a, &open(7, "topic", "numbers"), "no room");
    let why = Refusal::Limit("no room".to_owned());
    let answer = to(a, Notice::OpenRefused { channel: ChannelNumber(7), why });
    assert_eq!((refused, host.registry.take_outgoing()), (Ok(()), vec![answer]));
    let seat = offered(&host.open(own, 1, "topic"))[0].1;
    let refused = host.registry.refuse(b, &Request::Annex { seat }, "no room");
    let failed = to(b, Notice::Failed { seat, why: "no room".to_owned(), is_error: true });
    let opened = to(own, Notice::Opened { channel: ChannelNumber(1) });
    assert_eq!((refused, host.registry.take_outgoing()), (Ok(()), vec![failed, opened]));
    assert!(host.registry.refuse(b, &Request::Announced, "no room").is_err(), "it takes no files");
}

/// A stopped publisher's process takes no part of what others may have on their way.
#[test]
fn a_subscriber_joins_others_while_many_publishers_of_a_process_do_not_answer() {
    let (mut host, [own, a, b]) = three();
    for number in 0..20 {
        host.open(a, number, "topic");
    }
    host.open(own, 1, "other");
    let first = offered(&host.send(b, subscribe("topic", "numbers"), &[]).unwrap());
    for (_, seat) in &first {
        host.send(b, Request::Annex { seat: *seat }, &["annex"]).unwrap();
    }
    let sent = host.send(b, subscribe("other", "numbers"), &[]).unwrap();
    assert_eq!((first.len(), sent), (8, vec![]), "they wait");
    host.registry.tick(host.registry.next_deadline().expect("the process has to answer"));
    let sent = host.registry.take_outgoing();
    let seat = offered(&sent)[0].1;
    assert_eq!((offered(&sent).len(), host.registry.seats[&seat].channel.0), (1, own));
    assert_eq!(sent.iter().filter(|out| matches!(out.notice, Notice::Subscribed { .. })).count(), 2);
    assert_eq!(host.take_seat(b, own, seat), []);
    // All of the others come once it answers.
    let mut sent = host.send(a, Request::Announced, &[]).unwrap();
    let mut joined = 0;
    while let Some((_, seat)) = offered(&sent).first().copied() {
        sent.remove(0);
        host.send(b, Request::Annex { seat }, &["annex"]).unwrap();
        sent.extend(host.send(a, Request::Attached { seat }, &[]).unwrap());
        sent.retain(|out| matches!(out.notice, Notice::Channel { .. }));
        joined += 1;
    }
    assert_eq!(joined, 12);
}

/// However many publishers a topic has: few packets are on their way at a time.
#[test]
fn a_process_is_offered_few_channels_at_a_time_and_in_the_end_all() {
    let (mut host, [_, a, b]) = three();
    for number in 0..100 {
        host.open(a, number, "topic");
    }
    let mut sent = host.send(b, subscribe("topic", "numbers"), &[]).unwrap();
    let (mut open, mut joined) = (VecDeque::new(), BTreeSet::new());
    let subscribed = loop {
        open.extend(offered(&sent));
        assert!(open.len() <= 8, "{} at a time", open.len());
        if let Some(Outgoing { notice: Notice::Subscribed { seats, .. }, .. }) = sent.last() {
            break seats.clone();
        }
        let (_, seat) = open.pop_front().expect("some are always on their way");
        let attach = host.send(b, Request::Annex { seat }, &["annex"]).unwrap();
        assert_eq!(attach.len(), 1, "{attach:?}");
        sent = host.send(a, Request::Attached { seat }, &[]).unwrap();
        host.send(b, Request::Joined { seat }, &[]).unwrap();
        joined.insert(seat);
    };
    for (_, seat) in open {
        host.take_seat(b, a, seat);
        joined.insert(seat);
    }
    assert_eq!((joined.len(), joined), (100, subscribed.into_iter().collect()));
}

/// Otherwise it could take the seats of both subscriptions, and receive every message twice.
#[test]
fn offers_that_are_not_answered_end_with_their_subscription() {
    let (mut host, [_, a, b]) = three();
    for number in 0..40 {
        host.open(a, number, "topic");
    }
    let first = offered(&host.send(b, subscribe("topic", "numbers"), &[]).unwrap());
    host.send(b, Request::Annex { seat: first[0].1 }, &["annex"]).unwrap();
    let next = host.send(a, Request::Attached { seat: first[0].1 }, &[]).unwrap();
    assert_eq!(offered(&next).len(), 1, "one more is offered");
    let withdrawn = host.send(b, Request::Unsubscribe { topic: "topic".to_owned() }, &[]).unwrap();
    let failed = |outgoing: &Outgoing<File>| matches!(outgoing.notice, Notice::Failed { .. });
    assert!(withdrawn.len() == 8 && withdrawn.iter().all(failed), "{withdrawn:?}");
    assert_eq!(host.registry.seats.len(), 1, "the one that was taken");
    // The answer to an offer crosses with its withdrawal.
    assert_eq!(host.send(b, Request::Annex { seat: first[1].1 }, &["annex"]), Ok(vec![]));
    assert_eq!(offered(&host.send(b, subscribe("topic", "numbers"), &[]).unwrap()).len(), 8);
}

/// Random requests of three processes, right and wrong ones: nothing panics, no notice goes to a process that
/// was disconnected, and in the end nothing is left.
#[test]
fn arbitrary_requests_neither_panic_nor_leave_anything() {
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    let step = (0..3_usize, 0..16_u8, 0..4_u64, prop::sample::select(vec!["t", "u", "unsealed"]));
    let steps = prop::collection::vec(step, 0..80);
    let run = |steps: Vec<(usize, u8, u64, &'static str)>| {
        let (mut host, mut peers) = three();
        for (who, what, number, topic) in steps {
            let (from, seat, why) = (peers[who], SeatId(number), String::new());
            let (request, files): (_, &[File]) = match what {
                0 | 1 => (open(number, topic, "s"), &["control", "arena"]),
                2 => (Request::ClosePublisher { channel: ChannelNumber(number) }, &[]),
                3 | 4 => (subscribe(topic, "s"), &[]),
                5 => (Request::Unsubscribe { topic: topic.to_owned() }, &[]),
                6 => (Request::Annex { seat }, &["annex"]),
                7 => (Request::Declined { seat, why }, &[]),
                8 => (Request::Attached { seat }, &[]),
                9 => (Request::NotAttached { seat, why }, &[]),
                10 => (Request::Joined { seat }, &[]),
                11 => (Request::Announced, &[]),
                12 => (Request::Left { seat }, &[]),
                13 => (ask_all(number, ""), &[]),
                14 => (Request::LeftBefore { publisher: number, annex: (0, number) }, &[]),
                _ => (report(number, number), &[]),
            };
            match host.send(from, request, files) {
                Ok(outgoing) => prop_assert!(outgoing.iter().all(|out| peers.contains(&out.to))),
                Err(_) => {
                    host.registry.disconnected(from);
                    peers[who] = host.admit("again", Some(Grants::all()));
                }
            }
        }
        peers.into_iter().for_each(|peer| host.registry.disconnected(peer));
        let Registry { peers, topics, channels, seats, queries, attaching, .. } = &host.registry;
        prop_assert!(peers.is_empty() && topics.is_empty() && channels.is_empty() && seats.is_empty());
        prop_assert!(queries.is_empty() && attaching.is_empty());
        Ok(())
    };
    TestRunner::default().run(&steps, run).expect("it holds for all");
}

fn ask_all(request: u64, after: &str) -> Request {
    Request::Topics { request, selection: Selection::After(after.to_owned()) }
}

fn report(query: u64, channel: u64) -> Request {
    let counters = PublisherCounters { published: 5, ..PublisherCounters::default() };
    Request::Report { query, counters: vec![(ChannelNumber(channel), counters)] }
}

/// The topics of an answer, and whether it is the last.
fn answered(notice: Notice) -> (Vec<HostTopic>, bool) {
    match notice {
        Notice::Topics { topics, is_last, .. } => (topics, is_last),
        other => panic!("{other:?}"),
    }
}

fn names(topics: &[HostTopic]) -> Vec<&str> {
    topics.iter().map(|topic| topic.name.as_str()).collect()
}

#[test]
fn a_process_learns_only_of_the_topics_that_it_is_granted() {
    let (mut host, [_, camera, robot]) = three();
    host.open(camera, 1, "images");
    host.open(camera, 2, "secrets");
    let guest = host.admit("guest", Some(Grants::new().subscribe("im*").publish("own")));
    let asked = host.send(guest, ask_all(1, ""), &[]).expect("a correct request");
    assert_eq!(asked, [to(camera, Notice::Report { query: 0, channels: vec![ChannelNumber(1)] })]);
    // Nobody answers for another process.
    assert_eq!(host.send(robot, report(0, 1), &[]), Ok(vec![]));
    let (topics, is_last) = answered(host.send(camera, report(0, 1), &[]).unwrap().remove(0).notice);
    assert_eq!((names(&topics), is_last), (vec!["images", "own"], true));
    assert_eq!((topics[0].published(), topics[0].publishers[0].process.as_str()), (5, "a"));
    let named = |name: &str| Request::Topics { request: 2, selection: Selection::Named(name.to_owned()) };
    assert_eq!(answered(host.ask(guest, named("secrets"), &[])), (vec![], true));
    assert_eq!(names(&answered(host.ask(guest, named("own"), &[])).0), ["own"]);
    // A late or invented report is ignored.
    assert_eq!(host.send(camera, report(0, 1), &[]), Ok(vec![]));
    assert_eq!(host.send(camera, report(77, 1), &[]), Ok(vec![]));
}

#[test]
fn a_process_that_does_not_report_is_waited_for_once_and_not_for_ever() {
    let (mut host, [_, camera, robot]) = three();
    host.open(camera, 1, "images");
    assert_eq!(host.send(robot, ask_all(1, ""), &[]).unwrap().len(), 1);
    let deadline = host.registry.next_deadline().expect("a report is awaited");
    host.registry.tick(deadline - Duration::from_nanos(1));
    assert_eq!(host.registry.take_outgoing(), []);
    // Who asks again before the answer is not a correct process.
    assert!(host.send(robot, ask_all(2, ""), &[]).is_err());
    host.registry.tick(deadline);
    let (topics, _) = answered(host.registry.take_outgoing().remove(0).notice);
    assert_eq!(topics.iter().find(|topic| topic.name == "images").unwrap().publishers[0].counters, None);
    assert_eq!(host.registry.next_deadline(), None);
    // Its end answers, too.
    assert_eq!(host.send(robot, ask_all(3, ""), &[]).unwrap().len(), 1);
    host.registry.disconnected(camera);
    assert_eq!(host.registry.take_outgoing().iter().filter(|outgoing| outgoing.to == robot).count(), 1);
    // Nobody is answered who has left.
    host.open(robot, 1, "images");
    let asked = host.admit("asks", Some(Grants::all()));
    assert_eq!(host.send(asked, ask_all(1, ""), &[]).unwrap().len(), 1);
    host.registry.disconnected(asked);
    assert_eq!(host.registry.next_deadline(), None);
}

#[test]
fn a_process_that_never_reports_is_not_asked_any_number_of_times() {
    let (mut host, [_, camera, robot]) = three();
    host.open(camera, 1, "images");
    let mut asked = 0;
    for request in 0..100 {
        let sent = host.send(robot, ask_all(request, ""), &[]).expect("it has the last answer");
        asked += sent.iter().filter(|outgoing| outgoing.to == camera).count();
        host.now += Duration::from_secs(10);
        host.registry.tick(host.now);
        let late = host.registry.take_outgoing();
        assert_eq!(sent.iter().chain(&late).filter(|outgoing| outgoing.to == robot).count(), 1);
    }
    assert_eq!(asked, 8);
    // Once it answers, it is asked again.
    assert_eq!(host.send(camera, report(0, 1), &[]), Ok(vec![]));
    let sent = host.send(robot, ask_all(100, ""), &[]).expect("it has the last answer");
    assert_eq!(sent.iter().map(|outgoing| outgoing.to).collect::<Vec<_>>(), [camera]);
}

#[test]
fn any_number_of_topics_comes_in_packets_that_are_not_too_long() {
    let (mut host, [_, camera, robot]) = three();
    for number in 0..700 {
        host.open(camera, number, &format!("topic/{number:03}/{}", "x".repeat(200)));
    }
    let long = "y".repeat(60_000);
    let publisher = PublisherRecord { number: 700, name: String::new(), history: 0 };
    let schema = SchemaRecord::from(&Schema::named(long));
    let topic = format!("z{}", "z".repeat(254));
    let open = Request::OpenPublisher { channel: ChannelNumber(700), topic, schema, publisher };
    host.send(camera, open, &["control", "arena"]).expect("a correct request");
    let (mut after, mut all, mut pages) = (String::new(), 0, 0);
    loop {
        let asked = host.send(robot, ask_all(pages, &after), &[]).expect("a correct request");
        let Notice::Report { query, channels } = asked[0].notice.clone() else { panic!("{asked:?}") };
        let reader = SubscriberCounters { name: "s".repeat(500), received: 1, lost: 1, behind: 1 };
        let readers = vec![reader; 8];
        let counters = PublisherCounters { subscribers: readers, ..PublisherCounters::default() };
        let counters = channels.into_iter().map(|channel| (channel, counters.clone())).collect();
        let answer = host.send(camera, Request::Report { query, counters }, &[]).unwrap().remove(0).notice;
        assert!(answer.encode().is_ok());
        let (topics, is_last) = answered(answer);
        // The host's own topic has no participants.
        for topic in topics.iter().filter(|topic| topic.name != "own") {
            let publisher = &topic.publishers[0];
            let counters = publisher.counters.as_ref().expect("it has reported");
            assert_eq!(counters.subscribers.len() + counters.omitted as usize, 8);
            assert!(counters.subscribers.iter().all(|reader| reader.name.len() <= 128));
        }
        all += topics.len();
        pages += 1;
        if is_last {
            break;
        }
        after = topics.last().expect("a page has a topic").name.clone();
    }
    assert_eq!(all, 702, "in {pages} packets");
}

#[test]
fn only_the_wall_joins_a_walled_publisher_and_offers_its_copies_to_the_others() {
    let (mut host, [own, a, b]) = three();
    let wall = host.registry.admit_wall(newcomer("host (copies)", None, Trust::Checked));
    let walled = host.registry.admit(newcomer("walled", Some(Grants::all()), Trust::Walled)).0;
    for peer in [own, a, walled] {
        host.ask(peer, subscribe("topic", "numbers"), &[]);
    }
    let offers = host.open(walled, 7, "topic");
    let [(to_wall, seat)] = offered(&offers)[..] else { panic!("{offers:?}") };
    assert_eq!(to_wall, wall);
    let attach = host.send(wall, Request::Annex { seat }, &["annex"]).unwrap();
    assert_eq!(attach[0].to, walled);
    host.send(walled, Request::Attached { seat }, &[]).unwrap();
    // The original is open once the copies are.
    let offers = host.open(wall, copies_of(seat).0, "topic");
    let seats = offered(&offers);
    assert_eq!(seats.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [own, a], "not to its own process");
    let owner = offers.iter().find_map(|offer| match &offer.notice {
        Notice::Channel { owner, .. } => Some(owner.clone()),
        _ => None,
    });
    assert_eq!(owner, Some(PeerRecord { id: wall, label: "walled".to_owned() }));
    for (to, seat) in seats {
        host.take_seat(to, wall, seat);
    }
    let opened = to(walled, Notice::Opened { channel: ChannelNumber(7) });
    assert_eq!(host.send(wall, Request::Joined { seat }, &[]), Ok(vec![opened]));
    // One that comes later is offered the copies, and sees one publisher.
    let answers = host.send(b, subscribe("topic", "numbers"), &[]).unwrap();
    assert_eq!(offered(&answers).len(), 1);
    let select = Selection::Named("topic".to_owned());
    let asked = host.send(b, Request::Topics { request: 3, selection: select }, &[]).unwrap();
    let [Outgoing { to: reporter, notice: Notice::Report { query, channels }, .. }] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!((*reporter, &channels[..]), (wall, &[copies_of(seat)][..]));
    let answer = host.ask_for(b, wall, Request::Report { query: *query, counters: vec![] });
    let Notice::Topics { topics, .. } = answer else { panic!("{answer:?}") };
    let processes: Vec<_> = topics[0].publishers.iter().map(|publisher| &publisher.process[..]).collect();
    assert_eq!((processes, topics[0].omitted), (vec!["walled"], 0));
}
