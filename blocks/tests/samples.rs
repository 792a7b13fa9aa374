//! How many samples a subscriber may keep. One that may lose messages never stops the publisher.

use std::sync::Arc;

use blockcast_blocks::{
    Bytes, Channel, ChannelConfig, LoanError, Overflow, Payload, PublisherId, RawSample, Reader,
    ReaderOptions, ReceiveError, Reuse, Signal, SizeClass, Writer, channel,
};

fn open(blocks: u32, change: impl FnOnce(&mut ChannelConfig)) -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (blocks, 64);
    change(&mut config);
    channel(config).expect("a channel")
}

fn join(channel: &Arc<Channel>, options: ReaderOptions) -> Reader {
    channel.join(&Bytes::schema(), options, Signal::new()).expect("joins")
}

fn lossy(samples: Option<u32>) -> ReaderOptions {
    ReaderOptions { overflow: Overflow::DropOldest, samples, ..ReaderOptions::default() }
}

fn publish(writer: &mut Writer, len: usize) -> Result<(), LoanError> {
    writer.try_loan(len)?.publish(len).map(drop)
}

/// Keeps everything it receives, by every method, until nothing is left or it is refused. Returns the number
/// of samples that the refusal reports.
fn hoard(reader: &mut Reader, kept: &mut Vec<RawSample>) -> Option<u32> {
    loop {
        let received = match kept.len() % 3 {
            0 => reader.receive().map(|message| message.into_sample()),
            _ => reader.receive_owned(),
        };
        match received {
            Ok(sample) => kept.push(sample),
            Err(ReceiveError::Lost(_)) => {}
            Err(ReceiveError::Empty) => return None,
            Err(ReceiveError::TooManySamples { kept }) => return Some(kept),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_subscriber_that_may_lose_messages_stops_nobody_however_much_it_keeps() {
    for reuse in [Reuse::Oldest, Reuse::Hottest] {
        for (blocks, history) in [(2, 0), (3, 0), (3, 1), (4, 0), (5, 1), (8, 0), (16, 0), (16, 12), (64, 3)]
        {
            for len in [1, 100] {
                let larger = SizeClass { block_size: 128, blocks: blocks.max(8), max_blocks: blocks.max(8) };
                let mut writer = open(blocks, |config| {
                    (config.history, config.reuse) = (history, reuse);
                    config.larger.extend((len > 64).then_some(larger));
                });
                let channel = Arc::clone(writer.channel());
                let mut reliable = join(&channel, ReaderOptions::default());
                let mut hoarder = join(&channel, lossy(None));
                let (mut kept, mut refused) = (Vec::new(), 0);
                for message in 0..500 {
                    publish(&mut writer, len)
                        .unwrap_or_else(|error| panic!("{message} of {blocks}: {error}"));
                    drop(reliable.receive().expect("nothing is lost"));
                    if let Some(reported) = hoard(&mut hoarder, &mut kept) {
                        assert_eq!(reported as usize, kept.len());
                        refused += 1;
                    }
                }
                let spare = (blocks - history) as usize;
                assert!(refused > 0);
                assert_eq!(
                    kept.len(),
                    1 + usize::from(spare >= 4) + spare / 4,
                    "{blocks} blocks, {history} of them history"
                );
                // It stalls with the samples that it keeps, and as many messages by reference as it can get.
                kept.pop();
                let by_reference = hoarder.receive_batch(1000).ok();
                for _ in 0..100 {
                    publish(&mut writer, len).expect("the publisher is not stopped");
                    drop(reliable.receive().expect("nothing is lost"));
                }
                drop(by_reference);
                kept.clear();
                let mut received = 0;
                loop {
                    match hoarder.receive() {
                        Ok(_) => received += 1,
                        Err(ReceiveError::Lost(_)) => {}
                        Err(ReceiveError::Empty) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                assert!(received > 0, "it receives again once it has dropped them");
                let stats = &channel.stats().subscribers[1];
                assert_eq!(
                    stats.received + stats.lost,
                    600,
                    "every message was received or is counted as lost"
                );
            }
        }
    }
}

#[test]
fn several_hoarding_subscribers_leave_blocks_for_the_publisher() {
    for blocks in [8, 16, 64] {
        let mut writer = open(blocks, |config| config.history = 4);
        let channel = Arc::clone(writer.channel());
        let mut hoarders: Vec<_> =
            (0..(blocks - 4) / 4).map(|_| (join(&channel, lossy(None)), Vec::new())).collect();
        for message in 0..500 {
            publish(&mut writer, 1).unwrap_or_else(|error| panic!("{message} of {blocks}: {error}"));
            let turn = message % hoarders.len();
            let (hoarder, kept) = &mut hoarders[turn];
            hoard(hoarder, kept);
        }
        for (_, kept) in &mut hoarders {
            kept.pop();
        }
        for (hoarder, _) in &mut hoarders {
            // Either a message or a loss.
            let _ = hoarder.receive();
        }
        let batches: Vec<_> = hoarders
            .iter_mut()
            .map(|(hoarder, _)| hoarder.receive_batch(1000).expect("there are messages"))
            .collect();
        assert!(batches.iter().all(|batch| batch.len() <= blocks as usize / 8));
        for _ in 0..100 {
            publish(&mut writer, 1).expect("the publisher is not stopped");
        }
    }
}

#[test]
fn a_copy_of_a_sample_has_its_bytes_whatever_the_lengths() {
    let mut writer = open(4, |config| config.block_size = 128);
    let mut reader = join(writer.channel(), ReaderOptions::default());
    for len in 0..=128 {
        let mut loan = writer.try_loan(len).expect("a block is free");
        loan[..len].iter_mut().zip(1..).for_each(|(byte, value)| *byte = value);
        loan.publish(len).expect("it fits");
        let sample = reader.receive_owned().expect("it was published");
        for room in [0, len / 2, len, len + 3] {
            let mut copy = vec![255; room];
            sample.copy_to(&mut copy);
            let (copied, rest) = copy.split_at(room.min(len));
            assert_eq!(
                (copied, rest.iter().all(|&byte| byte == 255)),
                (&sample.bytes()[..room.min(len)], true)
            );
        }
    }
}

#[test]
fn a_sample_limit_applies_to_every_policy_and_counts_clones_once() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let mut writer = open(64, |_| ());
        let options = ReaderOptions { overflow, samples: Some(3), ..ReaderOptions::default() };
        let mut reader = join(writer.channel(), options);
        (0..10).for_each(|_| publish(&mut writer, 1).expect("a block"));
        let mut kept: Vec<_> = (0..3).map(|_| reader.receive_owned().expect("a message")).collect();
        kept.extend(kept.clone());
        for _ in 0..2 {
            let refused = ReceiveError::TooManySamples { kept: 3 };
            assert_eq!(reader.receive().err(), Some(refused));
            assert_eq!(reader.receive_owned().err(), Some(refused));
            assert_eq!(reader.receive_batch(4).err(), Some(refused));
        }
        kept.remove(5);
        assert!(reader.receive().is_err(), "its clone is still kept");
        kept.remove(2);
        let message = reader.receive().expect("there is room");
        assert_eq!(message.descriptor().sequence.get(), 3);
        kept.push(message.into_sample());
        assert!(reader.receive().is_err());
        kept.clear();
        assert_eq!(reader.receive_batch(2).expect("there is room").len(), 2);
    }
}

#[test]
fn a_reliable_subscriber_or_one_that_asks_may_keep_every_block() {
    for options in [lossy(Some(u32::MAX)), ReaderOptions::default()] {
        let mut writer = open(16, |_| ());
        let mut reader = join(writer.channel(), options);
        let mut kept = Vec::new();
        while publish(&mut writer, 1).is_ok() {
            kept.push(reader.receive_owned().expect("a message"));
        }
        assert_eq!(kept.len(), 16);
    }
}

#[test]
fn with_few_blocks_the_block_of_a_dropped_sample_returns_at_once() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        for blocks in 2..8 {
            let mut writer = open(blocks, |_| ());
            let depth = Some(1);
            let mut reader =
                join(writer.channel(), ReaderOptions { overflow, depth, ..ReaderOptions::default() });
            publish(&mut writer, 1).expect("a block");
            let sample = reader.receive_owned().expect("a message");
            assert_eq!(writer.reclaim(), blocks - 1, "{overflow:?}");
            drop(sample);
            assert_eq!(writer.reclaim(), blocks, "{overflow:?}");
        }
    }
}
