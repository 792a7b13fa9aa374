//! Counters of topics as plain values, and as a table.

use std::fmt;

use blockcast_blocks::{ChannelStats, Schema};

/// One topic: who takes part, and what happened in its channels so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// Name of the topic.
    pub name: String,
    /// Layout of its messages.
    pub schema: Schema,
    /// Subscriptions that are there now.
    pub subscriptions: usize,
    /// The publishers that are there now, with their subscribers.
    pub publishers: Vec<ChannelStats>,
}

impl TopicStats {
    /// Messages published by the publishers that are there now.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.publishers.iter().map(|channel| channel.published).sum()
    }

    /// Messages that subscribers of these publishers lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.publishers.iter().flat_map(|channel| &channel.subscribers).map(|reader| reader.lost).sum()
    }
}

/// A line for the topic, then one per publisher and subscriber.
impl fmt::Display for TopicStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} [{}], {} subscriptions", self.name, self.schema.name(), self.subscriptions)?;
        for channel in &self.publishers {
            writeln!(
                f,
                "  {:<6} {:>12} published {:>15} bytes {:>6} blocks {:>6} held",
                channel.publisher.to_string(),
                channel.published,
                channel.bytes,
                channel.blocks,
                channel.held
            )?;
            for reader in &channel.subscribers {
                writeln!(
                    f,
                    "    └─   {:>12} received  {:>15} bytes {:>6} lost   {:>6} behind",
                    reader.received, reader.bytes, reader.lost, reader.behind
                )?;
            }
        }
        Ok(())
    }
}
