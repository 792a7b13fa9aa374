//! A subscriber that drops the newest keeps the oldest, however far the publisher goes on.

use blockcast_blocks::{
    ChannelConfig, Overflow, PublisherId, Reader, ReaderOptions, ReceiveError, Schema, Signal, Writer,
    channel,
};

fn open(blocks: u32, depth: u32) -> (Writer, Reader) {
    let schema = Schema::named("test");
    let config =
        ChannelConfig { block_size: 64, blocks, ..ChannelConfig::new(PublisherId::new(1), schema.clone()) };
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
fn the_oldest_stay_and_the_loss_is_told_after_them() {
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
fn one_that_keeps_up_loses_nothing_even_with_room_for_one() {
    let (mut writer, mut reader) = open(4, 1);
    for number in 0..1000 {
        publish(&mut writer, number);
        assert_eq!(receive(&mut reader), Ok(number));
        assert_eq!(receive(&mut reader), Err(ReceiveError::Empty));
    }
    assert_eq!(reader.lost(), 0);
}

#[test]
fn samples_of_what_was_kept_stay_as_they_were() {
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
