//! What a [`Writer`] does if it is a relay, which passes on messages from elsewhere.

use super::Writer;
use crate::error::NoRelay;
use crate::options::{Timestamps, WriterOptions};
use crate::sys::clock;

/// What is recorded with each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// Nothing.
    None,
    /// The time, from a clock that is cheap to read.
    Coarse,
    /// The time.
    Precise,
    /// How many messages are missing before it, and the time as the channel's options say.
    Relay,
}

impl Stamp {
    pub(super) fn of(options: &WriterOptions) -> Self {
        match options.timestamps {
            _ if options.relay => Self::Relay,
            Timestamps::Off => Self::None,
            Timestamps::Coarse => Self::Coarse,
            Timestamps::Precise => Self::Precise,
        }
    }
}

impl Writer {
    #[cold]
    pub(super) fn stamp_relayed(&self) {
        match self.channel.config().options.timestamps {
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
