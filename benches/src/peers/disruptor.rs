//! `disruptor`: a ring of events that are changed in place. Its subscribers are fixed at construction.
//!
//! Subscribers poll, because the crate's own threads would spin. It has no owned samples and cannot block.

use disruptor::{
    BusySpin, EventPoller, MultiConsumerBarrier, Polling, Producer, SingleConsumerBarrier, SingleProducer,
    SingleProducerBarrier, build_single_producer,
};

use crate::work::{Candidate, Content, FanOut, Halves, Shape, Sink, Source, Tally, Wait, fill};

pub struct Disruptor;

/// 64 bytes inside the ring.
#[repr(align(64))]
struct Line([u8; 64]);

/// More bytes, allocated once with the ring.
type Large = Box<[u8]>;

trait Event: Send + Sync + 'static {
    fn make(payload: usize) -> Self;
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl Event for Line {
    fn make(_: usize) -> Self {
        Self([0; 64])
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Event for Large {
    fn make(payload: usize) -> Self {
        // Not zeros, which would not be backed by memory yet.
        vec![1; payload].into_boxed_slice()
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

type Poller<E> = EventPoller<E, SingleProducerBarrier>;

impl Candidate for Disruptor {
    fn name(&self) -> &'static str {
        "disruptor"
    }

    fn fan_out(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        Some(if shape.payload == 64 { one_thread::<Line>(shape) } else { one_thread::<Large>(shape) })
    }

    fn fan_out_owned(&self, _: Shape) -> Option<Box<dyn FanOut>> {
        None
    }

    fn halves(&self, shape: Shape) -> Option<Halves> {
        match shape.wait {
            Wait::Block => None,
            Wait::Spin if shape.payload == 64 => Some(two_threads::<Line>(shape)),
            Wait::Spin => Some(two_threads::<Large>(shape)),
        }
    }
}

fn one_thread<E: Event>(shape: Shape) -> Box<dyn FanOut> {
    let ring = build_single_producer(shape.blocks, || E::make(shape.payload), BusySpin);
    let (first, ring) = ring.new_event_poller();
    if shape.subscribers == 1 {
        return Box::new(OneThread { producer: ring.build(), pollers: vec![first] });
    }
    let (second, mut ring) = ring.new_event_poller();
    let mut pollers = vec![first, second];
    for _ in 2..shape.subscribers {
        let (poller, more) = ring.new_event_poller();
        pollers.push(poller);
        ring = more;
    }
    Box::new(OneThread { producer: ring.build(), pollers })
}

struct OneThread<E, C> {
    producer: SingleProducer<E, C>,
    pollers: Vec<Poller<E>>,
}

/// The two kinds of barriers of a producer. The crate's trait for them is private.
trait Publishes<E> {
    fn publish_with(&mut self, update: impl FnOnce(&mut E));
}

impl<E> Publishes<E> for SingleProducer<E, SingleConsumerBarrier> {
    #[inline(always)]
    fn publish_with(&mut self, update: impl FnOnce(&mut E)) {
        self.publish(update);
    }
}

impl<E> Publishes<E> for SingleProducer<E, MultiConsumerBarrier> {
    #[inline(always)]
    fn publish_with(&mut self, update: impl FnOnce(&mut E)) {
        self.publish(update);
    }
}

impl<E: Event, C> FanOut for OneThread<E, C>
where
    SingleProducer<E, C>: Publishes<E>,
{
    fn run(&mut self, messages: u64) -> Tally {
        let mut tally = Tally::default();
        for number in 0..messages {
            self.producer.publish_with(|event| fill(Content::Marked, event.bytes_mut(), number));
            for poller in &mut self.pollers {
                if let Ok(mut events) = poller.poll() {
                    for event in &mut events {
                        tally.touch(event.bytes());
                    }
                }
            }
        }
        tally
    }
}

fn two_threads<E: Event>(shape: Shape) -> Halves {
    let ring = build_single_producer(shape.blocks, || E::make(shape.payload), BusySpin);
    let (poller, ring) = ring.new_event_poller();
    Halves::ready(
        RingSource { producer: ring.build(), content: shape.content },
        RingSink { poller, content: shape.content },
    )
}

struct RingSource<E> {
    producer: SingleProducer<E, SingleConsumerBarrier>,
    content: Content,
}

impl<E: Event> Source for RingSource<E> {
    fn publish(&mut self, first: u64, messages: u64) {
        for number in first..first + messages {
            self.producer.publish(|event| fill(self.content, event.bytes_mut(), number));
        }
    }
}

struct RingSink<E> {
    poller: Poller<E>,
    content: Content,
}

impl<E: Event> Sink for RingSink<E> {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        let mut tally = Tally::default();
        while tally.messages < messages {
            match self.poller.take(messages - tally.messages) {
                Ok(mut events) => {
                    for event in &mut events {
                        tally.take(self.content, event.bytes(), first + tally.messages);
                    }
                }
                Err(Polling::NoEvents) => std::hint::spin_loop(),
                Err(Polling::Shutdown) => break,
            }
        }
        tally
    }
}
