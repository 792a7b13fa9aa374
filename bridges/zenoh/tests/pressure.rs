//! What happens between a fast publisher and a slow subscriber on another broker.

use std::time::{Duration, Instant};

use blockcast_blocks::{Bytes, Pod};
use blockcast_broker::Broker;
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{RecvError, Subscriber, SubscriberOptions};
use blockcast_zenoh::{Bridge, BridgeOptions, Direction, Rule, Rules};
use zenoh::{Config, Session, Wait};

/// How long to wait for other threads before a test fails.
const PATIENCE: Duration = Duration::from_secs(300);
const MESSAGES: u64 = 5000;

type Numbers = Pod<u64>;

fn deadline() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// A session that finds nobody by itself.
fn session(role: &str, place: &str) -> Session {
    let mut config = Config::default();
    for (key, value) in [
        ("mode", "\"peer\""),
        ("scouting/multicast/enabled", "false"),
        ("scouting/gossip/enabled", "false"),
        ("listen/endpoints", "[]"),
        (&format!("{role}/endpoints"), &format!("[{place:?}]")),
    ] {
        config.insert_json5(key, value).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    zenoh::open(config).wait().expect("a session")
}

/// Two brokers whose bridges reach each other: from the first, to the second.
struct Pair {
    from: Broker,
    to: Broker,
    sending: Bridge,
    receiving: Bridge,
}

impl Pair {
    /// `name`: of this test only.
    fn new(name: &str, options: BridgeOptions) -> Self {
        let path = std::env::temp_dir().join(format!("blockcast-{name}-{}", std::process::id()));
        let place = format!("unixsock-stream/{}", path.display());
        let bridge = |role| {
            let broker = Broker::new();
            let rules = Rules::new("test").expect("a prefix");
            let rules = rules.with(Rule::new("*", Direction::Both)).expect("a correct rule");
            let options = options.clone().interval(Duration::from_millis(10)).back_pressure(true);
            let bridge = Bridge::new(&broker, session(role, &place), rules, options);
            (broker, bridge.expect("it starts"))
        };
        let ((from, sending), (to, receiving)) = (bridge("listen"), bridge("connect"));
        Self { from, to, sending, receiving }
    }

    /// Waits until messages of this number of topics, which were joined on both sides, are sent.
    fn join(&self, topics: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.sending.stats().sending < topics {
            assert!(Instant::now() < deadline, "the bridge does not send");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Little room on the receiving side.
fn narrow() -> BridgeOptions {
    BridgeOptions::new().waiting(8, 1 << 20).blocks(PublisherOptions::new().block_size(64).blocks(4))
}

fn publish(mut publisher: Publisher<Numbers>) {
    for number in 0..MESSAGES {
        publisher.blocking_loan(deadline()).expect("a block").send(&[number][..]).expect("it fits");
    }
}

fn numbers(pair: &Pair) -> (Publisher<Numbers>, Subscriber<Numbers>) {
    let subscriber = pair.to.subscriber("numbers", SubscriberOptions::new()).expect("it opens");
    let options = PublisherOptions::new().blocks(64).block_size(64);
    let publisher = pair.from.publisher("numbers", options).expect("it opens");
    pair.join(1);
    (publisher, subscriber)
}

/// Receives numbers until the end. Those that are missing are reported at their place. Returns how many.
fn receive(subscriber: &mut Subscriber<Numbers>) -> u64 {
    let (mut next, mut missing) = (0, 0);
    loop {
        match subscriber.blocking_recv_ref(deadline()) {
            Ok(message) => {
                assert_eq!(message.view(), [next]);
                next += 1;
            }
            Err(RecvError::Lost(count)) => {
                next += count;
                missing += count;
            }
            Err(RecvError::Ended) => {
                assert_eq!(next, MESSAGES, "of which {missing} were lost");
                return missing;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn with_back_pressure_a_slow_subscriber_loses_nothing() {
    for batch in [0, 1 << 10] {
        let pair = Pair::new(&format!("slow-{batch}"), narrow().patience(PATIENCE).batch(batch));
        let (publisher, mut subscriber) = numbers(&pair);
        let publishing = std::thread::spawn(move || publish(publisher));
        assert_eq!(receive(&mut subscriber), 0);
        publishing.join().expect("it has published");
        assert_eq!(pair.receiving.stats().missing, 0);
    }
}

#[test]
fn a_subscriber_that_takes_nothing_holds_zenoh_up_once() {
    for batch in [0, 1 << 10] {
        let pair =
            Pair::new(&format!("stuck-{batch}"), narrow().patience(Duration::from_millis(10)).batch(batch));
        let (publisher, mut subscriber) = numbers(&pair);
        let mut arrived = pair.to.subscriber::<Numbers>("after", SubscriberOptions::new()).expect("it opens");
        let options = PublisherOptions::new().blocks(4).block_size(64);
        let mut after: Publisher<Numbers> = pair.from.publisher("after", options).expect("it opens");
        pair.join(2);
        publish(publisher);
        let deadline = Instant::now() + PATIENCE;
        while pair.sending.stats().sent < MESSAGES {
            assert!(Instant::now() < deadline, "zenoh is held up");
            std::thread::sleep(Duration::from_millis(2));
        }
        // Zenoh delivers what was sent in its order, so it has delivered all numbers before this.
        after.blocking_loan(Some(deadline)).expect("a block").send(&[0][..]).expect("it fits");
        arrived.blocking_recv_ref(Some(deadline)).expect("it arrives");
        let missing = receive(&mut subscriber);
        assert!((1..MESSAGES).contains(&missing), "{missing}");
        assert_eq!(pair.receiving.stats().missing, missing);
    }
}

/// Small messages are sent in batches and as copies, large ones from their blocks.
#[test]
fn small_and_large_messages_of_a_topic_keep_their_order() {
    for batch in [0, 4 << 10] {
        let pair = Pair::new(&format!("sizes-{batch}"), BridgeOptions::new().patience(PATIENCE).batch(batch));
        let mut received = pair.to.subscriber::<Bytes>("bytes", SubscriberOptions::new()).expect("it opens");
        let options = PublisherOptions::new().block_size(8 << 10).blocks(1024);
        let mut bytes = pair.from.publisher::<Bytes>("bytes", options).expect("it opens");
        pair.join(1);
        let len = |number: usize| if number % 700 == 699 { 8 << 10 } else { number % 1025 };
        for number in 0..2100 {
            let message = vec![number as u8; len(number)];
            bytes.blocking_loan(deadline()).expect("a block").send(&message[..]).expect("it fits");
        }
        drop(bytes);
        for number in 0..2100 {
            let message = received.blocking_recv_ref(deadline()).expect("it was published");
            assert!(message.view() == vec![number as u8; len(number)], "message {number}");
        }
        assert_eq!(received.blocking_recv_ref(deadline()).err(), Some(RecvError::Ended));
    }
}
