//! A publisher gets its blocks back as soon as nobody needs them, even if it sleeps meanwhile.

use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use blockcast_blocks::{
    Bytes, ChannelConfig, LoanError, Overflow, Payload, PublisherId, Reader, ReaderOptions, ReceiveError,
    Sequence, Signal, SizeClass, Writer, channel,
};

fn channel_of(blocks: u32) -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (blocks, 64);
    channel(config).expect("a channel")
}

fn join(writer: &Writer, overflow: Overflow) -> Reader {
    let options = ReaderOptions { overflow, samples: Some(u32::MAX), ..ReaderOptions::default() };
    writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins")
}

fn publish(writer: &mut Writer, byte: u8) {
    let mut loan = writer.try_loan(1).unwrap_or_else(|error| panic!("message {byte}: {error}"));
    loan[0] = byte;
    loan.publish(1).expect("fits");
}

#[test]
fn a_kept_sample_does_not_stop_the_publisher_while_its_subscriber_is_busy() {
    for blocks in [2, 4, 16, 64] {
        for overflow in [Overflow::Block, Overflow::DropOldest] {
            let mut writer = channel_of(blocks);
            let mut reader = join(&writer, overflow);
            publish(&mut writer, 0);
            let kept = reader.receive_owned().expect("a message");
            for number in 1..=200 {
                publish(&mut writer, number);
                assert_eq!(reader.receive().expect("a message").bytes(), [number]);
            }
            assert_eq!(kept.bytes(), [0]);
        }
    }
}

#[test]
fn a_kept_sample_pins_only_its_own_block_once_a_receive_finds_nothing() {
    for blocks in [8, 16, 64] {
        let mut writer = channel_of(blocks);
        let mut reader = join(&writer, Overflow::Block);
        publish(&mut writer, 0);
        let mut kept = vec![reader.receive_owned().expect("a message")];
        for number in 1..20 {
            // Too few to turn samples into counted holds on the way. The first round keeps all of them, the
            // others none.
            for _ in 0..blocks / 4 - 1 {
                publish(&mut writer, number);
                let sample = reader.receive_owned().expect("a message");
                kept.extend((number == 1).then_some(sample));
            }
            assert_eq!(reader.receive_owned().map(drop), Err(ReceiveError::Empty));
            assert_eq!(writer.reclaim() as usize, blocks as usize - kept.len());
        }
        assert!(kept.iter().enumerate().all(|(index, sample)| sample.bytes() == [u8::from(index > 0)]));
        drop(kept);
        assert_eq!(reader.receive().map(drop), Err(ReceiveError::Empty));
        assert_eq!(writer.reclaim(), blocks);
    }
}

#[test]
fn a_kept_small_sample_does_not_stop_large_messages() {
    for (large, finds_nothing) in (2..12).flat_map(|large| [(large, false), (large, true)]) {
        let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
        (config.blocks, config.block_size) = (128, 64);
        config.larger = vec![SizeClass { block_size: 4096, blocks: large, max_blocks: large }];
        let mut writer = channel(config).expect("a channel");
        let mut reader = join(&writer, Overflow::Block);
        publish(&mut writer, 0);
        let kept = reader.receive_owned().expect("a message");
        for _ in 0..20 {
            if finds_nothing {
                assert_eq!(reader.receive().map(drop), Err(ReceiveError::Empty));
            }
            // All large blocks at once, or one at a time.
            let messages = if finds_nothing { large } else { 1 };
            for _ in 0..messages {
                writer.try_loan(4096).expect("a block").publish(4096).expect("fits");
            }
            for _ in 0..messages {
                assert_eq!(reader.receive().expect("a message").bytes().len(), 4096);
            }
        }
        assert_eq!(kept.bytes(), [0]);
    }
}

#[test]
fn a_sleeping_publisher_is_woken_when_an_overtaken_subscriber_moves_on() {
    let mut writer = channel_of(2);
    let (mut first, mut second) = (join(&writer, Overflow::DropOldest), join(&writer, Overflow::DropOldest));
    publish(&mut writer, 0);
    publish(&mut writer, 1);
    // Each keeps one of the two blocks.
    first.receive_descriptor().expect("message 0");
    assert_eq!(second.receive().expect("message 0").bytes(), [0]);
    second.receive_descriptor().expect("message 1");
    assert!(writer.try_loan(1).is_err(), "both blocks are in use");

    let publisher = thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(600);
        writer.loan(1, Some(deadline)).map(drop)
    });
    thread::sleep(Duration::from_millis(100));
    assert_eq!(first.receive_descriptor(), Err(ReceiveError::Lost(1)));
    let started = Instant::now();
    assert_eq!(publisher.join().expect("no panic"), Ok(()));
    // Half of the deadline, and far longer than a wake-up takes.
    assert!(
        started.elapsed() < Duration::from_secs(300),
        "it found the block at its deadline and was not woken"
    );
    second.release_before(Sequence::new(2));
}

#[test]
fn a_waiting_loan_is_counted_once_as_finding_no_block() {
    let mut writer = channel_of(2);
    let _reader = join(&writer, Overflow::Block);
    publish(&mut writer, 0);
    publish(&mut writer, 1);
    let exhausted = |writer: &Writer| writer.channel().stats().exhausted;
    let soon = Instant::now() + Duration::from_millis(20);
    assert_eq!(writer.loan(1, Some(soon)).map(drop), Err(LoanError::Deadline));
    assert_eq!(exhausted(&writer), 1);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(writer.poll_loanable(&mut cx, 1).is_pending());
    }
    assert_eq!(exhausted(&writer), 2);
    for tried in 3..6 {
        assert!(writer.try_loan(1).is_err());
        assert_eq!(exhausted(&writer), tried);
    }
}
