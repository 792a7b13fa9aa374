//! Which block is loaned next: [`Reuse`].

use std::collections::BTreeSet;

use blockcast_blocks::{
    ChannelConfig, LoanError, PublisherId, ReaderOptions, Reuse, Schema, Signal, SizeClass, channel,
};

const BLOCKS: u32 = 256;

/// Publishes messages of 8 bytes that are received at once. Returns how many blocks they were in.
fn blocks_used(block_size: usize, reuse: Reuse, larger: Vec<SizeClass>) -> usize {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
    (config.blocks, config.block_size, config.reuse, config.larger) = (BLOCKS, block_size, reuse, larger);
    let mut writer = channel(config).unwrap();
    let schema = writer.schema().clone();
    let mut reader = writer.channel().join(&schema, ReaderOptions::default(), Signal::new()).unwrap();
    let mut used = BTreeSet::new();
    for _ in 0..4 * BLOCKS {
        let loan = writer.try_loan(8).unwrap();
        used.insert(loan.offset());
        loan.publish(8).unwrap();
        drop(reader.receive().unwrap());
    }
    used.len()
}

#[test]
fn the_hottest_blocks_are_few_enough_for_the_first_level_cache() {
    for (block_size, most) in [(64, 64), (1024, 4), (4096, 1), (65536, 1)] {
        assert_eq!(blocks_used(block_size, Reuse::Hottest, vec![]), most, "of {block_size} bytes");
    }
    let larger = SizeClass { block_size: 4096, blocks: 2, max_blocks: 2 };
    assert_eq!(blocks_used(64, Reuse::Hottest, vec![larger]), 1, "the largest block counts");
    assert_eq!(blocks_used(65536, Reuse::BySize, vec![]), 1);
}

#[test]
fn the_oldest_blocks_are_used_in_turn() {
    assert_eq!(blocks_used(64, Reuse::Oldest, vec![]), BLOCKS as usize);
    assert_eq!(blocks_used(64, Reuse::BySize, vec![]), BLOCKS as usize);
}

#[test]
fn the_hottest_blocks_run_out_only_when_all_are_in_use() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
    (config.blocks, config.block_size, config.reuse) = (16, 64, Reuse::Hottest);
    let mut writer = channel(config).unwrap();
    let schema = writer.schema().clone();
    let mut reader = writer.channel().join(&schema, ReaderOptions::default(), Signal::new()).unwrap();
    for round in 1..=100 {
        let count = 1 + round % 16;
        for _ in 0..count {
            writer.try_loan(8).unwrap().publish(8).unwrap();
        }
        if count == 16 {
            assert_eq!(writer.try_loan(8).unwrap_err(), LoanError::Exhausted { blocks: 16 });
        }
        (0..count).for_each(|_| drop(reader.receive().unwrap()));
    }
}
