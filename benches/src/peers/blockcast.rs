//! Blockcast through its typed publisher and subscriber.

use blockcast_blocks::{ChannelConfig, Payload, Pod, PublisherId, ReaderOptions, Timestamps, channel};
use blockcast_publisher::Publisher;
use blockcast_subscriber::{RecvError, Subscriber, SubscriptionFeed, subscription};

use crate::work::{Candidate, Content, FanOut, Halves, Shape, Sink, Source, Tally, Wait, fill};

/// The topic's type.
pub type Bytes = Pod<u8>;

/// The candidate to which all others are compared.
#[derive(Clone, Copy, Debug)]
pub struct Blockcast {
    name: &'static str,
    timestamps: Timestamps,
}

impl Blockcast {
    /// Without timestamps, because no peer has them.
    #[must_use]
    pub fn plain() -> Self {
        Self { name: super::REFERENCE, timestamps: Timestamps::Off }
    }

    /// With the default options: every message carries a coarse timestamp.
    #[must_use]
    pub fn stamped() -> Self {
        Self { name: "blockcast-stamped", timestamps: Timestamps::Coarse }
    }

    fn open(&self, shape: Shape) -> Option<(Publisher<Bytes>, Vec<Joined>)> {
        let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
        config.block_size = shape.payload;
        config.blocks = shape.blocks.try_into().ok()?;
        config.timestamps = self.timestamps;
        config.prefault = true;
        let writer = channel(config).ok()?;
        let mut joined = Vec::new();
        for _ in 0..shape.subscribers {
            let (feed, subscription) = subscription();
            let reader = writer
                .channel()
                .join(writer.schema(), ReaderOptions::default(), feed.signal().clone())
                .ok()?;
            feed.add(reader);
            // SAFETY: the subscription's only publisher carries the schema of `Bytes`.
            let subscriber = unsafe { Subscriber::new(subscription) };
            joined.push(Joined { subscriber, feed });
        }
        Some((Publisher::new(writer).ok()?, joined))
    }
}

/// A subscriber, and whatever keeps its subscription open.
struct Joined {
    subscriber: Subscriber<Bytes>,
    feed: SubscriptionFeed,
}

impl Candidate for Blockcast {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fan_out(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        let (publisher, subscribers) = self.open(shape)?;
        Some(Box::new(ByReference(OneThread { publisher, subscribers, payload: shape.payload })))
    }

    fn fan_out_owned(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        let (publisher, subscribers) = self.open(shape)?;
        Some(Box::new(Owned(OneThread { publisher, subscribers, payload: shape.payload })))
    }

    fn halves(&self, shape: Shape) -> Option<Halves> {
        let (publisher, mut subscribers) = self.open(Shape { subscribers: 1, ..shape })?;
        let joined = subscribers.pop()?;
        let Joined { subscriber, feed } = joined;
        Some(Halves::ready(BlockSource::new(publisher, shape), BlockSink::new(subscriber, shape, feed)))
    }
}

struct OneThread {
    publisher: Publisher<Bytes>,
    subscribers: Vec<Joined>,
    payload: usize,
}

/// Publishes one message, written in place. Returns `false` if no block is free.
#[inline(always)]
fn publish(publisher: &mut Publisher<Bytes>, payload: usize, content: Content, number: u64) -> bool {
    let Ok(loan) = publisher.try_loan() else { return false };
    loan.send_with(|block| {
        let mut builder = block.builder();
        fill(content, &mut builder.elements()[..payload], number);
        builder.finish(payload)
    })
    .is_ok()
}

struct ByReference(OneThread);

impl FanOut for ByReference {
    fn run(&mut self, messages: u64) -> Tally {
        let OneThread { publisher, subscribers, payload } = &mut self.0;
        let mut tally = Tally::default();
        for number in 0..messages {
            if !publish(publisher, *payload, Content::Marked, number) {
                return tally;
            }
            for joined in subscribers.iter_mut() {
                if let Ok(message) = joined.subscriber.try_recv_ref() {
                    tally.touch(message.view());
                }
            }
        }
        tally
    }
}

struct Owned(OneThread);

impl FanOut for Owned {
    fn run(&mut self, messages: u64) -> Tally {
        let OneThread { publisher, subscribers, payload } = &mut self.0;
        let mut tally = Tally::default();
        for number in 0..messages {
            if !publish(publisher, *payload, Content::Marked, number) {
                return tally;
            }
            for joined in subscribers.iter_mut() {
                if let Ok(sample) = joined.subscriber.try_recv() {
                    tally.touch(sample.view());
                }
            }
        }
        tally
    }
}

/// Publishes in place.
pub struct BlockSource {
    publisher: Publisher<Bytes>,
    shape: Shape,
}

impl BlockSource {
    /// Publishes messages of `shape`.
    pub fn new(publisher: Publisher<Bytes>, shape: Shape) -> Self {
        Self { publisher, shape }
    }
}

impl Source for BlockSource {
    fn publish(&mut self, first: u64, messages: u64) {
        let Shape { payload, content, wait, .. } = self.shape;
        for number in first..first + messages {
            match wait {
                Wait::Spin => {
                    while !publish(&mut self.publisher, payload, content, number) {
                        std::hint::spin_loop();
                    }
                }
                Wait::Block => {
                    let loan = self.publisher.blocking_loan(None).expect("a wait without a deadline");
                    loan.send_with(|block| {
                        let mut builder = block.builder();
                        fill(content, &mut builder.elements()[..payload], number);
                        builder.finish(payload)
                    })
                    .expect("the message fits its block");
                }
            }
        }
    }
}

/// Receives by reference.
pub struct BlockSink<K> {
    subscriber: Subscriber<Bytes>,
    shape: Shape,
    _keeps: K,
}

impl<K> BlockSink<K> {
    /// Receives messages of `shape`. Keeps whatever the subscription needs.
    pub fn new(subscriber: Subscriber<Bytes>, shape: Shape, keeps: K) -> Self {
        Self { subscriber, shape, _keeps: keeps }
    }
}

impl<K> Sink for BlockSink<K> {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        match self.shape.wait {
            Wait::Spin if messages > 1 => self.receive_batches(first, messages),
            Wait::Spin => self.receive_spinning(first, messages),
            Wait::Block => self.receive_blocking(first, messages),
        }
    }
}

impl<K> BlockSink<K> {
    /// Receives everything available in one batch, like `disruptor`.
    fn receive_batches(&mut self, first: u64, messages: u64) -> Tally {
        let content = self.shape.content;
        let mut tally = Tally::default();
        while tally.messages < messages {
            match self.subscriber.try_recv_batch((messages - tally.messages) as usize) {
                Ok(batch) => {
                    for view in batch.views() {
                        let Ok(view) = view else { return tally };
                        tally.take(content, view, first + tally.messages);
                    }
                }
                Err(RecvError::Empty) => std::hint::spin_loop(),
                Err(_) => break,
            }
        }
        tally
    }

    fn receive_spinning(&mut self, first: u64, messages: u64) -> Tally {
        let content = self.shape.content;
        let mut tally = Tally::default();
        while tally.messages < messages {
            match self.subscriber.try_recv_ref() {
                Ok(message) => tally.take(content, message.view(), first + tally.messages),
                Err(RecvError::Empty) => std::hint::spin_loop(),
                Err(_) => break,
            }
        }
        tally
    }

    fn receive_blocking(&mut self, first: u64, messages: u64) -> Tally {
        let content = self.shape.content;
        let mut tally = Tally::default();
        while tally.messages < messages {
            match self.subscriber.blocking_recv_ref(None) {
                Ok(message) => tally.take(content, message.view(), first + tally.messages),
                Err(_) => break,
            }
        }
        tally
    }
}
