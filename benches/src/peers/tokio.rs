//! `tokio::sync::broadcast`: one ring of `Arc`s for all receivers, each of which clones them.
//!
//! It has no back-pressure: a slow receiver loses messages. To lose none, the sender checks the number of
//! queued messages before it sends.

use tokio::sync::broadcast::{Receiver, Sender, channel};

use super::arcs::{Message, Queue};

pub struct Broadcast;

/// The sender, and the capacity that it must not exceed.
pub struct Bounded {
    sender: Sender<Message>,
    capacity: usize,
}

impl Queue for Broadcast {
    type Sender = Bounded;
    type Receiver = Receiver<Message>;

    fn make(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let (sender, first) = channel(capacity);
        let mut all = vec![first];
        all.extend((1..receivers).map(|_| sender.subscribe()));
        (Bounded { sender, capacity }, all)
    }

    #[inline(always)]
    fn try_send(sender: &mut Self::Sender, message: Message) -> Result<(), Message> {
        if sender.sender.len() >= sender.capacity {
            return Err(message);
        }
        sender.sender.send(message).map(drop).map_err(|error| error.0)
    }

    #[inline(always)]
    fn try_receive(receiver: &mut Self::Receiver) -> Option<Message> {
        receiver.try_recv().ok()
    }

    #[inline(always)]
    fn send(sender: &mut Self::Sender, mut message: Message) {
        while let Err(refused) = Self::try_send(sender, message) {
            message = refused;
            std::thread::yield_now();
        }
    }

    #[inline(always)]
    fn receive(receiver: &mut Self::Receiver) -> Message {
        receiver.blocking_recv().expect("the sender lives, and waits for room")
    }
}
