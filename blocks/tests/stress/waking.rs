//! Publishers and subscribers that sleep and wake each other.

use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use blockcast_blocks::{Reader, ReaderOptions, ReceiveError, Reuse, park};

use super::{MEMORY, PATIENCE, Random, check, join, open, publish, size};

/// Waits for a message without spinning, so that it really sleeps.
fn sleep_until_ready(reader: &mut Reader) {
    let woken = park::until(Some(Instant::now() + PATIENCE), |cx| reader.poll_ready(cx));
    assert!(woken.is_some(), "a wake-up was lost");
}

#[test]
fn no_wake_up_is_lost_between_two_threads_that_sleep_in_turns() {
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
    println!("{rounds} rounds in {:?}, one side was woken {wakes} times", started.elapsed());
}

#[test]
fn no_wake_up_is_lost_if_a_publisher_and_several_subscribers_sleep() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    let messages = size("BLOCKCAST_STRESS_ROUNDS", 4_000);
    let mut random = Random::new();
    // With two blocks, the publisher waits for blocks as often as the subscribers wait for messages. Bursts
    // in between let the event counts go quiet, so that their next first waiters need the process-wide
    // barrier.
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
                                // Polls for a while instead of sleeping.
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
