//! The parts of a channel besides its ring: charges, statistics, refused barriers.

use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::engine::reader::Reader;
use crate::engine::writer::{Writer, channel};
use crate::error::JoinError;
use crate::options::ReaderOptions;
use crate::primitive::AtomicU32;
use crate::sys::barrier::while_refused;

fn small() -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
    (config.blocks, config.block_size, config.max_subscribers) = (2, 64, 1);
    channel(config).unwrap()
}

fn join(writer: &Writer) -> Result<Reader, JoinError> {
    writer.channel().join(&Schema::named("test"), ReaderOptions::default(), Signal::new())
}

#[test]
fn the_memory_of_a_channel_includes_what_is_mapped_beside_the_blocks() {
    let config = |blocks, block_size| {
        let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
        (config.blocks, config.block_size) = (blocks, block_size);
        config
    };
    let bytes = |config: &ChannelConfig| config.memory().unwrap();
    for (blocks, block_size) in [(2, 1), (64, 1000), (1 << 20, 1)] {
        let config = config(blocks, block_size);
        let channel = channel(config.clone()).unwrap();
        let control = channel.channel().config.preamble(channel.channel().layout()).control_bytes().unwrap();
        let mapped = channel.channel().arena().len() as u64 + control;
        assert!(bytes(&config) >= mapped, "{blocks} of {block_size}");
    }
    assert!(bytes(&config(1 << 20, 1)) > 100 << 20, "a million blocks of a byte");
    assert!(matches!(config(1, 1).memory(), Err(ChannelError::Config(_))));
}

#[test]
fn a_charge_is_kept_until_the_last_sample_is_dropped() {
    let charge = Arc::new(());
    let mut writer = small();
    assert!(writer.channel().charge(Box::new(Arc::clone(&charge))).is_ok());
    assert!(writer.channel().charge(Box::new(())).is_err(), "it has one");
    let mut reader = join(&writer).unwrap();
    writer.try_loan(1).unwrap().publish(1).unwrap();
    drop(writer);
    let sample = reader.receive_owned().unwrap();
    drop(reader);
    assert_eq!(Arc::strong_count(&charge), 2);
    drop(sample);
    assert_eq!(Arc::strong_count(&charge), 1);
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_subscriber_that_is_refused_a_barrier_does_not_join_and_leaves_its_cursor() {
    let writer = small();
    assert_eq!(while_refused(|| join(&writer)).unwrap_err(), JoinError::Barrier);
    assert_eq!(writer.subscriber_count(), 0);
    assert!(writer.channel().stats().subscribers.is_empty());
    join(&writer).unwrap();
}

#[test]
fn a_waiter_that_is_refused_a_barrier_checks_again_instead_of_sleeping_forever() {
    let mut writer = small();
    let mut reader = join(&writer).unwrap();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert_eq!(while_refused(|| reader.poll_ready(&mut cx)), Poll::Pending);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the subscriber");
    assert_eq!(reader.poll_ready(&mut cx), Poll::Pending);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "it got its barrier and sleeps");

    for _ in 0..2 {
        writer.try_loan(1).unwrap().publish(1).unwrap();
    }
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(while_refused(|| writer.poll_loanable(&mut cx, 1)).is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 3, "the publisher");
}
