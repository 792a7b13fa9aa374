//! A writer and a direct publisher, in turns.

use proptest::prelude::*;

use super::*;
use crate::channel;
use crate::descriptor::Validity;
use crate::engine::config::ChannelConfig;
use crate::engine::reader::Reader;
use crate::engine::wake::signal::Signal;
use crate::options::{Overflow, ReaderOptions, Reuse, SizeClass, Timestamps};
use crate::{LoanError, PublisherId, RawSample, ReceiveError, Schema, Sequence, Writer};

fn config(blocks: u32) -> ChannelConfig {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("direct"));
    (config.blocks, config.block_size, config.timestamps) = (blocks, 64, Timestamps::Off);
    config
}

fn direct(writer: &Writer) -> DirectPublisher {
    // SAFETY: the tests keep the writer for as long as they publish directly.
    unsafe { DirectPublisher::new(&writer.direct_publisher().expect("one size, oldest first")) }
        .expect("no null pointers")
}

/// Reserves up to `room` blocks; returns how many.
fn reserve(writer: &mut Writer, direct: &mut DirectPublisher, room: u32) -> u32 {
    // SAFETY: every test recalls before its writer publishes anything else, adopts before it does anything
    // else, and uses both in one thread, one after the other.
    let (first, count) = unsafe { writer.reserve_direct(room) }.expect("a block is free");
    direct.refresh();
    direct.take_up(first, count);
    count
}

/// Publishes `len` bytes of the next block.
fn publish(direct: &mut DirectPublisher, len: usize) -> usize {
    assert!(direct.has_block());
    let offset = direct.block();
    assert!(!direct.publish(offset, len), "nobody sleeps");
    offset
}

fn join(writer: &Writer, options: ReaderOptions) -> Reader {
    writer.channel().join(&Schema::named("direct"), options, Signal::new()).expect("there is room")
}

#[test]
fn directly_published_messages_are_received_in_place_and_their_blocks_come_back() {
    let mut writer = channel(config(8)).expect("a small channel");
    let mut reader = join(&writer, ReaderOptions::default());
    let mut direct = direct(&writer);
    for round in 0..100 {
        for _ in 0..reserve(&mut writer, &mut direct, 4) {
            direct.stamp(round + 1);
            let offset = publish(&mut direct, round as usize % 64);
            let message = reader.receive().expect("it was published");
            let descriptor = message.descriptor();
            assert_eq!((descriptor.offset as usize, descriptor.validity), (offset, Validity::Valid));
            assert_eq!(u64::from(descriptor.len), round % 64);
            let sequence = Sequence::new(direct.sequence() - 1);
            assert_eq!((descriptor.sequence, descriptor.time.as_nanos()), (sequence, round + 1));
        }
        assert!(!direct.has_block());
    }
    writer.adopt();
    assert_eq!((writer.published().0, writer.reserved_direct()), (direct.sequence(), 0));
    assert_eq!(writer.reclaim(), 8);
}

#[test]
fn reserved_blocks_are_free_ones_that_nobody_else_gets() {
    let mut writer = channel(config(16)).expect("a small channel");
    let mut reader = join(&writer, ReaderOptions::default());
    let mut direct = direct(&writer);
    assert_eq!(reserve(&mut writer, &mut direct, 9), 4, "of sixteen");
    assert_eq!((writer.pool().free, writer.reserved_direct()), (16, 4));
    let others: Vec<_> = (0..12).map(|_| writer.try_loan(64).expect("free").suspend()).collect();
    assert_eq!(writer.try_loan(64).err(), Some(LoanError::Exhausted { blocks: 16 }));
    assert_eq!((writer.pool().free, writer.channel().stats().loaned), (4, 12));
    let mut offsets: Vec<_> = (0..4).map(|_| publish(&mut direct, 8)).collect();
    writer.adopt();
    assert_eq!((writer.published(), writer.reserved_direct(), writer.pool().free), ((4, 32), 0, 0));
    // SAFETY: as in `reserve`.
    assert_eq!(unsafe { writer.reserve_direct(1) }.err(), Some(LoanError::Exhausted { blocks: 16 }));
    offsets.extend(others.iter().map(|loan| loan.offset() as usize));
    offsets.sort_unstable();
    assert_eq!(offsets, (0..16).map(|block| block * 64).collect::<Vec<_>>());
    for loan in others {
        drop(writer.resume(loan));
    }
    while reader.receive().is_ok() {}
    assert_eq!(writer.reclaim(), 16);
}

#[test]
fn a_direct_publisher_and_its_writer_publish_in_turns() {
    let mut writer = channel(config(8)).expect("a small channel");
    let mut direct = direct(&writer);
    for round in 0..50 {
        assert_eq!(reserve(&mut writer, &mut direct, 2), 2);
        let _ = publish(&mut direct, 3);
        assert_eq!(writer.reserved_direct(), 2, "as far as is known");
        writer.recall_direct();
        assert_eq!(writer.reserved_direct(), 0);
        let sequence = writer.try_loan(5).expect("one is free").publish(5).expect("it fits");
        assert_eq!(sequence.get(), 2 * round + 1);
        direct.refresh();
        assert_eq!(
            (direct.sequence(), writer.published()),
            (2 * round + 2, (2 * round + 2, 8 * (round + 1)))
        );
    }
    assert_eq!(writer.reclaim(), 8, "with no subscriber all are free");
}

#[test]
fn the_next_reserved_block_can_be_taken_back_and_reserved_again() {
    let mut writer = channel(config(8)).expect("a small channel");
    let mut direct = direct(&writer);
    assert_eq!(reserve(&mut writer, &mut direct, 2), 2);
    let (word, other) = (word_at(direct.block(), 0), word_at(64 * 8, 0));
    assert!(writer.take_direct(other).is_none(), "no block of the channel");
    let loan = writer.take_direct(word | 5).expect("the next one, whatever the length");
    assert!(writer.take_direct(word).is_none(), "another one is the next");
    // SAFETY: taken last, and nothing was done since.
    unsafe { writer.reserve_again(loan) };
    let loan = writer.take_direct(word).expect("as before");
    let offset = loan.offset();
    let sequence = writer.resume(loan).expect("its own").publish(1).expect("it fits");
    direct.refresh();
    assert_ne!(publish(&mut direct, 1) as u64, offset);
    assert_eq!((sequence.get(), direct.has_block(), direct.sequence()), (0, false, 2));
    writer.adopt();
    assert_eq!((writer.reserved_direct(), writer.reclaim()), (0, 8));
    assert!(writer.take_direct(word).is_none(), "none is reserved");
}

/// An event of a channel with a direct publisher.
#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve(u32),
    Directly,
    /// By the writer, after a recall.
    Otherwise,
    /// A loan is put aside.
    SetAside,
    Resume(usize),
    /// By one of the subscribers, which may keep the message.
    Receive(usize, bool),
    Drop(usize),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1_u32..6).prop_map(Step::Reserve),
        6 => Just(Step::Directly),
        1 => Just(Step::Otherwise),
        1 => Just(Step::SetAside),
        1 => any::<usize>().prop_map(Step::Resume),
        6 => (0_usize..2, any::<bool>()).prop_map(|(reader, keep)| Step::Receive(reader, keep)),
        2 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Look),
    ]
}

/// A sample shows its own message, whatever was published since.
fn check(sample: &RawSample) {
    assert_eq!(sample.bytes(), sample.descriptor().sequence.get().to_le_bytes());
}

proptest! {
    #[test]
    fn every_message_is_intact_whoever_publishes_and_whatever_is_kept(
        steps in proptest::collection::vec(step(), 1..400), hottest in any::<bool>()
    ) {
        const BLOCKS: u32 = 16;
        let mut config = config(BLOCKS);
        config.reuse = if hottest { Reuse::Hottest } else { Reuse::Oldest };
        let mut writer = channel(config).expect("a small channel");
        let slow = ReaderOptions { overflow: Overflow::DropOldest, ..ReaderOptions::default() };
        let mut readers = [join(&writer, ReaderOptions::default()), join(&writer, slow)];
        let mut direct = direct(&writer);
        let (mut aside, mut samples) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Reserve(room) => {
                    // SAFETY: as in `reserve`; the other steps recall or adopt first.
                    if let Ok((first, count)) = unsafe { writer.reserve_direct(room) } {
                        direct.refresh();
                        direct.take_up(first, count);
                    } else {
                        direct.take_up(0, 0);
                    }
                }
                Step::Directly => {
                    if direct.has_block() {
                        let offset = direct.block();
                        let start = writer.channel().arena().base().as_ptr().wrapping_add(offset);
                        // SAFETY: a block of the arena, which was reserved and is written here alone.
                        unsafe { start.cast::<[u8; 8]>().write(direct.sequence().to_le_bytes()) };
                        prop_assert!(!direct.publish(offset, 8), "nobody sleeps");
                    }
                }
                Step::Otherwise => {
                    writer.recall_direct();
                    let sequence = writer.next_sequence();
                    if let Ok(mut loan) = writer.try_loan(8) {
                        loan[..8].copy_from_slice(&sequence.get().to_le_bytes());
                        prop_assert_eq!(loan.publish(8), Ok(sequence));
                    }
                    direct.refresh();
                    direct.take_up(0, 0);
                }
                Step::SetAside => {
                    writer.adopt();
                    aside.extend(writer.try_loan(8).ok().map(|loan| loan.suspend()));
                }
                Step::Resume(which) if !aside.is_empty() => {
                    writer.adopt();
                    drop(writer.resume(aside.swap_remove(which % aside.len())));
                }
                Step::Receive(reader, keep) => {
                    if let Ok(sample) = readers[reader].receive_owned() {
                        check(&sample);
                        samples.extend(keep.then_some(sample));
                    }
                }
                Step::Drop(which) if !samples.is_empty() => drop(samples.swap_remove(which % samples.len())),
                Step::Look => {
                    writer.adopt();
                    let _ = writer.reclaim();
                }
                Step::Resume(_) | Step::Drop(_) => {}
            }
            samples.iter().for_each(check);
        }
        writer.recall_direct();
        samples.clear();
        for loan in aside {
            drop(writer.resume(loan));
        }
        for reader in &mut readers {
            while !matches!(reader.receive_owned(), Err(ReceiveError::Empty)) {}
        }
        writer.reclaim();
        let mut all: Vec<u64> = Vec::new();
        while let Ok(loan) = writer.try_loan(8) {
            all.push(loan.suspend().offset() / 64);
        }
        all.sort_unstable();
        prop_assert_eq!(all, (0..u64::from(BLOCKS)).collect::<Vec<_>>(), "all come back, each once");
    }
}

#[test]
fn with_hottest_reuse_one_block_is_reserved_at_a_time_the_hottest_one() {
    let mut hottest = config(8);
    (hottest.reuse, hottest.block_size) = (Reuse::Hottest, 4096);
    let mut writer = channel(hottest).expect("a small channel");
    let mut reader = join(&writer, ReaderOptions::default());
    let mut direct = direct(&writer);
    let mut first = None;
    for _ in 0..100 {
        assert_eq!(reserve(&mut writer, &mut direct, 9), 1);
        let offset = publish(&mut direct, 8);
        assert_eq!(*first.get_or_insert(offset), offset, "it has come back");
        let _ = reader.receive().expect("it was published");
    }
}

#[test]
fn blocks_of_several_sizes_cannot_be_published_directly() {
    let mut sizes = config(4);
    sizes.larger = vec![SizeClass { block_size: 4096, blocks: 2, max_blocks: 2 }];
    assert!(channel(sizes).expect("a small channel").direct_publisher().is_none());
}
