//! A subscriber that drops the newest messages keeps the oldest, however far the publisher runs ahead.

use blockcast_blocks::{
    ChannelConfig, Overflow, PublisherId, RawSample, Reader, ReaderOptions, ReceiveError, Reuse, Schema,
    Signal, SizeClass, Writer, channel,
};

fn open(blocks: u32, depth: u32) -> (Writer, Reader) {
    let schema = Schema::named("test");
    let mut config = ChannelConfig::new(PublisherId::new(1), schema.clone());
    (config.block_size, config.blocks) = (64, blocks);
    let writer = channel(config).unwrap();
    let options =
        ReaderOptions { overflow: Overflow::DropNewest, depth: Some(depth), ..ReaderOptions::default() };
    let reader = writer.channel().join(&schema, options, Signal::new()).unwrap();
    (writer, reader)
}

fn publish(writer: &mut Writer, number: u64) {
    let mut loan = writer.try_loan(8).unwrap();
    loan[..8].copy_from_slice(&number.to_le_bytes());
    loan.publish(8).unwrap();
}

fn receive(reader: &mut Reader) -> Result<u64, ReceiveError> {
    let message = reader.receive()?;
    let number = u64::from_le_bytes(message.bytes().try_into().unwrap());
    assert_eq!(message.descriptor().sequence.get(), number);
    Ok(number)
}

#[test]
fn the_oldest_messages_stay_and_the_loss_is_reported_after_them() {
    for published in [5, 16, 17, 40, 1000] {
        let (mut writer, mut reader) = open(16, 4);
        (0..published).for_each(|number| publish(&mut writer, number));
        for number in 0..4 {
            assert_eq!(receive(&mut reader), Ok(number), "{published} published");
        }
        assert_eq!(receive(&mut reader), Err(ReceiveError::Lost(published - 4)));
        assert_eq!(receive(&mut reader), Err(ReceiveError::Empty));
        publish(&mut writer, published);
        assert_eq!(receive(&mut reader), Ok(published));
        assert_eq!(reader.lost(), published - 4);
    }
}

#[test]
fn a_subscriber_that_keeps_up_loses_nothing_even_with_a_depth_of_one() {
    let (mut writer, mut reader) = open(4, 1);
    for number in 0..1000 {
        publish(&mut writer, number);
        assert_eq!(receive(&mut reader), Ok(number));
        assert_eq!(receive(&mut reader), Err(ReceiveError::Empty));
    }
    assert_eq!(reader.lost(), 0);
}

#[test]
fn samples_of_buffered_messages_do_not_change() {
    let (mut writer, mut reader) = open(16, 4);
    (0..500).for_each(|number| publish(&mut writer, number));
    let kept: Vec<_> = (0..4).map(|_| reader.receive_owned().unwrap()).collect();
    assert_eq!(reader.receive_owned().unwrap_err(), ReceiveError::Lost(496));
    (500..1000).for_each(|number| publish(&mut writer, number));
    for (number, sample) in kept.iter().enumerate() {
        assert_eq!(sample.bytes(), (number as u64).to_le_bytes());
    }
    drop(kept);
    drop(reader);
    assert_eq!(writer.reclaim(), 16);
}

#[test]
fn received_and_lost_add_up_across_threads() {
    let (mut writer, mut reader) = open(32, 8);
    const MESSAGES: u64 = 200_000;
    let publisher = std::thread::spawn(move || (0..MESSAGES).for_each(|number| publish(&mut writer, number)));
    let (mut received, mut next) = (0, 0);
    loop {
        match receive(&mut reader) {
            Ok(number) => {
                assert_eq!(number, next);
                received += 1;
                next += 1;
            }
            Err(ReceiveError::Lost(count)) => next += count,
            Err(ReceiveError::Ended) => break,
            Err(_) => std::thread::yield_now(),
        }
    }
    publisher.join().unwrap();
    assert_eq!(next, MESSAGES);
    assert_eq!(received + reader.lost(), MESSAGES);
}

/// Takes as many samples as it may, by every method, and then stalls.
fn hoard(reader: &mut Reader, kept: &mut Vec<RawSample>) {
    for way in 0..100 {
        let received = match way % 3 {
            0 => reader.receive().map(|message| message.into_sample()),
            _ => reader.receive_owned(),
        };
        match received {
            Ok(sample) => kept.push(sample),
            Err(ReceiveError::Lost(_)) => {}
            Err(_) => return,
        }
    }
}

#[test]
fn subscribers_that_drop_the_newest_stop_nobody_however_much_they_keep() {
    let lossy = |overflow, depth| ReaderOptions { overflow, depth, ..ReaderOptions::default() };
    for (subscribers, reuse, large, hoards, depth) in (1..=6_u32).flat_map(|subscribers| {
        (0..32_u32).map(move |bits| {
            let reuse = if bits & 1 == 0 { Reuse::Oldest } else { Reuse::Hottest };
            let depth = [None, Some(1), Some(7), Some(u32::MAX)][bits as usize >> 3];
            (subscribers, reuse, bits & 2 == 0, bits & 4 == 0, depth)
        })
    }) {
        let schema = Schema::named("test");
        let history = 3;
        let blocks = 12 * subscribers + 1 + history;
        let mut config = ChannelConfig::new(PublisherId::new(1), schema.clone());
        (config.block_size, config.reuse, config.history) = (64, reuse, history);
        // The messages need the scarcer block size.
        config.blocks = if large { 1000 } else { blocks };
        config.larger.extend(large.then_some(SizeClass { block_size: 128, blocks, max_blocks: blocks }));
        let len = if large { 100 } else { 1 };
        let mut writer = channel(config).unwrap();
        let channel = writer.channel().clone();
        let mut reliable = channel.join(&schema, ReaderOptions::default(), Signal::new()).unwrap();
        let (mut stalled, mut kept) = (Vec::new(), Vec::new());
        for number in 0..1000_u32 {
            if number % 5 == 0 && number / 5 < subscribers {
                // The first drops the newest. If they hoard, every second one drops the oldest, so that there
                // are samples of both kinds.
                let oldest = hoards && number % 10 == 5;
                let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
                stalled.push(channel.join(&schema, lossy(overflow, depth), Signal::new()).unwrap());
            }
            if hoards && number < 500 {
                stalled.iter_mut().for_each(|reader| hoard(reader, &mut kept));
            }
            let loan = writer.try_loan(len).unwrap_or_else(|error| {
                panic!("message {number} of {subscribers}, {reuse:?}, {large} {hoards} {depth:?}: {error}")
            });
            loan.publish(len).unwrap();
            assert_eq!(reliable.receive().map(|message| message.bytes().len()), Ok(len));
        }
    }
}

#[test]
fn blocks_that_one_subscriber_does_not_reserve_are_left_for_the_next() {
    let schema = Schema::named("test");
    let mut config = ChannelConfig::new(PublisherId::new(1), schema.clone());
    config.block_size = 64;
    let mut writer = channel(config).unwrap();
    let channel = writer.channel().clone();
    let mut join = |depth| {
        let options = ReaderOptions { overflow: Overflow::DropNewest, depth, ..ReaderOptions::default() };
        channel.join(&schema, options, Signal::new()).unwrap()
    };
    let keeps = |writer: &mut Writer, reader: &mut Reader| {
        (0..100).for_each(|number| publish(writer, number));
        (0..).take_while(|_| reader.receive().is_ok()).count()
    };
    for _ in 0..3 {
        let mut all = [None, Some(8), None, Some(9), None, Some(3), None].map(&mut join);
        assert_eq!(all.each_mut().map(|reader| keeps(&mut writer, reader)), [16, 8, 4, 4, 1, 1, 1]);
    }
}
