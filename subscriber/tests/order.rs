//! The order of messages when publishers come and go.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use blockcast_blocks::{Bytes, ChannelConfig, Payload, PublisherId, Timestamps, Writer, channel};
use blockcast_subscriber::{
    Latest, Overflow, RecvError, Subscriber, SubscriberOptions, SubscriptionFeed, subscription, wait_any,
};
use futures::StreamExt;

fn subscriber() -> (SubscriptionFeed, Subscriber<Bytes>) {
    let (feed, subscription) = subscription();
    // SAFETY: every publisher here carries bytes.
    (feed, unsafe { Subscriber::new(subscription) })
}

fn open_with(feed: &SubscriptionFeed, options: SubscriberOptions, timestamps: Timestamps) -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size, config.timestamps) = (64, 64, timestamps);
    let writer = channel(config).expect("a channel");
    let reader = writer.channel().join(&Bytes::schema(), options.reader(), feed.signal().clone());
    assert!(feed.add(reader.expect("joins")));
    writer
}

fn open(feed: &SubscriptionFeed) -> Writer {
    open_with(feed, SubscriberOptions::new(), Timestamps::Coarse)
}

fn publish(writer: &mut Writer, value: u8) {
    let mut loan = writer.try_loan(1).expect("a block");
    loan[0] = value;
    loan.publish(1).expect("fits");
}

/// Receives the next value or values. Returns nothing if there is none.
type Receive = fn(&mut Subscriber<Bytes>) -> Vec<u8>;

/// All ways to receive, with their names.
const WAYS: [(&str, Receive); 9] = [
    ("try_recv_ref", |subscriber| {
        subscriber.try_recv_ref().map(|message| message.view().to_vec()).unwrap_or_default()
    }),
    ("try_recv", |subscriber| subscriber.try_recv().map(|sample| sample.view().to_vec()).unwrap_or_default()),
    ("try_recv_batch", |subscriber| {
        let batch = subscriber.try_recv_batch(7);
        batch.map(|batch| batch.views().map(|view| view.expect("bytes")[0]).collect()).unwrap_or_default()
    }),
    ("ready, then try_recv", |subscriber| {
        if subscriber.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Vec::new();
        }
        subscriber.try_recv().map(|sample| sample.view().to_vec()).unwrap_or_default()
    }),
    ("blocking_recv", |subscriber| {
        let soon = Some(Instant::now());
        subscriber.blocking_recv(soon).map(|sample| sample.view().to_vec()).unwrap_or_default()
    }),
    ("wait_any", |subscriber| match wait_any(&mut [&mut *subscriber], Some(Instant::now())) {
        Some(0) => subscriber.try_recv_ref().map(|message| message.view().to_vec()).unwrap_or_default(),
        _ => Vec::new(),
    }),
    ("stream", |subscriber| {
        let mut cx = Context::from_waker(Waker::noop());
        match subscriber.poll_next_unpin(&mut cx) {
            std::task::Poll::Ready(Some(Ok(sample))) => sample.view().to_vec(),
            _ => Vec::new(),
        }
    }),
    ("recv_batch", |subscriber| {
        let batch = futures::FutureExt::now_or_never(subscriber.recv_batch(3));
        match batch {
            Some(Ok(batch)) => batch.views().map(|view| view.expect("bytes")[0]).collect(),
            _ => Vec::new(),
        }
    }),
    ("for_each_ref", |subscriber| {
        let mut seen = Vec::new();
        let each = |view: Result<&[u8], RecvError>| seen.extend_from_slice(view.expect("bytes"));
        let _ = futures::FutureExt::now_or_never(subscriber.for_each_ref(each));
        seen
    }),
];

/// Receives all current values.
fn receive_all(subscriber: &mut Subscriber<Bytes>, receive: Receive) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let next = receive(subscriber);
        if next.is_empty() {
            return all;
        }
        all.extend(next);
    }
}

#[test]
fn messages_of_an_ended_publisher_come_before_those_of_later_ones() {
    for (way, receive) in WAYS {
        for received in [0, 3] {
            let (feed, mut subscriber) = subscriber();
            let mut old = open(&feed);
            (0..10).for_each(|value| publish(&mut old, value));
            for value in 0..received {
                assert_eq!(subscriber.try_recv_ref().expect("a value").view(), [value]);
            }
            drop(old);
            let mut new = open(&feed);
            (10..20).for_each(|value| publish(&mut new, value));
            drop(new);
            let mut newest = open(&feed);
            (20..30).for_each(|value| publish(&mut newest, value));
            let expected: Vec<u8> = (received..30).collect();
            assert_eq!(receive_all(&mut subscriber, receive), expected, "{way}");
            // The messages of a publisher that joins when all others were received are received immediately.
            drop(newest);
            let mut last = open(&feed);
            publish(&mut last, 99);
            assert_eq!(receive_all(&mut subscriber, receive), [99], "{way}");
        }
    }
}

#[test]
fn a_silent_publisher_does_not_delay_the_others() {
    for (way, receive) in WAYS {
        let (feed, mut subscriber) = subscriber();
        let mut silent = open(&feed);
        let mut old = open(&feed);
        publish(&mut old, 1);
        drop(old);
        let mut new = open(&feed);
        publish(&mut new, 2);
        assert_eq!(receive_all(&mut subscriber, receive), [1, 2], "{way}");
        publish(&mut new, 3);
        assert_eq!(receive_all(&mut subscriber, receive), [3], "{way}");
        publish(&mut silent, 4);
        assert_eq!(receive_all(&mut subscriber, receive), [4], "{way}");
        drop((silent, new));
        assert_eq!(subscriber.try_recv_ref().expect_err("all have gone"), RecvError::Ended);
    }
}

struct Counted(std::sync::atomic::AtomicU32);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_publisher_that_waited_for_its_turn_wakes_the_subscriber() {
    let (feed, mut subscriber) = subscriber();
    let mut old = open(&feed);
    publish(&mut old, 1);
    drop(old);
    let mut new = open(&feed);
    assert_eq!(subscriber.try_recv_ref().expect("the old one's").view(), [1]);
    let counted = Arc::new(Counted(0.into()));
    let waker = Waker::from(Arc::clone(&counted));
    assert!(subscriber.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    publish(&mut new, 2);
    assert_eq!(counted.0.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(subscriber.try_recv_ref().expect("the new one's").view(), [2]);
}

#[test]
fn the_latest_value_after_a_restart_is_that_of_the_new_publisher() {
    for options in [SubscriberOptions::latest(), SubscriberOptions::new().overflow(Overflow::DropOldest)] {
        for timestamps in [Timestamps::Off, Timestamps::Coarse, Timestamps::Precise] {
            let (feed, subscriber) = subscriber();
            let mut latest = Latest::new(subscriber);
            for round in 0..5 {
                let mut old = open_with(&feed, options, timestamps);
                publish(&mut old, round);
                drop(old);
                let mut new = open_with(&feed, options, timestamps);
                publish(&mut new, 100 + round);
                assert_eq!(latest.get().expect("bytes").expect("a value").view(), [100 + round]);
            }
        }
    }
}

#[test]
fn the_latest_value_of_several_publishers_is_the_one_published_last() {
    for first in [0, 1] {
        let (feed, subscriber) = subscriber();
        let mut latest = Latest::new(subscriber);
        let open = || open_with(&feed, SubscriberOptions::latest(), Timestamps::Precise);
        let mut writers = [open(), open()];
        for round in 0..10 {
            publish(&mut writers[first], round);
            publish(&mut writers[1 - first], 100 + round);
            assert_eq!(latest.get().expect("bytes").expect("a value").view(), [100 + round]);
        }
    }
}
