//! Which messages a late subscriber starts with.

use blockcast_blocks::{
    Bytes, ChannelConfig, Overflow, Payload, PublisherId, ReaderOptions, ReceiveError, Reuse, Sequence,
    Signal, SizeClass, channel,
};

const BLOCKS: u32 = 8;

/// Returns the sequences that a subscriber receives if it joins with these options after `published`
/// messages.
fn start(config: &ChannelConfig, options: ReaderOptions, published: u64) -> Vec<u64> {
    let mut writer = channel(config.clone()).expect("a channel");
    for _ in 0..published {
        writer.try_loan(1).expect("nobody keeps blocks").publish(1).expect("fits");
    }
    let mut reader = writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins");
    let first = published - u64::from(config.history).min(options.history).min(published);
    assert_eq!(reader.next_sequence(), Sequence::new(first));
    let mut sequences = Vec::new();
    loop {
        match reader.receive() {
            Ok(message) => sequences.push(message.descriptor().sequence.get()),
            Err(ReceiveError::Empty) => return sequences,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_late_subscriber_gets_as_much_history_as_it_asks_for_and_exists() {
    let larger = vec![SizeClass { block_size: 128, blocks: BLOCKS, max_blocks: BLOCKS }];
    for (reuse, larger) in [
        (Reuse::Oldest, vec![]),
        (Reuse::Hottest, vec![]),
        (Reuse::BySize, vec![]),
        (Reuse::Oldest, larger.clone()),
        (Reuse::Hottest, larger),
    ] {
        for history in [0, 1, 2, BLOCKS - 2] {
            let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
            (config.blocks, config.block_size, config.history) = (BLOCKS, 64, history);
            (config.reuse, config.larger) = (reuse, larger.clone());
            for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
                for asked in [0, 1, 2, u64::from(BLOCKS - 2), u64::from(BLOCKS), u64::MAX] {
                    for published in [0, 1, 2, 5, 8, 9, 100] {
                        let depth = Some(BLOCKS);
                        let options =
                            ReaderOptions { overflow, depth, history: asked, ..ReaderOptions::default() };
                        let count = u64::from(history).min(asked).min(published);
                        if overflow == Overflow::DropNewest
                            && count > u64::from(((BLOCKS - history) / 2).max(1))
                        {
                            continue; // more than it keeps
                        }
                        let expected: Vec<u64> = (published - count..published).collect();
                        let case =
                            format!("{reuse:?} {overflow:?}: {asked} of {history}, {published} published");
                        assert_eq!(start(&config, options, published), expected, "{case}");
                    }
                }
            }
        }
    }
}
