//! What a guest did: [`ComponentStats`].

use std::time::Duration;

/// Counters of one run of a guest or a native library, or of all runs of a component together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentStats {
    /// Messages delivered to it.
    pub received: u64,
    /// Bytes of the messages delivered to it.
    pub received_bytes: u64,
    /// Bytes copied to deliver messages to it: 0 with [`Isolation::Arena`](crate::component::isolation::Isolation::Arena).
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
    /// What was refused because of a limit.
    pub refusals: u64,
    /// Lines of its log that were passed on.
    pub log_lines: u64,
    /// Lines of its log that were dropped: too many in a second.
    pub log_lines_dropped: u64,
    /// Processor time that it has used, the host's functions included that it called. Of stretches between two waits that
    /// take up to 20 µs it is the time that they took, which is more where the system ran something else meanwhile.
    pub computed: Duration,
    /// Bytes of its linear memory, address space for windows included. Memories never shrink. 0 for native code, whose memory
    /// nobody counts.
    pub memory: u64,
    /// Bytes of address space that it has donated for windows. As of now, or of its end.
    pub windows: u64,
    /// Subscriptions that it has open. As of now, or of its end.
    pub subscriptions: u32,
    /// Publishers that it has open. As of now, or of its end.
    pub publishers: u32,
    /// Deliveries neither released nor held. As of now, or of its end.
    pub attached: u32,
    /// Deliveries held. As of now, or of its end.
    pub held: u32,
}

impl ComponentStats {
    /// Adds what a publisher has published.
    pub(crate) fn add_published(&mut self, messages: u64, bytes: u64, copied: u64) {
        self.published += messages;
        self.published_bytes += bytes;
        self.publish_copied_bytes += copied;
    }

    /// What this run and the `earlier` ones did together; what it has open and how large it is goes by this one.
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
