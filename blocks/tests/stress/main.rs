//! Tests the engine's promises on real threads. The environment sets the sizes: quick by default, large in
//! `.ci/stress`.
//!
//! - `BLOCKCAST_STRESS_MESSAGES`: messages through random joins, leaves, holds and panics
//! - `BLOCKCAST_STRESS_FANOUT`: messages to 64 subscribers, one of which stalls
//! - `BLOCKCAST_STRESS_ROUNDS`: rounds of sleeping and waking
//! - `BLOCKCAST_STRESS_SEED`: the seed of the random numbers, which every run prints

mod churn;
mod stalled;
mod waking;

use std::env;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

use blockcast_blocks::{
    Bytes, Channel, ChannelConfig, Payload, PublisherId, RawSample, Reader, ReaderOptions, Reuse, Signal,
    Writer, channel,
};

/// Bytes of a message: the whole block, so that every stray write shows.
const LEN: usize = 256;

/// The test that measures the memory of the whole process holds this for writing, all others for reading.
static MEMORY: RwLock<()> = RwLock::new(());

/// Longer than anything here takes, unless a thread is never woken.
const PATIENCE: Duration = Duration::from_secs(600);

fn size(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => {
            text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
        }
        Err(_) => default,
    }
}

/// Sebastiano Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let seed = size("BLOCKCAST_STRESS_SEED", now.as_nanos() as u64);
        println!("BLOCKCAST_STRESS_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Fills a block with words that are unique to this sequence.
fn fill(block: &mut [u8], sequence: u64) {
    for (index, word) in block.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = (sequence << 8 | index as u64).to_ne_bytes();
    }
}

/// Checks every byte of a message.
#[track_caller]
fn check(bytes: &[u8], sequence: u64) {
    assert_eq!(bytes.len(), LEN);
    for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let read = u64::from_ne_bytes(*word);
        assert!(
            read == (sequence << 8 | index as u64),
            "message {sequence} reads as {}, word {index} as {}",
            read >> 8,
            read & 255
        );
    }
}

fn check_sample(sample: &RawSample) {
    check(sample.bytes(), sample.descriptor().sequence.get());
}

fn open(blocks: u32, reuse: Reuse) -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size, config.reuse) = (blocks, LEN, reuse);
    channel(config).expect("a channel")
}

fn join(channel: &Arc<Channel>, options: ReaderOptions) -> Reader {
    channel.join(&Bytes::schema(), options, Signal::new()).expect("joins")
}

fn publish(writer: &mut Writer) {
    let sequence = writer.next_sequence().get();
    let deadline = Instant::now() + PATIENCE;
    let mut loan = writer.loan(LEN, Some(deadline)).expect("a block becomes free and the publisher is woken");
    fill(&mut loan, sequence);
    loan.publish(LEN).expect("fits");
}

/// Checks that all blocks are free except `held` ones.
fn assert_all_free(writer: &mut Writer, held: u32) {
    for _ in 0..writer.pool().blocks {
        writer.reclaim();
    }
    let pool = writer.pool();
    assert_eq!((pool.free, pool.limbo), (pool.blocks - held, held), "{:#?}", writer.channel().stats());
}

/// A subscription's account: every message that was published during it is either received or lost.
struct Account {
    start: u64,
    received: u64,
    lost: u64,
    next: u64,
}

impl Account {
    fn new(reader: &Reader) -> Self {
        let start = reader.next_sequence().get();
        Self { start, received: 0, lost: 0, next: start }
    }

    fn message(&mut self, sequence: u64) {
        assert_eq!(sequence, self.next, "in order, and nothing is lost silently");
        self.next += 1;
        self.received += 1;
    }

    fn lost(&mut self, count: u64) {
        self.next += count;
        self.lost += count;
    }

    fn close(&self, reader: &Reader) {
        assert_eq!(self.start + self.received + self.lost, reader.next_sequence().get());
        assert_eq!(self.lost, reader.lost());
    }
}
