//! Subscribers that join, leave, hold samples and panic at random.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel as mailbox};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use blockcast_blocks::{Channel, Overflow, RawSample, Reader, ReaderOptions, ReceiveError, Reuse, park};

use super::{Account, MEMORY, Random, assert_all_free, check, check_sample, join, open, publish, size};

struct Shared {
    published: AtomicU64,
    finished: AtomicBool,
    subscriptions: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
    panics: AtomicU64,
}

/// Subscribes again and again, or only once if `stays`, and handles messages in every possible way.
fn subscribe_repeatedly(
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
        assert!(
            account.start <= after.max(before) + 1,
            "it starts no later than the first message published after it joined"
        );
        let stay = if stays { u64::MAX } else { random.below(3_000) };
        let mut kept = Vec::new();
        for _ in 0..stay {
            if !step(&mut reader, &mut account, &mut kept, shared, holders, &mut random) {
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

/// One step of a subscriber. Returns `false` once it has received everything.
fn step(
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
                        holder.send(sample).expect("the holders run until the end");
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
            // A panic releases the attached messages.
            let way = random.below(3);
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| match way {
                0 => reader.receive().map(|message| unwind(message.descriptor().sequence.get(), 1)),
                1 => reader.receive_owned().map(|sample| unwind(sample.descriptor().sequence.get(), 1)),
                _ => reader.receive_batch(5).map(|batch| {
                    let first = batch.iter().next().expect("at least one").0.sequence.get();
                    unwind(first, batch.len() as u64)
                }),
            }));
            match outcome {
                Ok(Ok(())) => unreachable!("always unwinds"),
                Ok(Err(error)) => error,
                Err(payload) => {
                    let (first, count) = *payload.downcast::<(u64, u64)>().expect("our own payload");
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

/// Panics with the sequences as the payload, without printing a message.
fn unwind(first: u64, count: u64) {
    panic::resume_unwind(Box::new((first, count)));
}

/// Keeps samples of all subscribers for a while and drops them in random order.
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
fn random_joins_leaves_holds_and_panics_tear_nothing_and_leak_no_block() {
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
                    subscribe_repeatedly(channel, shared, &holders, number == 0, random);
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
