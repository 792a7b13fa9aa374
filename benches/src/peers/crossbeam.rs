//! `crossbeam-channel`: one channel of `Arc`s per receiver.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::arcs::{Message, Queue, to_each};

pub struct Crossbeam;

impl Queue for Crossbeam {
    type Sender = Vec<Sender<Message>>;
    type Receiver = Receiver<Message>;

    fn make(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        (0..receivers).map(|_| bounded(capacity)).unzip()
    }

    #[inline(always)]
    fn try_send(sender: &mut Self::Sender, message: Message) -> Result<(), Message> {
        to_each(sender, message, |one, message| one.try_send(message).map_err(|error| error.into_inner()))
    }

    #[inline(always)]
    fn try_receive(receiver: &mut Self::Receiver) -> Option<Message> {
        receiver.try_recv().ok()
    }

    #[inline(always)]
    fn send(sender: &mut Self::Sender, message: Message) {
        let _ = to_each(sender, message, |one, message| {
            one.send(message).expect("the receiver lives");
            Ok(())
        });
    }

    #[inline(always)]
    fn receive(receiver: &mut Self::Receiver) -> Message {
        receiver.recv().expect("the sender lives")
    }
}
