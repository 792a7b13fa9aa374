//! A panicking waker affects neither the thread that wakes it nor other wakers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};

use blockcast_blocks::{
    Bytes, Channel, ChannelConfig, Payload, PublisherId, Reader, ReaderOptions, Signal, Writer, channel,
};

/// Counts wake-ups, and panics if `panics` is set.
struct Woken {
    panics: bool,
    times: AtomicU32,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "a faulty waker");
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
fn a_panicking_waker_affects_neither_the_publisher_nor_other_subscribers() {
    let mut writer = open();
    let channel = Arc::clone(writer.channel());
    // In either order of waking, one of them comes after the one that panics.
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
fn samples_return_their_blocks_even_if_the_publishers_waker_panics() {
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
