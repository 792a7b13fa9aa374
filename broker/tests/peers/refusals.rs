//! Refusals, and hostile clients.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use blockcast_blocks::{Bell, Bytes, OpenError, Payload, Pod};
use blockcast_broker::{ConnectError, Grants, PeerLimits, ServeOptions};
use blockcast_subscriber::SubscriberOptions;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{
    Host, Numbers, Other, This, few_blocks, publish, publisher, receive, serve_options, subscriber,
    test_name, until,
};

#[test]
fn a_topic_has_one_schema_in_all_processes() {
    let host = Host::new();
    let (one, other) = (host.connect(), host.connect());
    let _numbers = publisher(one.broker(), "topic");
    let expected = |asked| OpenError::SchemaMismatch {
        topic: "topic".to_owned(),
        existing: Some(Numbers::schema()),
        asked,
    };
    let refused = other.subscriber::<Bytes>("topic", SubscriberOptions::new()).err();
    assert_eq!(refused, Some(expected(Bytes::schema())));
    let refused = host.broker.publisher::<Pod<u8>>("topic", few_blocks()).err();
    assert_eq!(refused, Some(expected(Pod::<u8>::schema())));
    // A topic that the host has declared counts, too.
    host.broker.declare("declared", &Bytes::schema(), None).expect("it is new");
    let refused = one.subscriber::<Numbers>("declared", SubscriberOptions::new()).err();
    assert!(matches!(refused, Some(OpenError::SchemaMismatch { .. })), "{refused:?}");
    host.broker.declare_unsealed("unsealed", &Numbers::schema()).expect("it is new");
    let refused = one.subscriber::<Numbers>("unsealed", SubscriberOptions::new()).err();
    assert!(matches!(refused, Some(OpenError::Unsealed { .. })), "{refused:?}");
}

/// A refused publisher is invisible: subscribers neither join it nor end with it.
#[test]
fn processes_are_held_to_their_grants_and_limits() {
    let limits = PeerLimits { publishers: 1, peers: 2, ..PeerLimits::default() };
    let grants = Grants::new().publish("out/*").subscribe("in");
    let host = Host::with(serve_options().own_user(grants).limits(limits));
    let connection = host.connect();
    let mut own = connection.subscriber::<Numbers>("in", SubscriberOptions::new()).expect("it is granted");
    let denied = |access, topic: &str| Some(OpenError::Denied { access, topic: topic.to_owned() });
    assert_eq!(connection.publisher::<Numbers>("in", few_blocks()).err(), denied("publish", "in"));
    assert!(own.try_recv_ref().is_err_and(|error| error == blockcast_subscriber::RecvError::Empty));
    let refused = connection.subscriber::<Numbers>("out/1", SubscriberOptions::new()).err();
    assert_eq!(refused, denied("subscribe", "out/1"));
    let first = publisher(connection.broker(), "out/1");
    let refused = connection.publisher::<Numbers>("out/2", few_blocks()).err();
    assert!(
        matches!(refused, Some(OpenError::Refused(ref why)) if why.contains("1 publishers")),
        "{refused:?}"
    );
    drop(first);
    drop(publisher(connection.broker(), "out/2"));
    let _second = host.connect();
    let third = blockcast_broker::Connection::connect(host.path()).err();
    assert!(
        matches!(third, Some(ConnectError::Refused { ref why, .. }) if why.contains("2 processes")),
        "{third:?}"
    );
}

#[test]
fn a_host_may_forbid_others_to_stop_its_publishers() {
    let limits = PeerLimits { may_block: false, ..PeerLimits::default() };
    let host = Host::with(serve_options().limits(limits));
    let connection = host.connect();
    let _numbers = publisher(&host.broker, "numbers");
    let refused = connection.subscriber::<Numbers>("numbers", SubscriberOptions::new()).err();
    assert!(matches!(refused, Some(OpenError::Join { .. })), "{refused:?}");
    connection
        .subscriber::<Numbers>("numbers", SubscriberOptions::latest())
        .expect("it loses messages instead");
}

/// The version of the protocol, which takes one byte.
const PROTOCOL: u8 = 9;

/// The version of the memory layout, which takes one byte.
const LAYOUT: u8 = blockcast_blocks::LAYOUT_VERSION as u8;

/// A connection that sends arbitrary messages.
struct Hostile(OwnedFd);

impl Hostile {
    fn connect(path: &Path) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
        connect(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("the host accepts");
        Self(socket)
    }

    /// Introduces itself correctly.
    fn greet(path: &Path) -> Self {
        let hostile = Self::connect(path);
        hostile.send(&hello(PROTOCOL, LAYOUT), &[]);
        assert_eq!(hostile.receive().first(), Some(&1), "it is welcome");
        hostile
    }

    fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        assert!(files.is_empty() || with.push(SendAncillaryMessage::ScmRights(files)));
        // The host may have hung up.
        let _ = sendmsg(&self.0, &[IoSlice::new(bytes)], &mut with, SendFlags::NOSIGNAL);
    }

    /// Receives a packet; empty once the host has hung up.
    fn receive(&self) -> Vec<u8> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 1 << 16];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut with, flags);
        bytes.truncate(received.map_or(0, |received| received.bytes));
        bytes
    }

    fn expect_hang_up(&self) {
        while !self.receive().is_empty() {}
    }
}

/// A hello of these versions, with the pages of this machine.
fn hello(protocol: u8, layout: u8) -> Vec<u8> {
    let mut bytes = vec![0, protocol, layout];
    let mut size = blockcast_blocks::page_size();
    while size >= 0x80 {
        bytes.push(size as u8 | 0x80);
        size >>= 7;
    }
    bytes.extend([size as u8, 1, 1, b'h']);
    bytes
}

#[test]
fn another_version_is_refused_with_both_versions_named() {
    let host = Host::new();
    let (bell, _) = Bell::pair().expect("descriptors are left");
    for (protocol, layout) in [(8, LAYOUT), (PROTOCOL, LAYOUT + 1)] {
        let old = Hostile::connect(host.path());
        old.send(&hello(protocol, layout), &[bell.as_fd()]);
        let refused = old.receive();
        // `Refused`, ours, theirs, why.
        assert_eq!(refused[..3], [0, PROTOCOL, LAYOUT], "the host's own versions");
        let theirs = &hello(protocol, layout)[1..];
        assert!(
            refused.windows(theirs.len() - 2).any(|part| *part == theirs[..theirs.len() - 2]),
            "{refused:?}"
        );
        assert!(String::from_utf8_lossy(&refused).contains("differ"));
        old.expect_hang_up();
    }
}

/// The others do not notice. Descriptors that hostile clients send are closed.
#[test]
fn hostile_clients_are_disconnected_and_harm_nobody() {
    let host = Host::new();
    let connection = host.connect();
    let mut numbers = publisher(connection.broker(), "numbers");
    let mut witness = subscriber(&host.broker, "numbers");
    let null: OwnedFd = std::fs::File::open("/dev/null").expect("it exists").into();
    let (bell, _) = Bell::pair().expect("descriptors are left");
    let files = |count| vec![null.as_fd(); count];
    let attacks: &[(&[u8], usize)] = &[
        (b"", 0),
        (b"\xff", 0),
        (&[0; 65000], 0),
        // More descriptors than any message has, and fewer than one needs.
        (&[2, 1], 5),
        (&[2, 1], 60),
        (&[5, 0], 0),
        // A hello with descriptors, an answer for a seat that does not exist.
        (&hello(PROTOCOL, LAYOUT), 2),
        (&[5, 7], 1),
        (&[9, 7], 0),
        (&[10, 7], 0),
    ];
    for (round, (bytes, count)) in attacks.iter().enumerate() {
        for is_greeted in [false, true] {
            let hostile =
                if is_greeted { Hostile::greet(host.path()) } else { Hostile::connect(host.path()) };
            if bytes.is_empty() {
                drop(hostile);
            } else {
                hostile.send(bytes, &files(*count));
                hostile.expect_hang_up();
            }
            let number = 2 * round as u64 + u64::from(is_greeted);
            publish(&mut numbers, number..number + 1);
            receive(&mut witness, number..number + 1);
        }
    }
    // Not a channel.
    let hostile = Hostile::greet(host.path());
    let open = [&[1, 1, 1, b't', 1, b's', 0, 1, 0, 0, 0][..]].concat();
    hostile.send(&open, &[null.as_fd(), bell.as_fd()]);
    assert_eq!(hostile.receive()[..2], [3, 1], "the publisher is refused");
    let talkative = Hostile::greet(host.path());
    talkative.send(&hello(PROTOCOL, LAYOUT), &[]);
    talkative.expect_hang_up();
    assert_eq!(witness.lost(), 0);
}

/// Lets this process open no more descriptors than `most`.
fn limit_descriptors(most: u64) {
    let limit = Rlimit { current: Some(most), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).expect("it is lower than the maximum");
}

#[test]
fn a_host_without_descriptors_refuses_publishers_and_goes_on() {
    const NAME: &str = "a_host_without_descriptors_refuses_publishers_and_goes_on";
    if let Some(mut this) = This::get() {
        let broker = blockcast_broker::Broker::new();
        let _serving = broker.serve(&this.path, serve_options()).expect("nobody else serves");
        limit_descriptors(128);
        this.talk.say("serving");
        this.talk.hear();
        return;
    }
    let folder = crate::support::Folder::new();
    let mut other = Other::start(test_name!(NAME), "host", &folder.socket());
    other.talk.expect("serving");
    let connection = crate::support::connect(&folder.socket());
    let mut publishers = vec![publisher(connection.broker(), "numbers")];
    let refused = loop {
        match connection.publisher::<Numbers>("numbers", few_blocks()) {
            Ok(publisher) => publishers.push(publisher),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, OpenError::Refused(ref why) if why.contains("file descriptors")),
        "after {} publishers: {refused}",
        publishers.len()
    );
    // There is room for others.
    let second = crate::support::connect(&folder.socket());
    let mut numbers = subscriber(second.broker(), "numbers");
    let last = publishers.last_mut().expect("one of many");
    assert_eq!(last.subscriber_count(), 1);
    publish(last, 0..3);
    receive(&mut numbers, 0..3);
    publishers.truncate(1);
    until("descriptors are free again", || second.publisher::<Numbers>("others", few_blocks()).is_ok());
    other.talk.say("end");
    other.end();
}

/// It subscribes again and again, and receives nothing.
#[test]
fn a_process_that_receives_nothing_leaves_descriptors_of_the_host_for_others() {
    const NAME: &str = "a_process_that_receives_nothing_leaves_descriptors_of_the_host_for_others";
    if let Some(mut this) = This::get() {
        let broker = blockcast_broker::Broker::new();
        let _serving = broker.serve(&this.path, serve_options()).expect("nobody else serves");
        let schema = blockcast_blocks::Schema::new("x".into(), 0);
        let _there = broker.publisher_of_any("t", &schema, few_blocks()).expect("it is new");
        limit_descriptors(128);
        this.talk.say("serving");
        this.talk.hear();
        return;
    }
    let folder = crate::support::Folder::new();
    let mut other = Other::start(test_name!(NAME), "host", &folder.socket());
    other.talk.expect("serving");
    let hostile = Hostile::greet(&folder.socket());
    for _ in 0..200 {
        hostile.send(&[3, 1, 1, b't', 1, b'x', 0], &[]);
        hostile.send(&[4, 1, b't'], &[]);
    }
    hostile.send(&[3, 1, 4, b'l', b'a', b's', b't', 1, b'x', 0], &[]);
    let connection = crate::support::connect(&folder.socket());
    let has_seen_all = || {
        let topics = connection.host_topics().expect("the host answers");
        topics.iter().any(|topic| topic.name == "last")
    };
    until("the host has seen all of it", has_seen_all);
    let second = crate::support::connect(&folder.socket());
    let mut numbers = publisher(connection.broker(), "numbers");
    let mut there = subscriber(second.broker(), "numbers");
    publish(&mut numbers, 0..3);
    receive(&mut there, 0..3);
    other.talk.say("end");
    other.end();
}

#[test]
fn a_process_without_descriptors_gets_an_error_and_goes_on() {
    const NAME: &str = "a_process_without_descriptors_gets_an_error_and_goes_on";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let _numbers = publisher(connection.broker(), "numbers");
        let lowest_free = std::fs::File::open("/dev/null").expect("a descriptor is left").as_raw_fd();
        let before = getrlimit(Resource::Nofile).current.expect("there is a limit");
        limit_descriptors(u64::try_from(lowest_free).expect("a descriptor"));
        this.talk.say("limited");
        this.talk.expect("subscribe");
        let refused = connection.subscriber::<Numbers>("others", SubscriberOptions::new()).err();
        assert!(
            matches!(refused, Some(OpenError::Refused(ref why)) if why.contains("file descriptor")),
            "{refused:?}"
        );
        limit_descriptors(before);
        let mut others = subscriber(connection.broker(), "others");
        this.talk.say("subscribed");
        receive(&mut others, 0..1);
        this.talk.hear();
        return;
    }
    let host = Host::new();
    let mut other = Other::start(test_name!(NAME), "client", host.path());
    let mut others = publisher(&host.broker, "others");
    other.talk.expect("limited");
    // It cannot attach a subscriber of another process.
    let refused = host.broker.subscriber::<Numbers>("numbers", SubscriberOptions::new()).err();
    assert!(
        matches!(refused, Some(OpenError::Refused(ref why)) if why.contains("file descriptor")),
        "{refused:?}"
    );
    other.talk.say("subscribe");
    other.talk.expect("subscribed");
    publish(&mut others, 0..1);
    drop(subscriber(&host.broker, "numbers"));
    other.talk.say("end");
    other.end();
}

/// Its packets make sense, and nobody answers them.
#[test]
fn a_client_that_sends_without_end_keeps_nobody_waiting() {
    let host = Host::new();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let floods = [(); 2].map(|()| Hostile::greet(host.path()));
    std::thread::scope(|scope| {
        for flood in &floods {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    // Close a publisher that has ended.
                    flood.send(&[2, 99], &[]);
                }
            });
        }
        let connection = host.connect();
        for _ in 0..10 {
            let mut numbers = subscriber(&host.broker, "numbers");
            publish(&mut publisher(connection.broker(), "numbers"), 0..1);
            receive(&mut numbers, 0..1);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// The name of a schema would not fit into a packet beside others.
#[test]
fn a_topic_whose_schema_has_a_long_name_is_refused_and_disconnects_nobody() {
    let host = Host::new();
    let long = blockcast_blocks::Schema::named("s".repeat(70_000));
    host.broker.declare("long", &long, None).expect("it is new");
    let connection = host.connect();
    let refused = connection.subscriber::<Numbers>("long", SubscriberOptions::new()).err();
    assert!(matches!(refused, Some(OpenError::SchemaMismatch { .. })), "{refused:?}");
    assert!(connection.is_connected());
}

/// They count against no limit. If there are many, the oldest are disconnected.
#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let host = Host::with(serve_options().limits(PeerLimits { peers: 1, ..PeerLimits::default() }));
    let silent: Vec<_> = (0..100).map(|_| Hostile::connect(host.path())).collect();
    let connection = host.connect();
    silent[..36].iter().for_each(Hostile::expect_hang_up);
    // Those that remain may speak, and then the limit counts.
    let late = silent.last().expect("one of many");
    late.send(&hello(PROTOCOL, LAYOUT), &[]);
    let refused = late.receive();
    assert_eq!(refused.first(), Some(&0), "it is refused");
    assert!(String::from_utf8_lossy(&refused).contains("1 processes"), "{refused:?}");
    drop(publisher(connection.broker(), "numbers"));
}

/// It asks, and never receives the answers.
#[test]
fn a_client_that_does_not_receive_is_disconnected_and_delays_nobody() {
    let host = Host::new();
    let hostile = Hostile::greet(host.path());
    // Subscribe to `t`, whose publishers come and go.
    hostile.send(&[3, 1, 1, b't', 1, b'x', 0], &[]);
    assert_eq!(hostile.receive()[..2], [4, 1]);
    // Ask to publish with files that are no channel, until the host gives up.
    let null: OwnedFd = std::fs::File::open("/dev/null").expect("it exists").into();
    let open = [1, 1, 1, b'u', 1, b's', 0, 1, 0, 0];
    rustix::io::ioctl_fionbio(&hostile.0, true).expect("a socket");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    loop {
        let mut with = SendAncillaryBuffer::new(&mut space);
        let files = [null.as_fd(), null.as_fd()];
        assert!(with.push(SendAncillaryMessage::ScmRights(&files)));
        match sendmsg(&hostile.0, &[IoSlice::new(&open)], &mut with, SendFlags::NOSIGNAL) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => std::thread::yield_now(),
            Err(_) => break,
        }
    }
    let connection = host.connect();
    let mut numbers = publisher(connection.broker(), "numbers");
    let mut witness = subscriber(&host.broker, "numbers");
    publish(&mut numbers, 0..1);
    receive(&mut witness, 0..1);
}

/// Descriptors and mappings are those of before, once everybody has left. In a process of its own, since
/// other tests open files.
#[test]
fn nothing_is_left_in_a_process_after_others_have_left() {
    const NAME: &str = "nothing_is_left_in_a_process_after_others_have_left";
    if let Some(this) = This::get() {
        let files = || std::fs::read_dir("/proc/self/fd").expect("a Linux process").count();
        let maps = || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("a Linux process");
            maps.lines().filter(|line| line.contains("memfd:blockcast")).count()
        };
        let broker = blockcast_broker::Broker::new();
        let serving = broker.serve(&this.path, ServeOptions::new()).expect("nobody else serves");
        let round = || {
            let connection = crate::support::connect(&this.path);
            let mut there = subscriber(connection.broker(), "numbers");
            let mut here = subscriber(&broker, "replies");
            let mut numbers = publisher(&broker, "numbers");
            let mut replies = publisher(connection.broker(), "replies");
            publish(&mut numbers, 0..6);
            receive(&mut there, 0..6);
            publish(&mut replies, 0..6);
            receive(&mut here, 0..6);
            let null: OwnedFd = std::fs::File::open("/dev/null").expect("it exists").into();
            let hostile = Hostile::greet(&this.path);
            hostile.send(b"\xff", &[null.as_fd(), null.as_fd(), null.as_fd()]);
            hostile.expect_hang_up();
        };
        let before = (files(), maps());
        (0..10).for_each(|_| round());
        // Threads that end close their descriptors a little later.
        until("everything is as before", || (files(), maps()) == before);
        return drop(serving);
    }
    let folder = crate::support::Folder::new();
    Other::start(test_name!(NAME), "alone", &folder.socket()).end();
}
