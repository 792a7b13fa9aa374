//! A topic as a single value.

use std::cell::RefCell;

use blockcast_blocks::{
    Bytes, ChannelConfig, InvalidPayload, Payload, Pod, PublisherId, Schema, Writer, channel,
};
use blockcast_subscriber::{
    Latest, Overflow, RecvError, Subscriber, SubscriberOptions, SubscriptionFeed, subscription,
};
use futures::FutureExt;

fn subscriber() -> (SubscriptionFeed, Subscriber<Bytes>) {
    let (feed, subscription) = subscription();
    // SAFETY: every publisher here carries bytes.
    (feed, unsafe { Subscriber::new(subscription) })
}

fn open(feed: &SubscriptionFeed, options: SubscriberOptions) -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (64, 64);
    let writer = channel(config).expect("a channel");
    let reader = writer.channel().join(&Bytes::schema(), options.reader(), feed.signal().clone());
    assert!(feed.add(reader.expect("joins")));
    writer
}

fn publish(writer: &mut Writer, value: u64) {
    let mut loan = writer.try_loan(8).expect("a block");
    loan[..8].copy_from_slice(&value.to_ne_bytes());
    loan.publish(8).expect("fits");
}

thread_local! {
    /// The writer that publishes a value whenever one is received, and the number of values published this
    /// way.
    static RESTLESS: RefCell<Option<(Writer, u64)>> = const { RefCell::new(None) };
}

/// Bytes whose publisher publishes while they are received.
struct Restless;

// SAFETY: as for `Bytes`, every sequence of bytes is valid.
unsafe impl Payload for Restless {
    type View<'a> = &'a [u8];
    type Builder<'b> = <Bytes as Payload>::Builder<'b>;
    type Built<'b> = <Bytes as Payload>::Built<'b>;

    fn schema() -> Schema {
        Bytes::schema()
    }

    fn alignment() -> usize {
        Bytes::alignment()
    }

    fn validate(_bytes: &[u8]) -> Result<(), InvalidPayload> {
        RESTLESS.with_borrow_mut(|restless| {
            if let Some((writer, published)) = restless
                && *published < 10_000
            {
                *published += 1;
                publish(writer, *published);
            }
        });
        Ok(())
    }

    unsafe fn view(bytes: &[u8]) -> &[u8] {
        bytes
    }

    unsafe fn builder(block: &mut [u8]) -> Self::Builder<'_> {
        // SAFETY: the caller guarantees the same as `Bytes` requires.
        unsafe { Bytes::builder(block) }
    }

    fn built_len(built: &Self::Built<'_>) -> usize {
        Bytes::built_len(built)
    }
}

#[test]
fn a_publisher_that_never_pauses_does_not_prevent_getting_the_latest_value() {
    for options in [SubscriberOptions::latest(), SubscriberOptions::new()] {
        let (feed, subscription) = subscription();
        // SAFETY: every publisher here carries bytes.
        let mut latest = Latest::new(unsafe { Subscriber::<Restless>::new(subscription) });
        let mut writer = open(&feed, options);
        publish(&mut writer, 0);
        RESTLESS.set(Some((writer, 0)));
        for _ in 0..10 {
            assert!(latest.get().expect("bytes").is_some());
        }
        let (_writer, published) = RESTLESS.take().expect("it was set above");
        assert!(published <= 20, "ten calls received {published} values");
    }
}

#[test]
fn the_latest_value_of_a_long_queue_skips_all_earlier_ones() {
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        let (feed, subscriber) = subscriber();
        let mut latest = Latest::new(subscriber);
        assert!(latest.get().expect("no error").is_none());
        let mut writer = open(&feed, SubscriberOptions::new().overflow(overflow));
        for value in 0..60 {
            publish(&mut writer, value);
        }
        for value in 60..70 {
            let current = latest.get().expect("bytes").expect("there are values");
            assert_eq!(current.bytes(), (value - 1_u64).to_ne_bytes());
            publish(&mut writer, value);
        }
        drop(writer);
        assert_eq!(latest.get().expect("bytes").expect("the last").bytes(), 69_u64.to_ne_bytes());
    }
}

#[test]
fn the_latest_value_needs_only_two_blocks_even_if_others_keep_values() {
    for blocks in 2..=8 {
        let (feed, subscriber) = subscriber();
        let mut latest = Latest::new(subscriber);
        let options = SubscriberOptions::new().overflow(Overflow::DropOldest).depth(1);
        let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
        (config.blocks, config.block_size) = (blocks, 64);
        let mut writer = channel(config).expect("a channel");
        let join = |options: SubscriberOptions| {
            writer.channel().join(&Bytes::schema(), options.reader(), feed.signal().clone()).expect("joins")
        };
        let mut hoarder = if blocks < 8 { None } else { Some(join(options)) };
        assert!(feed.add(join(options)));
        let mut kept = Vec::new();
        for value in 0..100 {
            publish(&mut writer, value);
            kept.extend(hoarder.as_mut().and_then(|hoarder| hoarder.receive_owned().ok()));
            let current = latest.get().expect("bytes").expect("a value");
            assert_eq!(current.bytes(), value.to_ne_bytes(), "{blocks} blocks");
        }
    }
}

#[test]
fn a_value_is_returned_once_even_if_an_invalid_one_follows() {
    for gets_first in [false, true] {
        let (feed, subscription) = subscription();
        // SAFETY: the only publisher carries such numbers.
        let mut latest = Latest::new(unsafe { Subscriber::<Pod<u64>>::new(subscription) });
        let mut writer =
            channel(ChannelConfig::new(PublisherId::new(1), Pod::<u64>::schema())).expect("a channel");
        let reader = writer.channel().join(
            &Pod::<u64>::schema(),
            SubscriberOptions::new().reader(),
            feed.signal().clone(),
        );
        assert!(feed.add(reader.expect("joins")));
        let is_invalid = |result: Result<u64, RecvError>| matches!(result, Err(RecvError::Invalid(_)));
        let changed = |latest: &mut Latest<Pod<u64>>| {
            let result = latest.changed().now_or_never()?;
            Some(result.map(|sample| sample.view()[0]))
        };
        for round in 0..3 {
            publish(&mut writer, round);
            writer.try_loan(3).expect("a block").publish(3).expect("fits");
            if gets_first {
                assert!(is_invalid(latest.get().map(|_| round)));
                assert_eq!(changed(&mut latest), Some(Ok(round)));
            } else {
                assert_eq!(changed(&mut latest), Some(Ok(round)));
                assert!(is_invalid(changed(&mut latest).expect("the error is ready")));
            }
            assert_eq!(changed(&mut latest), None, "nothing else was published");
            let current = latest.get().expect("no other error").expect("it stays");
            assert_eq!(current.view()[0], round);
        }
    }
}
