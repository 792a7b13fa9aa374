//! A channel that is opened a second time in the same process, as another process would open it.

use std::sync::Arc;
use std::task::Waker;

use super::*;
use crate::engine::channel::Channel;
use crate::engine::config::ChannelConfig;
use crate::engine::reader::Reader;
use crate::engine::wake::signal::Signal;
use crate::engine::writer::{Writer, channel};
use crate::error::{JoinError, LoanError, ReceiveError};
use crate::options::{Overflow, ReaderOptions};
use crate::payload::schema::Schema;
use crate::primitive::{LoadAcquire as _, Ordering};
use crate::units::{PublisherId, Sequence};

mod hostile;
mod sleepers;

const BLOCKS: u8 = 16;

fn config() -> ChannelConfig {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
    (config.blocks, config.block_size, config.max_subscribers) = (u32::from(BLOCKS), 64, 2);
    config
}

/// A publisher, and its channel as opened by another process and attached.
struct Pair {
    writer: Writer,
    remote: Arc<Channel>,
    annex: AnnexId,
    /// The ends of the bell in the publisher's process and in the other one.
    publisher_bell: Bell,
    bell: Bell,
}

impl Pair {
    fn new(terms: &AnnexTerms, trust: Trust) -> Self {
        Self::of(channel(config()).unwrap(), terms, trust)
    }

    fn of(writer: Writer, terms: &AnnexTerms, trust: Trust) -> Self {
        let (publisher_bell, bell) = Bell::pair().unwrap();
        let files = writer.channel().share().unwrap();
        // SAFETY: the annex is attached before anybody joins, and detached after nobody reads any more.
        let opened = unsafe { Channel::open_remote(files, config(), terms, trust, bell.clone()) };
        let (remote, file) = opened.unwrap();
        let annex = writer.channel().attach(file, terms.clone(), publisher_bell.clone()).unwrap();
        Self { writer, remote, annex, publisher_bell, bell }
    }

    fn publish(&mut self, text: &[u8]) -> Result<(), LoanError> {
        let mut loan = self.writer.try_loan(text.len())?;
        loan[..text.len()].copy_from_slice(text);
        // SAFETY: any bytes are a message of this schema.
        unsafe { loan.publish_valid(text.len()) }.map(|_| ())
    }

    fn join(&self, overflow: Overflow) -> Reader {
        self.join_with(options(overflow)).unwrap()
    }

    fn join_with(&self, options: ReaderOptions) -> Result<Reader, JoinError> {
        self.remote.join(&Schema::named("test"), options, Signal::new())
    }

    /// Publishes until no block is free, because a reliable subscriber receives nothing. Returns the number
    /// of messages.
    fn fill(&mut self) -> u8 {
        (0..=BLOCKS).take_while(|&number| self.publish(&[number]).is_ok()).count() as u8
    }
}

fn options(overflow: Overflow) -> ReaderOptions {
    let depth = (overflow == Overflow::DropNewest).then_some(4);
    ReaderOptions { overflow, depth, ..ReaderOptions::default() }
}

/// However old the head is that the subscriber knows.
#[test]
fn a_batch_has_every_message_that_was_published_before() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let mut pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
        let mut reader = pair.join(overflow);
        (0..2).for_each(|number| pair.publish(&[number]).unwrap());
        assert_eq!(reader.receive().unwrap().bytes(), [0], "it knows of two");
        (2..4).for_each(|number| pair.publish(&[number]).unwrap());
        let batch = reader.receive_batch(9).unwrap();
        assert!(batch.iter().map(|(_, bytes)| bytes).eq([[1], [2], [3]]), "{overflow:?}");
    }
}

#[test]
fn a_remote_subscriber_of_every_pace_receives_what_one_in_this_process_does() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
        let here = pair.writer.channel().join(&Schema::named("test"), options(overflow), Signal::new());
        let mut here = here.unwrap();
        let mut there = pair.join(overflow);
        assert_eq!(pair.writer.subscriber_count(), 2);
        for number in 0..100 {
            pair.publish(&[number; 7]).unwrap();
            match number % 3 {
                0 => assert_eq!(here.receive().unwrap().bytes(), there.receive().unwrap().bytes()),
                1 => {
                    let (here, there) = (here.receive_owned().unwrap(), there.receive_owned().unwrap());
                    assert_eq!(here.descriptor(), there.descriptor());
                    assert_eq!(here.bytes(), there.bytes());
                }
                _ => {
                    let (here, there) = (here.receive_batch(9).unwrap(), there.receive_batch(9).unwrap());
                    assert!(here.iter().eq(there.iter()));
                    assert_eq!(there.len(), 1);
                }
            }
            assert_eq!(there.receive().unwrap_err(), ReceiveError::Empty);
        }
        for _ in 0..3 {
            pair.publish(b"last").unwrap();
        }
        let stats = pair.writer.channel().stats();
        assert_eq!(stats.subscribers[0].received, stats.subscribers[1].received);
        drop(pair.writer);
        for _ in 0..3 {
            assert_eq!(there.receive().unwrap().bytes(), b"last");
        }
        assert_eq!(there.receive().unwrap_err(), ReceiveError::Ended);
        assert!(there.has_ended() && pair.remote.is_closed());
    }
}

#[test]
fn a_message_by_descriptor_can_be_held_and_keeps_its_block() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
    let mut reader = pair.join(Overflow::Block);
    pair.publish(b"held").unwrap();
    let descriptor = reader.receive_descriptor().unwrap();
    assert_eq!(descriptor.validity, crate::descriptor::Validity::Unchecked);
    let sample = reader.hold(descriptor.sequence).unwrap();
    reader.release_before(descriptor.sequence.next());
    assert_eq!(pair.fill(), BLOCKS - 1, "all but one");
    drop(reader);
    assert_eq!(pair.writer.reclaim(), u32::from(BLOCKS) - 1);
    assert_eq!(sample.bytes(), b"held");
    assert_eq!(pair.writer.pool().limbo, 1);
    drop(sample);
    assert_eq!(pair.writer.reclaim(), u32::from(BLOCKS));
}

#[test]
fn trust_decides_whether_messages_count_as_checked() {
    use crate::descriptor::Validity::{Unchecked, Valid};

    for (trust, expected) in [(Trust::Shared, Valid), (Trust::Checked, Unchecked)] {
        for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
            let mut pair = Pair::new(&AnnexTerms::default(), trust);
            let mut reader = pair.join(overflow);
            for _ in 0..3 {
                pair.publish(b"valid").unwrap();
            }
            assert_eq!(reader.receive().unwrap().validity(), expected);
            assert_eq!(reader.receive_owned().unwrap().validity(), expected);
            assert_eq!(reader.receive_batch(1).unwrap().iter().next().unwrap().0.validity, expected);
        }
    }
}

#[test]
fn detaching_a_process_frees_all_that_it_kept() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
        let mut reader = pair.join(overflow);
        for _ in 0..3 {
            pair.publish(b"kept").unwrap();
        }
        let samples = [reader.receive_owned().unwrap(), reader.receive_owned().unwrap()];
        assert_eq!(pair.fill() < BLOCKS, overflow == Overflow::Block, "{overflow:?}");
        assert!(pair.writer.reclaim() < u32::from(BLOCKS));
        // Nobody has dropped the reader and the samples, as if the process had been killed.
        let stats = pair.writer.channel().detach(pair.annex);
        assert_eq!(stats.readers.len(), 1);
        assert_eq!(pair.writer.reclaim(), u32::from(BLOCKS), "{overflow:?}");
        assert_eq!((pair.writer.subscriber_count(), pair.writer.pool().limbo), (0, 0));
        assert_eq!(pair.writer.channel().detach(pair.annex), AnnexStats::default(), "it is detached");
        drop((reader, samples));
    }
}

#[test]
fn a_publisher_rings_a_bell_once_for_each_wait_and_not_for_nothing() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    pair.publisher_bell.drain();
    pair.publish(b"1").unwrap();
    assert!(!pair.bell.drain(), "nobody waits");
    assert!(reader.is_ready());
    drop(reader.receive().unwrap());
    for _ in 0..3 {
        reader.arm(Waker::noop());
        assert!(!reader.is_ready());
        pair.publish(b"2").unwrap();
        assert!(pair.bell.drain());
        pair.publish(b"3").unwrap();
        assert!(!pair.bell.drain(), "it was rung for this wait");
        pair.remote.bell_rang();
        for _ in 0..2 {
            drop(reader.receive().unwrap());
        }
    }
    assert!(!pair.publisher_bell.drain(), "the publisher does not wait");
    reader.arm(Waker::noop());
    drop(pair.writer);
    assert!(pair.bell.drain(), "the end");
}

#[test]
fn a_subscriber_rings_the_publishers_bell_once_for_each_wait_and_when_it_joins_or_leaves() {
    use std::task::Context;

    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    assert!(pair.publisher_bell.drain(), "it joined");
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert_eq!(pair.fill(), BLOCKS);
        drop(reader.receive().unwrap());
        assert!(!pair.publisher_bell.drain(), "the publisher does not wait");
        pair.publish(b"one more").unwrap();
        assert!(pair.writer.poll_loanable(&mut cx, 1).is_pending());
        drop(reader.receive().unwrap());
        assert!(pair.publisher_bell.drain());
        drop(reader.receive().unwrap());
        assert!(!pair.publisher_bell.drain(), "it was rung for this wait");
        pair.writer.channel().bell_rang();
        assert!(pair.writer.poll_loanable(&mut cx, 1).is_ready());
        while reader.receive().is_ok() {}
    }
    drop(reader);
    assert!(pair.publisher_bell.drain(), "it left");
}

#[test]
fn the_processes_that_hold_a_publisher_back_are_named_while_it_finds_no_block() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    let overtakable = pair.join(Overflow::DropOldest);
    let holding = |pair: &Pair| pair.writer.channel().held_back_by();
    for number in 0..BLOCKS {
        pair.publish(&[number]).unwrap();
    }
    assert_eq!(holding(&pair), [], "it has not tried to publish more");
    for oldest in 0..3 {
        assert!(pair.publish(b"no block").is_err());
        assert_eq!(holding(&pair), [(pair.annex, Sequence::new(oldest))]);
        drop(reader.receive().unwrap());
        assert_eq!(holding(&pair), [], "it has moved");
        pair.publish(b"one more").unwrap();
        assert_eq!(holding(&pair), [], "it was published");
    }
    assert!(pair.publish(b"no block").is_err());
    drop(reader.receive().unwrap());
    let loan = pair.writer.try_loan(1).unwrap().suspend();
    assert_eq!(holding(&pair), [], "it has a block");
    assert!(pair.publish(b"no block").is_err());
    assert_eq!(holding(&pair), [(pair.annex, Sequence::new(4))]);
    assert_eq!(pair.remote.held_back_by(), [], "its publisher is elsewhere");
    pair.writer.channel().detach(pair.annex);
    assert_eq!(holding(&pair), []);
    drop((loan, overtakable));
}

#[test]
fn a_process_that_may_not_block_has_no_reliable_subscribers() {
    let terms = AnnexTerms { may_block: false, ..AnnexTerms::default() };
    let mut pair = Pair::new(&terms, Trust::Shared);
    assert_eq!(pair.join_with(ReaderOptions::default()).unwrap_err(), JoinError::MayNotBlock);
    let mut reader = pair.join(Overflow::DropOldest);
    for number in 0..100 {
        pair.publish(&[number]).unwrap();
    }
    let lost = reader.receive().unwrap_err();
    assert!(matches!(lost, ReceiveError::Lost(_)), "{lost}");
}

#[test]
fn a_process_has_as_many_subscribers_as_seats() {
    let pair = Pair::new(&AnnexTerms { seats: 2, ..AnnexTerms::default() }, Trust::Shared);
    let readers = [pair.join(Overflow::Block), pair.join(Overflow::DropOldest)];
    let full = pair.join_with(ReaderOptions::default()).unwrap_err();
    assert_eq!(full, JoinError::Full { limit: 2 });
    drop(readers);
    pair.join(Overflow::DropNewest);
}

#[test]
fn a_publisher_killed_while_it_reclaims_leaves_its_messages() {
    for overflow in [Overflow::Block, Overflow::DropNewest] {
        let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
        let mut reader = pair.join(overflow);
        for number in 0..4 {
            pair.publish(&[number]).unwrap();
        }
        // It has announced the watermark, and listed nothing yet.
        pair.writer.channel().control().header().state.watermark.store(4, Ordering::Relaxed);
        if overflow == Overflow::DropNewest {
            assert_eq!(reader.receive().unwrap_err(), ReceiveError::Empty, "not settled");
        }
        pair.remote.publisher_is_gone();
        for number in 0..4 {
            assert_eq!(reader.receive().unwrap().bytes(), [number], "{overflow:?}");
        }
        assert_eq!(reader.receive().unwrap_err(), ReceiveError::Ended);
        assert!(pair.remote.is_closed() && !pair.writer.channel().is_closed());
    }
}

#[test]
fn bytes_of_a_message_that_was_never_published_do_not_count() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    for number in 0..20_u8 {
        pair.publish(&vec![0; usize::from(number)]).unwrap();
    }
    let exact = (0..20).sum();
    let header = pair.writer.channel().control().header();
    assert_eq!(header.head.bytes.load_acquire(), exact);
    // Killed after it has counted the bytes of one message or of a batch of two, and at any other time.
    for (sequence, len) in [(20, 33), (21, 44)] {
        let word = crate::descriptor::pack(1, len, crate::descriptor::Validity::Valid);
        pair.writer.channel().control().slot(sequence).word.store(word, Ordering::Relaxed);
    }
    for bytes in [exact, exact + 33, exact + 77] {
        header.head.bytes.store(bytes, Ordering::Relaxed);
        assert_eq!(pair.remote.stats().bytes, bytes, "the publisher lives");
    }
    pair.remote.publisher_is_gone();
    for bytes in [exact, exact + 33, exact + 77] {
        header.head.bytes.store(bytes, Ordering::Relaxed);
        assert_eq!(pair.remote.stats().bytes, exact);
    }
}

#[test]
fn samples_stay_readable_after_the_publisher_and_both_channels_are_gone() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    pair.publish(b"kept").unwrap();
    let sample = reader.receive_owned().unwrap();
    pair.remote.publisher_is_gone();
    drop((reader, pair));
    assert_eq!(sample.bytes(), b"kept");
}

#[test]
fn a_channel_is_shared_by_its_publisher_only_and_while_there_is_one() {
    let pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    assert_eq!(pair.remote.share().unwrap_err(), ShareError::Remote);
    let again = pair.remote.attach(annex_of(&pair), AnnexTerms::default(), Bell::pair().unwrap().0);
    assert_eq!(again.unwrap_err(), AnnexError::Remote);
    let (annex, channel) = (annex_of(&pair), Arc::clone(pair.writer.channel()));
    drop(pair.writer);
    assert_eq!(channel.share().unwrap_err(), ShareError::Ended);
    let late = channel.attach(annex, AnnexTerms::default(), Bell::pair().unwrap().0);
    assert_eq!(late.unwrap_err(), AnnexError::Ended);
}

/// Returns another annex for the channel.
fn annex_of(pair: &Pair) -> std::os::fd::OwnedFd {
    let files = pair.writer.channel().share().unwrap();
    let (terms, bell) = (AnnexTerms::default(), Bell::pair().unwrap().0);
    // SAFETY: nobody joins.
    unsafe { Channel::open_remote(files, config(), &terms, Trust::Checked, bell) }.unwrap().1
}
