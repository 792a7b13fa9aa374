//! `std::sync::mpsc`: one channel of `Arc`s per receiver.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::arcs::{Message, Queue, to_each};

pub struct Mpsc;

impl Queue for Mpsc {
    type Sender = Vec<SyncSender<Message>>;
    type Receiver = Receiver<Message>;

    fn make(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        (0..receivers).map(|_| sync_channel(capacity)).unzip()
    }

    #[inline(always)]
    fn try_send(sender: &mut Self::Sender, message: Message) -> Result<(), Message> {
        to_each(sender, message, |one, message| {
            one.try_send(message).map_err(|error| match error {
                TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
            })
        })
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
