//! How subscribers join a [`Channel`].

use std::sync::Arc;

use crate::engine::channel::Channel;
use crate::engine::reader::Reader;
use crate::engine::ring::consumer::{Consumer, Pace};
use crate::engine::sample::window::SampleLimit;
use crate::engine::shield::event;
use crate::engine::wake::signal::Signal;
use crate::error::JoinError;
use crate::options::{Overflow, ReaderOptions};
use crate::payload::schema::Schema;

impl Channel {
    /// Joins a subscriber. Every message published after this returns reaches it, or is counted as lost if
    /// its options allow losses. New messages and the end wake `signal`.
    ///
    /// # Errors
    /// [`JoinError::SchemaMismatch`], [`JoinError::Full`], and [`JoinError::Ended`] if the publisher was
    /// dropped and its memory or its file is released. If the publisher is in another process, also
    /// [`JoinError::MayNotBlock`].
    pub fn join(
        self: &Arc<Self>,
        schema: &Schema,
        options: ReaderOptions,
        signal: Arc<Signal>,
    ) -> Result<Reader, JoinError> {
        let reader = self.join_quietly(schema, options, Arc::clone(&signal))?;
        self.announce(&signal);
        Ok(reader)
    }

    /// Like [`join`](Self::join), for callers that hold a lock: never calls user code. Call
    /// [`announce`](Self::announce) once nothing is locked any more.
    ///
    /// # Errors
    /// The same as for [`join`](Self::join).
    pub fn join_quietly(
        self: &Arc<Self>,
        schema: &Schema,
        options: ReaderOptions,
        signal: Arc<Signal>,
    ) -> Result<Reader, JoinError> {
        if self.is_inherited() {
            return Err(JoinError::Forked);
        }
        if *schema != self.config().schema {
            return Err(JoinError::SchemaMismatch {
                channel: self.config().schema.clone(),
                subscriber: schema.clone(),
            });
        }
        let may_block = self.control().remote().is_none_or(|publisher| publisher.may_block());
        if options.overflow == Overflow::Block && !may_block {
            return Err(JoinError::MayNotBlock);
        }
        let file = if options.maps { Some(self.arena().open_file().ok_or(JoinError::Ended)?) } else { None };
        let (cursor, pace) = {
            let mut joined = self.lock_subscribers();
            if joined.released {
                return Err(JoinError::Ended);
            }
            let free = joined.signals.iter().position(Option::is_none);
            let free = free.ok_or(JoinError::Full { limit: self.config().max_subscribers })?;
            joined.signals[free] = Some(Arc::clone(&signal));
            joined.pins += 1;
            let pace = self.pace(options, joined.depth);
            joined.depth += pace.kept();
            (free as u32, pace)
        };
        self.subscribers.add(&signal);
        // There may be more, as blocks are reclaimed late, and their number differs from run to run.
        let history = options.history.min(u64::from(self.config().history));
        let joined = Consumer::join(self.control(), cursor, pace, history);
        self.lock_subscribers().pins -= 1;
        let Some(consumer) = joined else {
            self.free_cursor(cursor, &signal, pace.kept());
            return Err(JoinError::Barrier);
        };
        // The publisher may have been dropped meanwhile.
        self.release_if_unneeded();
        let limit = SampleLimit::new(self, options);
        Ok(Reader::new(Arc::clone(self), consumer, (cursor, signal), limit, file))
    }

    /// Announces a subscriber that has joined [quietly](Self::join_quietly).
    pub fn announce(&self, subscriber: &Signal) {
        let (publisher, subscriber) = (self.publisher(), subscriber.name());
        event(|| tracing::debug!(%publisher, subscriber, "subscriber joined"));
        // The publisher may wait for subscribers.
        self.wake_publisher();
    }

    /// How this subscriber relates to the publisher. `depth` messages are already kept for subscribers that
    /// drop the newest.
    fn pace(&self, options: ReaderOptions, depth: u32) -> Pace {
        match options.overflow {
            Overflow::Block => Pace::Reliable,
            Overflow::DropOldest => Pace::Overtakable {
                // Claims pin at most an eighth of the pool for each overtaken subscriber.
                window: u64::from(self.config().blocks / 8).clamp(1, 32),
                depth: options.depth.map_or(u64::MAX, u64::from),
            },
            Overflow::DropNewest => {
                // All of them together keep half of the blocks, whatever the size.
                let fewest = self.config().classes().iter().map(|class| class.blocks).min().unwrap_or(0);
                let left = (fewest.saturating_sub(self.config().history) / 2).saturating_sub(depth);
                let depth = options.depth.unwrap_or(left / 2).min(left).max(1);
                Pace::Keeping { depth: u64::from(depth) }
            }
        }
    }
}
