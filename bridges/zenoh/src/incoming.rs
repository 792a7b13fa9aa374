//! [`IncomingTopic`]: a topic whose messages come from elsewhere.
//!
//! Zenoh calls back for every message, on a thread that serves a whole link. There, a message is published at
//! once if that takes no waiting, and if none is before it. Otherwise it waits in a queue for the topic's own
//! thread, which waits for blocks and opens publishers. If the queue is full, the message is dropped. The gap
//! that it leaves is counted when the next one arrives.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blockcast_blocks::park;
use blockcast_bridge_core::{Attachment, AttachmentError, Origin};
use zenoh::Wait;
use zenoh::bytes::ZBytes;
use zenoh::sample::{Locality, Sample, SampleKind};
use zenoh_ext::{AdvancedSubscriber, AdvancedSubscriberBuilderExt as _, HistoryConfig, RecoveryConfig};

use crate::bridge::Context;
use crate::error::BridgeError;
use crate::relays::{Incoming, Relays};
use crate::source::LocalTopic;
use crate::stats::{Counters, count};

/// How long a thread waits for a block before it looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// A topic that is received. Dropping it ends the publishers that it has here.
pub(crate) struct IncomingTopic {
    topic: LocalTopic,
    key: String,
    subscriber: Option<AdvancedSubscriber<()>>,
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

/// What zenoh's threads and the topic's thread share.
struct Inbox {
    state: Mutex<State>,
    /// Notified when the queue gets an item, and at the end.
    arrived: Condvar,
    /// Messages and bytes that wait at most.
    limit: (usize, usize),
    origin: Origin,
    fingerprint: u64,
    accepts_others: bool,
    counters: Arc<Counters>,
}

struct State {
    queue: VecDeque<Item>,
    bytes: usize,
    /// `None` while the thread has them.
    relays: Option<Relays>,
    /// Dropped messages of clients that are not bridges. Theirs have no numbers.
    dropped: u64,
    has_ended: bool,
}

enum Item {
    Message(Incoming),
    /// This broker is gone.
    Gone(Origin),
}

impl IncomingTopic {
    /// Receives a topic. `accepts_others`: also from clients that are not bridges.
    pub(crate) fn new(
        context: &Context,
        topic: &LocalTopic,
        key: &str,
        accepts_others: bool,
    ) -> Result<Self, BridgeError> {
        let options = &context.options;
        let relays = Relays::new(
            &context.source,
            (&topic.name, &topic.schema),
            (&options.blocks, options.publishers),
            &context.counters,
        );
        let state =
            State { queue: VecDeque::new(), bytes: 0, relays: Some(relays), dropped: 0, has_ended: false };
        let inbox = Arc::new(Inbox {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            limit: options.waiting,
            origin: context.origin,
            fingerprint: topic.schema.fingerprint(),
            accepts_others,
            counters: Arc::clone(&context.counters),
        });
        let thread = {
            let inbox = Arc::clone(&inbox);
            let thread = std::thread::Builder::new().name("blockcast-in".to_owned());
            thread.spawn(move || inbox.run()).map_err(|error| BridgeError::Thread(error.to_string()))?
        };
        // From here on, dropping it ends the thread.
        let (topic, key_of_topic) = (topic.clone(), key.to_owned());
        let mut receiving = Self { topic, key: key_of_topic, subscriber: None, inbox, thread: Some(thread) };
        let inbox = Arc::clone(&receiving.inbox);
        let subscriber = context
            .session
            .declare_subscriber(key.to_owned())
            .allowed_origin(Locality::Remote)
            .callback(move |sample| inbox.receive(sample))
            .history(HistoryConfig::default().detect_late_publishers())
            .recovery(RecoveryConfig::default().heartbeat())
            .wait()
            .map_err(|error| BridgeError::zenoh(format!("subscribe to {key}"), error))?;
        receiving.subscriber = Some(subscriber);
        Ok(receiving)
    }

    /// Whether it carries messages of this schema.
    pub(crate) fn is_of(&self, topic: &LocalTopic) -> bool {
        self.topic.schema == topic.schema
    }

    /// Whether its messages travel under this key.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.key == key
    }

    /// Ends the publishers of a broker that is gone.
    pub(crate) fn close(&self, origin: Origin) {
        self.inbox.lock().queue.push_back(Item::Gone(origin));
        self.inbox.arrived.notify_one();
    }
}

impl Drop for IncomingTopic {
    fn drop(&mut self) {
        if let Some(subscriber) = self.subscriber.take()
            && let Err(error) = subscriber.undeclare().wait()
        {
            tracing::debug!(%error, "a subscriber was not undeclared");
        }
        self.inbox.lock().has_ended = true;
        self.inbox.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // A callback of zenoh may still have the inbox: end the publishers now.
        self.inbox.lock().relays = None;
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Single assignments and calls of the standard library change it, so it is consistent even after a
        // panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by zenoh.
    fn receive(&self, sample: Sample) {
        let attachment = sample.attachment().map(ZBytes::to_bytes);
        let attachment = match attachment.map(|bytes| Attachment::decode(&bytes)).transpose() {
            // A client that is not a bridge may attach whatever it likes.
            Err(AttachmentError::Magic) => None,
            Err(error) => return self.refuse(&error.to_string()),
            Ok(attachment) => attachment,
        };
        match &attachment {
            _ if sample.kind() != SampleKind::Put => return self.refuse("it deletes a key"),
            None if !self.accepts_others => return self.refuse("it has no attachment"),
            Some(attachment) if attachment.origin == self.origin => return,
            Some(attachment) if attachment.fingerprint != self.fingerprint => {
                return self.refuse("it has another schema");
            }
            _ => {}
        }
        self.put(Incoming::new(attachment, sample.payload().clone()));
    }

    fn refuse(&self, why: &str) {
        count(&self.counters.refused, 1);
        tracing::debug!(why, "a message from elsewhere was refused");
    }

    fn put(&self, mut message: Incoming) {
        let mut state = self.lock();
        if message.attachment.is_none() {
            message.missing = std::mem::take(&mut state.dropped);
        }
        let (messages, bytes) = self.limit;
        let len = message.payload.len();
        // Ends take no memory, and are worth more room.
        let is_end = message.attachment.is_some_and(|attachment| attachment.is_end);
        if state.queue.is_empty()
            && let Some(relays) = &mut state.relays
            && relays.is_open(&message)
        {
            if relays.take(&mut message).is_ok() {
                return;
            }
            // Its number was taken note of, so it waits even if it is larger than the limit.
        } else if state.queue.len() >= messages << u32::from(is_end)
            || state.bytes.saturating_add(len) > bytes
        {
            // The next one of the same publisher shows the gap.
            if message.attachment.is_none() {
                state.dropped = message.missing + 1;
            }
            return;
        }
        state.bytes += len;
        state.queue.push_back(Item::Message(message));
        drop(state);
        self.arrived.notify_one();
    }

    /// The topic's thread.
    fn run(&self) {
        loop {
            let mut state = self.lock();
            while state.queue.is_empty() && !state.has_ended {
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.has_ended {
                return;
            }
            // Meanwhile, zenoh's threads put messages into the queue.
            let (Some(item), Some(mut relays)) = (state.queue.pop_front(), state.relays.take()) else {
                continue;
            };
            if let Item::Message(message) = &item {
                state.bytes -= message.payload.len();
            }
            drop(state);
            match item {
                Item::Message(message) => self.publish(&mut relays, message),
                Item::Gone(origin) => relays.close(origin),
            }
            self.lock().relays = Some(relays);
        }
    }

    /// Publishes a message, once there is a block for it.
    fn publish(&self, relays: &mut Relays, mut message: Incoming) {
        while let Err(full) = relays.take(&mut message) {
            let _ = park::until(Some(Instant::now() + LOOK), |cx| relays.poll_block(cx, &message, &full));
            if self.lock().has_ended {
                return;
            }
        }
    }
}
