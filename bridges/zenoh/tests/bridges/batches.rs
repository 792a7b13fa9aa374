//! Small messages that share samples of zenoh.

use std::sync::mpsc;

use blockcast_blocks::{Payload, Pod};
use blockcast_bridge_core::{Attachment, Unpacking, encoding_of, encoding_of_batches};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{RecvError, Subscriber, SubscriberOptions};
use zenoh::Wait;
use zenoh::sample::Sample;

use crate::stranger::{ORIGIN, Stranger, bytes, pack};
use crate::support::{
    Counting, Folder, Numbers, PATIENCE, Side, all, deadline, expect_end, options, pair, publish, publisher,
    receive, session, subscriber, until,
};

/// Bytes that share a sample.
const BATCH: usize = 32 << 10;

#[test]
fn what_waits_is_sent_together_and_a_client_can_tell() {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let client = session(&place, &[]);
    let side = Side::new(&session(&[], &place), all(), options().back_pressure(true).batch(BATCH));
    // Published before the bridge joins, so all of it waits.
    let history = PublisherOptions::new().blocks(64).block_size(64).history(50);
    let mut numbers = side.broker.publisher::<Numbers>("numbers", history).expect("it opens");
    publish(&mut numbers, 0..50);
    let (sender, samples) = mpsc::channel::<Sample>();
    let subscriber = client.declare_subscriber("test/**").callback(move |sample| drop(sender.send(sample)));
    let _subscriber = subscriber.wait().expect("it is declared");
    let mut next = 0;
    let mut lens = Vec::new();
    while next < 50 {
        let sample = samples.recv_timeout(PATIENCE).expect("it was published");
        let attachment = sample.attachment().expect("bridges attach something").to_bytes();
        let attachment = Attachment::decode(&attachment).expect("a correct one");
        assert_eq!((attachment.sequence, attachment.verify(sample.payload().slices())), (next, Ok(())));
        let (schema, payload) = (Numbers::schema(), sample.payload().to_bytes());
        let encoding = sample.encoding().to_string();
        if attachment.messages == 1 {
            assert_eq!((encoding, &payload[..]), (encoding_of(schema.name()), &bytes(next)[..]));
        } else {
            assert_eq!(encoding, encoding_of_batches(schema.name()));
            let batch = Unpacking::new(&payload, attachment.messages).expect("a batch");
            assert_eq!(batch.messages(), attachment.messages);
            for (number, message) in (next..).zip(batch.iter(&payload)) {
                assert_eq!(message, bytes(number));
            }
        }
        lens.push(attachment.messages);
        next += u64::from(attachment.messages);
    }
    // First as many as were small in a row.
    assert_eq!(lens, [1, 1, 1, 1, 4, 8, 16, 18]);
    // Nothing waits for more.
    publish(&mut numbers, 50..51);
    let sample = samples.recv_timeout(PATIENCE).expect("it was published");
    assert_eq!(sample.payload().to_bytes(), bytes(50));
    until("messages are counted", || side.bridge.stats().sent == 51);
    assert_eq!(side.bridge.stats().sent_bytes, 51 * 24);
}

/// Zenoh's threads serve all sessions of a process. Another test makes them wait for its subscriber, so that
/// zenoh may give up this test's link. That nothing is lost otherwise is tested by itself, in `pressure.rs`.
#[test]
fn batches_arrive_in_order_and_then_the_end() {
    const MESSAGES: u64 = 20_000;
    // The second holds two messages, and the last one none.
    for limit in [BATCH, 56, 1] {
        let (_folder, one, other) = pair(options().back_pressure(true).batch(limit));
        let mut counting = Counting::new(subscriber(&other.broker, "numbers"));
        let mut numbers = publisher(&one.broker, "numbers");
        one.sends(1);
        publish(&mut numbers, 0..1);
        assert!(counting.step(), "the first message");
        let publishing = std::thread::spawn(move || publish(&mut numbers, 1..MESSAGES));
        while counting.step() {}
        publishing.join().expect("it has published");
        assert_eq!((counting.next, counting.received + counting.lost), (Some(MESSAGES), MESSAGES));
        let (sent, received) = (one.bridge.stats(), other.bridge.stats());
        assert_eq!((sent.sent, sent.unsent, sent.sent_bytes), (MESSAGES, 0, 24 * MESSAGES));
        assert_eq!((received.received, received.missing), (counting.received, counting.lost));
        assert_eq!((received.received_bytes, received.refused), (24 * counting.received, 0));
    }
}

#[test]
fn publishers_never_wait_for_batches_and_every_loss_is_counted() {
    // One bridge that sends batches, and one that receives them and would not send any.
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let one = Side::new(&session(&place, &[]), all(), options().batch(BATCH));
    let other = Side::new(&session(&[], &place), all(), options());
    let mut counting = Counting::new(subscriber(&other.broker, "numbers"));
    let mut numbers = publisher(&one.broker, "numbers");
    one.sends(1);
    publish(&mut numbers, 0..1);
    assert!(counting.step(), "the first message");
    const MANY: u64 = 200_000;
    for number in 1..MANY {
        // Never waits.
        let loan = numbers.try_loan().expect("a block is free");
        loan.send(&[number; 3][..]).expect("it fits");
    }
    drop(numbers);
    while counting.step() {}
    assert_eq!((counting.next, counting.received + counting.lost), (Some(MANY), MANY));
    assert_eq!(counting.subscriber.lost(), counting.lost);
    assert_eq!(one.bridge.stats().sent + one.bridge.stats().unsent, MANY);
}

#[test]
fn batches_may_be_repeated_in_part_or_follow_a_gap() {
    let (stranger, mut numbers) = Stranger::new(options());
    let send = |messages: std::ops::Range<u64>| {
        let first = stranger.message(messages.start);
        stranger.pack(&first, &messages.map(bytes).collect::<Vec<_>>());
    };
    send(5..9);
    receive(&mut numbers, 5..9);
    // All of it, its end, its start, and more on both sides.
    send(5..9);
    send(7..9);
    send(5..7);
    send(3..12);
    receive(&mut numbers, 9..12);
    send(11..12);
    send(14..16);
    lose(&mut numbers, 2);
    receive(&mut numbers, 14..16);
    send(15..20);
    receive(&mut numbers, 16..20);
    let end = Attachment::end(ORIGIN, 1, 23).fingerprint(stranger.fingerprint);
    stranger.send(Vec::new(), &end.encode());
    lose(&mut numbers, 3);
    expect_end(&mut numbers);
    let stats = stranger.side.bridge.stats();
    assert_eq!((stats.received, stats.missing, stats.refused), (4 + 3 + 2 + 4, 2 + 3, 0));
    assert_eq!(stats.repeated, 4 + 2 + 2 + 6 + 1 + 1);
}

#[test]
fn each_message_of_a_batch_is_refused_by_itself() {
    let (stranger, mut numbers) = Stranger::new(options());
    let wrong = || vec![0; 5];
    let large = || vec![0; (16 << 20) + 8];
    stranger.pack(&stranger.message(0), &[wrong(), bytes(1), wrong(), large(), bytes(4), wrong()]);
    for expected in [Err(1), Ok(1), Err(2), Ok(4), Err(1)] {
        match expected {
            Ok(number) => receive(&mut numbers, number..number + 1),
            Err(count) => lose(&mut numbers, count),
        }
    }
    stranger.pack(&stranger.message(6), &[bytes(6)]);
    receive(&mut numbers, 6..7);
    let stats = stranger.side.bridge.stats();
    assert_eq!((stats.refused, stats.missing, stats.repeated), (4, 0, 0));
}

/// As many messages are lost here. They may be reported together, or one after another.
fn lose(numbers: &mut Subscriber<Numbers>, count: u64) {
    let mut lost = 0;
    while lost < count {
        match numbers.blocking_recv_ref(deadline()) {
            Err(RecvError::Lost(count)) => lost += count,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lost, count);
}

#[test]
fn hostile_batches_are_refused_and_counted() {
    let (stranger, mut numbers) = Stranger::new(options());
    let send = |first: u64, messages: u32, payload: Vec<u8>| {
        let attachment = stranger.message(first).messages(messages);
        // A check proves nothing.
        stranger.send(payload.clone(), &attachment.checked([&payload[..]]).encode());
    };
    let good = pack(&[bytes(0), bytes(1), bytes(2)]);
    send(0, 3, good.clone());
    receive(&mut numbers, 0..3);
    let mut refused = 0;
    let mut refuses = |messages: u32, payload: Vec<u8>| {
        send(3, messages, payload);
        refused += 1;
        until("it is refused", || stranger.side.bridge.stats().refused == refused);
    };
    for messages in [2, 4, 1000, u32::MAX] {
        refuses(messages, good.clone());
    }
    for len in [0, 3, 4, good.len() - 1] {
        refuses(3, good[..len].to_vec());
    }
    refuses(3, [&good[..], b"more"].concat());
    for at in [0, 28, 56] {
        let mut payload = good.clone();
        payload[at..at + 4].copy_from_slice(&[0xff; 4]);
        refuses(3, payload);
    }
    // As many empty messages as there is room for, in several parts on the wire. None is a list of numbers of
    // this schema, but an empty list is one.
    const MANY: u64 = 100_000;
    send(3, MANY as u32, vec![0; 4 * MANY as usize]);
    let mut next = 3;
    while next < 3 + MANY {
        match numbers.blocking_recv_ref(deadline()) {
            Ok(message) => {
                assert!(message.view().is_empty());
                next += 1;
            }
            Err(RecvError::Lost(count)) => next += count,
            Err(error) => panic!("{error}"),
        }
    }
    send(3 + MANY, 1, bytes(7));
    receive(&mut numbers, 7..8);
}

/// More than there are blocks and room, so that the receiver stops in the middle of batches.
#[test]
fn batches_that_find_little_room_arrive_whole_or_are_lost_exactly() {
    type Bytes = Pod<u8>;
    let blocks = PublisherOptions::new().block_size(64).blocks(3).max_blocks(3);
    for is_patient in [true, false] {
        let options = options().batch(BATCH).waiting(2, 1 << 20).blocks(blocks.clone()).patience(PATIENCE);
        let (_folder, one, other) = pair(options.back_pressure(is_patient));
        let mut received =
            other.broker.subscriber::<Bytes>("bytes", SubscriberOptions::new()).expect("it opens");
        let options = PublisherOptions::new().blocks(256).block_size(64);
        let mut bytes = one.broker.publisher::<Bytes>("bytes", options).expect("it opens");
        one.sends(1);
        const MANY: u32 = 20_000;
        let message = |number: u32| number.to_le_bytes().repeat(1 + number as usize % 16);
        let publishing = std::thread::spawn(move || {
            for number in 0..MANY {
                let loan = bytes.blocking_loan(deadline()).expect("a block comes free");
                loan.send(&message(number)[..]).expect("it fits");
            }
        });
        // What was published before the first message that arrives is not counted.
        let (mut next, mut lost) = (None, 0);
        loop {
            match received.blocking_recv_ref(deadline()) {
                Ok(arrived) => {
                    let first = || u32::from_le_bytes(arrived.view()[..4].try_into().expect("4 bytes"));
                    let number = next.unwrap_or_else(first);
                    assert_eq!(arrived.view(), message(number));
                    next = Some(number + 1);
                }
                Err(RecvError::Lost(count)) => {
                    next = next.map(|next| next + u32::try_from(count).expect("fewer than there are"));
                    lost += count;
                }
                Err(RecvError::Ended) => break,
                Err(error) => panic!("{error}"),
            }
        }
        publishing.join().expect("it has published");
        assert_eq!(next, Some(MANY));
        assert_eq!(other.bridge.stats().missing, lost);
    }
}
