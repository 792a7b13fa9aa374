//! Receiving all messages until the end by reference, in batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use blockcast_blocks::{Bytes, ChannelConfig, Payload, Pod, PublisherId, Schema, Writer, channel};
use blockcast_subscriber::{
    Overflow, RecvError, Subscriber, SubscriberOptions, SubscriptionFeed, subscription,
};

fn open(feed: &SubscriptionFeed, schema: &Schema, options: SubscriberOptions) -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), schema.clone());
    (config.blocks, config.block_size) = (64, 64);
    let writer = channel(config).expect("a channel");
    let reader = writer.channel().join(schema, options.reader(), feed.signal().clone());
    assert!(feed.add(reader.expect("joins")));
    writer
}

fn publish(writer: &mut Writer, bytes: &[u8]) {
    let mut loan = writer.loan(bytes.len(), None).expect("a block comes free");
    loan[..bytes.len()].copy_from_slice(bytes);
    loan.publish(bytes.len()).expect("fits");
}

/// A subscriber with payload `P`, and the writer from which it receives.
fn pair<P: Payload>(options: SubscriberOptions) -> (Writer, Subscriber<P>) {
    let (feed, subscription) = subscription();
    let writer = open(&feed, &P::schema(), options);
    // SAFETY: the only publisher carries the schema of `P`.
    (writer, unsafe { Subscriber::new(subscription) })
}

#[test]
fn every_message_is_received_in_order_until_the_end() {
    for blocking in [false, true] {
        let (mut writer, mut subscriber) = pair::<Pod<u64>>(SubscriberOptions::new());
        let publisher = thread::spawn(move || {
            (0..100_000_u64).for_each(|number| publish(&mut writer, &number.to_ne_bytes()));
        });
        let mut seen = 0;
        let each = |numbers: Result<&[u64], RecvError>| {
            assert_eq!(numbers, Ok(&[seen][..]));
            seen += 1;
        };
        let ended = if blocking {
            subscriber.blocking_for_each_ref(None, each)
        } else {
            futures::executor::block_on(subscriber.for_each_ref(each))
        };
        assert_eq!((ended, seen), (Ok(()), 100_000));
        publisher.join().expect("no panic");
    }
}

#[test]
fn losses_and_invalid_messages_are_reported_and_cost_no_other_message() {
    let options = SubscriberOptions::new().overflow(Overflow::DropOldest).depth(4);
    let (mut writer, mut subscriber) = pair::<Pod<u64>>(options);
    for number in 0..10_u64 {
        publish(&mut writer, &number.to_ne_bytes()[..if number == 7 { 5 } else { 8 }]);
    }
    drop(writer);
    let mut seen = Vec::new();
    let each = |numbers: Result<&[u64], RecvError>| {
        seen.push(match numbers {
            Ok(numbers) => numbers[0],
            Err(RecvError::Lost(count)) => 100 + count,
            Err(RecvError::Invalid(_)) => 200,
            Err(other) => panic!("{other}"),
        });
    };
    assert_eq!(subscriber.blocking_for_each_ref(None, each), Ok(()));
    assert_eq!(seen, [106, 6, 200, 8, 9]);
}

#[test]
fn a_panic_costs_no_message_except_its_own() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let (mut writer, mut subscriber) =
            pair::<Pod<u64>>(SubscriberOptions::new().overflow(overflow).depth(32));
        (0..20_u64).for_each(|number| publish(&mut writer, &number.to_ne_bytes()));
        let bytes = |subscriber: &Subscriber<Pod<u64>>| {
            let mut readers = subscriber.subscription().readers();
            readers.next().expect("there is a reader").channel().stats().subscribers[0].bytes
        };
        let mut seen = Vec::new();
        for panics_at in [0, 7, 8] {
            let each = |numbers: Result<&[u64], RecvError>| {
                seen.push(numbers.expect("valid")[0]);
                if seen.last() == Some(&panics_at) {
                    std::panic::resume_unwind(Box::new(()));
                }
            };
            let receive = || subscriber.blocking_for_each_ref(None, each);
            assert!(catch_unwind(AssertUnwindSafe(receive)).is_err());
            assert_eq!(bytes(&subscriber), (panics_at + 1) * 8);
        }
        drop(writer);
        let each = |numbers: Result<&[u64], RecvError>| seen.push(numbers.expect("valid")[0]);
        assert_eq!(subscriber.blocking_for_each_ref(None, each), Ok(()));
        assert_eq!(seen, (0..20).collect::<Vec<_>>(), "{overflow:?}");
        assert_eq!(subscriber.lost(), 0);
    }
}

#[test]
fn messages_overtaken_after_a_panic_are_counted_as_lost() {
    let options = SubscriberOptions::new().overflow(Overflow::DropOldest);
    let (mut writer, mut subscriber) = pair::<Pod<u64>>(options);
    (0..20_u64).for_each(|number| publish(&mut writer, &number.to_ne_bytes()));
    let panics = |_: Result<&[u64], RecvError>| {
        (20..200_u64).for_each(|number| publish(&mut writer, &number.to_ne_bytes()));
        std::panic::resume_unwind(Box::new(()));
    };
    let receive = || subscriber.blocking_for_each_ref(None, panics);
    assert!(catch_unwind(AssertUnwindSafe(receive)).is_err());
    drop(writer);
    let (mut next, mut seen) = (1, 1);
    let each = |numbers: Result<&[u64], RecvError>| match numbers {
        Ok(numbers) => {
            assert_eq!(numbers, [next]);
            (next, seen) = (next + 1, seen + 1);
        }
        Err(RecvError::Lost(count)) => next += count,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(subscriber.blocking_for_each_ref(None, each), Ok(()));
    assert!(next == 200 && subscriber.lost() > 0 && seen + subscriber.lost() == 200);
}

#[test]
fn a_deadline_ends_an_endless_topic_and_a_panic_releases_the_batch() {
    let (mut writer, mut subscriber) = pair::<Bytes>(SubscriberOptions::new());
    let soon = Some(Instant::now() + Duration::from_millis(20));
    assert_eq!(subscriber.blocking_for_each_ref(soon, |_| {}), Err(RecvError::Deadline));
    publish(&mut writer, b"a");
    let past = Some(Instant::now());
    let mut seen = 0;
    let each = |_: Result<&[u8], RecvError>| {
        seen += 1;
        publish(&mut writer, b"again and again");
    };
    assert_eq!(subscriber.blocking_for_each_ref(past, each), Err(RecvError::Deadline));
    assert_eq!(seen, 1);
    let panics = |_: Result<&[u8], RecvError>| std::panic::resume_unwind(Box::new(()));
    let mut receive = || subscriber.blocking_for_each_ref(None, panics);
    assert!(catch_unwind(AssertUnwindSafe(&mut receive)).is_err());
    for _ in 0..64 {
        writer.try_loan(1).expect("nothing is attached").publish(1).expect("fits");
    }
}
