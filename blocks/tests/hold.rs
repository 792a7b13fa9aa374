//! Holding a message that was taken by descriptor.

use blockcast_blocks::{
    Bytes, ChannelConfig, Overflow, Payload, PublisherId, ReaderOptions, Sequence, Signal, Writer, channel,
};

fn publish(writer: &mut Writer, byte: u8) -> bool {
    let Ok(mut loan) = writer.try_loan(1) else { return false };
    loan[0] = byte;
    loan.publish(1).expect("fits");
    true
}

#[test]
fn a_held_message_outlives_later_ones_and_then_returns_its_block() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (4, 64);
    let mut writer = channel(config).expect("a channel");
    let options = ReaderOptions::default();
    let mut reader = writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins");
    for byte in 0..3 {
        assert!(publish(&mut writer, byte));
        reader.receive_descriptor().expect("a message");
    }
    assert!(reader.hold(Sequence::new(3)).is_none(), "not taken yet");
    let held = reader.hold(Sequence::new(1)).expect("attached");
    let again = reader.hold(Sequence::new(1)).expect("attached");
    reader.release_before(Sequence::new(3));
    assert!(reader.hold(Sequence::new(1)).is_none(), "released");
    for round in 0..100 {
        assert!(publish(&mut writer, 100 + round % 10));
        let taken = reader.receive_descriptor().expect("a message");
        reader.release_before(taken.sequence.next());
        assert_eq!((held.bytes(), again.bytes()), (&[1][..], &[1][..]));
    }
    drop(held);
    drop(reader);
    writer.reclaim();
    assert_eq!(writer.pool().limbo, 1, "the second hold counts on its own");
    drop(again);
    writer.reclaim();
    assert_eq!((writer.pool().limbo, writer.pool().free), (0, 4));
}

#[test]
fn messages_taken_in_one_call_stay_until_released_and_are_counted() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (4, 64);
    let mut writer = channel(config).expect("a channel");
    let join = |writer: &Writer, overflow| {
        let options = ReaderOptions { overflow, ..ReaderOptions::default() };
        writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins")
    };
    let mut reader = join(&writer, Overflow::Block);
    let mut taken = Vec::new();
    assert_eq!(reader.receive_descriptors(9, |message| taken.push(message)), (0, 0), "no messages yet");
    (0..4).for_each(|byte| assert!(publish(&mut writer, byte)));
    assert_eq!(reader.receive_descriptors(3, |message| taken.push(message)).0, 3, "no more than asked for");
    assert_eq!(reader.receive_descriptors(9, |message| taken.push(message)).0, 1);
    assert_eq!(taken.iter().map(|message| message.sequence.get()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(!publish(&mut writer, 4), "all blocks are attached");
    let held = reader.hold(Sequence::new(0)).expect("attached");
    reader.release_before(Sequence::new(2));
    assert!(publish(&mut writer, 4) && !publish(&mut writer, 5), "one is released, one is held");
    assert_eq!(held.bytes(), [0]);
    let stats = writer.channel().stats();
    assert_eq!(stats.subscribers[0].bytes, 4, "{stats:?}");

    let mut other = join(&writer, Overflow::DropOldest);
    drop(held);
    reader.release_before(Sequence::new(4));
    assert!(publish(&mut writer, 6));
    assert_eq!(other.receive_descriptors(9, |_| unreachable!("it may be overtaken")).0, 0);
    assert_eq!(other.receive_descriptor().expect("a message").len, 1);
}
