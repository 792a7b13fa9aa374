//! Entries of dropped samples are used again.

use super::*;
use crate::engine::config::ChannelConfig;
use crate::engine::ring::consumer::{Outcome, Pace};
use crate::engine::writer::channel;
use crate::payload::schema::Schema;
use crate::units::PublisherId;

#[test]
fn entries_are_reused_while_others_are_kept_forever() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
    (config.blocks, config.block_size) = (256, 64);
    let mut writer = channel(config).unwrap();
    let channel = Arc::clone(writer.channel());
    let mut consumer = Consumer::join(channel.control(), 0, Pace::Reliable, 0).unwrap();
    let mut window = AttachmentWindow::new(channel, &consumer, SampleLimit::None, "");
    let mut receive = || {
        writer.try_loan(1).unwrap().publish(1).unwrap();
        assert_eq!(consumer.advance(), Outcome::Message);
        let sample = window.attach(&consumer, consumer.current());
        let _ = consumer.release(window.first());
        (sample, window.entries.len())
    };
    let kept: Vec<_> = (0..100).map(|_| receive().0).collect();
    let (mut latest, mut entries) = receive();
    for _ in 0..100_000 {
        // Two at a time, so that entries are taken in turns.
        (latest, entries) = receive();
    }
    assert!(entries <= 4 * 102, "{entries} entries for 102 samples");
    drop((kept, latest));
    let _ = consumer.leave();
}
