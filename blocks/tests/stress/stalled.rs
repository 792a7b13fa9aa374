//! Subscribers and samples that stay behind, and the memory that they cost.

use std::mem::ManuallyDrop;
use std::sync::PoisonError;

use blockcast_blocks::{Overflow, ReaderOptions, ReceiveError, Reuse};

use super::{Account, LEN, MEMORY, assert_all_free, check, check_sample, fill, join, open, publish, size};

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a VmRSS line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

#[test]
fn one_stalled_subscriber_of_64_stops_nobody_and_learns_its_exact_loss() {
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
        // Never waits: a block is always free.
        let mut loan = writer.try_loan(LEN).unwrap_or_else(|error| panic!("message {sequence}: {error}"));
        fill(&mut loan, sequence);
        loan.publish(LEN).expect("fits");
        for reader in &mut others {
            let message = reader.receive().expect("it receives every message at once");
            assert_eq!(message.descriptor().sequence.get(), sequence);
            let first = u64::from_ne_bytes(message.bytes()[..8].try_into().expect("8 bytes"));
            assert_eq!(first, sequence << 8);
        }
        if sequence == 0 {
            // It stalls while it holds a sample.
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
    println!("{messages} messages: the stalled subscriber lost {}, memory grew by {grown} KiB", account.lost);
    drop((others, stalled, kept));
    assert_all_free(&mut writer, 0);
}

#[test]
fn a_forgotten_sample_costs_only_its_block_and_shows_in_the_statistics() {
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
    // Dropping the forgotten samples after all returns their blocks.
    forgotten.into_iter().map(ManuallyDrop::into_inner).for_each(|sample| check_sample(&sample));
    assert_all_free(&mut writer, 0);
}
