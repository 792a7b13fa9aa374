//! The counters of a [`Topic`]'s participants in this process.

use super::Topic;
use crate::peers::job::Tally;

impl Topic {
    /// Adds the counters of this process's publishers and subscriptions, including those that have left.
    pub(crate) fn count_own(&self, tally: &mut Tally) {
        self.tidy();
        let (channels, left, subscriptions, (published, bytes)) = {
            let members = self.members();
            let channels: Vec<_> =
                members.publishers.iter().map(|member| std::sync::Arc::clone(&member.channel)).collect();
            let left: Vec<_> = members.departed.iter().filter_map(std::sync::Weak::upgrade).collect();
            (channels, left, members.subscriptions.len(), members.own_totals)
        };
        tally.published += published;
        tally.published_bytes += bytes;
        tally.subscriptions += u32::try_from(subscriptions).unwrap_or(u32::MAX);
        for channel in channels.iter().filter(|channel| !channel.is_remote()) {
            let stats = channel.stats();
            tally.published += stats.published;
            tally.published_bytes += stats.bytes;
            tally.publishers += 1;
        }
        let current = channels.iter().chain(&left).map(|channel| channel.traffic());
        let traffic = current.fold(self.traffic.get(), |sum, traffic| sum.and(traffic));
        tally.received += traffic.received;
        tally.received_bytes += traffic.bytes;
        tally.lost += traffic.lost;
    }
}
