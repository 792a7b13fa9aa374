//! `mem::forget` on received messages keeps blocks, for a while or forever, and breaks nothing.

use std::mem::{ManuallyDrop, forget};

use blockcast_blocks::{
    Bytes, ChannelConfig, LoanError, Overflow, Payload, PublisherId, Reader, ReaderOptions, Signal, Writer,
    channel,
};

fn open(overflow: Overflow) -> (Writer, Reader) {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (16, 64);
    let writer = channel(config).expect("a channel");
    let options = ReaderOptions { overflow, depth: Some(8), ..ReaderOptions::default() };
    let reader = writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins");
    (writer, reader)
}

fn publish(writer: &mut Writer, number: u8) {
    let mut loan = writer.try_loan(1).unwrap_or_else(|error| panic!("message {number}: {error}"));
    loan[0] = number;
    loan.publish(1).expect("fits");
}

const POLICIES: [Overflow; 3] = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest];

#[test]
fn forgotten_messages_and_batches_are_released_by_the_next_receive() {
    for overflow in POLICIES {
        let (mut writer, mut reader) = open(overflow);
        let mut number = 0;
        let mut samples = Vec::new();
        for round in 0..30 {
            for _ in 0..5 {
                publish(&mut writer, number);
                number += 1;
            }
            let first = number - 5;
            let message = reader.receive().expect("a message");
            assert_eq!(message.bytes(), [first]);
            forget(message);
            let batch = reader.receive_batch(2).expect("messages");
            let bytes: Vec<u8> = batch.iter().map(|(_, bytes)| bytes[0]).collect();
            assert_eq!(bytes, [first + 1, first + 2], "{overflow:?}");
            forget(batch);
            if round % 10 == 0 {
                samples.push((first + 3, reader.receive().expect("a message").into_sample()));
            } else {
                forget(reader.receive().expect("a message"));
            }
            assert_eq!(reader.receive().expect("the last of five").bytes(), [first + 4]);
        }
        for (number, sample) in samples {
            assert_eq!(sample.bytes(), [number]);
        }
        assert_eq!(reader.lost(), 0);
        drop(reader);
        for _ in 0..4 {
            writer.reclaim();
        }
        assert_eq!(writer.pool().free, 16, "{overflow:?}");
    }
}

#[test]
fn a_forgotten_subscriber_keeps_what_its_policy_allows_and_samples_stay_valid() {
    for overflow in POLICIES {
        let (mut writer, mut reader) = open(overflow);
        publish(&mut writer, 7);
        let sample = reader.receive_owned().expect("a message");
        // Recovered at the end, so that nothing leaks.
        let forgotten = ManuallyDrop::new(reader);
        let published = (0..100).take_while(|&number| match writer.try_loan(1) {
            Ok(mut loan) => {
                loan[0] = number;
                loan.publish(1).is_ok()
            }
            Err(error) => {
                assert_eq!(error, LoanError::Exhausted { blocks: 16 });
                false
            }
        });
        let expected = if overflow == Overflow::Block { 15 } else { 100 };
        assert_eq!(published.count(), expected, "{overflow:?}");
        assert_eq!(sample.bytes(), [7]);
        let elsewhere = std::thread::spawn(move || sample.bytes()[0]);
        assert_eq!(elsewhere.join().expect("no panic"), 7);
        assert_eq!(writer.channel().stats().subscribers.len(), 1, "it is still listed");
        drop(ManuallyDrop::into_inner(forgotten));
        for _ in 0..4 {
            writer.reclaim();
        }
        assert_eq!(writer.pool().free, 16, "{overflow:?}");
    }
}
