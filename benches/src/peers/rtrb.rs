//! `rtrb`: one wait-free ring of `Arc`s per receiver. It cannot block.

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::arcs::{Message, Queue, to_each};

pub struct Rtrb;

impl Queue for Rtrb {
    type Sender = Vec<Producer<Message>>;
    type Receiver = Consumer<Message>;
    const BLOCKS: bool = false;

    fn make(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        (0..receivers).map(|_| RingBuffer::new(capacity)).unzip()
    }

    #[inline(always)]
    fn try_send(sender: &mut Self::Sender, message: Message) -> Result<(), Message> {
        to_each(sender, message, |one, message| one.push(message).map_err(|PushError::Full(message)| message))
    }

    #[inline(always)]
    fn try_receive(receiver: &mut Self::Receiver) -> Option<Message> {
        receiver.pop().ok()
    }

    fn send(_: &mut Self::Sender, _: Message) {
        unreachable!("rtrb does not block")
    }

    fn receive(_: &mut Self::Receiver) -> Message {
        unreachable!("rtrb does not block")
    }
}
