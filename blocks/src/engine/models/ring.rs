//! A ring whose blocks are loom cells: a block that is read while it is written, or read without the write
//! being visible, ends the model.

use std::sync::Arc;

use loom::cell::UnsafeCell;

use crate::descriptor::{Packed, Validity, pack, unit_of};
use crate::direct::Line;
use crate::engine::channel::Channel;
use crate::engine::config::ChannelConfig;
use crate::engine::pool::Pool;
use crate::engine::ring::consumer::{Consumer, Pace, Taken};
use crate::engine::ring::producer::{Producer, Reach};
use crate::engine::segment::control::Control;
use crate::engine::segment::layout::Layout;
use crate::engine::segment::preamble::Preamble;
use crate::engine::wake::signal::Signal;
use crate::options::SizeClass;
use crate::payload::BLOCK_ALIGNMENT;
use crate::payload::schema::Schema;
use crate::units::PublisherId;

/// What stands in the block of message `sequence`.
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

    /// Gives all blocks back to the system.
    pub(super) fn release(&self) {
        (0..self.0.len()).for_each(|unit| self.write(unit as u32, 0));
    }

    /// Fills the next block that was lent to the line, and publishes it by that. True: somebody may wait. `None`: there is none.
    pub(super) fn publish_by_line(&self, line: &mut Line) -> Option<bool> {
        let offset = line.has_block().then(|| line.block())?;
        self.write((offset / BLOCK_ALIGNMENT) as u32, content(line.sequence()));
        Some(line.publish(offset, 8))
    }

    /// Reads the message and checks that it is the one that its descriptor tells of.
    pub(super) fn check(&self, message: Packed) {
        // SAFETY: as in `write`.
        let value = self.0[unit_of(message.word) as usize].with(|cell| unsafe { *cell });
        assert_eq!(value, content(message.sequence), "another message's bytes");
    }
}

/// A publisher and what its subscribers join.
pub(super) struct Ring {
    pub(super) producer: Producer,
    pub(super) control: Control,
    pub(super) cells: Cells,
    /// Whether the publisher takes back what is only claimed when nothing else is left.
    pub(super) revokes: bool,
}

impl Ring {
    pub(super) fn new(blocks: u32, cursors: u32, history: u32) -> Self {
        let classes = [SizeClass { block_size: 64, blocks, max_blocks: blocks }];
        let layout = Layout::new(&classes).expect("a small layout");
        let preamble = Preamble::new(&layout, classes.to_vec(), cursors);
        let control = Control::create(&preamble).expect("never refused here");
        Self::with(control, &layout, &classes, history)
    }

    /// A ring on a control segment that exists.
    pub(super) fn with(control: Control, layout: &Layout, classes: &[SizeClass], history: u32) -> Self {
        let pool = Pool::new(layout.clone(), classes);
        let producer = Producer::new(control.clone(), pool, history, false);
        Self { producer, control, cells: Cells::new(layout.blocks), revokes: false }
    }

    pub(super) fn join(&self, cursor: u32, pace: Pace, history: u64) -> Receiver {
        let consumer = Consumer::join(&self.control, cursor, pace, history).expect("a barrier");
        Receiver { consumer, cells: self.cells.clone() }
    }

    /// Takes a free block, past subscribers that may be overtaken, as a writer does.
    pub(super) fn take_block(&mut self) -> Option<u32> {
        let producer = &mut self.producer;
        loop {
            if let Some(unit) = producer.take_oldest() {
                return Some(unit);
            }
            if let Some((unit, _)) = producer.take_spare(1) {
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

    /// Publishes one message. False: no block is free. The subscribers of these models do not sleep.
    pub(super) fn publish(&mut self) -> bool {
        let Some(unit) = self.take_block() else { return false };
        let _ = self.publish_block(unit);
        true
    }

    /// Publishes a block. True: somebody sleeps.
    pub(super) fn publish_block(&mut self, unit: u32) -> bool {
        self.cells.write(unit, content(self.producer.head()));
        self.producer.publish(pack(unit, 8, Validity::Valid)) && self.producer.wakes()
    }

    /// The line, by which another publishes.
    pub(super) fn line(&self) -> Line {
        // SAFETY: the models keep the ring for as long as they use its line.
        unsafe { Line::new(&self.control.publishing_line()) }.expect("no null pointers")
    }

    /// Lends up to `most` free blocks to the line, as a writer does. Returns how many.
    pub(super) fn lend(&mut self, line: &mut Line, most: u32) -> u32 {
        self.producer.recall();
        let Some(unit) = self.take_block() else { return 0 };
        let (first, count) = self.producer.lend(unit, most);
        line.take_up(first, count);
        count
    }

    /// Publishes the next block of the line by it; up to `most` are lent to it if it has none. True: somebody sleeps. `None`: no block
    /// is free.
    pub(super) fn publish_by_line(&mut self, line: &mut Line, most: u32) -> Option<bool> {
        if !line.has_block() && self.lend(line, most) == 0 {
            return None;
        }
        Some(self.cells.publish_by_line(line)? && self.producer.wakes())
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

/// One subscriber that reads every message it takes.
pub(super) struct Receiver {
    pub(super) consumer: Consumer,
    pub(super) cells: Cells,
}

/// What a subscriber met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    Message(u64),
    Lost(u64),
    Empty,
    Ended,
}

impl Receiver {
    /// Takes one message and reads it; the caller lets go of it.
    pub(super) fn take(&mut self) -> Met {
        match self.consumer.take() {
            Taken::Message => {
                let message = self.consumer.current();
                self.cells.check(message);
                Met::Message(message.sequence)
            }
            Taken::Overtaken => Met::Lost(self.consumer.jump().0),
            Taken::Empty => Met::Empty,
            Taken::Ended => Met::Ended,
        }
    }

    /// Takes one message, reads it and lets go of it.
    pub(super) fn receive(&mut self) -> Met {
        if self.consumer.is_reliable()
            && let Some(word) = self.consumer.take_plain()
        {
            let message = self.consumer.current_of(word);
            self.cells.check(message);
            let _ = self.consumer.let_go_plain(word);
            return Met::Message(message.sequence);
        }
        let met = self.take();
        if let Met::Message(sequence) = met {
            let _ = self.consumer.let_go(sequence + 1);
        }
        met
    }
}
