//! Publishers that are relays: they report messages that were lost before they reached them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use blockcast_blocks::{
    AnnexTerms, Bell, Channel, ChannelConfig, NoRelay, Overflow, PublisherId, Reader, ReaderOptions,
    ReceiveError, Schema, Signal, Trust, Writer, channel,
};

/// What a subscriber meets.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    Message(u64),
    Lost(u64),
    Ended,
}

use Met::{Ended, Lost, Message};

const PACES: [Overflow; 3] = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest];

fn config(blocks: u32) -> ChannelConfig {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("relayed"));
    (config.blocks, config.block_size, config.relay) = (blocks, 64, true);
    config
}

fn relay(blocks: u32) -> Writer {
    channel(config(blocks)).expect("a channel")
}

fn join(channel: &Arc<Channel>, options: ReaderOptions) -> Reader {
    channel.join(channel.schema(), options, Signal::new()).expect("joins")
}

fn with(overflow: Overflow) -> ReaderOptions {
    ReaderOptions { overflow, ..ReaderOptions::default() }
}

fn publish(writer: &mut Writer) {
    writer.try_loan(1).expect("a block").publish(1).expect("publishes");
}

/// Receives everything, and releases it.
fn drain(reader: &mut Reader) -> Vec<Met> {
    let mut met = Vec::new();
    loop {
        met.push(match reader.receive() {
            Ok(message) => Message(message.descriptor().sequence.get()),
            Err(ReceiveError::Lost(count)) => Lost(count),
            Err(ReceiveError::Ended) => Ended,
            Err(ReceiveError::Empty) => return met,
            Err(other) => panic!("{other}"),
        });
        if met.last() == Some(&Ended) {
            return met;
        }
    }
}

#[test]
fn a_reported_loss_comes_at_its_place_and_once() {
    for overflow in PACES {
        let mut writer = relay(32);
        let mut reader = join(writer.channel(), with(overflow));
        publish(&mut writer);
        writer.report_lost(3).expect("a relay");
        publish(&mut writer);
        publish(&mut writer);
        writer.report_lost(1).expect("a relay");
        writer.report_lost(4).expect("a relay");
        let expected = [Message(0), Lost(3), Message(1), Message(2), Lost(5)];
        assert_eq!(drain(&mut reader), expected, "{overflow:?}");
        publish(&mut writer);
        writer.report_lost(2).expect("a relay");
        drop(writer);
        assert!(!reader.has_ended(), "{overflow:?}");
        assert_eq!(drain(&mut reader), [Message(3), Lost(2), Ended], "{overflow:?}");
        assert!(reader.has_ended());
        assert_eq!(reader.lost(), 10);
    }
}

#[test]
fn every_way_to_receive_reports_losses() {
    let mut writer = relay(32);
    let channel = Arc::clone(writer.channel());
    let [mut owned, mut batched, mut described] = [(); 3].map(|()| join(&channel, ReaderOptions::default()));
    publish(&mut writer);
    publish(&mut writer);
    writer.report_lost(7).expect("a relay");
    publish(&mut writer);

    let first: Vec<_> = (0..2).map(|_| owned.receive_owned().expect("a message")).collect();
    assert_eq!(owned.receive_owned().unwrap_err(), ReceiveError::Lost(7));
    let third = owned.receive_owned().expect("a message");
    assert_eq!(third.descriptor().sequence.get(), 2);
    drop(first);

    assert_eq!(batched.backlog(), 7, "three messages, and perhaps a loss before each and after the last");
    let batch = batched.receive_batch(8).expect("a batch");
    assert_eq!((batch.len(), batch.publisher()), (2, channel.publisher()));
    drop(batch);
    assert_eq!(batched.receive_batch(8).unwrap_err(), ReceiveError::Lost(7));
    assert_eq!(batched.receive_batch(8).expect("a batch").len(), 1);
    assert_eq!(batched.receive_batch(8).unwrap_err(), ReceiveError::Empty);
    assert_eq!(batched.backlog(), 0);

    assert_eq!(described.receive_descriptors(8, |_| {}), (0, 0), "this way has no losses");
    for expected in [Ok(0), Ok(1), Err(ReceiveError::Lost(7)), Ok(2), Err(ReceiveError::Empty)] {
        assert_eq!(described.receive_descriptor().map(|message| message.sequence.get()), expected);
    }
}

#[test]
fn a_late_subscriber_learns_only_of_losses_after_its_first_message() {
    let mut writer = channel(ChannelConfig {
        options: blockcast_blocks::WriterOptions { history: 2, ..config(8).options },
        ..config(8)
    })
    .expect("a channel");
    publish(&mut writer);
    writer.report_lost(5).expect("a relay");
    publish(&mut writer);
    writer.report_lost(6).expect("a relay");
    publish(&mut writer);
    writer.report_lost(7).expect("a relay");
    let mut late = join(writer.channel(), ReaderOptions::default());
    assert_eq!(drain(&mut late), []);
    let mut with_history = join(writer.channel(), ReaderOptions { history: 2, ..ReaderOptions::default() });
    assert_eq!(drain(&mut with_history), [Message(1), Lost(6), Message(2), Lost(7)]);
    writer.report_lost(1).expect("a relay");
    publish(&mut writer);
    assert_eq!(drain(&mut late), [Lost(1), Message(3)]);
    assert_eq!(drain(&mut with_history), [Lost(1), Message(3)]);
}

#[test]
fn a_subscriber_that_is_overtaken_counts_all_losses() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        for round in 1..40 {
            let mut writer = relay(16);
            let mut reader = join(writer.channel(), with(overflow));
            let (mut missing, mut received, mut lost) = (0, 0, 0);
            for message in 0..100 {
                if message % 7 == round % 7 {
                    writer.report_lost(round).expect("a relay");
                    missing += round;
                }
                publish(&mut writer);
                if message % round == 0 {
                    match reader.receive() {
                        Ok(_) => received += 1,
                        Err(ReceiveError::Lost(count)) => lost += count,
                        Err(ReceiveError::Empty) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            let stats = writer.channel().stats();
            assert_eq!((stats.published, stats.missing), (100, missing));
            drop(writer);
            for met in drain(&mut reader) {
                match met {
                    Message(_) => received += 1,
                    Lost(count) => lost += count,
                    Ended => {}
                }
            }
            assert_eq!(received + lost, 100 + missing, "{overflow:?}, round {round}");
            assert_eq!(reader.lost(), lost);
            let stats = reader.channel().stats();
            assert_eq!((stats.subscribers[0].received, stats.subscribers[0].lost), (received, lost));
        }
    }
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_reported_loss_wakes_a_subscriber_that_waits() {
    let mut writer = relay(4);
    let mut reader = join(writer.channel(), ReaderOptions::default());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(reader.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    writer.report_lost(2).expect("a relay");
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(reader.poll_ready(&mut Context::from_waker(&waker)), Poll::Ready(()));
    assert_eq!(drain(&mut reader), [Lost(2)]);
}

#[test]
fn only_a_relay_reports_losses() {
    let ordinary = ChannelConfig {
        options: blockcast_blocks::WriterOptions { relay: false, ..config(4).options },
        ..config(4)
    };
    let mut writer = channel(ordinary).expect("a channel");
    let mut reader = join(writer.channel(), ReaderOptions::default());
    assert_eq!(writer.report_lost(1), Err(NoRelay));
    publish(&mut writer);
    assert_eq!(drain(&mut reader), [Message(0)]);
    assert_eq!(writer.channel().stats().missing, 0);
}

#[test]
fn a_subscriber_of_another_process_learns_of_reported_losses() {
    for overflow in PACES {
        let mut writer = relay(32);
        let (publisher_bell, bell) = Bell::pair().expect("descriptors are left");
        let terms = AnnexTerms::default();
        let files = writer.channel().share().expect("files");
        // Whether the publisher is a relay comes from the files.
        let plain = ChannelConfig::new(PublisherId::new(1), Schema::named("relayed"));
        // SAFETY: the annex is attached before anybody joins, and never detached.
        let opened = unsafe { Channel::open_remote(files, plain, &terms, Trust::Checked, bell) };
        let (remote, annex) = opened.expect("opens");
        assert!(remote.config().relay);
        writer.channel().attach(annex, terms, publisher_bell).expect("attaches");
        let mut reader = join(&remote, with(overflow));
        publish(&mut writer);
        writer.report_lost(9).expect("a relay");
        publish(&mut writer);
        assert_eq!(drain(&mut reader), [Message(0), Lost(9), Message(1)], "{overflow:?}");
        writer.report_lost(1).expect("a relay");
        drop(writer);
        assert_eq!(drain(&mut reader), [Lost(1), Ended], "{overflow:?}");
    }
}
