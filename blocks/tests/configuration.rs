//! Numbers out of range in a configuration are errors that name the field.

use blockcast_blocks::descriptor::{MAX_ARENA_LEN, MAX_MESSAGE_LEN};
use blockcast_blocks::{
    Bytes, ChannelConfig, ChannelError, LoanError, Overflow, Payload, PublisherId, ReaderOptions,
    ReceiveError, Signal, SizeClass, Writer, WriterOptions, channel,
};

fn config() -> ChannelConfig {
    let mut config = ChannelConfig::new(PublisherId::new(u64::MAX), Bytes::schema());
    (config.blocks, config.block_size) = (4, 64);
    config
}

fn with(options: WriterOptions) -> ChannelConfig {
    ChannelConfig { options, ..config() }
}

/// Returns the error's text, or `None` if the channel opens and works.
fn refused(config: ChannelConfig) -> Option<String> {
    match channel(config) {
        Ok(mut writer) => {
            publish(&mut writer);
            None
        }
        Err(ChannelError::Config(text)) => Some(text),
        Err(other) => Some(other.to_string()),
    }
}

fn publish(writer: &mut Writer) {
    let mut loan = writer.try_loan(1).expect("a block");
    loan[0] = 7;
    loan.publish(1).expect("fits");
}

#[test]
fn every_number_out_of_range_is_refused_by_name() {
    let extremes = [0, 1, 2, u32::MAX / 2, u32::MAX - 1, u32::MAX];
    let out_of = |text: &str, number: u32| text.contains(&number.to_string());
    for number in extremes {
        let blocks = refused(with(WriterOptions { blocks: number, ..config().options }));
        assert_eq!(blocks.is_none(), number == 2, "{blocks:?}");
        assert!(blocks.is_none_or(|text| text.contains("blocks is") && out_of(&text, number)));
        let max = refused(with(WriterOptions { max_blocks: Some(number), ..config().options }));
        assert!(max.is_some_and(|text| text.contains("max_blocks is") && out_of(&text, number)));
        let history = refused(with(WriterOptions { history: number, ..config().options }));
        assert_eq!(history.is_none(), number <= 2, "{history:?}");
        let subscribers = refused(with(WriterOptions { max_subscribers: number, ..config().options }));
        assert_eq!(subscribers.is_none(), (1..=2).contains(&number), "{subscribers:?}");
        let larger = SizeClass { block_size: 128, blocks: number, max_blocks: number };
        let larger = refused(with(WriterOptions { larger: vec![larger], ..config().options }));
        assert_eq!(larger.is_none(), number == 2, "{larger:?}");
    }
    for bytes in [0, MAX_MESSAGE_LEN + 1, usize::MAX / 64, isize::MAX as usize, usize::MAX] {
        assert!(refused(with(WriterOptions { block_size: bytes, ..config().options })).is_some(), "{bytes}");
        let larger = vec![SizeClass { block_size: bytes, blocks: 2, max_blocks: 2 }];
        assert!(refused(with(WriterOptions { larger, ..config().options })).is_some(), "{bytes}");
    }
    let many = (1..40_u32).map(|size| SizeClass {
        block_size: 64 + 64 * size as usize,
        blocks: 2,
        max_blocks: 1 << 20,
    });
    assert!(refused(with(WriterOptions { larger: many.collect(), ..config().options })).is_some());
    let too_much = with(WriterOptions { block_size: MAX_MESSAGE_LEN, blocks: 65, ..config().options });
    assert!(refused(too_much).is_some_and(|text| text.contains(&MAX_ARENA_LEN.to_string())));
}

#[test]
fn the_largest_numbers_make_a_channel_or_fail_with_a_system_error() {
    let large = [
        with(WriterOptions { block_size: MAX_MESSAGE_LEN, blocks: 64, ..config().options }),
        with(WriterOptions { blocks: 1 << 20, ..config().options }),
        with(WriterOptions { max_subscribers: 65_536, ..config().options }),
    ];
    for config in large {
        let largest = config.block_size;
        match channel(config) {
            Ok(mut writer) => {
                publish(&mut writer);
                assert!(writer.block_size() >= largest && writer.block_size() <= MAX_MESSAGE_LEN);
                let needed = writer.block_size() + 1;
                let refused = writer.try_loan(needed).map(drop);
                assert_eq!(refused, Err(LoanError::TooLarge { needed, block_size: needed - 1 }));
                assert!(writer.try_loan(usize::MAX).is_err());
            }
            Err(error) => assert!(matches!(error, ChannelError::System { .. }), "{error}"),
        }
    }
}

#[test]
fn a_message_of_the_largest_size_is_received_with_its_length() {
    let config = with(WriterOptions { block_size: MAX_MESSAGE_LEN, blocks: 2, ..config().options });
    let mut writer = match channel(config) {
        Ok(writer) => writer,
        Err(error) => return assert!(matches!(error, ChannelError::System { .. }), "{error}"),
    };
    let options = ReaderOptions::default();
    let mut reader = writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins");
    for _ in 0..2 {
        let mut loan = writer.try_loan(MAX_MESSAGE_LEN).expect("a block");
        // Only the last byte is written: untouched pages take no memory.
        loan[MAX_MESSAGE_LEN - 1] = 9;
        loan.publish(MAX_MESSAGE_LEN).expect("fits");
        let message = reader.receive().expect("a message");
        assert_eq!((message.bytes().len(), message.bytes()[MAX_MESSAGE_LEN - 1]), (MAX_MESSAGE_LEN, 9));
    }
    let bytes = 2 * MAX_MESSAGE_LEN as u64;
    let stats = writer.channel().stats();
    assert_eq!((stats.bytes, stats.subscribers[0].bytes), (bytes, bytes));
}

#[test]
fn subscribers_may_ask_for_any_depth_and_history() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        for depth in [Some(0), Some(1), Some(u32::MAX), None] {
            for history in [0, 1, u64::MAX] {
                let mut writer =
                    channel(with(WriterOptions { history: 1, ..config().options })).expect("a channel");
                publish(&mut writer);
                let options = ReaderOptions { overflow, depth, history, ..ReaderOptions::default() };
                let mut reader =
                    writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins");
                let early = u64::from(history > 0);
                publish(&mut writer);
                let (mut received, mut lost) = (0, 0);
                loop {
                    match reader.receive().map(|message| assert_eq!(message.bytes(), [7])) {
                        Ok(()) => received += 1,
                        Err(ReceiveError::Lost(count)) => lost += count,
                        Err(error) => break assert_eq!(error, ReceiveError::Empty),
                    }
                }
                assert_eq!(received + lost, 1 + early, "{options:?}");
                assert!(received >= 1 && reader.receive_batch(0).is_err());
            }
        }
    }
}
