//! While nobody sleeps, messages need no system call. The tests show it on a thread that may not make any.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::time::{Duration, Instant};
use std::{hint, thread};

use blockcast_blocks::{
    Bytes, ChannelConfig, Overflow, Payload, PublisherId, Reader, ReaderOptions, ReceiveError, Signal,
    Writer, channel,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{SecureComputingMode, set_secure_computing_mode};

/// A publisher and subscribers of every policy, all of which keep up.
struct Party {
    writer: Writer,
    readers: Vec<Reader>,
}

impl Party {
    fn new() -> Self {
        let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
        (config.blocks, config.block_size) = (64, 64);
        let writer = channel(config).expect("a channel");
        let policies = [Overflow::Block, Overflow::Block, Overflow::DropOldest, Overflow::DropNewest];
        let join = |overflow| {
            let options = ReaderOptions { overflow, ..ReaderOptions::default() };
            writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("joins")
        };
        let readers = policies.map(join).into();
        Self { writer, readers }
    }

    fn send(&mut self, number: u64) {
        let mut loan = self.writer.try_loan(8).expect("a block");
        loan[..8].copy_from_slice(&number.to_ne_bytes());
        loan.publish(8).expect("fits");
    }

    /// Publishes `messages`. Every subscriber receives each of them by reference, owned, or in a batch.
    fn talk(&mut self, messages: u64) {
        for number in 0..messages {
            self.send(number);
            for reader in &mut self.readers {
                match number % 4 {
                    0 => assert_eq!(reader.receive().expect("a message").bytes(), number.to_ne_bytes()),
                    1 => assert_eq!(reader.receive_owned().expect("a message").bytes(), number.to_ne_bytes()),
                    2 => {}
                    _ => assert_eq!(reader.receive_batch(8).expect("messages").len(), 2),
                }
                if number % 4 != 2 {
                    assert_eq!(reader.receive().expect_err("all was received"), ReceiveError::Empty);
                }
            }
        }
    }
}

/// Runs on a thread that may only read, write and exit. It never returns, because that would take further
/// calls.
fn confined(party: &mut Party, mut done: PipeWriter, mut never: PipeReader) -> ! {
    // Sets up what is allocated or mapped on first use.
    party.talk(1000);
    set_secure_computing_mode(SecureComputingMode::Strict).expect("the kernel confines threads");
    party.talk(100_000);
    let _ = done.write_all(b"!");
    loop {
        let _ = never.read(&mut [0]);
        hint::spin_loop();
    }
}

/// Whether a byte arrives within `time`, rather than the end.
fn byte_arrives(mut pipe: &PipeReader, time: Duration) -> bool {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let timeout = Timespec::try_from(left.min(Duration::from_millis(100))).expect("a short time");
        let mut fds = [PollFd::new(pipe, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0) {
            return pipe.read(&mut [0]).is_ok_and(|bytes| bytes == 1);
        }
    }
    false
}

#[test]
fn a_thread_without_system_calls_publishes_and_receives() {
    let (report, done) = io::pipe().expect("a pipe");
    // Stays open, so that reading from it blocks.
    let (never, open) = io::pipe().expect("a pipe");
    let mut party = Party::new();
    thread::spawn(move || confined(&mut party, done, never));
    // Far longer than 100,000 messages take on a thread that only computes.
    assert!(
        byte_arrives(&report, Duration::from_secs(600)),
        "the thread was killed because it called the system"
    );
    drop(open);
}
