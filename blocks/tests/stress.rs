//! The engine's promises on real threads, at sizes that the environment chooses: quick by default, `.ci/stress`
//! runs the large ones.
//!
//! - `BLOCKCAST_STRESS_MESSAGES`: messages through random joins, leaves, holds and panics
//! - `BLOCKCAST_STRESS_FANOUT`: messages through 64 subscribers of which one stalls
//! - `BLOCKCAST_STRESS_ROUNDS`: rounds of sleeping and being woken
//! - `BLOCKCAST_STRESS_SEED`: the random numbers' start; every run prints its own

use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel as mailbox};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

use blockcast_blocks::{
    Bytes, Channel, ChannelConfig, Overflow, Payload, PublisherId, RawSample, Reader, ReaderOptions,
    ReceiveError, Reuse, Signal, Writer, channel, park,
};

/// Bytes of a message: the whole block, so that whatever is written elsewhere shows.
const LEN: usize = 256;

/// Held for writing by the test that measures memory, which belongs to the whole process, and for reading by the others.
static MEMORY: RwLock<()> = RwLock::new(());

/// Longer than anything here takes unless somebody sleeps for ever.
const PATIENCE: Duration = Duration::from_secs(600);

fn size(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
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

/// Fills a block with words that only this sequence has.
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
    let mut loan = writer.loan(LEN, Some(deadline)).expect("a block comes free, and the publisher is woken");
    fill(&mut loan, sequence);
    loan.publish(LEN).expect("fits");
}

/// Waits for a message without spinning, so that it really sleeps.
fn sleep_until_ready(reader: &mut Reader) {
    let woken = park::until(Some(Instant::now() + PATIENCE), |cx| reader.poll_ready(cx));
    assert!(woken.is_some(), "a wake-up was lost");
}

/// All blocks are free once everybody is gone.
fn assert_all_free(writer: &mut Writer, but: u32) {
    for _ in 0..writer.pool().blocks {
        writer.reclaim();
    }
    let pool = writer.pool();
    assert_eq!((pool.free, pool.limbo), (pool.blocks - but, but), "{:#?}", writer.channel().stats());
}

/// One subscription's account: what it took and lost is what was published meanwhile.
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
        assert_eq!(sequence, self.next, "in order, nothing lost silently");
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

struct Shared {
    published: AtomicU64,
    finished: AtomicBool,
    subscriptions: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
    panics: AtomicU64,
}

/// Subscribes again and again, or once if it `stays`, and treats what it receives in every way there is.
fn restless(
    channel: &Arc<Channel>,
    shared: &Shared,
    holders: &[Sender<RawSample>],
    stays: bool,
    mut random: Random,
) {
    while !shared.finished.load(Ordering::Acquire) {
        let overflow = match random.below(5) {
            0 | 1 => Overflow::Block,
            2 | 3 => Overflow::DropOldest,
            _ => Overflow::DropNewest,
        };
        let depth = random.one_in(2).then(|| 1 + random.below(40) as u32);
        let history = if random.one_in(3) { random.below(100) } else { 0 };
        let before = shared.published.load(Ordering::Acquire);
        let mut reader = join(
            channel,
            ReaderOptions { overflow, depth, history, samples: Some(u32::MAX), ..ReaderOptions::default() },
        );
        let mut account = Account::new(&reader);
        let after = shared.published.load(Ordering::Acquire);
        assert!(account.start <= after.max(before) + 1, "what was published after the join is received");
        let stay = if stays { u64::MAX } else { random.below(3_000) };
        let mut kept = Vec::new();
        for _ in 0..stay {
            if !treat(&mut reader, &mut account, &mut kept, shared, holders, &mut random) {
                break;
            }
        }
        account.close(&reader);
        kept.iter().for_each(check_sample);
        shared.subscriptions.fetch_add(1, Ordering::Relaxed);
        shared.received.fetch_add(account.received, Ordering::Relaxed);
        shared.lost.fetch_add(account.lost, Ordering::Relaxed);
        if random.one_in(2) {
            // The samples outlive their subscriber.
            drop(reader);
            kept.iter().for_each(check_sample);
        }
    }
}

/// One step of a subscriber; false at the end of what is published.
fn treat(
    reader: &mut Reader,
    account: &mut Account,
    kept: &mut Vec<RawSample>,
    shared: &Shared,
    holders: &[Sender<RawSample>],
    random: &mut Random,
) -> bool {
    let error = match random.below(16) {
        0..=7 => match reader.receive() {
            Ok(message) => {
                let sequence = message.descriptor().sequence.get();
                account.message(sequence);
                check(message.bytes(), sequence);
                if random.one_in(64) {
                    let sample = message.into_sample();
                    check_sample(&sample);
                }
                return true;
            }
            Err(error) => error,
        },
        8..=10 => match reader.receive_batch(1 + random.below(30) as usize) {
            Ok(batch) => {
                for (descriptor, bytes) in batch.iter() {
                    account.message(descriptor.sequence.get());
                    check(bytes, descriptor.sequence.get());
                }
                if random.one_in(8) {
                    thread::yield_now();
                    batch.iter().for_each(|(descriptor, bytes)| check(bytes, descriptor.sequence.get()));
                }
                return true;
            }
            Err(error) => error,
        },
        11..=14 => match reader.receive_owned() {
            Ok(sample) => {
                account.message(sample.descriptor().sequence.get());
                check_sample(&sample);
                match random.below(12) {
                    0 => {
                        let holder = &holders[random.below(holders.len() as u64) as usize];
                        holder.send(sample).expect("holders stay to the end");
                    }
                    1 if kept.len() < 4 => kept.push(sample),
                    2 => drop((sample.clone(), sample)),
                    _ => {}
                }
                if !kept.is_empty() && random.one_in(16) {
                    let sample = kept.swap_remove(random.below(kept.len() as u64) as usize);
                    check_sample(&sample);
                }
                return true;
            }
            Err(error) => error,
        },
        _ => {
            // What is attached is let go of when processing panics.
            let way = random.below(3);
            let taken = panic::catch_unwind(AssertUnwindSafe(|| match way {
                0 => reader.receive().map(|message| unwind(message.descriptor().sequence.get(), 1)),
                1 => reader.receive_owned().map(|sample| unwind(sample.descriptor().sequence.get(), 1)),
                _ => reader.receive_batch(5).map(|batch| {
                    let first = batch.iter().next().expect("at least one").0.sequence.get();
                    unwind(first, batch.len() as u64)
                }),
            }));
            match taken {
                Ok(Ok(())) => unreachable!("always unwinds"),
                Ok(Err(error)) => error,
                Err(payload) => {
                    let (first, count) = *payload.downcast::<(u64, u64)>().expect("ours");
                    (first..first + count).for_each(|sequence| account.message(sequence));
                    shared.panics.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
            }
        }
    };
    match error {
        ReceiveError::Lost(count) => account.lost(count),
        ReceiveError::Empty => {
            let finished = shared.finished.load(Ordering::Acquire);
            if finished && account.next == shared.published.load(Ordering::Acquire) {
                return false;
            }
            if random.one_in(2) {
                let soon = Instant::now() + Duration::from_millis(5);
                let _ = park::until(Some(soon), |cx| reader.poll_ready(cx));
            }
        }
        other => panic!("{other}"),
    }
    true
}

/// Panics with the sequences as payload, without a message on the terminal.
fn unwind(first: u64, count: u64) {
    panic::resume_unwind(Box::new((first, count)));
}

/// Keeps samples of all subscribers for a while and drops them in any order.
fn hold(samples: &Receiver<RawSample>, mut random: Random) {
    let mut held = Vec::new();
    for sample in samples {
        check_sample(&sample);
        if random.one_in(4) {
            held.push(sample.clone());
        }
        held.push(sample);
        while held.len() > 6 {
            let sample = held.swap_remove(random.below(held.len() as u64) as usize);
            check_sample(&sample);
        }
    }
    held.iter().for_each(check_sample);
}

#[test]
fn through_random_joins_leaves_holds_and_panics_nothing_is_torn_or_lost_silently_and_all_blocks_come_back() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    let messages = size("BLOCKCAST_STRESS_MESSAGES", 40_000);
    let mut random = Random::new();
    for reuse in [Reuse::Oldest, Reuse::Hottest] {
        let mut writer = open(128, reuse);
        let shared = Shared {
            published: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            subscriptions: AtomicU64::new(0),
            received: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        };
        let channel = writer.channel().clone();
        thread::scope(|scope| {
            let mut holders = Vec::new();
            for _ in 0..2 {
                let (sender, samples) = mailbox();
                let random = Random(random.next());
                scope.spawn(move || hold(&samples, random));
                holders.push(sender);
            }
            for number in 0..4 {
                let (channel, shared, holders) = (&channel, &shared, holders.clone());
                let random = Random(random.next());
                scope.spawn(move || {
                    restless(channel, shared, &holders, number == 0, random);
                });
            }
            drop(holders);
            for _ in 0..messages / 2 {
                publish(&mut writer);
                shared.published.store(writer.next_sequence().get(), Ordering::Release);
                if random.one_in(1000) {
                    thread::sleep(Duration::from_micros(random.below(300)));
                }
            }
            shared.finished.store(true, Ordering::Release);
        });
        println!(
            "{reuse:?}: {} published, {} subscriptions, {} received, {} lost, {} panics, {} loans found no block",
            messages / 2,
            shared.subscriptions.into_inner(),
            shared.received.into_inner(),
            shared.lost.into_inner(),
            shared.panics.into_inner(),
            channel.stats().exhausted,
        );
        assert_all_free(&mut writer, 0);
        assert_eq!(channel.stats().holds, 0);
        assert_eq!(channel.subscriber_count(), 0);
    }
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a VmRSS line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

#[test]
fn one_stalled_subscriber_of_64_costs_the_others_nothing_and_is_told_its_exact_loss() {
    let _alone = MEMORY.write().unwrap_or_else(PoisonError::into_inner);
    let messages = size("BLOCKCAST_STRESS_FANOUT", 10_000);
    let mut writer = open(64, Reuse::Oldest);
    let channel = writer.channel().clone();
    let stall = ReaderOptions { overflow: Overflow::DropOldest, ..ReaderOptions::default() };
    let mut stalled = join(&channel, stall);
    let mut others: Vec<_> = (0..63).map(|_| join(&channel, ReaderOptions::default())).collect();
    let mut kept = None;
    let mut before = 0;
    for sequence in 0..messages {
        // Never waits: a block is always there.
        let mut loan = writer.try_loan(LEN).unwrap_or_else(|error| panic!("message {sequence}: {error}"));
        fill(&mut loan, sequence);
        loan.publish(LEN).expect("fits");
        for reader in &mut others {
            let message = reader.receive().expect("every message, at once");
            assert_eq!(message.descriptor().sequence.get(), sequence);
            let first = u64::from_ne_bytes(message.bytes()[..8].try_into().expect("8 bytes"));
            assert_eq!(first, sequence << 8);
        }
        if sequence == 0 {
            // It stalls with a sample in its hands.
            kept = Some(stalled.receive_owned().expect("the first message"));
        }
        if sequence == messages / 10 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 8192, "memory grew by {grown} KiB");
    check_sample(kept.as_ref().expect("kept"));
    let mut account = Account { start: 0, received: 1, lost: 0, next: 1 };
    loop {
        match stalled.receive() {
            Ok(message) => {
                let sequence = message.descriptor().sequence.get();
                account.message(sequence);
                check(message.bytes(), sequence);
            }
            Err(ReceiveError::Lost(count)) => account.lost(count),
            Err(ReceiveError::Empty) => break,
            Err(other) => panic!("{other}"),
        }
    }
    account.close(&stalled);
    assert_eq!(account.received + account.lost, messages);
    println!("{messages} messages: the stalled one lost {}, memory grew by {grown} KiB", account.lost);
    drop((others, stalled, kept));
    assert_all_free(&mut writer, 0);
}

#[test]
fn no_wake_up_is_lost_between_two_that_sleep_in_turns() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    let rounds = size("BLOCKCAST_STRESS_ROUNDS", 4_000) / 2;
    let (mut ping, mut pong) = (open(4, Reuse::Oldest), open(4, Reuse::Oldest));
    let mut pings = join(ping.channel(), ReaderOptions::default());
    let mut pongs = join(pong.channel(), ReaderOptions::default());
    let channel = pong.channel().clone();
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                sleep_until_ready(&mut pings);
                match pings.receive() {
                    Ok(message) => drop(message),
                    Err(ReceiveError::Ended) => break,
                    Err(other) => panic!("{other}"),
                }
                publish(&mut pong);
            }
        });
        for _ in 0..rounds {
            publish(&mut ping);
            sleep_until_ready(&mut pongs);
            drop(pongs.receive().expect("it is ready"));
        }
        drop(ping);
    });
    let wakes = channel.stats().subscribers[0].wakes;
    println!("{rounds} rounds of two in {:?}, one side was woken {wakes} times", started.elapsed());
}

#[test]
fn no_wake_up_is_lost_where_a_publisher_and_several_subscribers_sleep() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    let messages = size("BLOCKCAST_STRESS_ROUNDS", 4_000);
    let mut random = Random::new();
    // Two blocks: the publisher sleeps for space as often as the subscribers do for messages. Bursts in between
    // let the gates become quiet, so that their first waiters need the process-wide barrier.
    let mut writer = open(2, Reuse::Oldest);
    let channel = writer.channel().clone();
    let started = Instant::now();
    let wakes = thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|number| {
                let mut reader = join(&channel, ReaderOptions::default());
                let mut random = Random(random.next());
                scope.spawn(move || {
                    let mut expected = 0;
                    loop {
                        match reader.receive().map(|message| check(message.bytes(), expected)) {
                            Ok(()) => expected += 1,
                            Err(ReceiveError::Empty) if number == 2 && expected % 8192 > 4096 => {
                                // Wide awake for a while.
                                thread::yield_now();
                            }
                            Err(ReceiveError::Empty) => sleep_until_ready(&mut reader),
                            Err(ReceiveError::Ended) => break,
                            Err(other) => panic!("{other}"),
                        }
                        if random.one_in(4096) {
                            thread::sleep(Duration::from_micros(50));
                        }
                    }
                    assert_eq!(expected, messages);
                })
            })
            .collect();
        for _ in 0..messages {
            publish(&mut writer);
        }
        let stats = channel.stats();
        drop(writer);
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
        (stats.wakes, stats.subscribers.iter().map(|reader| reader.wakes).sum::<u64>())
    });
    println!(
        "{messages} messages in {:?}, the publisher was woken {} times, subscribers {} times",
        started.elapsed(),
        wakes.0,
        wakes.1
    );
}

#[test]
fn a_forgotten_sample_costs_its_block_and_nothing_else_and_shows_in_the_statistics() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    let mut writer = open(16, Reuse::Oldest);
    let channel = writer.channel().clone();
    let mut reader = join(&channel, ReaderOptions::default());
    let mut forgotten = Vec::new();
    for sequence in 0..1000 {
        publish(&mut writer);
        let sample = reader.receive_owned().expect("a message");
        assert_eq!(sample.descriptor().sequence.get(), sequence);
        if sequence % 300 == 7 {
            forgotten.push(ManuallyDrop::new(sample));
        }
    }
    drop(reader);
    let stats = channel.stats();
    assert_eq!((stats.held, stats.holds), (4, 4));
    assert_all_free(&mut writer, 4);
    // Whoever remembers them gets their blocks back.
    forgotten.into_iter().map(ManuallyDrop::into_inner).for_each(|sample| check_sample(&sample));
    assert_all_free(&mut writer, 0);
}
