//! Holding a message that was taken by descriptor.

use blockcast_blocks::{
    Bytes, ChannelConfig, Payload, PublisherId, ReaderOptions, Sequence, Signal, Writer, channel,
};

fn publish(writer: &mut Writer, byte: u8) -> bool {
    let Ok(mut loan) = writer.try_loan(1) else { return false };
    loan[0] = byte;
    loan.publish(1).expect("fits");
    true
}

#[test]
fn a_held_message_stays_while_later_ones_are_released_and_its_block_comes_back_afterwards() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (4, 64);
    let mut writer = channel(config).expect("a channel");
    let options = ReaderOptions::default();
    let mut reader = writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins");
    for byte in 0..3 {
        assert!(publish(&mut writer, byte));
        reader.take().expect("a message");
    }
    assert!(reader.hold(Sequence::new(3)).is_none(), "not taken yet");
    let held = reader.hold(Sequence::new(1)).expect("attached");
    let again = reader.hold(Sequence::new(1)).expect("attached");
    reader.release_before(Sequence::new(3));
    assert!(reader.hold(Sequence::new(1)).is_none(), "released");
    for round in 0..100 {
        assert!(publish(&mut writer, 100 + round % 10));
        let taken = reader.take().expect("a message");
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
