//! `bus`: one ring of `Arc`s for all receivers, each of which clones them.

use bus::{Bus, BusReader};

use super::arcs::{Message, Queue};

pub struct Broadcast;

impl Queue for Broadcast {
    type Sender = Bus<Message>;
    type Receiver = BusReader<Message>;

    fn make(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let mut bus = Bus::new(capacity);
        let readers = (0..receivers).map(|_| bus.add_rx()).collect();
        (bus, readers)
    }

    #[inline(always)]
    fn try_send(sender: &mut Self::Sender, message: Message) -> Result<(), Message> {
        sender.try_broadcast(message)
    }

    #[inline(always)]
    fn try_receive(receiver: &mut Self::Receiver) -> Option<Message> {
        receiver.try_recv().ok()
    }

    #[inline(always)]
    fn send(sender: &mut Self::Sender, message: Message) {
        sender.broadcast(message);
    }

    #[inline(always)]
    fn receive(receiver: &mut Self::Receiver) -> Message {
        receiver.recv().expect("the sender lives")
    }
}
