//! Channels of `Arc<[u8]>`: the part that they share, in terms of [`Queue`].

use std::marker::PhantomData;
use std::sync::Arc;

use crate::work::{Candidate, Content, FIRST, FanOut, Halves, LAST, Shape, Sink, Source, Tally, Wait, fill};

/// The message.
pub type Message = Arc<[u8]>;

/// A channel that carries [`Message`]s to every receiver.
pub trait Queue: Send + Sync + 'static {
    /// The sending end for all receivers.
    type Sender: Send + 'static;
    /// The end of one receiver.
    type Receiver: Send + 'static;
    /// Whether `send` and `receive` block the thread.
    const BLOCKS: bool = true;

    /// Creates a channel with room for `capacity` messages.
    fn make(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>);
    /// Sends if every receiver has room.
    fn try_send(sender: &mut Self::Sender, message: Message) -> Result<(), Message>;
    /// Receives if there is a message.
    fn try_receive(receiver: &mut Self::Receiver) -> Option<Message>;
    /// Sends, waiting for room.
    fn send(sender: &mut Self::Sender, message: Message);
    /// Receives, waiting for a message.
    fn receive(receiver: &mut Self::Receiver) -> Message;
}

/// A queue as a candidate.
pub struct Arcs<Q> {
    name: &'static str,
    queue: PhantomData<Q>,
}

impl<Q> Arcs<Q> {
    /// Creates the candidate called `name`.
    pub fn new(name: &'static str) -> Self {
        Self { name, queue: PhantomData }
    }
}

impl<Q: Queue> Candidate for Arcs<Q> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fan_out(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        let (sender, receivers) = Q::make(shape.blocks, shape.subscribers);
        Some(Box::new(OneThread::<Q> { sender, receivers, pool: Pool::new(shape) }))
    }

    fn fan_out_owned(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        // An `Arc` is an owned sample.
        self.fan_out(shape)
    }

    fn halves(&self, shape: Shape) -> Option<Halves> {
        if shape.wait == Wait::Block && !Q::BLOCKS {
            return None;
        }
        let (sender, mut receivers) = Q::make(shape.blocks, 1);
        let receiver = receivers.pop()?;
        Some(Halves::ready(
            ArcSource::<Q> { sender, pool: Pool::new(shape), wait: shape.wait },
            ArcSink::<Q> { receiver, content: shape.content, wait: shape.wait },
        ))
    }
}

/// Prepared messages, used in rotation, so that nothing is allocated during the measurement.
struct Pool {
    messages: Vec<Message>,
    next: usize,
    content: Content,
}

impl Pool {
    fn new(shape: Shape) -> Self {
        let mut bytes = vec![0; shape.payload];
        bytes[0] = FIRST;
        bytes[shape.payload - 1] = LAST;
        let messages = (0..shape.blocks).map(|_| Message::from(&bytes[..])).collect();
        Self { messages, next: 0, content: shape.content }
    }

    /// Returns the next message once its receivers have dropped it, rewritten if required.
    #[inline(always)]
    fn message(&mut self, number: u64) -> Message {
        let index = self.next;
        self.next = if index + 1 == self.messages.len() { 0 } else { index + 1 };
        let slot = &mut self.messages[index];
        if self.content == Content::Numbered {
            while Arc::get_mut(slot).is_none() {
                std::hint::spin_loop();
            }
            fill(Content::Numbered, Arc::get_mut(slot).expect("nobody has it any more"), number);
        }
        Arc::clone(slot)
    }
}

struct OneThread<Q: Queue> {
    sender: Q::Sender,
    receivers: Vec<Q::Receiver>,
    pool: Pool,
}

impl<Q: Queue> FanOut for OneThread<Q> {
    fn run(&mut self, messages: u64) -> Tally {
        let mut tally = Tally::default();
        for number in 0..messages {
            let message = self.pool.message(number);
            if Q::try_send(&mut self.sender, message).is_err() {
                return tally;
            }
            for receiver in &mut self.receivers {
                if let Some(message) = Q::try_receive(receiver) {
                    tally.touch(&message);
                }
            }
        }
        tally
    }
}

struct ArcSource<Q: Queue> {
    sender: Q::Sender,
    pool: Pool,
    wait: Wait,
}

impl<Q: Queue> Source for ArcSource<Q> {
    fn publish(&mut self, first: u64, messages: u64) {
        for number in first..first + messages {
            let mut message = self.pool.message(number);
            match self.wait {
                Wait::Block => Q::send(&mut self.sender, message),
                Wait::Spin => {
                    while let Err(refused) = Q::try_send(&mut self.sender, message) {
                        message = refused;
                        std::hint::spin_loop();
                    }
                }
            }
        }
    }
}

struct ArcSink<Q: Queue> {
    receiver: Q::Receiver,
    content: Content,
    wait: Wait,
}

impl<Q: Queue> Sink for ArcSink<Q> {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        let mut tally = Tally::default();
        for number in first..first + messages {
            let message = match self.wait {
                Wait::Block => Q::receive(&mut self.receiver),
                Wait::Spin => loop {
                    if let Some(message) = Q::try_receive(&mut self.receiver) {
                        break message;
                    }
                    std::hint::spin_loop();
                },
            };
            tally.take(self.content, &message, number);
        }
        tally
    }
}

/// Sends a clone to each of several single-receiver senders, all of which must have room: either one thread
/// sends and receives alternately, or there is only one receiver.
#[inline(always)]
pub fn to_each<S>(
    senders: &mut [S],
    message: Message,
    mut send: impl FnMut(&mut S, Message) -> Result<(), Message>,
) -> Result<(), Message> {
    let Some((last, others)) = senders.split_last_mut() else { return Ok(()) };
    for sender in others {
        send(sender, Arc::clone(&message))?;
    }
    send(last, message)
}
