//! [`IncomingTopic`]: a topic whose messages come from elsewhere.
//!
//! Zenoh calls back for every message, on a thread that serves a whole link. There, a message is published at
//! once if that takes no waiting, and if none is before it. Otherwise it waits in a queue for the topic's own
//! thread, which waits for blocks and opens publishers. If the queue is full, the message is dropped, with
//! back pressure only after a while. The gap that it leaves is counted when the next one arrives.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blockcast_blocks::park;
use blockcast_bridge_core::{Attachment, AttachmentError, Origin};
use zenoh::Wait;
use zenoh::bytes::ZBytes;
use zenoh::sample::{Locality, Sample, SampleFields, SampleKind};
use zenoh_ext::{AdvancedSubscriber, AdvancedSubscriberBuilderExt as _, HistoryConfig, RecoveryConfig};

use crate::bridge::Context;
use crate::dropped::Dropped;
use crate::error::BridgeError;
use crate::message::Incoming;
use crate::options::BridgeOptions;
use crate::relays::Relays;
use crate::source::LocalTopic;
use crate::stats::{Counters, count};

/// How long a thread waits for a block before it looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// Items that the topic's thread takes from the queue at a time.
const ITEMS: usize = 32;

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
    /// Notified when half of the queue is free, and at the end.
    room: Condvar,
    /// Messages and bytes that wait at most.
    limit: (usize, usize),
    /// How long zenoh's threads wait for room, if they do.
    patience: Option<Duration>,
    origin: Origin,
    fingerprint: u64,
    accepts_others: bool,
    /// Whether to compare checks.
    checks: bool,
    counters: Arc<Counters>,
}

struct State {
    queue: VecDeque<Item>,
    /// Messages in the queue, or ends of publishers, and bytes of them.
    messages: usize,
    bytes: usize,
    /// `None` while the thread has them.
    relays: Option<Relays>,
    dropped: Dropped,
    /// Whether zenoh's threads have waited for room in vain.
    is_stuck: bool,
    has_ended: bool,
}

impl State {
    fn push(&mut self, item: Item) {
        self.messages += item.messages();
        self.bytes += item.len();
        self.queue.push_back(item);
    }

    /// Moves the first items to `items`.
    fn pop(&mut self, items: &mut Vec<Item>) {
        let some = self.queue.len().min(ITEMS);
        items.extend(self.queue.drain(..some));
        self.messages -= items.iter().map(Item::messages).sum::<usize>();
        self.bytes -= items.iter().map(Item::len).sum::<usize>();
    }

    /// Whether this part of the queue is taken.
    fn is_full(&self, (messages, bytes): (usize, usize)) -> bool {
        self.messages >= messages || self.bytes >= bytes
    }
}

enum Item {
    Message(Incoming),
    /// This broker is gone.
    Gone(Origin),
}

impl Item {
    /// How many messages it has that are left, or 1 if it is something else.
    fn messages(&self) -> usize {
        match self {
            Self::Message(message) => message.messages().max(1),
            Self::Gone(_) => 1,
        }
    }

    /// Bytes of it.
    fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.payload.len(),
            Self::Gone(_) => 0,
        }
    }
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
        let inbox = Arc::new(Inbox {
            fingerprint: topic.schema.fingerprint(),
            accepts_others,
            ..Inbox::new(relays, options, context.origin, &context.counters)
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
        self.inbox.lock().push(Item::Gone(origin));
        self.inbox.arrived.notify_one();
    }
}

impl Drop for IncomingTopic {
    fn drop(&mut self) {
        self.inbox.end();
        if let Some(subscriber) = self.subscriber.take()
            && let Err(error) = subscriber.undeclare().wait()
        {
            tracing::debug!(%error, "a subscriber was not undeclared");
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // A callback of zenoh may still have the inbox: end the publishers now.
        self.inbox.lock().relays = None;
    }
}

/// Ends all of them. Their threads begin to end at the same time, because each may wait for a block.
pub(crate) fn end_all(topics: impl IntoIterator<Item = IncomingTopic>) {
    let topics: Vec<_> = topics.into_iter().collect();
    topics.iter().for_each(|topic| topic.inbox.end());
}

impl Inbox {
    /// Accepts only messages of bridges, and of the schema 0.
    fn new(relays: Relays, options: &BridgeOptions, origin: Origin, counters: &Arc<Counters>) -> Self {
        let state = State {
            queue: VecDeque::new(),
            messages: 0,
            bytes: 0,
            relays: Some(relays),
            dropped: Dropped::default(),
            is_stuck: false,
            has_ended: false,
        };
        Self {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            room: Condvar::new(),
            limit: options.waiting,
            patience: options.back_pressure.then_some(options.patience),
            origin,
            fingerprint: 0,
            accepts_others: false,
            checks: options.check,
            counters: Arc::clone(counters),
        }
    }

    /// Tells all threads to end. Does not wait until they do.
    fn end(&self) {
        self.lock().has_ended = true;
        self.arrived.notify_one();
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Single assignments and calls of the standard library change it, so it is consistent even after a
        // panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by zenoh.
    fn receive(&self, sample: Sample) {
        let SampleFields { payload, kind, attachment, .. } = sample.into();
        let attachment = attachment.as_ref().map(ZBytes::to_bytes);
        let attachment = match attachment.map(|bytes| Attachment::decode(&bytes)).transpose() {
            // A client that is not a bridge may attach whatever it likes.
            Err(AttachmentError::Magic) => None,
            Err(error) => return self.refuse(&error.to_string()),
            Ok(attachment) => attachment,
        };
        match &attachment {
            _ if kind != SampleKind::Put => return self.refuse("it deletes a key"),
            None if !self.accepts_others => return self.refuse("it has no attachment"),
            Some(attachment) if attachment.origin == self.origin => return,
            Some(attachment) if attachment.fingerprint != self.fingerprint => {
                return self.refuse("it has another schema");
            }
            _ => {}
        }
        if self.checks
            && let Some(attachment) = &attachment
            && let Err(error) = attachment.verify(payload.slices())
        {
            return self.refuse(&error.to_string());
        }
        match Incoming::new(attachment, payload) {
            Ok(message) => self.put(message),
            Err(error) => self.refuse(&error.to_string()),
        }
    }

    fn refuse(&self, why: &str) {
        count(&self.counters.refused, 1);
        tracing::debug!(why, "a message from elsewhere was refused");
    }

    fn put(&self, mut message: Incoming) {
        let mut state = self.lock();
        state.dropped.tell(&mut message);
        if state.queue.is_empty()
            && let Some(relays) = &mut state.relays
            && relays.is_open(&message)
        {
            if relays.take(&mut message).is_ok() {
                return;
            }
            // Its number was taken note of, so it waits even if it is larger than the limit.
        } else {
            let (len, is_end) = (message.payload.len(), message.is_end());
            state = self.wait_for_room(state, len, is_end);
            if self.lacks_room(&state, len, is_end) {
                // The next one of the same publisher shows the gap.
                state.dropped.add(&message);
                return;
            }
        }
        state.push(Item::Message(message));
        drop(state);
        self.arrived.notify_one();
    }

    fn lacks_room(&self, state: &State, len: usize, is_end: bool) -> bool {
        let (messages, bytes) = self.limit;
        // Ends take no memory, and are worth more room.
        state.messages >= messages << u32::from(is_end) || state.bytes.saturating_add(len) > bytes
    }

    /// Waits until half of the queue is free, if there is no room and zenoh's threads wait.
    fn wait_for_room<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        len: usize,
        is_end: bool,
    ) -> MutexGuard<'s, State> {
        if let Some(patience) = self.patience
            && !state.is_stuck
            && !state.has_ended
            && self.lacks_room(&state, len, is_end)
        {
            let is_full = |state: &mut State| !state.has_ended && state.is_full(self.half());
            let waited = self.room.wait_timeout_while(state, patience, is_full);
            let timeout;
            (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_stuck = timeout.timed_out();
        }
        state
    }

    /// Half of the limit.
    fn half(&self) -> (usize, usize) {
        let (messages, bytes) = self.limit;
        (messages / 2, bytes / 2)
    }

    /// The topic's thread.
    fn run(&self) {
        let mut items = Vec::with_capacity(ITEMS);
        loop {
            let mut state = self.lock();
            while state.queue.is_empty() && !state.has_ended {
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.has_ended {
                return;
            }
            // Meanwhile, zenoh's threads put messages into the queue.
            let Some(mut relays) = state.relays.take() else { continue };
            state.pop(&mut items);
            if self.patience.is_some() && !state.is_full(self.half()) {
                state.is_stuck = false;
                self.room.notify_all();
            }
            drop(state);
            for item in items.drain(..) {
                match item {
                    Item::Message(message) => self.publish(&mut relays, message),
                    Item::Gone(origin) => relays.close(origin),
                }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use blockcast_blocks::Bytes;
    use blockcast_broker::Broker;

    use super::*;
    use crate::source::Source;

    fn until(mut is_true: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_true() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        is_true()
    }

    #[test]
    fn all_topics_end_at_the_same_time() {
        let broker = Broker::new();
        let _subscriber = broker.subscriber::<Bytes>("numbers", Default::default()).expect("it opens");
        let (source, options, counters) = (Source::from(&broker), BridgeOptions::new(), Arc::default());
        let topic = source.topics().expect("a broker answers").remove(0);
        let (ending, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let start = |_| {
            let blocks = (&options.blocks, options.publishers);
            let relays = Relays::new(&source, (&topic.name, &topic.schema), blocks, &counters);
            let inbox = Arc::new(Inbox::new(relays, &options, Origin::new(1), &counters));
            let (ending, together, shared) = (Arc::clone(&ending), Arc::clone(&together), Arc::clone(&inbox));
            let thread = std::thread::spawn(move || {
                let is_told = until(|| shared.lock().has_ended);
                ending.fetch_add(usize::from(is_told), Ordering::Relaxed);
                let all = until(|| ending.load(Ordering::Relaxed) == 3);
                together.fetch_add(usize::from(all), Ordering::Relaxed);
            });
            let (topic, thread) = (topic.clone(), Some(thread));
            IncomingTopic { topic, key: "numbers".to_owned(), subscriber: None, inbox, thread }
        };
        end_all((0..3).map(start));
        assert_eq!(together.load(Ordering::Relaxed), 3, "each waited for the others");
    }
}
