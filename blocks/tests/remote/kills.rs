//! Processes that are killed at any moment: every block comes back exactly once, nobody else loses a message
//! or reads a wrong byte, and every loss is counted.
//!
//! `BLOCKCAST_KILLS` is the number of kills per test, 30 unless it is set.

use std::collections::HashSet;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;

use blockcast_blocks::{
    Bytes, Channel, Overflow, Payload, RawSample, Reader, ReaderOptions, ReceiveError, Signal, Writer,
    channel, park,
};

use crate::bells::BellThread;
use crate::messages::{self, Random};
use crate::other_process::{OtherProcess, Socket};
use crate::{attach, config, open, publish};

pub fn kills() -> u64 {
    std::env::var("BLOCKCAST_KILLS").map_or(30, |kills| kills.parse().expect("a number"))
}

/// Returns a random number of messages: few as often as many.
pub fn some(random: &mut Random) -> u64 {
    let most = 1 << random.below(13);
    random.below(most)
}

pub fn options(overflow: Overflow) -> ReaderOptions {
    // All subscribers that drop the newest share half of the blocks.
    ReaderOptions { overflow, depth: Some(4), ..ReaderOptions::default() }
}

pub fn join(channel: &Arc<Channel>, overflow: Overflow) -> Reader {
    channel.join(&Bytes::schema(), options(overflow), Signal::new()).expect("there is a seat")
}

/// Receives everything until the end, by a subscriber that loses nothing. Returns the number of messages.
pub fn survive(mut reader: Reader) -> u64 {
    let mut sequence = reader.next_sequence().get();
    let first = sequence;
    loop {
        park::until(None, |cx| reader.poll_ready(cx));
        match reader.receive() {
            Ok(message) => {
                messages::check(message.bytes(), sequence);
                sequence += 1;
            }
            Err(ReceiveError::Empty) => {}
            Err(ReceiveError::Ended) => return sequence - first,
            Err(other) => panic!("{other}"),
        }
    }
}

/// A process that will be killed: receives, keeps and drops samples, and sleeps.
fn victim(socket: &Socket, overflow: Overflow, seed: u64) {
    let (channel, _bells) = open(socket);
    let mut random = Random(seed);
    let mut readers = [join(&channel, overflow), join(&channel, overflow)];
    let mut next = readers.each_ref().map(|reader| reader.next_sequence().get());
    let mut samples: Vec<RawSample> = Vec::new();
    socket.send("joined", &[]);
    loop {
        if random.below(8) == 0 {
            // Both, since the publisher waits for each of them.
            park::until(None, |cx| {
                let ready = readers.each_mut().map(|reader| reader.poll_ready(cx).is_ready());
                if ready.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
            });
        }
        let which = random.below(2) as usize;
        let (reader, next) = (&mut readers[which], &mut next[which]);
        let received = match random.below(3) {
            0 => reader.receive().map(|message| messages::check(message.bytes(), *next)),
            1 => reader.receive_batch(4).map(|batch| {
                for (_, bytes) in batch.iter() {
                    messages::check(bytes, *next);
                    *next += 1;
                }
                *next -= 1;
            }),
            _ => reader.receive_owned().map(|sample| {
                messages::check(sample.bytes(), *next);
                samples.push(sample);
            }),
        };
        match received {
            Ok(()) => *next += 1,
            Err(ReceiveError::Lost(count)) => *next += count,
            Err(ReceiveError::Empty) => {}
            Err(ReceiveError::TooManySamples { .. }) => samples.clear(),
            Err(other) => panic!("{other}"),
        }
        if samples.len() > 4 {
            let sample = samples.swap_remove(random.below(samples.len() as u64) as usize);
            messages::check(sample.bytes(), messages::sequence_of(sample.bytes()));
        }
    }
}

/// Publishes until told to stop. Returns the publisher, which has counted its messages in `published`.
fn publish_until(mut writer: Writer, stops: &AtomicBool, published: &AtomicU64) -> Writer {
    let mut sequence = 0;
    while !stops.load(Ordering::Relaxed) {
        publish(&mut writer, sequence);
        sequence += 1;
        published.store(sequence, Ordering::Relaxed);
    }
    writer
}

/// Checks that every block is free, and each of them once.
pub fn every_block_is_free(writer: &mut Writer) {
    let blocks = config().blocks;
    // A process that was detached is forgotten when the publisher next looks.
    assert_eq!(writer.reclaim(), blocks);
    assert_eq!(writer.pool().limbo, 0);
    let loans: Vec<_> =
        (0..blocks).map(|_| writer.try_loan(1).expect("all blocks are free").suspend()).collect();
    let offsets: HashSet<_> = loans.iter().map(|loan| loan.offset()).collect();
    assert_eq!(offsets.len() as u32, blocks, "a block was free twice");
    assert!(writer.try_loan(1).is_err(), "there are no others");
    for loan in loans {
        drop(writer.resume(loan));
    }
}

fn subscribers_are_killed(test: &str, overflow: Overflow, pace: &str) {
    if let Some(socket) = Socket::of_this_process() {
        let (role, _) = socket.receive().expect("the first process lives");
        if let Some(seed) = role.strip_prefix("victim ") {
            return victim(&socket, overflow, seed.parse().expect("a number"));
        }
        let (channel, _bells) = open(&socket);
        let reader = join(&channel, Overflow::Block);
        socket.send("joined", &[]);
        return socket.send(&survive(reader).to_string(), &[]);
    }
    let writer = channel(config()).expect("a channel");
    let channel = Arc::clone(writer.channel());
    let here = join(&channel, Overflow::Block);
    let here = thread::spawn(move || survive(here));
    let survivor = OtherProcess::start(test);
    survivor.socket.send("survivor", &[]);
    let (_, bell) = attach(&channel, &survivor.socket);
    let _bells = BellThread::start(vec![bell], &channel);
    survivor.socket.expect("joined");

    let (stops, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publisher = thread::spawn({
        let (stops, published) = (Arc::clone(&stops), Arc::clone(&published));
        move || publish_until(writer, &stops, &published)
    });
    let mut random = Random(std::process::id().into());
    let mut lost = 0;
    for kill in 0..kills() {
        let victim = OtherProcess::start(test);
        victim.socket.send(&format!("victim {}", random.below(u64::MAX)), &[]);
        let (annex, bell) = attach(&channel, &victim.socket);
        let _bells = BellThread::start(vec![bell], &channel);
        if random.below(8) != 0 {
            victim.socket.expect("joined");
            // Some more messages, of which the victim may have received any number.
            let until = published.load(Ordering::Relaxed) + some(&mut random);
            while published.load(Ordering::Relaxed) < until {
                thread::yield_now();
            }
        }
        victim.kill();
        let stats = channel.detach(annex);
        let now = published.load(Ordering::Relaxed);
        for reader in stats.readers {
            lost += reader.lost;
            assert!(reader.received + reader.lost <= now + 1, "kill {kill}: {reader:?} of {now}");
            assert!(overflow != Overflow::Block || reader.lost == 0, "kill {kill}: {reader:?}");
        }
    }
    stops.store(true, Ordering::Relaxed);
    let mut writer = publisher.join().expect("the publisher does not panic");
    while channel.stats().subscribers.iter().any(|reader| reader.behind > 0) {
        thread::yield_now();
    }
    every_block_is_free(&mut writer);
    drop(writer);
    let published = published.load(Ordering::Relaxed);
    assert_eq!(here.join().expect("the survivor does not panic"), published);
    survivor.socket.expect(&published.to_string());
    assert!(survivor.end().success());
    println!("kills: subscriber {pace} timed {} {published} {lost}", kills());
}

#[test]
fn subscribers_that_lose_nothing_are_killed() {
    subscribers_are_killed("kills::subscribers_that_lose_nothing_are_killed", Overflow::Block, "reliable");
}

#[test]
fn subscribers_that_may_be_overtaken_are_killed() {
    subscribers_are_killed(
        "kills::subscribers_that_may_be_overtaken_are_killed",
        Overflow::DropOldest,
        "overtakable",
    );
}

#[test]
fn subscribers_that_keep_the_oldest_are_killed() {
    subscribers_are_killed(
        "kills::subscribers_that_keep_the_oldest_are_killed",
        Overflow::DropNewest,
        "keeping",
    );
}

/// A publisher in another process is killed while subscribers of every pace receive from it.
#[test]
fn what_a_killed_publisher_has_published_is_received_then_the_end() {
    if let Some(socket) = Socket::of_this_process() {
        let mut writer = channel(config()).expect("a channel");
        let (_, bell) = attach(writer.channel(), &socket);
        let _bells = BellThread::start(vec![bell], writer.channel());
        socket.expect("joined");
        for sequence in 0.. {
            publish(&mut writer, sequence);
        }
    }
    let mut random = Random(std::process::id().into());
    let (mut messages, mut lost) = (0, 0);
    for _ in 0..kills() {
        let publisher =
            OtherProcess::start("kills::what_a_killed_publisher_has_published_is_received_then_the_end");
        let (channel, bells) = open(&publisher.socket);
        let readers: Vec<_> = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest]
            .into_iter()
            .map(|overflow| {
                let reader = join(&channel, overflow);
                thread::spawn(move || drain(reader))
            })
            .collect();
        publisher.socket.send("joined", &[]);
        let until = some(&mut random);
        while channel.stats().published < until {
            thread::yield_now();
        }
        publisher.kill();
        channel.publisher_is_gone();
        let published = channel.stats().published;
        for (index, reader) in readers.into_iter().enumerate() {
            let drained = reader.join().expect("a subscriber does not panic");
            assert_eq!(drained.received + drained.lost, published, "reader {index}");
            assert!(index > 0 || drained.lost == 0);
            lost += drained.lost;
            for sample in &drained.samples {
                messages::check(sample.bytes(), messages::sequence_of(sample.bytes()));
            }
        }
        let bytes: u64 = (0..published).map(|sequence| messages::len(sequence) as u64).sum();
        assert_eq!(channel.stats().bytes, bytes, "{published} messages");
        assert!(channel.is_closed());
        drop(bells);
        assert_eq!(Arc::strong_count(&channel), 1, "nothing else keeps it");
        messages += published;
    }
    println!("kills: publisher every timed {} {messages} {lost}", kills());
}

struct Drained {
    received: u64,
    lost: u64,
    samples: Vec<RawSample>,
}

/// Receives until the end, and keeps some samples.
fn drain(mut reader: Reader) -> Drained {
    let mut drained = Drained { received: 0, lost: 0, samples: Vec::new() };
    loop {
        park::until(None, |cx| reader.poll_ready(cx));
        match reader.receive_owned() {
            Ok(sample) => {
                messages::check(sample.bytes(), drained.received + drained.lost);
                drained.received += 1;
                drained.samples.push(sample);
                if drained.samples.len() > 2 {
                    drained.samples.remove(0);
                }
            }
            Err(ReceiveError::Empty) => {}
            Err(ReceiveError::Lost(count)) => drained.lost += count,
            Err(ReceiveError::TooManySamples { .. }) => drained.samples.clear(),
            Err(ReceiveError::Ended) => {
                assert!(reader.has_ended());
                return drained;
            }
            Err(other) => panic!("{other}"),
        }
    }
}
