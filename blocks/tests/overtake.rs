//! A subscriber that may lose messages holds nobody back, no matter which messages it is attached to.

use blockcast_blocks::{
    Bytes, ChannelConfig, Overflow, Payload, PublisherId, ReaderOptions, ReceiveError, Signal, channel,
};

#[test]
fn a_publisher_overtakes_a_slow_subscriber_that_keeps_messages() {
    for kept in 1..=8 {
        let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
        (config.blocks, config.block_size) = (16, 64);
        let mut writer = channel(config).expect("a channel");
        let samples = Some(9); // more than it may keep by default
        let options = ReaderOptions { overflow: Overflow::DropOldest, samples, ..ReaderOptions::default() };
        let mut reader = writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins");
        let mut samples = Vec::new();
        for number in 0..200 {
            let mut loan =
                writer.try_loan(1).unwrap_or_else(|error| panic!("message {number}, {kept} kept: {error}"));
            loan[0] = number;
            loan.publish(1).expect("fits");
            if samples.len() < kept {
                samples.push(reader.receive_owned().expect("a message"));
            }
        }
        let lost = reader.receive_owned().expect_err("some were lost");
        assert!(matches!(lost, ReceiveError::Lost(_)), "{lost}");
        for (number, sample) in samples.iter().enumerate() {
            assert_eq!(sample.bytes(), [number as u8]);
        }
    }
}

#[test]
fn subscribers_stalled_at_different_messages_do_not_stop_the_publisher() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (64, 64);
    let mut writer = channel(config).expect("a channel");
    let options = ReaderOptions { overflow: Overflow::DropOldest, ..ReaderOptions::default() };
    let mut stalled = Vec::new();
    for number in 0..2000_u32 {
        if number % 20 == 0 {
            stalled.push(writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins"));
        }
        let mut loan = writer.try_loan(4).unwrap_or_else(|error| panic!("message {number}: {error}"));
        loan[..4].copy_from_slice(&number.to_ne_bytes());
        loan.publish(4).expect("fits");
    }
    for (joined, reader) in stalled.iter_mut().enumerate() {
        let mut expected = joined as u32 * 20;
        while expected < 2000 {
            match reader.receive() {
                Ok(message) => {
                    assert_eq!(message.bytes(), expected.to_ne_bytes());
                    expected += 1;
                }
                Err(ReceiveError::Lost(count)) => expected += count as u32,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(reader.receive().expect_err("nothing is left"), ReceiveError::Empty);
    }
}

#[test]
fn stalled_subscribers_keep_only_their_samples_and_their_last_message() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (64, 64);
    let mut writer = channel(config).expect("a channel");
    let channel = writer.channel().clone();
    let options = ReaderOptions { overflow: Overflow::DropOldest, ..ReaderOptions::default() };
    let mut number = 0_u32;
    let mut publish = || {
        let mut loan = writer.try_loan(4).unwrap_or_else(|error| panic!("message {number}: {error}"));
        loan[..4].copy_from_slice(&number.to_ne_bytes());
        loan.publish(4).expect("fits");
        number += 1;
        number - 1
    };
    let mut stalled = Vec::new();
    for _ in 0..24 {
        let mut reader = channel.join(&Bytes::schema(), options, Signal::new()).expect("joins");
        let first = publish();
        let sample = reader.receive_owned().expect("a message");
        for _ in 0..20 {
            let number = publish();
            assert_eq!(reader.receive().expect("a message").bytes(), number.to_ne_bytes());
            // Another sample, dropped at once.
            let number = publish();
            assert_eq!(reader.receive_owned().expect("a message").bytes(), number.to_ne_bytes());
            if stalled.len() % 3 == 0 {
                break;
            }
        }
        stalled.push((reader, first, sample));
    }
    for _ in 0..200 {
        publish();
    }
    for (_, first, sample) in &stalled {
        assert_eq!(sample.bytes(), first.to_ne_bytes());
    }
}
