//! Publishers join and leave while one subscriber receives on another thread.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use blockcast_blocks::{ChannelConfig, Payload, Pod, PublisherId, channel};
use blockcast_subscriber::{RecvError, Subscriber, SubscriberOptions, SubscriptionFeed, subscription};

type Numbers = Pod<u64>;

const PUBLISHERS: u32 = 400;
const MESSAGES: u64 = 50;

/// The limit for a wait for a message or a free block. It is exceeded only if a wake-up is lost.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs one publisher: joins the subscription, publishes with a few pauses, and leaves.
fn publish(number: u32, feed: &SubscriptionFeed) {
    let mut config = ChannelConfig::new(PublisherId::new(u64::from(number)), Numbers::schema());
    (config.blocks, config.block_size) = (4, 64);
    let mut writer = channel(config).expect("a channel");
    let options = SubscriberOptions::new().reader();
    let reader = writer.channel().join(&Numbers::schema(), options, feed.signal().clone()).expect("joins");
    assert!(feed.add(reader), "the subscription exists");
    for message in 0..MESSAGES {
        let until = Instant::now() + PATIENCE;
        let mut loan = writer.loan(8, Some(until)).expect("a block comes free, and the publisher is woken");
        loan[..8].copy_from_slice(&message.to_ne_bytes());
        loan.publish(8).expect("fits");
        if (u64::from(number) + message).is_multiple_of(16) {
            thread::sleep(Duration::from_micros(u64::from(number % 7) * 20));
        }
    }
}

#[test]
fn publishers_that_join_and_leave_lose_no_message_and_no_wake_up() {
    let (feed, subscription) = subscription();
    // SAFETY: every publisher here carries these numbers.
    let mut subscriber = unsafe { Subscriber::<Numbers>::new(subscription) };
    thread::scope(|scope| {
        // Four publishers at a time, one after another, with pauses in which there is none.
        for first in 0..4 {
            let feed = feed.clone();
            scope.spawn(move || (first..PUBLISHERS).step_by(4).for_each(|number| publish(number, &feed)));
        }
        let mut next: HashMap<PublisherId, u64> = HashMap::new();
        let mut received = 0;
        while received < u64::from(PUBLISHERS) * MESSAGES {
            // Waits without spinning, so that the thread really sleeps.
            let waited = sleep_until_ready(&mut subscriber);
            assert!(waited, "a wake-up was lost after {received} messages");
            match subscriber.try_recv_ref() {
                Ok(message) => {
                    let expected = next.entry(message.publisher()).or_default();
                    assert_eq!(message.view(), [*expected], "in order");
                    *expected += 1;
                    received += 1;
                }
                // All current publishers have ended, but others may join.
                Err(RecvError::Ended) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(next.values().all(|&count| count == MESSAGES));
        assert_eq!(next.len(), PUBLISHERS as usize);
    });
    assert_eq!(subscriber.lost(), 0);
    assert_eq!(subscriber.try_recv_ref().expect_err("all have gone"), RecvError::Ended);
}

/// Sleeps until there is something to receive. Returns `false` after [`PATIENCE`].
fn sleep_until_ready(subscriber: &mut Subscriber<Numbers>) -> bool {
    blockcast_blocks::park::until(Some(Instant::now() + PATIENCE), |cx| subscriber.poll_ready(cx)).is_some()
}
