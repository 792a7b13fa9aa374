//! The machine's own time for the work: a lower bound for every candidate.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::rounds::{Timed, Work};
use crate::work::{Content, Halves, Sink, Source, Tally, Wait, fill};

/// Name of the machine's own figures in the tables.
pub const LIMIT: &str = "limit";

/// Fills the same `payload` bytes again and again.
#[must_use]
pub fn write(payload: usize) -> Timed {
    let mut block = vec![0_u8; payload];
    Timed::new(
        LIMIT,
        timed(move |messages| {
            for number in 0..messages {
                fill(Content::Numbered, black_box(&mut block), number);
            }
        }),
    )
}

/// `memset` and `memcpy` of `payload` bytes, in place.
#[must_use]
pub fn memory(payload: usize) -> Vec<Timed> {
    let mut target = vec![1_u8; payload];
    let mut copy = vec![1_u8; payload];
    let source = vec![2_u8; payload];
    vec![
        Timed::new(
            "memset",
            timed(move |messages| {
                for number in 0..messages {
                    black_box(&mut target[..]).fill(number as u8);
                }
            }),
        ),
        Timed::new(
            "memcpy",
            timed(move |messages| {
                for _ in 0..messages {
                    black_box(&mut copy[..]).copy_from_slice(black_box(&source));
                }
            }),
        ),
    ]
}

fn timed(mut work: impl FnMut(u64) + 'static) -> Work {
    Box::new(move |messages| {
        let started = Instant::now();
        work(messages);
        Ok(started.elapsed().as_nanos() as f64 / messages as f64)
    })
}

/// A number in a cache line that two threads write alternately, as in a ping-pong. In blocking mode, they
/// also park and wake each other.
#[must_use]
pub fn bounce(wait: Wait) -> (Halves, Halves) {
    let line = Arc::new(Line::default());
    (line.clone().halves(0, wait), line.halves(1, wait))
}

#[derive(Default)]
#[repr(align(128))]
struct Line {
    turn: AtomicU64,
    /// The thread that waits for its turn, for each way.
    sleepers: [Mutex<Option<Thread>>; 2],
}

impl Line {
    /// Way 0 makes the number odd, way 1 even.
    fn halves(self: Arc<Self>, way: usize, wait: Wait) -> Halves {
        let same = Arc::clone(&self);
        Halves {
            source: Box::new(move || Box::new(LineEnd { line: self, way, wait, peer: None })),
            sink: Box::new(move || {
                *same.sleepers[way].lock().expect("nobody panics with it") = Some(thread::current());
                Box::new(LineEnd { line: same, way, wait, peer: None })
            }),
        }
    }
}

struct LineEnd {
    line: Arc<Line>,
    way: usize,
    wait: Wait,
    peer: Option<Thread>,
}

impl Source for LineEnd {
    fn publish(&mut self, first: u64, messages: u64) {
        for number in first..first + messages {
            self.line.turn.store(2 * number + 1 + self.way as u64, Ordering::Release);
            if self.wait == Wait::Block {
                let peer = self.peer.get_or_insert_with(|| {
                    let sleeper = self.line.sleepers[self.way].lock().expect("nobody panics with it");
                    sleeper.clone().expect("sinks are made before sources")
                });
                peer.unpark();
            }
        }
    }
}

impl Sink for LineEnd {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        for number in first..first + messages {
            while self.line.turn.load(Ordering::Acquire) != 2 * number + 1 + self.way as u64 {
                match self.wait {
                    Wait::Spin => std::hint::spin_loop(),
                    Wait::Block => thread::park(),
                }
            }
        }
        Tally { messages, ..Tally::default() }
    }
}
