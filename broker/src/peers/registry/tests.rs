//! Tests of the registry, without sockets and channels. Files are texts here.

use super::*;
use crate::peers::protocol::{Message as _, SchemaRecord, Selection};
use crate::peers::topics::{HostTopic, PublisherCounters, SubscriberCounters};
use crate::peers::wall::copies_of;

mod offers;
mod queries;
mod restarts;

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

    fn has_topic(&self, topic: &str) -> bool {
        topic == "own"
    }
}

struct Host {
    registry: Registry<File>,
    limits: PeerLimits,
    now: Instant,
}

impl Host {
    fn new(options: &ServeOptions) -> Self {
        let limits = options.get_limits().clone();
        Self {
            registry: Registry::new(options, 0, || Some(("bell", "publisher's bell"))),
            limits,
            now: Instant::now(),
        }
    }

    fn admit(&mut self, label: &str, grants: Option<Grants>) -> PeerId {
        self.registry
            .admit(Newcomer { limits: self.limits.clone(), ..newcomer(label, grants, Trust::Checked) })
            .0
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
        assert_eq!(
            (attach[0].to, &attach[0].files),
            (publisher, &vec!["annex", "publisher's bell", "pidfd"])
        );
        let attached = self.send(publisher, Request::Attached { seat }, &[]).expect("it was asked");
        assert_eq!(attached, [to(subscriber, Notice::Attached { seat })]);
        self.send(subscriber, Request::Joined { seat }, &[]).expect("it is attached")
    }
}

fn newcomer(label: &str, grants: Option<Grants>, trust: Trust) -> Newcomer<File> {
    let (limits, topics, label) = (PeerLimits::default(), u32::MAX, label.to_owned());
    Newcomer { grants, limits, topics, trust, label, component: None, pidfd: "pidfd" }
}

#[test]
fn only_a_publishers_process_reports_stalls_and_only_if_subscribers_may_not() {
    let stall = crate::peers::options::Stall::Kill(Duration::from_secs(1));
    let mut host = Host::new(&ServeOptions::new().stall(stall));
    let own = host.admit("host", None);
    let [publisher, subscriber] = ["a", "b"].map(|label| host.admit(label, Some(Grants::all())));
    host.open(publisher, 1, "numbers");
    for peer in [own, subscriber] {
        let schema = (&Schema::named("numbers")).into();
        let subscribe = Request::Subscribe { request: 1, topic: "numbers".to_owned(), schema };
        host.send(peer, subscribe, &[]).expect("a correct request");
    }
    let [of_host, of_other] = [SeatId(0), SeatId(1)];
    let report = |host: &mut Host, from, seat| host.send(from, Request::Stalled { seat }, &[]);
    assert!(report(&mut host, publisher, of_other).is_err(), "it is not attached");
    host.take_seat(own, publisher, of_host);
    host.take_seat(subscriber, publisher, of_other);
    for from in [own, subscriber] {
        assert!(report(&mut host, from, of_other).is_err(), "it is not the publisher");
    }
    assert!(report(&mut host, publisher, SeatId(2)).is_err(), "there is none");
    assert_eq!(report(&mut host, publisher, of_host), Ok(vec![]));
    assert_eq!(host.registry.take_stalled(), [], "nobody kills the host");
    assert_eq!(report(&mut host, publisher, of_other), Ok(vec![]));
    let stalled = Stalled { subscriber, reporter: publisher, topic: "numbers".to_owned() };
    assert_eq!(host.registry.take_stalled(), [stalled]);

    let mut host = Host::new(&ServeOptions::new());
    let publisher = host.admit("a", Some(Grants::all()));
    assert!(report(&mut host, publisher, of_other).is_err(), "subscribers may stall publishers");
}

fn open(number: u64, topic: &str, schema: &'static str) -> Request {
    let publisher = PublisherRecord { number, name: "camera".to_owned(), history: 0, relay: false };
    let schema = (&Schema::named(schema)).into();
    Request::OpenPublisher { channel: ChannelNumber(number), topic: topic.to_owned(), schema, publisher }
}

fn subscribe(topic: &str, schema: &'static str) -> Request {
    Request::Subscribe { request: 1, topic: topic.to_owned(), schema: (&Schema::named(schema)).into() }
}

fn ask_all(request: u64, after: &str) -> Request {
    Request::Topics { request, selection: Selection::After(after.to_owned()) }
}

fn report(query: u64, channel: u64) -> Request {
    let counters = PublisherCounters { published: 5, ..PublisherCounters::default() };
    Request::Report { query, counters: vec![(ChannelNumber(channel), counters)] }
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
        (a, Request::Hello { versions, name: String::new() }, &[]),
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

/// Publishers of the former host's processes keep their numbers.
#[test]
fn publishers_that_join_another_host_have_other_numbers() {
    let first = |salt| {
        let mut registry: Registry<File> = Registry::new(&ServeOptions::new(), salt, || None);
        let newcomer = || newcomer("", None, Trust::Checked);
        [(); 3].map(|()| registry.admit(newcomer()))
    };
    let processes: Vec<_> = [0, 5, u64::MAX - 8].into_iter().flat_map(first).collect();
    let numbers: BTreeSet<_> = processes.iter().map(|&(_, number)| number).collect();
    assert_eq!(numbers.len(), 9, "{numbers:?}");
    assert!(numbers.iter().all(|number| number % (1 << PUBLISHER_BITS) == 1));
    let hosts: Vec<_> = processes.iter().map(|&(peer, number)| host_number(peer, number)).collect();
    let last = (1 << 24) - 9;
    assert_eq!(hosts, [0, 0, 0, 5, 5, 5, last, last, last]);
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
