//! Counters tell what happened, whenever they are looked at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use blockcast_blocks::{Bytes, ChannelConfig, Payload, PublisherId, ReaderOptions, Signal, channel};

#[test]
fn one_that_is_joining_has_received_nothing_of_what_was_published_before() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (2, 64);
    let mut writer = channel(config).expect("a channel");
    let (channel, finished) = (writer.channel().clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        let (seen, finished) = (&channel, &finished);
        let looks = scope.spawn(move || {
            let mut looks = 0_u64;
            while !finished.load(Ordering::Relaxed) {
                for reader in seen.stats().subscribers {
                    assert_eq!((reader.received, reader.bytes, reader.lost), (0, 0, 0), "{reader:?}");
                    looks += 1;
                }
            }
            looks
        });
        let mut rounds = 0;
        while rounds < 2_000 && !looks.is_finished() {
            let reader = channel.join(&Bytes::schema(), ReaderOptions::default(), Signal::new());
            drop(reader.expect("joins"));
            for _ in 0..10 {
                writer.try_loan(1).expect("nobody keeps a block").publish(1).expect("fits");
            }
            rounds += 1;
        }
        finished.store(true, Ordering::Relaxed);
        let looks = looks.join().expect("the counters were right");
        println!("{looks} looks at joined subscribers");
    });
}
