//! A waker that panics is nothing to whoever wakes it, nor to others that are to be woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};

use blockcast_blocks::{
    Bytes, Channel, ChannelConfig, Payload, PublisherId, Reader, ReaderOptions, Signal, Writer, channel,
};

/// Counts how often it is woken, and panics if it is to.
struct Woken {
    panics: bool,
    times: AtomicU32,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "a waker with a mistake");
    }
}

fn woken(panics: bool) -> Arc<Woken> {
    Arc::new(Woken { panics, times: AtomicU32::new(0) })
}

fn open() -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (2, 64);
    channel(config).expect("a channel")
}

fn join(channel: &Arc<Channel>) -> Reader {
    channel.join(&Bytes::schema(), ReaderOptions::default(), Signal::new()).expect("joins")
}

fn publish(writer: &mut Writer) {
    writer.try_loan(1).expect("a block").publish(1).expect("fits");
}

#[test]
fn a_subscriber_whose_waker_panics_lets_neither_the_publisher_panic_nor_others_sleep() {
    let mut writer = open();
    let channel = Arc::clone(writer.channel());
    // Whatever the order in which they are woken, one comes after the one that panics.
    let mut sleepers: Vec<_> =
        [false, true, false].map(|panics| (join(&channel), woken(panics))).into_iter().collect();
    for (reader, woken) in &mut sleepers {
        let waker = Waker::from(Arc::clone(woken));
        assert!(reader.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    }
    publish(&mut writer);
    for (reader, woken) in &mut sleepers {
        assert_eq!(woken.times.load(Ordering::Relaxed), 1);
        assert!(reader.receive().is_ok());
    }
}

#[test]
fn a_publisher_whose_waker_panics_does_not_keep_dropped_samples_from_giving_all_back() {
    let mut writer = open();
    let charge = Arc::new(());
    writer.channel().charge(Box::new(Arc::clone(&charge))).expect("the first");
    let mut reader = join(writer.channel());
    let samples = [0; 2].map(|_| {
        publish(&mut writer);
        reader.receive_owned().expect("a message")
    });
    let woken = woken(true);
    let waker = Waker::from(Arc::clone(&woken));
    assert!(writer.poll_loanable(&mut Context::from_waker(&waker), 1).is_pending());
    drop(samples);
    assert_eq!(woken.times.load(Ordering::Relaxed), 1);
    assert_eq!(writer.reclaim(), 2);
    drop((writer, reader));
    assert_eq!(Arc::strong_count(&charge), 1, "the channel is gone");
}
