//! Statistics are correct whenever they are read.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use blockcast_blocks::park::{Cancellation, Left};
use blockcast_blocks::{
    Bytes, ChannelConfig, HolderStats, Payload, PublisherId, ReaderOptions, Sequence, Signal, Writer, channel,
};

fn channel_of(blocks: u32) -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (blocks, 64);
    channel(config).expect("a channel")
}

fn publish(writer: &mut Writer) {
    writer.try_loan(1).expect("a block").publish(1).expect("fits");
}

#[test]
fn a_joining_subscriber_has_received_none_of_the_earlier_messages() {
    let mut writer = channel_of(2);
    let (channel, finished) = (writer.channel().clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        let (seen, finished) = (&channel, &finished);
        let observer = scope.spawn(move || {
            let mut observed = 0_u64;
            while !finished.load(Ordering::Relaxed) {
                for reader in seen.stats().subscribers {
                    assert_eq!((reader.received, reader.bytes, reader.lost), (0, 0, 0), "{reader:?}");
                    observed += 1;
                }
            }
            observed
        });
        let mut rounds = 0;
        while rounds < 2_000 && !observer.is_finished() {
            let reader = channel.join(&Bytes::schema(), ReaderOptions::default(), Signal::new());
            drop(reader.expect("joins"));
            for _ in 0..10 {
                publish(&mut writer);
            }
            rounds += 1;
        }
        finished.store(true, Ordering::Relaxed);
        let observed = observer.join().expect("the counters were right");
        println!("observed joined subscribers {observed} times");
    });
}

#[test]
fn holders_of_samples_are_listed_by_name_even_after_they_have_left() {
    let mut writer = channel_of(64);
    let channel = writer.channel().clone();
    let join = |name| {
        let reader = channel.join(&Bytes::schema(), ReaderOptions::default(), Signal::named(name));
        reader.expect("joins")
    };
    let holder = |name: &str, messages, oldest| HolderStats {
        name: name.to_owned(),
        messages,
        oldest: Sequence::new(oldest),
    };
    let (mut careful, mut forgetful) = (join("careful"), join("forgetful"));
    let (mut kept, mut forgotten) = (Vec::new(), None);
    for sequence in 0..40 {
        publish(&mut writer);
        drop(careful.receive().expect("a message"));
        let sample = forgetful.receive_owned().expect("a message");
        match sequence {
            3 => forgotten = Some(ManuallyDrop::new(sample)),
            7 | 38 => kept.push((sample.clone(), sample)),
            _ => drop(sample),
        }
    }
    assert_eq!(channel.stats().holders, [holder("forgetful", 3, 3)]);
    drop((careful, forgetful));
    assert_eq!(channel.stats().holders, [holder("forgetful", 3, 3)], "it has left, but its samples remain");
    kept.clear();
    assert_eq!(channel.stats().holders, [holder("forgetful", 1, 3)], "the forgotten sample remains");
    let other = join("other");
    assert_eq!(channel.stats().holders, [holder("forgetful", 1, 3)]);
    drop(other);
    // Dropping the forgotten sample after all returns its block.
    drop(forgotten.map(ManuallyDrop::into_inner));
    assert!(channel.stats().holders.is_empty());
}

#[test]
fn suspended_and_forgotten_loans_are_counted() {
    let mut writer = channel_of(8);
    let channel = writer.channel().clone();
    let loaned = || channel.stats().loaned;
    for _ in 0..20 {
        publish(&mut writer);
    }
    let first = writer.try_loan(1).expect("a block").suspend();
    let second = writer.try_loan(1).expect("a block").suspend();
    assert_eq!(loaned(), 2);
    writer.resume(first).expect("its own").publish(1).expect("fits");
    assert_eq!(loaned(), 1);
    drop(writer.resume(second).expect("its own"));
    assert_eq!(loaned(), 0);
    let mut loans = 0;
    while let Ok(loan) = writer.try_loan(1) {
        std::mem::forget(loan);
        loans += 1;
    }
    assert_eq!((loans, loaned()), (8, 8), "without subscribers, every block was free");
}

#[test]
fn a_loan_that_finds_no_block_is_counted_even_after_a_cancelled_wait() {
    let mut writer = channel_of(2);
    let channel = writer.channel().clone();
    let _reader = channel.join(&Bytes::schema(), ReaderOptions::default(), Signal::new()).expect("joins");
    publish(&mut writer);
    publish(&mut writer);
    let cancellation = Cancellation::new();
    let waits = cancellation.run(|| {
        cancellation.cancel();
        writer.loan(1, None).map(drop)
    });
    assert!(matches!(waits, Err(Left::Cancelled)), "{waits:?}");
    assert_eq!(channel.stats().exhausted, 1);
    assert!(writer.try_loan(1).is_err());
    assert_eq!(channel.stats().exhausted, 2);
}
