//! Guests that the broker runs.

use anyhow::{Context, bail, ensure};
use blockcast_blocks::{Bytes, Payload, Timestamps};
use blockcast_broker::{Broker, Component, ComponentLimits, Grants, GuestProgram, GuestSource, Isolation};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use tokio::runtime::{Builder, Runtime};

use super::{GuestWork, Place, pages, text};
use crate::work::{Content, Shape, Tally, fill};

const TOPIC: &str = "topic";

/// The single thread that runs everything here, with a broker on it.
pub(super) fn one_thread() -> anyhow::Result<(Runtime, Broker)> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let broker = Broker::on_runtime(runtime.handle().clone());
    Ok((runtime, broker))
}

fn load(broker: &Broker, code: String) -> anyhow::Result<GuestProgram> {
    Ok(broker.load(&GuestSource::bytes("guest", code.into_bytes()))?)
}

fn start(
    broker: &Broker,
    program: &GuestProgram,
    change: impl FnOnce(&mut ComponentLimits),
) -> anyhow::Result<Component> {
    let mut limits = ComponentLimits::default();
    limits.windows = 3 << 30;
    limits.publisher_bytes = 1 << 30;
    change(&mut limits);
    Ok(broker.spawn_guest(program, Grants::all().limits(limits), [])?)
}

fn check_alive(guest: &Component) -> anyhow::Result<()> {
    match guest.report() {
        None => Ok(()),
        Some(report) => bail!("the guest has ended: {:?}", report.reason),
    }
}

/// The host publishes and guests subscribe.
pub(super) struct Delivery {
    host: DeliveryHost,
    runtime: Runtime,
}

struct DeliveryHost {
    broker: Broker,
    guests: Vec<Component>,
    publisher: Publisher<Bytes>,
    payload: usize,
    delivered: u64,
}

impl Delivery {
    pub(super) fn new(shape: Shape) -> anyhow::Result<Self> {
        Self::of(shape, subscriber(), Isolation::Arena)
    }

    /// Does not prefault the blocks' memory, so it is not in large pages.
    pub(super) fn in_small_pages(shape: Shape) -> anyhow::Result<Self> {
        Self::with(shape, subscriber(), Isolation::Arena, false)
    }

    /// The guest sees only the messages delivered to it.
    pub(super) fn strict(shape: Shape) -> anyhow::Result<Self> {
        Self::of(shape, subscriber(), Isolation::Strict)
    }

    /// Maps nothing: each message is copied to the guest, and erased on release.
    pub(super) fn copied(shape: Shape) -> anyhow::Result<Self> {
        Self::of(shape, subscriber(), Isolation::Copied)
    }

    /// The guest adds up the words of each message, or of an equally long buffer of its own.
    pub(super) fn reading(shape: Shape, attached: bool) -> anyhow::Result<Self> {
        let numbers = [
            ("fingerprint", fingerprint()),
            ("payload", shape.payload as u64),
            ("pages", pages(shape.payload)),
            ("attached", attached.into()),
        ];
        Self::of(shape, text(include_str!("reader.wat"), &numbers), Isolation::Arena)
    }

    fn of(shape: Shape, code: String, isolation: Isolation) -> anyhow::Result<Self> {
        Self::with(shape, code, isolation, true)
    }

    fn with(shape: Shape, code: String, isolation: Isolation, prefault: bool) -> anyhow::Result<Self> {
        let (runtime, broker) = one_thread()?;
        // Without timestamps, because lists carry no time, and prefaulted, because the memory of lists is
        // too.
        let options = PublisherOptions::new()
            .block_size(shape.payload)
            .blocks(shape.blocks as u32)
            .timestamps(Timestamps::Off)
            .prefault(prefault);
        let mut publisher = broker.publisher::<Bytes>(TOPIC, options)?;
        let program = load(&broker, code)?;
        let mut guests = Vec::new();
        for _ in 0..shape.subscribers {
            guests.push(start(&broker, &program, |limits| limits.isolation = isolation)?);
        }
        runtime.block_on(publisher.subscribers(guests.len() as u32));
        let host = DeliveryHost { broker, guests, publisher, payload: shape.payload, delivered: 0 };
        Ok(Self { host, runtime })
    }
}

fn subscriber() -> String {
    text(include_str!("subscriber.wat"), &[("fingerprint", fingerprint())])
}

fn fingerprint() -> u64 {
    Bytes::schema().fingerprint()
}

impl DeliveryHost {
    async fn deliver(&mut self, messages: u64) -> anyhow::Result<()> {
        for number in 0..messages {
            self.publish(number).await?;
        }
        self.delivered += messages;
        while self.released()? < self.delivered {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Publishes each message when all guests are asleep.
    async fn wake(&mut self, messages: u64) -> anyhow::Result<()> {
        let blocks = self.publisher.reclaim();
        for number in 0..messages {
            self.publish(number).await?;
            // A guest that has released a message finds no other, and sleeps before this task runs again.
            while self.publisher.reclaim() < blocks {
                tokio::task::yield_now().await;
            }
        }
        self.delivered += messages;
        ensure!(self.released()? == self.delivered, "a guest does not release messages");
        Ok(())
    }

    async fn publish(&mut self, number: u64) -> anyhow::Result<()> {
        let payload = self.payload;
        self.publisher.loan().await?.send_with(|block| {
            let mut builder = block.builder();
            fill(Content::Marked, &mut builder.block()[..payload], number);
            builder.finish(payload)
        })?;
        Ok(())
    }

    /// Number of messages that all guests have released. They touched each first, and trap on a wrong byte.
    fn released(&self) -> anyhow::Result<u64> {
        self.guests.iter().try_for_each(check_alive)?;
        let topic = self.broker.topic(TOPIC).context("the topic is gone")?;
        ensure!(topic.lost() == 0, "messages were lost");
        let channel = topic.publishers.first().context("the publisher is gone")?;
        ensure!(channel.subscribers.len() == self.guests.len(), "a guest does not subscribe any more");
        let behind = channel.subscribers.iter().map(|subscriber| subscriber.behind).max();
        Ok(channel.published - behind.unwrap_or(0))
    }
}

impl GuestWork for Delivery {
    fn run(&mut self, messages: u64) -> Tally {
        match self.runtime.block_on(self.host.deliver(messages)) {
            Ok(()) => Tally::of_marked(messages * self.host.guests.len() as u64),
            Err(error) => {
                eprintln!("guest delivery: {error:#}");
                Tally::default()
            }
        }
    }
}

/// The host publishes to guests that are all asleep.
pub(super) struct Wake(Delivery);

impl Wake {
    pub(super) fn new(shape: Shape) -> anyhow::Result<Self> {
        Delivery::new(shape).map(Self)
    }
}

impl GuestWork for Wake {
    fn run(&mut self, messages: u64) -> Tally {
        let Delivery { host, runtime } = &mut self.0;
        match runtime.block_on(host.wake(messages)) {
            Ok(()) => Tally::of_marked(messages * host.guests.len() as u64),
            Err(error) => {
                eprintln!("guest wake: {error:#}");
                Tally::default()
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.host.guests.iter().for_each(Component::request_shutdown);
        for guest in &self.host.guests {
            self.runtime.block_on(guest.ended());
        }
    }
}

/// A guest publishes and the host subscribes.
///
/// Between slices every block is published and waits to be received, so that a slice has as many publishes as
/// receives.
pub(super) struct Publishing {
    host: PublishingHost,
    runtime: Runtime,
}

struct PublishingHost {
    broker: Broker,
    guest: Component,
    subscriber: Subscriber<Bytes>,
    blocks: u64,
    received: u64,
}

impl Publishing {
    pub(super) fn new(shape: Shape) -> anyhow::Result<Self> {
        Self::one_by_one(shape, false)
    }

    /// The guest passes a handle and gets each result in its memory.
    pub(super) fn by_handle(shape: Shape) -> anyhow::Result<Self> {
        Self::one_by_one(shape, true)
    }

    fn one_by_one(shape: Shape, by_handle: bool) -> anyhow::Result<Self> {
        let code = text(include_str!("publisher.wat"), &[("by_handle", by_handle.into())]);
        Self::of(shape, &code, Place::Own)
    }

    /// The guest publishes as many messages in each call as there are blocks.
    pub(super) fn batches(shape: Shape) -> anyhow::Result<Self> {
        Self::of(shape, include_str!("batch-publisher.wat"), Place::Own)
    }

    /// The guest fills every message anew.
    pub(super) fn building(shape: Shape, place: Place) -> anyhow::Result<Self> {
        Self::of(shape, include_str!("builder.wat"), place)
    }

    fn of(shape: Shape, code: &str, place: Place) -> anyhow::Result<Self> {
        let (runtime, broker) = one_thread()?;
        let subscriber = broker.subscriber::<Bytes>(TOPIC, SubscriberOptions::new())?;
        let numbers = [
            ("fingerprint", fingerprint()),
            ("payload", shape.payload as u64),
            ("blocks", shape.blocks as u64),
            ("pages", pages(shape.payload)),
        ];
        let guest = start(&broker, &load(&broker, text(code, &numbers))?, |limits| match place {
            Place::Host => {}
            Place::Own => limits.in_place = u32::MAX,
            Place::Block => limits.in_place = 1,
        })?;
        let host = PublishingHost { broker, guest, subscriber, blocks: shape.blocks as u64, received: 0 };
        runtime.block_on(host.filled())?;
        Ok(Self { host, runtime })
    }
}

impl PublishingHost {
    async fn receive(&mut self, messages: u64) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        for _ in 0..messages {
            tally.touch(self.subscriber.recv_ref().await?.view());
        }
        self.received += messages;
        self.filled().await?;
        Ok(tally)
    }

    /// Waits until the guest has published all its blocks.
    async fn filled(&self) -> anyhow::Result<()> {
        loop {
            check_alive(&self.guest)?;
            let topic = self.broker.topic(TOPIC).context("the topic is gone")?;
            if topic.published() >= self.received + self.blocks {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}

impl GuestWork for Publishing {
    fn run(&mut self, messages: u64) -> Tally {
        self.runtime.block_on(self.host.receive(messages)).unwrap_or_else(|error| {
            eprintln!("guest publishing: {error:#}");
            Tally::default()
        })
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.host.guest.request_shutdown();
        self.runtime.block_on(self.host.guest.ended());
    }
}
