//! A topic's counters: [`TopicStats`], also formatted as a table.

use std::fmt;

use blockcast_blocks::{ChannelStats, Schema};

/// The counters of one topic: its participants, and the messages of its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// The topic's name.
    pub name: String,
    /// Layout of the topic's messages.
    pub schema: Schema,
    /// Number of current subscriptions.
    pub subscriptions: usize,
    /// Number of those that [skip relays](blockcast_subscriber::SubscriberOptions::skip_relays).
    pub skipping_relays: usize,
    /// The current publishers with their subscribers.
    pub publishers: Vec<ChannelStats>,
    /// Totals of the publishers that have left.
    pub departed: Departed,
}

/// Totals of the publishers that have left a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// Number of publishers that have left.
    pub publishers: u64,
    /// Messages they published.
    pub published: u64,
    /// Bytes they published.
    pub bytes: u64,
    /// Number of those publishers whose blocks somebody still holds, or whose messages somebody has not
    /// received yet. If 0, all their blocks have been returned and their memory is free.
    pub attached: usize,
}

impl TopicStats {
    /// Total number of messages published.
    #[must_use]
    pub fn published(&self) -> u64 {
        total(self.departed.published, self.publishers.iter().map(|channel| channel.published))
    }

    /// Total number of bytes published.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        total(self.departed.bytes, self.publishers.iter().map(|channel| channel.bytes))
    }

    /// Messages lost by subscribers of the current publishers.
    #[must_use]
    pub fn lost(&self) -> u64 {
        total(0, self.publishers.iter().flat_map(|channel| &channel.subscribers).map(|reader| reader.lost))
    }
}

/// The sum of counters that other processes may have written.
fn total(departed: u64, current: impl Iterator<Item = u64>) -> u64 {
    current.fold(departed, u64::saturating_add)
}

/// One line for the topic, then one per publisher, per subscriber, and per current or former subscriber that
/// holds samples.
impl fmt::Display for TopicStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} [{}], {} subscriptions", self.name, self.schema.name(), self.subscriptions)?;
        for channel in &self.publishers {
            writeln!(
                f,
                "  {:<14} {:>12} published {:>15} bytes  blocks {}/{}: {} free, {} loaned, {} retained, {} held, exhausted {} times",
                name_or(&channel.name, channel.publisher),
                channel.published,
                channel.bytes,
                channel.blocks,
                channel.max_blocks,
                channel.free.saturating_sub(channel.loaned),
                channel.loaned,
                channel.limbo,
                channel.held,
                channel.exhausted
            )?;
            for (number, reader) in channel.subscribers.iter().enumerate() {
                writeln!(
                    f,
                    "    └ {:<12} {:>10} received  {:>15} bytes  {} lost, {} behind, {} holds, {} wakes",
                    name_or(&reader.name, format_args!("s{number}")),
                    reader.received,
                    reader.bytes,
                    reader.lost,
                    reader.behind,
                    reader.counted_holds,
                    reader.wakes
                )?;
            }
            for holder in &channel.holders {
                let name = name_or(&holder.name, "(unnamed)");
                writeln!(
                    f,
                    "    └ {name:<12} holds {} messages, the oldest is {}",
                    holder.messages, holder.oldest
                )?;
            }
        }
        if self.departed.publishers > 0 {
            writeln!(
                f,
                "  {} left    {:>12} published {:>15} bytes  {} still in use",
                self.departed.publishers,
                self.departed.published,
                self.departed.bytes,
                self.departed.attached
            )?;
        }
        Ok(())
    }
}

fn name_or(name: &str, default: impl fmt::Display) -> String {
    if name.is_empty() { default.to_string() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use blockcast_blocks::{Bytes, Payload, ReaderStats};

    use super::*;

    #[test]
    fn counters_that_other_processes_have_written_add_up_without_overflow() {
        let reader = ReaderStats { lost: u64::MAX, ..ReaderStats::default() };
        let subscribers = vec![reader.clone(), reader];
        let channel = ChannelStats { published: 1, bytes: u64::MAX, subscribers, ..ChannelStats::default() };
        let departed = Departed { published: u64::MAX, bytes: 1, ..Departed::default() };
        let (name, schema, publishers) = ("topic".to_owned(), Bytes::schema(), vec![channel]);
        let topic = TopicStats { name, schema, subscriptions: 2, skipping_relays: 0, publishers, departed };
        assert_eq!([topic.published(), topic.bytes(), topic.lost()], [u64::MAX; 3]);
    }
}
