//! The smallest `TopicAccess` on which guests can meet: topics in a map.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use blockcast_blocks::{
    Bytes, Channel, ChannelConfig, InvalidPayload, JoinError, Payload, PublisherId, Reader, ReaderOptions,
    Schema, Signal, Writer, channel,
};
use blockcast_broker::{Checks, PublisherPort, Refusal, SubscriptionSource, TopicAccess, Validator};
use blockcast_publisher::PublisherOptions;

#[derive(Default)]
struct Topic {
    channels: Vec<Arc<Channel>>,
    subscribers: Vec<(u32, Arc<Signal>)>,
}

/// Topics of plain bytes. Bytes that begin with `!` are invalid, and those that begin with `??` make the
/// validator panic.
#[derive(Clone, Default)]
pub struct Bus {
    topics: Arc<Mutex<BTreeMap<String, Topic>>>,
    numbers: Arc<AtomicU32>,
    unsealed: bool,
}

impl Bus {
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a bus whose topics are unsealed.
    pub fn unsealed() -> Self {
        Self { unsealed: true, ..Self::default() }
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Opens a publisher for the test itself.
    pub fn writer(&self, topic: &str, block_size: usize, blocks: u32) -> Writer {
        self.writer_with(topic, block_size, blocks, |_| ())
    }

    /// Like [`writer`](Self::writer), but lets `change` adjust the configuration.
    pub fn writer_with(
        &self,
        topic: &str,
        block_size: usize,
        blocks: u32,
        change: impl FnOnce(&mut ChannelConfig),
    ) -> Writer {
        let mut config = ChannelConfig::new(PublisherId::new(u64::from(self.number())), Bytes::schema());
        (config.block_size, config.blocks) = (block_size, blocks);
        change(&mut config);
        self.add(topic, channel(config).expect("a channel"))
    }

    fn add(&self, topic: &str, writer: Writer) -> Writer {
        let mut topics = self.topics.lock().unwrap();
        let topic = topics.entry(topic.to_owned()).or_default();
        topic.channels.push(Arc::clone(writer.channel()));
        for (_, signal) in &topic.subscribers {
            signal.wake();
        }
        writer
    }

    pub fn has_publisher(&self, topic: &str) -> bool {
        self.topics.lock().unwrap().get(topic).is_some_and(|topic| !topic.channels.is_empty())
    }

    /// Opens a subscriber for the test itself.
    pub fn reader(&self, topic: &str) -> Reader {
        let topics = self.topics.lock().unwrap();
        let channel = topics[topic].channels.last().expect("a publisher");
        channel.join(&Bytes::schema(), ReaderOptions::default(), Signal::new()).expect("joins")
    }
}

/// Publishes `bytes`. Returns whether there was a block for them.
pub fn publish(writer: &mut Writer, bytes: &[u8]) -> bool {
    let Ok(mut loan) = writer.try_loan(bytes.len()) else { return false };
    loan[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the topics of the bus carry `Bytes`, for which every sequence of bytes is valid.
    unsafe { loan.publish_valid(bytes.len()) }.expect("fits");
    true
}

/// Waits until the writer has this many subscribers.
pub async fn subscribed(writer: &Writer, subscribers: usize) {
    while writer.channel().stats().subscribers.len() < subscribers {
        tokio::task::yield_now().await;
    }
}

struct BusSource {
    bus: Bus,
    topic: String,
    number: u32,
    options: ReaderOptions,
    signal: Arc<Signal>,
    next: usize,
}

// SAFETY: the readers are created for this source, from channels of its topic. `is_unsealed` is that of the
// bus, and the tests do not read unsealed messages while a guest may write to them.
unsafe impl SubscriptionSource for BusSource {
    fn next_joined(&mut self) -> Option<Result<Reader, JoinError>> {
        let topics = self.bus.topics.lock().unwrap();
        let channel = topics[&self.topic].channels.get(self.next)?;
        self.next += 1;
        Some(channel.join(&Bytes::schema(), self.options, Arc::clone(&self.signal)))
    }

    fn is_open(&self) -> bool {
        let topics = self.bus.topics.lock().unwrap();
        let channels = &topics[&self.topic].channels;
        channels.is_empty() || !channels.iter().all(|channel| channel.is_closed())
    }

    fn is_unsealed(&self) -> bool {
        self.bus.unsealed
    }
}

impl Drop for BusSource {
    fn drop(&mut self) {
        let mut topics = self.bus.topics.lock().unwrap();
        topics.get_mut(&self.topic).unwrap().subscribers.retain(|(number, _)| *number != self.number);
    }
}

struct BusPort {
    writer: Writer,
    unsealed: bool,
    validator: Validator,
}

// SAFETY: there is one writer. Its channel carries `Bytes`, for which every sequence of bytes is valid.
unsafe impl PublisherPort for BusPort {
    fn writer(&mut self) -> (&mut Writer, Checks<'_>) {
        (&mut self.writer, Checks { layout: Some(&self.validator), rule: None })
    }

    fn subscribers(&self) -> u32 {
        self.writer.subscriber_count()
    }

    fn is_unsealed(&self) -> bool {
        self.unsealed
    }
}

fn validate(bytes: &[u8]) -> Result<(), InvalidPayload> {
    assert!(!bytes.starts_with(b"??"), "a faulty validator");
    if bytes.first() == Some(&b'!') { Err(InvalidPayload::of::<Bytes>("begins with !")) } else { Ok(()) }
}

// SAFETY: sources and ports belong to the requested topic, and only `Bytes` are admitted.
unsafe impl TopicAccess for Bus {
    fn subscribe(
        &self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn SubscriptionSource>, Refusal> {
        if topic == "forbidden" {
            return Err(Refusal::Denied);
        }
        if *schema != Bytes::schema() {
            return Err(Refusal::SchemaMismatch);
        }
        let number = self.number();
        let mut topics = self.topics.lock().unwrap();
        let entry = topics.entry(topic.to_owned()).or_default();
        entry.subscribers.push((number, Arc::clone(signal)));
        let (topic, signal) = (topic.to_owned(), Arc::clone(signal));
        Ok(Box::new(BusSource { bus: self.clone(), topic, number, options, signal, next: 0 }))
    }

    fn publish(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
        _signal: &Arc<Signal>,
    ) -> Result<Box<dyn PublisherPort>, Refusal> {
        if *schema != Bytes::schema() {
            return Err(Refusal::SchemaMismatch);
        }
        let mut config = ChannelConfig::new(PublisherId::new(u64::from(self.number())), Bytes::schema());
        (config.block_size, config.blocks) = (options.get_block_size(), options.get_blocks());
        let writer = self.add(topic, channel(config).map_err(|_| Refusal::Internal)?);
        Ok(Box::new(BusPort { writer, unsealed: self.unsealed, validator: Arc::new(validate) }))
    }
}
