//! A component's counters: [`ComponentStats`].

use std::time::Duration;

/// Counters of one run of a guest or a native library, or of all runs of a component together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentStats {
    /// Messages delivered to it.
    pub received: u64,
    /// Bytes of the messages delivered to it.
    pub received_bytes: u64,
    /// Bytes copied to deliver messages to it: 0 with
    /// [`Isolation::Arena`](crate::component::isolation::Isolation::Arena).
    pub delivery_copied_bytes: u64,
    /// Messages it lost to overflow policies.
    pub lost: u64,
    /// Messages it published.
    pub published: u64,
    /// Bytes of the messages it published.
    pub published_bytes: u64,
    /// Bytes copied from its memory into blocks when it published.
    pub publish_copied_bytes: u64,
    /// Calls into the host.
    pub host_calls: u64,
    /// Calls refused because of a limit.
    pub refusals: u64,
    /// Log lines that were passed on.
    pub log_lines: u64,
    /// Log lines that were dropped because there were too many in a second.
    pub log_lines_dropped: u64,
    /// Processor time that it has used, including host functions that it called. For a guest, a stretch of up
    /// to 20 µs between two waits counts as its wall-clock time, which is more if the system ran something
    /// else meanwhile.
    pub computed: Duration,
    /// Bytes of a guest's linear memory, including address space for windows. It never shrinks. 0 for native
    /// code, whose memory is not counted.
    pub memory: u64,
    /// Bytes of address space that it has donated for windows, now or at its end.
    pub windows: u64,
    /// Open subscriptions, now or at its end.
    pub subscriptions: u32,
    /// Open publishers, now or at its end.
    pub publishers: u32,
    /// Deliveries neither released nor held, now or at its end.
    pub attached: u32,
    /// Deliveries held, now or at its end.
    pub held: u32,
}

impl ComponentStats {
    /// Adds the counters of a publisher.
    pub(crate) fn add_published(&mut self, messages: u64, bytes: u64, copied: u64) {
        self.published += messages;
        self.published_bytes += bytes;
        self.publish_copied_bytes += copied;
    }

    /// Adds the counters of `earlier` runs. Values that describe the current state (open handles, memory)
    /// stay those of this run.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        Self {
            received: self.received + earlier.received,
            received_bytes: self.received_bytes + earlier.received_bytes,
            delivery_copied_bytes: self.delivery_copied_bytes + earlier.delivery_copied_bytes,
            lost: self.lost + earlier.lost,
            published: self.published + earlier.published,
            published_bytes: self.published_bytes + earlier.published_bytes,
            publish_copied_bytes: self.publish_copied_bytes + earlier.publish_copied_bytes,
            host_calls: self.host_calls + earlier.host_calls,
            refusals: self.refusals + earlier.refusals,
            log_lines: self.log_lines + earlier.log_lines,
            log_lines_dropped: self.log_lines_dropped + earlier.log_lines_dropped,
            computed: self.computed + earlier.computed,
            ..self
        }
    }
}
