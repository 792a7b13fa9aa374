//! What a [`Writer`] does if it is a relay, which passes on messages from elsewhere.

use super::Writer;
use crate::error::NoRelay;
use crate::options::{Timestamps, WriterOptions};
use crate::sys::clock;

/// What is recorded with each message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stamp {
    Time(Timestamps),
    /// Also how many messages are missing before it.
    Relay(Timestamps),
}

impl Stamp {
    pub(super) fn of(options: &WriterOptions) -> Self {
        if options.relay { Self::Relay(options.timestamps) } else { Self::Time(options.timestamps) }
    }
}

impl Writer {
    #[cold]
    #[inline(never)]
    pub(super) fn stamp_relayed(&mut self, timestamps: Timestamps) {
        match timestamps {
            Timestamps::Off => {}
            Timestamps::Coarse => self.producer.stamp(clock::coarse().as_nanos()),
            Timestamps::Precise => self.producer.stamp(clock::precise().as_nanos()),
        }
        self.producer.note_missing();
    }

    /// Reports that `count` messages were lost before they reached this publisher, which is a
    /// [relay](crate::WriterOptions::relay). Subscribers receive it like a loss of their own,
    /// [`ReceiveError::Lost`](crate::ReceiveError::Lost): after the messages published before it, and before
    /// those published after it. Wakes all subscribers; a few microseconds.
    ///
    /// A subscriber that has claimed messages and [keeps](crate::Overflow::DropNewest) them while the
    /// publisher goes on may learn of it a few messages early or late. Its count is exact.
    ///
    /// # Errors
    /// [`NoRelay`], and nothing is reported.
    pub fn report_lost(&mut self, count: u64) -> Result<(), NoRelay> {
        if !self.channel.config().relay {
            return Err(NoRelay);
        }
        if count > 0 && !self.channel.is_inherited() {
            self.producer.report_missing(count);
            self.channel.wake_subscribers();
        }
        Ok(())
    }
}
