//! `iceoryx2`, within one process (`local`) and in shared memory (`ipc`).
//!
//! Tuned as its documentation allows: no overflow, buffers as long as the other candidates' pools, and blocks
//! of the right size from the start. In two threads it uses `RetryUntilDelivered`, and the subscriber joins
//! before the publisher. Its publish-subscribe services cannot wake anybody: if the ends block, they have an
//! event service besides.

use std::sync::atomic::{AtomicU32, Ordering};

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::work::{Candidate, Content, FanOut, Halves, Shape, Sink, Source, Tally, Wait, fill};

pub struct Iceoryx2<S> {
    name: &'static str,
    service: std::marker::PhantomData<fn() -> S>,
}

impl<S: iceoryx2::service::Service> Iceoryx2<S> {
    pub fn new(name: &'static str) -> Self {
        set_log_level(LogLevel::Fatal);
        Self { name, service: std::marker::PhantomData }
    }
}

/// Opens `topic`. Everyone who passes the same name and shape gets the same topic.
fn open<S: iceoryx2::service::Service>(topic: &str, shape: Shape) -> (Node<S>, PortFactory<S, [u8], ()>) {
    let node = NodeBuilder::new().create::<S>().expect("a node can be made");
    let service = node
        .service_builder(&topic.try_into().expect("the name is short and plain"))
        .publish_subscribe::<[u8]>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(shape.blocks)
        .subscriber_max_borrowed_samples(shape.blocks)
        .history_size(0)
        .max_publishers(1)
        .max_subscribers(shape.subscribers)
        .max_nodes(shape.subscribers + 2)
        .open_or_create()
        .expect("the service can be made");
    (node, service)
}

/// Opens the event service of `topic`.
fn open_events<S: iceoryx2::service::Service>(
    node: &Node<S>,
    topic: &str,
) -> iceoryx2::service::port_factory::event::PortFactory<S> {
    node.service_builder(&topic.try_into().expect("the name is short and plain"))
        .event()
        .open_or_create()
        .expect("the service can be made")
}

/// Returns a name that no other topic on this machine has.
fn topic() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("blockcast-bench/{}/{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn publisher<S: iceoryx2::service::Service>(
    service: &PortFactory<S, [u8], ()>,
    shape: Shape,
) -> Publisher<S, [u8], ()> {
    let publisher = service
        .publisher_builder()
        .initial_max_slice_len(shape.payload)
        .max_loaned_samples(shape.blocks)
        // The worst case is far larger than the other candidates' pools, which would waste memory for large
        // messages.
        .override_sample_preallocation(move |worst| worst.min(shape.blocks + 2))
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()
        .expect("a publisher can be made");
    // Touch every block once, so that all are in memory before the measurement.
    let mut loans = Vec::new();
    while let Ok(loan) = publisher.loan_slice_uninit(shape.payload) {
        loans.push(loan.write_from_fn(|_| 1));
    }
    publisher
}

impl<S: iceoryx2::service::Service + 'static> Candidate for Iceoryx2<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fan_out(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        let (node, service) = open::<S>(&topic(), shape);
        let subscribers = (0..shape.subscribers)
            .map(|_| service.subscriber_builder().buffer_size(shape.blocks).create())
            .collect::<Result<_, _>>()
            .ok()?;
        let publisher = publisher(&service, shape);
        Some(Box::new(OneThread {
            subscribers,
            publisher,
            payload: shape.payload,
            _service: service,
            _node: node,
        }))
    }

    fn fan_out_owned(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        // Its samples are owned.
        self.fan_out(shape)
    }

    fn halves(&self, shape: Shape) -> Option<Halves> {
        if shape.wait == Wait::Block {
            return None;
        }
        let shape = Shape { subscribers: 1, ..shape };
        let topic = topic();
        let same = topic.clone();
        Some(Halves {
            sink: Box::new(move || Box::new(IceSink::<S>::new(&topic, shape))),
            source: Box::new(move || Box::new(IceSource::<S>::new(&same, shape))),
        })
    }
}

/// Sends one message, written in place.
#[inline(always)]
fn send<S: iceoryx2::service::Service>(
    publisher: &Publisher<S, [u8], ()>,
    payload: usize,
    content: Content,
    number: u64,
) -> bool {
    let Ok(loan) = publisher.loan_slice_uninit(payload) else { return false };
    // SAFETY: every block was written once when the publisher was created, so its bytes are initialized.
    let mut loan = unsafe { loan.assume_init() };
    fill(content, loan.payload_mut(), number);
    loan.send().is_ok()
}

struct OneThread<S: iceoryx2::service::Service> {
    subscribers: Vec<Subscriber<S, [u8], ()>>,
    publisher: Publisher<S, [u8], ()>,
    payload: usize,
    _service: PortFactory<S, [u8], ()>,
    _node: Node<S>,
}

impl<S: iceoryx2::service::Service> FanOut for OneThread<S> {
    fn run(&mut self, messages: u64) -> Tally {
        let mut tally = Tally::default();
        for number in 0..messages {
            if !send(&self.publisher, self.payload, Content::Marked, number) {
                return tally;
            }
            for subscriber in &self.subscribers {
                if let Ok(Some(sample)) = subscriber.receive() {
                    tally.touch(sample.payload());
                }
            }
        }
        tally
    }
}

/// Publishes in place. If the ends block, it also notifies.
pub struct IceSource<S: iceoryx2::service::Service> {
    publisher: Publisher<S, [u8], ()>,
    notifier: Option<Notifier<S>>,
    shape: Shape,
    _service: PortFactory<S, [u8], ()>,
    _node: Node<S>,
}

impl<S: iceoryx2::service::Service> IceSource<S> {
    /// Publishes to `topic`.
    pub fn new(topic: &str, shape: Shape) -> Self {
        let (node, service) = open::<S>(topic, shape);
        let publisher = publisher(&service, shape);
        let notifier = (shape.wait == Wait::Block)
            .then(|| open_events(&node, topic).notifier_builder().create().expect("a notifier can be made"));
        Self { publisher, notifier, shape, _service: service, _node: node }
    }
}

impl<S: iceoryx2::service::Service> Source for IceSource<S> {
    fn publish(&mut self, first: u64, messages: u64) {
        for number in first..first + messages {
            while !send(&self.publisher, self.shape.payload, self.shape.content, number) {
                match self.shape.wait {
                    Wait::Spin => std::hint::spin_loop(),
                    // Subscribers cannot wake it.
                    Wait::Block => std::thread::yield_now(),
                }
            }
            if let Some(notifier) = &self.notifier {
                notifier.notify().expect("the listener lives");
            }
        }
    }
}

/// Receives. If the ends block, it waits for notifications.
pub struct IceSink<S: iceoryx2::service::Service> {
    subscriber: Subscriber<S, [u8], ()>,
    listener: Option<Listener<S>>,
    content: Content,
    _service: PortFactory<S, [u8], ()>,
    _node: Node<S>,
}

impl<S: iceoryx2::service::Service> IceSink<S> {
    /// Subscribes to `topic`.
    pub fn new(topic: &str, shape: Shape) -> Self {
        let (node, service) = open::<S>(topic, shape);
        let listener = (shape.wait == Wait::Block)
            .then(|| open_events(&node, topic).listener_builder().create().expect("a listener can be made"));
        let subscriber = service.subscriber_builder().buffer_size(shape.blocks).create();
        let subscriber = subscriber.expect("a subscriber can be made");
        Self { subscriber, listener, content: shape.content, _service: service, _node: node }
    }
}

impl<S: iceoryx2::service::Service> Sink for IceSink<S> {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        let mut tally = Tally::default();
        for number in first..first + messages {
            loop {
                match self.subscriber.receive() {
                    Ok(Some(sample)) => {
                        tally.take(self.content, sample.payload(), number);
                        break;
                    }
                    Ok(None) => match &self.listener {
                        Some(listener) => {
                            listener.blocking_wait(|_| ()).expect("the event service lives");
                        }
                        None => std::hint::spin_loop(),
                    },
                    Err(_) => return tally,
                }
            }
        }
        tally
    }
}
