//! Links with delay, links that are severed, and links that fall silent, in a proxy between two bridges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blockcast_publisher::Publisher;
use blockcast_zenoh::BridgeOptions;

use crate::proxy::Proxy;
use crate::support::{
    Counting, Numbers, Side, all, patient, port, publish, publisher, receive, session, subscriber, until,
};

/// Messages that a flow publishes before it pauses.
const AT_ONCE: u64 = 20;

/// Two brokers with the proxy between them.
pub struct Link {
    pub proxy: Proxy,
    pub one: Side,
    pub other: Side,
}

impl Link {
    pub fn new(options: BridgeOptions) -> Self {
        let listening = session(&["tcp/127.0.0.1:0".to_owned()], &[]);
        let proxy = Proxy::new(port(&listening));
        let connecting = session(&[], &[proxy.endpoint()]);
        let one = Side::new(&listening, all(), options.clone());
        Self { proxy, one, other: Side::new(&connecting, all(), options) }
    }

    pub fn peers(&self) -> [u64; 2] {
        [self.one.bridge.stats().peers, self.other.bridge.stats().peers]
    }

    /// With back-pressure, nothing is lost on a connection, however slow it is. On a machine that is busy for
    /// seconds, zenoh may have opened another one.
    #[track_caller]
    fn expect_no_loss(&self, lost: u64) {
        assert!(lost == 0 || self.proxy.connections() > 1, "{lost} lost");
    }
}

/// A thread that publishes ascending numbers, some each millisecond.
pub struct Flow {
    thread: JoinHandle<()>,
    is_ending: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
}

impl Flow {
    pub fn start(mut numbers: Publisher<Numbers>, first: u64) -> Self {
        let (is_ending, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(first)));
        let (ending, count) = (Arc::clone(&is_ending), Arc::clone(&published));
        let thread = std::thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                let next = count.load(Ordering::Relaxed);
                publish(&mut numbers, next..next + AT_ONCE);
                count.store(next + AT_ONCE, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { thread, is_ending, published }
    }

    /// The number of a message that was not published before now.
    pub fn after_now(&self) -> u64 {
        self.published.load(Ordering::Relaxed) + AT_ONCE
    }

    /// Ends the publisher. Returns how many messages it has published.
    pub fn end(self) -> u64 {
        self.is_ending.store(true, Ordering::Relaxed);
        self.thread.join().expect("it has published");
        self.published.load(Ordering::Relaxed)
    }
}

impl Counting {
    /// Receives until a message arrives that was published after now.
    #[track_caller]
    pub fn resume(&mut self, flow: &Flow) {
        let now = flow.after_now();
        while self.next.is_none_or(|next| next <= now) {
            assert!(self.step(), "the publisher has not ended");
        }
    }
}

/// Starts a flow over the link. Its first message has arrived.
fn flow(link: &Link) -> (Flow, Counting) {
    let mut counting = Counting::new(subscriber(&link.other.broker, "numbers"));
    let mut numbers = publisher(&link.one.broker, "numbers");
    link.one.sends(1);
    publish(&mut numbers, 0..1);
    assert!(counting.step(), "the first message");
    (Flow::start(numbers, 1), counting)
}

/// Every message was received, or counted as lost.
#[track_caller]
fn account(flow: Flow, mut counting: Counting) -> u64 {
    let published = flow.end();
    while counting.step() {}
    assert_eq!((counting.next, counting.received + counting.lost), (Some(published), published));
    assert_eq!(counting.subscriber.lost(), counting.lost);
    counting.lost
}

#[test]
fn a_link_with_delay_loses_nothing() {
    const DELAY: Duration = Duration::from_millis(40);
    let link = Link::new(patient().back_pressure(true));
    let mut numbers = publisher(&link.one.broker, "numbers");
    let mut received = subscriber(&link.other.broker, "numbers");
    link.one.sends(1);
    publish(&mut numbers, 0..1);
    receive(&mut received, 0..1);
    link.proxy.delay(DELAY);
    until("the delay is measured", || {
        let is_measured = |side: &Side| side.bridge.stats().round_trip.is_some_and(|time| time >= 2 * DELAY);
        is_measured(&link.one) && is_measured(&link.other)
    });
    let began = Instant::now();
    publish(&mut numbers, 1..2);
    receive(&mut received, 1..2);
    assert!(began.elapsed() >= DELAY, "the message went past the proxy");
    let flow = Flow::start(numbers, 2);
    let mut counting = Counting::new(received);
    for millis in [1, 80, 0, 20] {
        link.proxy.delay(Duration::from_millis(millis));
        counting.resume(&flow);
    }
    let published = flow.end();
    while counting.step() {}
    assert_eq!((counting.next, counting.received + counting.lost), (Some(published), published - 2));
    link.expect_no_loss(counting.lost);
}

#[test]
fn traffic_resumes_each_time_that_a_link_is_severed() {
    const TIMES: u64 = 5;
    let link = Link::new(patient());
    let (flow, mut counting) = flow(&link);
    for _ in 0..TIMES {
        link.proxy.sever();
        until("both sides notice", || link.peers() == [0, 0]);
        until("nothing is measured", || link.one.bridge.stats().round_trip.is_none());
        link.proxy.mend();
        counting.resume(&flow);
        // With the next ones on their way.
        link.proxy.delay(Duration::from_millis(5));
    }
    assert!(account(flow, counting) > 0, "nobody was there to receive what was published");
    assert!(link.proxy.connections() > TIMES);
    let sent = link.one.bridge.stats();
    assert_eq!(link.other.bridge.stats().refused + sent.refused, 0);
}

#[test]
fn an_end_that_is_lost_with_the_link_arrives_later_and_shows_what_is_missing() {
    const MESSAGES: u64 = 10;
    let link = Link::new(patient());
    let mut counting = Counting::new(subscriber(&link.other.broker, "numbers"));
    let mut numbers = publisher(&link.one.broker, "numbers");
    link.one.sends(1);
    publish(&mut numbers, 0..1);
    assert!(counting.step(), "the first message");
    link.proxy.sever();
    until("both sides notice", || link.peers() == [0, 0]);
    publish(&mut numbers, 1..MESSAGES);
    drop(numbers);
    until("nothing is sent any more", || link.one.bridge.stats().sending == 0);
    link.proxy.mend();
    while counting.step() {}
    assert_eq!((counting.received, counting.lost), (1, MESSAGES - 1));
}

/// The connection stays open, and nothing passes for longer than zenoh keeps a silent link.
#[test]
fn traffic_resumes_after_a_link_was_silent() {
    let link = Link::new(patient());
    let (flow, mut counting) = flow(&link);
    counting.resume(&flow);
    link.proxy.stall();
    until("zenoh has given up the link", || link.peers() == [0, 0]);
    link.proxy.mend();
    counting.resume(&flow);
    assert!(account(flow, counting) > 0, "zenoh does not keep seconds of messages");
}

/// Too short for zenoh to give up the link.
#[test]
fn short_stalls_with_back_pressure_lose_nothing() {
    let link = Link::new(patient().back_pressure(true));
    let (flow, mut counting) = flow(&link);
    for _ in 0..3 {
        counting.resume(&flow);
        link.proxy.stall();
        std::thread::sleep(Duration::from_millis(200));
        link.proxy.mend();
    }
    counting.resume(&flow);
    let lost = account(flow, counting);
    link.expect_no_loss(lost);
}
