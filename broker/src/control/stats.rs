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
    /// The publishers that have left.
    pub departed: Departed,
}

/// What publishers did that have left their topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// How many have left.
    pub publishers: u64,
    /// Messages that they published.
    pub published: u64,
    /// Bytes that they published.
    pub bytes: u64,
    /// How many of them have blocks that somebody is still attached to, or messages that somebody has not
    /// received. 0: every block of theirs is back and their memory is freed.
    pub attached: usize,
}

impl TopicStats {
    /// Messages published so far.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.departed.published + self.publishers.iter().map(|channel| channel.published).sum::<u64>()
    }

    /// Bytes published so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.departed.bytes + self.publishers.iter().map(|channel| channel.bytes).sum::<u64>()
    }

    /// Messages that subscribers of the publishers that are there now lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.publishers.iter().flat_map(|channel| &channel.subscribers).map(|reader| reader.lost).sum()
    }
}

/// A line for the topic, then one per publisher, per subscriber, and per subscriber that keeps samples or has left some.
impl fmt::Display for TopicStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} [{}], {} subscriptions", self.name, self.schema.name(), self.subscriptions)?;
        for channel in &self.publishers {
            writeln!(
                f,
                "  {:<14} {:>12} published {:>15} bytes  blocks {}/{}: {} free, {} loaned, {} kept, {} held, {} times exhausted",
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
                let name = name_or(&holder.name, "somebody");
                writeln!(f, "    └ {name:<12} keeps {} messages from {} on", holder.messages, holder.oldest)?;
            }
        }
        if self.departed.publishers > 0 {
            writeln!(
                f,
                "  {} gone    {:>12} published {:>15} bytes  {} still read or held",
                self.departed.publishers,
                self.departed.published,
                self.departed.bytes,
                self.departed.attached
            )?;
        }
        Ok(())
    }
}

fn name_or(name: &str, otherwise: impl fmt::Display) -> String {
    if name.is_empty() { otherwise.to_string() } else { name.to_owned() }
}
