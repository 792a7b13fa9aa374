//! [`Outgoing`]: a topic whose messages leave this broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blockcast_blocks::{Bytes, Overflow, PublisherId, park};
use blockcast_bridge_core::{Attachment, Origin, Role, Token, encoding_of};
use blockcast_subscriber::{Message, RecvError, Sample, Subscriber, SubscriberOptions};
use zenoh::Wait;
use zenoh::bytes::{Encoding, ZBytes};
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::sample::Locality;
use zenoh_ext::{AdvancedPublisher, AdvancedPublisherBuilderExt as _, CacheConfig, MissDetectionConfig};

use crate::bridge::Context;
use crate::clock::WallClock;
use crate::error::BridgeError;
use crate::farewells::Farewells;
use crate::source::LocalTopic;
use crate::spent::Spent;
use crate::stats::{Counters, count};

/// How often a sending thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// How long to wait before looking again, if all publishers have left or too many samples are on their way.
const PAUSE: Duration = Duration::from_millis(2);
/// Messages after which to look for publishers that have ended.
const MESSAGES_PER_LOOK: usize = 256;
/// How long a sending thread that should end sends what is there.
const FAREWELL: Duration = Duration::from_secs(2);
/// Messages of up to this number of bytes are copied: that is cheaper than keeping their blocks.
const SMALL: usize = 1024;
/// After this number of small messages in a row, they are received in batches of this size at most.
const BATCH: usize = 256;
/// How often the cache tells what it has sent last.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// A topic whose local publishers are announced to other bridges, and sent while zenoh has a subscriber.
pub(crate) struct Outgoing {
    topic: LocalTopic,
    sender: Arc<Sender>,
    _token: LivelinessToken,
    is_wanted: Arc<AtomicBool>,
    /// Since when zenoh has had no subscriber.
    unwanted: Option<Instant>,
    sending: Option<Sending>,
}

/// A thread that sends.
struct Sending {
    orders: Arc<AtomicU8>,
    thread: JoinHandle<()>,
}

/// Go on.
const SEND: u8 = 0;
/// End once all publishers have left and all their messages are sent.
const FINISH: u8 = 1;
/// End as soon as what is there now is sent.
const LEAVE: u8 = 2;

/// The end of zenoh.
struct Sender {
    key: String,
    encoding: Encoding,
    messages: Messages,
    /// Tells of publishers that have left, without a cache. Waits for zenoh, since nothing that comes later
    /// would show that an end was lost.
    ends: Publisher<'static>,
}

enum Messages {
    Plain(Publisher<'static>),
    /// Keeps messages for those who missed some.
    Caching(AdvancedPublisher<'static>),
}

/// A message that zenoh sends from its block.
struct Held(Sample<Bytes>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Sender {
    fn declare(context: &Context, key: &str, schema: &str) -> Result<Self, BridgeError> {
        let failed = |error: zenoh::Error| BridgeError::zenoh(format!("declare a publisher of {key}"), error);
        let congestion = match context.options.back_pressure {
            true => CongestionControl::Block,
            false => CongestionControl::Drop,
        };
        let encoding = Encoding::from(encoding_of(schema));
        let builder = context
            .session
            .declare_publisher(key.to_owned())
            .encoding(encoding.clone())
            .allowed_destination(Locality::Remote)
            .congestion_control(congestion);
        let ends = context
            .session
            .declare_publisher(key.to_owned())
            .encoding(encoding.clone())
            .allowed_destination(Locality::Remote)
            .congestion_control(CongestionControl::Block);
        let (key, ends) = (key.to_owned(), ends.wait().map_err(failed)?);
        if context.options.cache == 0 {
            let messages = builder.wait().map(Messages::Plain).map_err(failed)?;
            return Ok(Self { key, encoding, messages, ends });
        }
        let builder = builder
            .cache(CacheConfig::default().max_samples(context.options.cache))
            .sample_miss_detection(MissDetectionConfig::default().sporadic_heartbeat(HEARTBEAT))
            .publisher_detection();
        let messages = builder.wait().map(Messages::Caching).map_err(failed)?;
        Ok(Self { key, encoding, messages, ends })
    }

    /// Calls `tell` whenever zenoh's first subscriber comes, and when the last one leaves.
    fn watch(&self, tell: impl Fn(bool) + Send + Sync + 'static) -> Result<bool, BridgeError> {
        let failed = |error: zenoh::Error| BridgeError::zenoh("look for subscribers", error);
        let tell = move |status: zenoh::matching::MatchingStatus| tell(status.matching());
        let (listening, status) = match &self.messages {
            Messages::Plain(publisher) => (
                publisher.matching_listener().callback(tell).background().wait(),
                publisher.matching_status().wait(),
            ),
            Messages::Caching(publisher) => (
                publisher.matching_listener().callback(tell).background().wait(),
                publisher.matching_status().wait(),
            ),
        };
        listening.map_err(failed)?;
        status.map(|status| status.matching()).map_err(failed)
    }

    fn end(&self, attachment: &Attachment) -> zenoh::Result<()> {
        match &self.messages {
            // Both go through one queue of zenoh.
            Messages::Plain(_) => self.ends.put(ZBytes::new()).attachment(attachment.encode()).wait(),
            // Otherwise it would overtake messages that other bridges are still asking for.
            Messages::Caching(_) => self.put(ZBytes::new(), attachment),
        }
    }

    fn put(&self, payload: ZBytes, attachment: &Attachment) -> zenoh::Result<()> {
        let attachment = attachment.encode();
        match &self.messages {
            Messages::Plain(publisher) => publisher.put(payload).attachment(attachment).wait(),
            Messages::Caching(publisher) => publisher.put(payload).attachment(attachment).wait(),
        }
    }
}

impl Outgoing {
    /// Announces a topic.
    pub(crate) fn new(context: &Context, topic: &LocalTopic, key: &str) -> Result<Self, BridgeError> {
        let sender = Sender::declare(context, key, topic.schema.name())?;
        let is_wanted = Arc::new(AtomicBool::new(false));
        let (wanted, control) = (Arc::clone(&is_wanted), context.control.clone());
        let now = sender.watch(move |matching| {
            // Ordering: Relaxed; whoever reads it looks again.
            wanted.store(matching, Ordering::Relaxed);
            control.look();
        })?;
        is_wanted.fetch_or(now, Ordering::Relaxed);
        let token = context.declare_token(&Token {
            origin: context.origin,
            role: Role::Publisher,
            fingerprint: topic.schema.fingerprint(),
            key: key.to_owned(),
        })?;
        let sender = Arc::new(sender);
        Ok(Self { topic: topic.clone(), sender, _token: token, is_wanted, unwanted: None, sending: None })
    }

    /// Whether it carries messages of this schema.
    pub(crate) fn is_of(&self, topic: &LocalTopic) -> bool {
        self.topic.schema == topic.schema
    }

    /// Whether a thread sends.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Starts to send, or ends. Returns `false` once there is nothing left to do.
    pub(crate) fn update(&mut self, context: &Context, has_publishers: bool) -> bool {
        if self.sending.as_ref().is_some_and(|sending| sending.thread.is_finished()) {
            self.sending = None;
        }
        let is_wanted = self.is_wanted.load(Ordering::Relaxed);
        self.unwanted = if is_wanted { None } else { self.unwanted.or_else(|| Some(Instant::now())) };
        let is_deserted = self.unwanted.is_some_and(|since| since.elapsed() >= context.options.linger);
        match &self.sending {
            None if is_wanted && has_publishers => self.start(context),
            None => {}
            Some(sending) => {
                let orders = match (is_deserted, has_publishers) {
                    (true, _) => LEAVE,
                    (false, false) => FINISH,
                    (false, true) => SEND,
                };
                // Ordering: Relaxed; the thread looks again.
                sending.orders.store(orders, Ordering::Relaxed);
            }
        }
        has_publishers || self.sending.is_some()
    }

    fn start(&mut self, context: &Context) {
        let overflow = if context.options.back_pressure { Overflow::Block } else { Overflow::DropOldest };
        let options =
            SubscriberOptions::new().overflow(overflow).history(u32::MAX).skip_relays(true).name("zenoh");
        let topic = &self.topic;
        let subscriber = match context.source.subscriber(&topic.name, &topic.schema, options) {
            Ok(subscriber) => subscriber,
            Err(error) => {
                tracing::warn!(topic = &*topic.name, %error, "a topic cannot be sent");
                return;
            }
        };
        let orders = Arc::new(AtomicU8::new(SEND));
        let send = SendingThread {
            subscriber,
            orders: Arc::clone(&orders),
            outlet: Outlet {
                sender: Arc::clone(&self.sender),
                copies: context.options.cache > 0,
                spent: Spent::new(context.options.back_pressure),
                origin: context.origin,
                fingerprint: topic.schema.fingerprint(),
                counters: Arc::clone(&context.counters),
                farewells: Arc::clone(&context.farewells),
                small: 0,
                known: BTreeMap::new(),
            },
            copies: Vec::new(),
        };
        let name = "blockcast-out".to_owned();
        match std::thread::Builder::new().name(name).spawn(move || send.run()) {
            Ok(thread) => {
                tracing::debug!(topic = &*topic.name, "a topic is sent");
                self.sending = Some(Sending { orders, thread });
            }
            Err(error) => tracing::warn!(topic = &*topic.name, %error, "a topic cannot be sent"),
        }
    }
}

/// Ends sending, and tells other bridges.
impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(Sending { orders, thread }) = self.sending.take() {
            orders.store(LEAVE, Ordering::Relaxed);
            let _ = thread.join();
        }
    }
}

/// What a sending thread has.
struct SendingThread {
    subscriber: Subscriber<Bytes>,
    orders: Arc<AtomicU8>,
    outlet: Outlet,
    /// Copies of small messages, with their sequences and times.
    copies: Vec<(ZBytes, u64, u64)>,
}

/// Sends messages of this broker's publishers.
struct Outlet {
    sender: Arc<Sender>,
    /// Whether zenoh keeps messages, which must not keep blocks.
    copies: bool,
    /// Messages that zenoh has sent from their blocks.
    spent: Spent<ZBytes>,
    origin: Origin,
    fingerprint: u64,
    counters: Arc<Counters>,
    farewells: Arc<Farewells>,
    /// The number of small messages since the last large one.
    small: usize,
    /// The publishers from which something was received, and the sequence that comes next.
    known: BTreeMap<PublisherId, u64>,
}

impl SendingThread {
    fn run(mut self) {
        let (mut clock, mut messages) = (WallClock::now(), 0);
        let have_departed = loop {
            let orders = self.orders.load(Ordering::Relaxed);
            if orders == LEAVE {
                break false;
            }
            let sent = self.send_some(clock);
            if sent.is_err() {
                self.outlet.spent.release();
            }
            match sent {
                Ok(sent) => {
                    messages += sent;
                    if messages < MESSAGES_PER_LOOK {
                        continue;
                    }
                }
                Err(RecvError::Empty) => {
                    let subscriber = &mut self.subscriber;
                    if park::until(Some(Instant::now() + LOOK), |cx| subscriber.poll_ready(cx)).is_some() {
                        continue;
                    }
                }
                Err(RecvError::Lost(lost)) => count(&self.outlet.counters.unsent, lost),
                Err(RecvError::Deadline | RecvError::Corrupt) => {}
                Err(RecvError::Ended) if orders == FINISH => break true,
                // Another publisher may come.
                Err(RecvError::Ended | RecvError::TooManySamples { .. }) => std::thread::sleep(PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "a topic is not sent any more");
                    break false;
                }
            }
            (clock, messages) = (WallClock::now(), 0);
            self.end_departed();
        };
        self.send_rest(clock);
        // If they are sent again later, a repetition would end them in the middle.
        self.outlet.end_all_but(have_departed, |_| false);
    }

    /// Sends what was published before now.
    fn send_rest(&mut self, clock: WallClock) {
        let deadline = Instant::now() + FAREWELL;
        // One more for a loss of each publisher, even if there is none.
        let mut left = self.subscriber.backlog();
        while left > 0 && Instant::now() < deadline {
            left -= 1;
            match self.subscriber.try_recv_ref() {
                // It may have to wait for zenoh.
                Ok(message) => self.outlet.send(message, clock),
                Err(RecvError::Lost(lost)) => count(&self.outlet.counters.unsent, lost),
                Err(RecvError::TooManySamples { .. }) => {
                    self.outlet.spent.release();
                    left += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(_) => return,
            }
        }
    }

    /// Sends messages that are there. Returns how many.
    fn send_some(&mut self, clock: WallClock) -> Result<usize, RecvError> {
        if self.outlet.small < BATCH {
            // One of them may be a loss.
            let waiting = self.subscriber.backlog().saturating_sub(1);
            self.outlet.spent.expect(waiting);
            let message = self.subscriber.try_recv_ref()?;
            self.outlet.send(message, clock);
            return Ok(1);
        }
        let batch = self.subscriber.try_recv_batch(BATCH)?;
        let (len, publisher) = (batch.len(), batch.publisher());
        for (descriptor, bytes) in batch.descriptors().zip(batch.views()) {
            // Plain bytes are always valid.
            let Ok(bytes) = bytes else { continue };
            self.copies.push((ZBytes::from(bytes), descriptor.sequence.get(), clock.at(descriptor.time)));
            if bytes.len() > SMALL {
                self.outlet.put_all(publisher, self.copies.drain(..));
            }
        }
        // Zenoh may wait, so it gets them when the publisher has its blocks back.
        drop(batch);
        self.outlet.put_all(publisher, self.copies.drain(..));
        Ok(len)
    }

    /// Tells of publishers that have left. All their messages were sent.
    fn end_departed(&mut self) {
        let subscription = self.subscriber.subscription();
        self.outlet.end_all_but(true, |publisher| {
            subscription.readers().any(|reader| reader.channel().publisher() == publisher)
        });
    }
}

impl Outlet {
    /// Sends a message, from its block if it is large.
    fn send(&mut self, message: Message<'_, Bytes>, clock: WallClock) {
        let (publisher, sequence) = (message.publisher(), message.sequence().get());
        let time = clock.at(message.time());
        let len = message.bytes().len();
        self.small = if len <= SMALL { self.small.saturating_add(1) } else { 0 };
        self.known.insert(publisher, sequence + 1);
        if self.copies || len <= SMALL {
            self.put(ZBytes::from(message.bytes()), publisher, sequence, time);
            return;
        }
        let payload = ZBytes::from(bytes::Bytes::from_owner(Held(message.into_sample())));
        self.put(payload.clone(), publisher, sequence, time);
        self.spent.add(payload);
    }

    /// Sends messages of one publisher. Sets whether it goes on in batches.
    fn put_all(&mut self, publisher: PublisherId, messages: impl Iterator<Item = (ZBytes, u64, u64)>) {
        let mut next = None;
        for (payload, sequence, time) in messages {
            self.small = if payload.len() <= SMALL { self.small.saturating_add(1) } else { 0 };
            next = Some(sequence + 1);
            self.put(payload, publisher, sequence, time);
        }
        if let Some(next) = next {
            self.known.insert(publisher, next);
        }
    }

    fn put(&mut self, payload: ZBytes, publisher: PublisherId, sequence: u64, time: u64) {
        let len = payload.len();
        let attachment = Attachment::message(self.origin, publisher.get(), sequence)
            .fingerprint(self.fingerprint)
            .time(time);
        match self.sender.put(payload, &attachment) {
            Ok(()) => {
                count(&self.counters.sent, 1);
                count(&self.counters.sent_bytes, len as u64);
            }
            Err(error) => {
                count(&self.counters.unsent, 1);
                tracing::debug!(%error, "a message was not sent");
            }
        }
    }

    /// Tells of the ends of publishers, repeatedly if they will not come back.
    fn end_all_but(&mut self, repeatedly: bool, is_there: impl Fn(PublisherId) -> bool) {
        for (publisher, next) in self.known.extract_if(.., |&publisher, _| !is_there(publisher)) {
            let attachment =
                Attachment::end(self.origin, publisher.get(), next).fingerprint(self.fingerprint);
            if let Err(error) = self.sender.end(&attachment) {
                tracing::debug!(%error, "the end of a publisher was not sent");
            }
            if repeatedly {
                self.farewells.add(&self.sender.key, &self.sender.encoding, attachment);
            }
        }
    }
}
