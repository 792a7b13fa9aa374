//! A ring whose blocks are loom cells: a block that is read while it is written, or read without the write
//! being visible, ends the model.

use std::sync::Arc;

use loom::cell::UnsafeCell;

use crate::descriptor::{Packed, Validity, pack, unit_of};
use crate::direct::DirectPublisher;
use crate::engine::channel::Channel;
use crate::engine::config::ChannelConfig;
use crate::engine::pool::Pool;
use crate::engine::remote::{AnnexId, AnnexTerms, Bell, RemotePublisher, Trust};
use crate::engine::ring::consumer::{Consumer, Outcome, Pace};
use crate::engine::ring::producer::{Producer, Reach};
use crate::engine::segment::control::Control;
use crate::engine::segment::layout::Layout;
use crate::engine::segment::preamble::Preamble;
use crate::engine::segment::side::HeapSide;
use crate::engine::wake::signal::Signal;
use crate::options::SizeClass;
use crate::payload::BLOCK_ALIGNMENT;
use crate::payload::schema::Schema;
use crate::units::PublisherId;

/// The content of the block of message `sequence`.
fn content(sequence: u64) -> u64 {
    100 + sequence
}

/// The payload bytes of all blocks, one cell each.
#[derive(Clone)]
pub(super) struct Cells(Arc<[UnsafeCell<u64>]>);

impl Cells {
    pub(super) fn new(blocks: u32) -> Self {
        Self((0..blocks).map(|_| UnsafeCell::new(0)).collect())
    }

    fn write(&self, unit: u32, value: u64) {
        // SAFETY: loom checks that nobody else accesses the cell meanwhile; that is what the models are for.
        self.0[unit as usize].with_mut(|cell| unsafe { *cell = value });
    }

    /// Returns all blocks to the system.
    pub(super) fn release(&self) {
        (0..self.0.len()).for_each(|unit| self.write(unit as u32, 0));
    }

    /// Fills and publishes the next reserved block. Returns whether somebody may wait, or `None` if no block
    /// is reserved.
    pub(super) fn publish_directly(&self, direct: &mut DirectPublisher) -> Option<bool> {
        let offset = direct.has_block().then(|| direct.block())?;
        self.write((offset / BLOCK_ALIGNMENT) as u32, content(direct.sequence()));
        Some(direct.publish(offset, 8))
    }

    /// Reads the message, and checks that it is the one that its descriptor names.
    pub(super) fn check(&self, message: Packed) {
        // SAFETY: as in `write`.
        let value = self.0[unit_of(message.word) as usize].with(|cell| unsafe { *cell });
        assert_eq!(value, content(message.sequence), "another message's bytes");
    }
}

/// A publisher and its channel.
pub(super) struct Ring {
    pub(super) producer: Producer,
    pub(super) control: Control,
    pub(super) cells: Cells,
    layout: Layout,
    /// Whether the publisher takes back messages that are only claimed, when nothing else is left.
    pub(super) revokes: bool,
    /// Whether the publisher takes the block that came free last.
    hottest: bool,
}

impl Ring {
    pub(super) fn new(blocks: u32, cursors: u32, history: u32) -> Self {
        Self::of(blocks, cursors, history, false)
    }

    /// A ring whose publisher is a relay.
    pub(super) fn of_relay(blocks: u32, cursors: u32, history: u32) -> Self {
        Self::of(blocks, cursors, history, true)
    }

    fn of(blocks: u32, cursors: u32, history: u32, relay: bool) -> Self {
        let classes = [SizeClass { block_size: 64, blocks, max_blocks: blocks }];
        let layout = Layout::new(&classes).expect("a small layout");
        let preamble = Preamble::new(&layout, classes.to_vec(), cursors, relay);
        let control = Control::create(&preamble).expect("never refused here");
        Self::with(control, &layout, &classes, history)
    }

    /// A ring whose publisher takes the block that came free last.
    pub(super) fn of_hottest(blocks: u32, cursors: u32, history: u32) -> Self {
        let mut ring = Self::new(blocks, cursors, history);
        let classes = [SizeClass { block_size: 64, blocks, max_blocks: blocks }];
        let pool = Pool::new(ring.layout.clone(), &classes);
        ring.producer = Producer::new(ring.control.clone(), pool, history, true);
        ring.hottest = true;
        ring
    }

    /// A ring on an existing control segment.
    pub(super) fn with(control: Control, layout: &Layout, classes: &[SizeClass], history: u32) -> Self {
        let pool = Pool::new(layout.clone(), classes);
        let producer = Producer::new(control.clone(), pool, history, false);
        let (cells, layout) = (Cells::new(layout.blocks), layout.clone());
        Self { producer, control, cells, layout, revokes: false, hottest: false }
    }

    pub(super) fn join(&self, cursor: u32, pace: Pace, history: u64) -> Receiver {
        let consumer = Consumer::join(&self.control, cursor, pace, history).expect("a barrier");
        Receiver { consumer, cells: self.cells.clone() }
    }

    /// The control segment as a subscribing process maps it, whose annex has one cursor, and its side.
    pub(super) fn open(&self, publisher_bell: &Bell) -> (Control, Arc<HeapSide>) {
        let publisher =
            RemotePublisher::new(self.layout.clone(), Trust::Shared, true, publisher_bell.clone());
        self.control.open(1, publisher)
    }

    /// Like [`join`](Self::join), from another process.
    pub(super) fn join_remotely(&self, pace: Pace, history: u64) -> (Receiver, AnnexId) {
        let (control, side) = self.open(&Bell::new());
        let id = self.control.attach(side, AnnexTerms::default(), Bell::new());
        let consumer = Consumer::join(&control, 0, pace, history).expect("a barrier");
        (Receiver { consumer, cells: self.cells.clone() }, id)
    }

    /// Takes a free block, past subscribers that may be overtaken, as a writer does.
    pub(super) fn take_block(&mut self) -> Option<u32> {
        let producer = &mut self.producer;
        if self.hottest {
            match producer.take_passed() {
                Ok(unit) => return Some(unit),
                Err(unfinished) => producer.finish(unfinished),
            }
        }
        loop {
            if let Some(unit) = producer.pop_oldest() {
                return Some(unit);
            }
            if let Some((unit, _)) = producer.pop_spare(1) {
                return Some(unit);
            }
            let watermark = producer.watermark();
            if producer.reclaim(Reach::Overtake(1)) > 0 || producer.watermark() != watermark {
                continue;
            }
            if !self.revokes || producer.revoke() == 0 {
                return None;
            }
        }
    }

    /// Publishes one message. Returns `false` if no block is free. The subscribers of these models do not
    /// sleep.
    pub(super) fn publish(&mut self) -> bool {
        let Some(unit) = self.take_block() else { return false };
        let _ = self.publish_block(unit);
        true
    }

    /// Publishes `count` messages together, as a writer's batch does. Returns their number: fewer if no more
    /// blocks are free.
    pub(super) fn publish_batch(&mut self, count: u64) -> u64 {
        let mut added = 0;
        while added < count {
            let free = self.producer.pop_oldest().or_else(|| Some(self.producer.pop_spare(1)?.0));
            let Some(unit) = free.or_else(|| {
                let _ = self.producer.announce();
                self.take_block()
            }) else {
                break;
            };
            self.cells.write(unit, content(self.producer.head()));
            self.producer.add(pack(unit, 8, Validity::Valid));
            added += 1;
        }
        let _ = self.producer.announce();
        added
    }

    /// Publishes a block. Returns `true` if somebody sleeps.
    pub(super) fn publish_block(&mut self, unit: u32) -> bool {
        self.cells.write(unit, content(self.producer.head()));
        self.producer.note_missing();
        self.producer.publish(pack(unit, 8, Validity::Valid))
            && !self.producer.nobody_waits()
            && self.producer.wakes()
    }

    /// The direct publisher of the ring.
    pub(super) fn direct(&self) -> DirectPublisher {
        // SAFETY: the models keep the ring for as long as they publish directly.
        unsafe { DirectPublisher::new(&self.control.direct_publisher()) }.expect("no null pointers")
    }

    /// Reserves up to `most` free blocks, as a writer does. Returns their number.
    pub(super) fn reserve(&mut self, direct: &mut DirectPublisher, most: u32) -> u32 {
        self.producer.recall();
        let Some(unit) = self.take_block() else { return 0 };
        let (first, count) = self.producer.reserve(unit, most);
        direct.take_up(first, count);
        count
    }

    /// Publishes the next reserved block directly. Reserves up to `most` blocks first if there are none.
    /// Returns whether somebody sleeps, or `None` if no block is free.
    pub(super) fn publish_directly(&mut self, direct: &mut DirectPublisher, most: u32) -> Option<bool> {
        if !direct.has_block() && self.reserve(direct, most) == 0 {
            return None;
        }
        Some(self.cells.publish_directly(direct)? && self.producer.wakes())
    }

    /// Free blocks, once everything is passed and nothing is held.
    pub(super) fn settle(&mut self) -> u32 {
        self.producer.reclaim(Reach::Passed);
        self.producer.reclaim(Reach::Passed);
        self.producer.free()
    }
}

/// A channel and a ring on its control segment: samples know the channel, the model checks the ring's cells.
pub(super) fn channel_of(blocks: u32) -> (Arc<Channel>, Ring) {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("model"));
    (config.blocks, config.block_size, config.max_subscribers) = (blocks, 64, 1);
    let (channel, _file) = Channel::create(config, Signal::new(), None).expect("a small channel");
    let ring = Ring::with(channel.control().clone(), channel.layout(), &channel.config().classes(), 0);
    (channel, ring)
}

/// A subscriber that reads every message it receives.
pub(super) struct Receiver {
    pub(super) consumer: Consumer,
    pub(super) cells: Cells,
}

/// The observations of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    Message(u64),
    Lost(u64),
    Empty,
    Ended,
}

impl Receiver {
    /// Receives and reads one message. The caller releases it.
    pub(super) fn take(&mut self) -> Met {
        match self.consumer.advance() {
            Outcome::Message => {
                let message = self.consumer.current();
                self.cells.check(message);
                Met::Message(message.sequence)
            }
            Outcome::Overtaken => Met::Lost(self.consumer.jump().0),
            Outcome::Missing => Met::Lost(self.consumer.take_missing()),
            Outcome::Empty => Met::Empty,
            Outcome::Ended => Met::Ended,
            Outcome::Corrupt => unreachable!("the publisher writes what makes sense"),
        }
    }

    /// Receives, reads and releases one message.
    pub(super) fn receive(&mut self) -> Met {
        if self.consumer.reads_unchecked()
            && let Some(word) = self.consumer.receive_word()
        {
            let message = self.consumer.current_of(word);
            self.cells.check(message);
            let _ = self.consumer.release_word(word);
            return Met::Message(message.sequence);
        }
        let met = self.take();
        if let Met::Message(sequence) = met {
            let _ = self.consumer.release(sequence + 1);
        }
        met
    }
}
