//! One publisher of a subscription's topic: [`Input`].

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

use blockcast_blocks::{Channel, Descriptor, Reader, ReceiveError, Validity};

use super::Run;
use crate::hosting::address_space::{ArenaView, Delivery};
use crate::hosting::held_blocks::{HeldBlock, HeldBlocks, Share};

/// Bit of a record's length that marks the bytes as known to be valid.
const VALID: u32 = 1 << 31;

/// One publisher of the topic, as the subscription reads it.
pub(super) struct Input<V> {
    pub(super) channel: Arc<Channel>,
    /// Keeps the arena's file open for as long as it may be mapped.
    _file: Option<Arc<OwnedFd>>,
    /// `None` once the subscription has left: then only holds keep the input.
    pub(super) reader: Option<Reader>,
    /// Where the component sees the arena.
    pub(super) view: V,
    /// Messages lost since the last delivery.
    pub(super) lost: u64,
    /// Deliveries neither released nor held.
    pub(super) attached: u32,
    /// Messages held.
    pub(super) held: u32,
    /// The publisher's blocks that the component may hold.
    pub(super) share: Share,
    /// A message is waiting, but the component holds as many blocks as it may.
    pub(super) share_is_used_up: bool,
    pub(super) ended: bool,
}

/// A message that is being delivered to the component.
pub(super) struct Received {
    pub(super) descriptor: Descriptor,
    /// Set where the publisher may overtake: the reader's own interval does not keep the message then.
    pub(super) block: Option<HeldBlock>,
}

impl<V: ArenaView> Input<V> {
    pub(super) fn new(reader: Reader, held_blocks: &HeldBlocks) -> Self {
        Self {
            share: held_blocks.share_of(reader.channel()),
            share_is_used_up: false,
            channel: Arc::clone(reader.channel()),
            // SAFETY: the file is only kept open.
            _file: unsafe { reader.arena_file() }.cloned(),
            reader: Some(reader),
            view: V::default(),
            lost: 0,
            attached: 0,
            held: 0,
            ended: false,
        }
    }

    /// Takes up to `limit` waiting messages of a publisher that waits for this subscription, and writes their
    /// records to `target`. Returns their number and their bytes.
    ///
    /// # Safety
    /// `target` points to memory for `limit` records, aligned to them, that nobody else uses during the call.
    // Not inlined, so that the loop's variables stay in registers.
    #[inline(never)]
    pub(super) unsafe fn take_run(
        &mut self,
        run: &mut Run,
        target: *mut V::Record,
        limit: u32,
    ) -> (u32, u64) {
        let Self { reader: Some(reader), view, channel, .. } = self else { return (0, 0) };
        let publisher = channel.component_number();
        run.sequence = reader.next_sequence().get();
        let mut place = target;
        let (count, bytes) = reader.receive_descriptors(u64::from(limit), |descriptor| {
            // SAFETY: the reader passes at most `limit` descriptors, for which there is room (the caller's
            // promise).
            unsafe { place.write(view.record(delivery(descriptor, publisher, 0))) };
            place = place.wrapping_add(1);
        });
        run.count = count as u32; // at most `limit`
        (run.count, bytes)
    }

    /// Receives the next message, if one is waiting.
    pub(super) fn receive(&mut self, reliable: bool) -> Option<Received> {
        let reader = self.reader.as_mut()?;
        self.share_is_used_up = !reliable && self.share.is_used_up() && reader.has_message();
        if self.share_is_used_up {
            return None;
        }
        loop {
            let received = if reliable {
                reader.receive_descriptor().map(|descriptor| Received { descriptor, block: None })
            } else {
                reader.receive_owned().map(|sample| Received {
                    descriptor: sample.descriptor(),
                    block: Some(self.share.hold(sample)),
                })
            };
            match received {
                Ok(received) => return Some(received),
                Err(ReceiveError::Lost(count)) => self.lost = self.lost.saturating_add(count),
                Err(ReceiveError::Empty) => return None,
                Err(_) => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }

    /// Whether the publisher has ended and some of its messages have not been delivered. If all have been,
    /// marks the input as ended, whether or not the component sees its arena.
    pub(super) fn is_ending(&mut self) -> bool {
        if self.ended || !self.channel.is_closed() {
            return false;
        }
        // Unreported losses go with the input's last record.
        self.ended = !self.has_message() && self.lost == 0;
        !self.ended
    }

    /// Whether there is a message, or a loss to report. Takes nothing: where the subscription allows losses,
    /// a message that the component does not ask for may still be lost, as in a linked app.
    pub(super) fn has_message(&mut self) -> bool {
        self.reader.as_mut().is_some_and(Reader::has_message)
    }

    /// Announces that the component is about to sleep until `waker` is called. Returns `true` if it
    /// must not sleep, because it has something to receive.
    pub(super) fn arm(&mut self, reliable: bool, waker: &Waker) -> bool {
        let Some(reader) = &mut self.reader else { return true };
        // A message that the component may not receive is not a reason.
        let used_up = !reliable && self.share.is_used_up();
        if !used_up && reader.has_message() {
            return true;
        }
        reader.arm(waker);
        !(used_up && reader.has_message()) && reader.is_ready()
    }

    /// Stops receiving, and releases all messages that are not held.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.reader = None;
    }

    /// Whether the publisher has ended and the component has nothing of it.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && self.attached == 0 && self.held == 0
    }
}

/// The delivery that reports a message.
#[inline]
pub(super) fn delivery(descriptor: Descriptor, publisher: u32, lost: u32) -> Delivery {
    let Descriptor { sequence, offset, len, time, validity } = descriptor;
    let valid = if validity == Validity::Valid { VALID } else { 0 };
    Delivery { sequence: sequence.get(), time: time.as_nanos(), offset, length: len | valid, publisher, lost }
}
