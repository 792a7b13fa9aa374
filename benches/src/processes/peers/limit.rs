//! The machine's own limit: a bare ring in shared memory, one word that two ends write alternately, and its
//! futex.

use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex;

use crate::limits::LIMIT;
use crate::processes::board::Board;
use crate::processes::candidate::{Candidate, Member};
use crate::processes::meeting::{Meeting, Task};
use crate::work::{Shape, Sink, Source, Tally, Wait, fill};

/// Maximum size of the ring in bytes, unless one message is larger. It stays in the cache.
const RING: usize = 1 << 20;

#[derive(Debug)]
pub struct Limit;

impl Candidate for Limit {
    fn name(&self) -> &'static str {
        LIMIT
    }

    fn can(&self, task: Task, shape: Shape) -> bool {
        // Blocking ends with a ring would need a protocol of their own.
        matches!(task, Task::PingPong | Task::Latency | Task::WakeUp) || shape.wait == Wait::Spin
    }

    fn board_bytes(&self, shape: Shape) -> usize {
        Ring::bytes(shape)
    }

    fn join(&self, meeting: &Meeting, board: &Arc<Board>) -> anyhow::Result<Box<dyn Member>> {
        Ok(Box::new(Joined { meeting: meeting.clone(), board: Arc::clone(board) }))
    }
}

struct Joined {
    meeting: Meeting,
    board: Arc<Board>,
}

impl Joined {
    fn bounces(&self) -> bool {
        matches!(self.meeting.task, Task::PingPong | Task::Latency | Task::WakeUp)
    }

    fn bounce(&self, topic: usize) -> Bounce {
        let ring = Ring::new(&self.board, self.meeting.shape);
        Bounce { ring, way: topic as u32, wait: self.meeting.shape.wait }
    }
}

impl Member for Joined {
    fn sink(&self, topic: usize, index: usize) -> anyhow::Result<Box<dyn Sink>> {
        if self.bounces() {
            return Ok(Box::new(self.bounce(topic)));
        }
        Ok(Box::new(RingSink { ring: Ring::new(&self.board, self.meeting.shape), index }))
    }

    fn source(&self, topic: usize) -> anyhow::Result<Box<dyn Source>> {
        if self.bounces() {
            return Ok(Box::new(self.bounce(topic)));
        }
        let ring = Ring::new(&self.board, self.meeting.shape);
        let passed = 0;
        Ok(Box::new(RingSource { ring, passed }))
    }
}

/// Slots for messages in turn, the number of the next one, and each subscriber's position. All of it is in
/// the board's area.
struct Ring {
    board: Arc<Board>,
    shape: Shape,
    slots: u32,
}

#[repr(C, align(128))]
struct Line(AtomicU32);

impl Ring {
    fn new(board: &Arc<Board>, shape: Shape) -> Self {
        let (_, len) = board.area();
        assert!(len >= Self::bytes(shape), "the board has room for the ring");
        Self { board: Arc::clone(board), shape, slots: Self::slots(shape) }
    }

    fn slots(shape: Shape) -> u32 {
        (RING / shape.payload).clamp(2, shape.blocks) as u32
    }

    fn bytes(shape: Shape) -> usize {
        (1 + shape.subscribers) * size_of::<Line>() + Self::slots(shape) as usize * shape.payload
    }

    fn start(&self) -> NonNull<u8> {
        self.board.area().0
    }

    /// Returns the number of the next message. In a ping-pong, the last message of either end.
    fn head(&self) -> &AtomicU32 {
        // SAFETY: the area begins with it (`bytes`), aligned to a cache line, and lives as long as the board.
        // Every value of an atomic is valid, and others may change it.
        unsafe { &self.start().cast::<Line>().as_ref().0 }
    }

    /// Returns the number of messages that a subscriber has received.
    fn tail(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.shape.subscribers, "there is no such subscriber");
        // SAFETY: as in `head`; one line per subscriber follows it.
        unsafe { &self.start().cast::<Line>().add(1 + index).as_ref().0 }
    }

    fn slot(&self, number: u32) -> *mut u8 {
        let lines = (1 + self.shape.subscribers) * size_of::<Line>();
        let slot = (number % self.slots) as usize * self.shape.payload;
        // SAFETY: within the area: see `bytes`.
        unsafe { self.start().add(lines + slot).as_ptr() }
    }
}

struct RingSource {
    ring: Ring,
    /// A lower bound of the number of messages that all subscribers have received.
    passed: u32,
}

impl Source for RingSource {
    fn publish(&mut self, first: u64, messages: u64) {
        let Self { ring, passed } = self;
        let Shape { payload, subscribers, content, .. } = ring.shape;
        for number in first..first + messages {
            let next = number as u32;
            while next.wrapping_sub(*passed) >= ring.slots {
                // Ordering: pairs with the Release in `RingSink::receive`.
                let behind = |index| next.wrapping_sub(ring.tail(index).load(Ordering::Acquire));
                *passed = next.wrapping_sub((0..subscribers).map(behind).max().unwrap_or(0));
                std::hint::spin_loop();
            }
            // SAFETY: all subscribers have received the slot's former message, and do not access it again
            // until the head is stored.
            let bytes = unsafe { slice::from_raw_parts_mut(ring.slot(next), payload) };
            fill(content, bytes, number);
            // Ordering: pairs with the Acquire in `RingSink::receive`.
            ring.head().store(next.wrapping_add(1), Ordering::Release);
        }
    }
}

struct RingSink {
    ring: Ring,
    index: usize,
}

impl Sink for RingSink {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        let Self { ring, index } = self;
        let mut tally = Tally::default();
        while tally.messages < messages {
            let next = (first + tally.messages) as u32;
            // Ordering: pairs with the Release in `RingSource::publish`.
            let ready = ring.head().load(Ordering::Acquire).wrapping_sub(next);
            for _ in 0..ready {
                let number = first + tally.messages;
                // SAFETY: the publisher has written it, and does not write it again until the tail is stored.
                let bytes = unsafe { slice::from_raw_parts(ring.slot(number as u32), ring.shape.payload) };
                tally.take(ring.shape.content, bytes, number);
            }
            if ready > 0 {
                // Ordering: pairs with the Acquire in `RingSource::publish`.
                ring.tail(*index).store(next.wrapping_add(ready), Ordering::Release);
            } else {
                std::hint::spin_loop();
            }
        }
        tally
    }
}

/// A word that both ends write alternately. If they block, they wake each other.
struct Bounce {
    ring: Ring,
    /// The topic: there or back.
    way: u32,
    wait: Wait,
}

impl Bounce {
    /// Returns the value of the word after this message was sent. It is never 0.
    fn word(&self, number: u64) -> u32 {
        (number as u32).wrapping_mul(2).wrapping_add(1 + self.way)
    }
}

impl Source for Bounce {
    fn publish(&mut self, first: u64, messages: u64) {
        for number in first..first + messages {
            self.ring.head().store(self.word(number), Ordering::Release);
            if self.wait == Wait::Block {
                // This cannot fail: the word is mapped and aligned.
                let _ = futex::wake(self.ring.head(), futex::Flags::empty(), 1);
            }
        }
    }
}

impl Sink for Bounce {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        for number in first..first + messages {
            loop {
                let seen = self.ring.head().load(Ordering::Acquire);
                if seen == self.word(number) {
                    break;
                }
                match self.wait {
                    Wait::Spin => std::hint::spin_loop(),
                    // This fails if the word has changed meanwhile, or if a signal arrives.
                    Wait::Block => drop(futex::wait(self.ring.head(), futex::Flags::empty(), seen, None)),
                }
            }
        }
        Tally { messages, ..Tally::default() }
    }
}
