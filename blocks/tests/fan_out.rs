//! The cost of a publish does not depend on the number of subscribers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use blockcast_blocks::{
    Bytes, ChannelConfig, Payload, PublisherId, Reader, ReaderOptions, ReceiveError, Signal, Timestamps,
    Writer, channel,
};

/// Messages per burst: half of the pool, so every second burst has to reclaim blocks.
const BURST: u64 = 32;

fn open(subscribers: usize) -> (Writer, Vec<Reader>) {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size, config.timestamps) = (64, 64, Timestamps::Off);
    let writer = channel(config).expect("a channel");
    let join = |_| writer.channel().join(&Bytes::schema(), ReaderOptions::default(), Signal::new());
    let readers =
        (0..subscribers).map(join).collect::<Result<_, _>>().expect("every subscriber gets a cursor");
    (writer, readers)
}

/// Times the publishing of a burst, without its receiving.
fn burst(writer: &mut Writer, readers: &mut [Reader]) -> Duration {
    let started = Instant::now();
    for _ in 0..BURST {
        let mut loan = writer.try_loan(64).expect("everything was received");
        loan[0] = 1;
        black_box(loan.publish(64)).expect("fits");
    }
    let taken = started.elapsed();
    for reader in readers {
        for _ in 0..BURST {
            drop(reader.receive().expect("a message"));
        }
        assert_eq!(reader.receive().expect_err("all was received"), ReceiveError::Empty);
    }
    taken
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn publishing_to_64_subscribers_costs_at_most_half_more_than_to_one() {
    let rounds = if cfg!(debug_assertions) { 300 } else { 3000 };
    let (mut one, mut many) = (open(1), open(64));
    // Alternate, so that other load on the machine slows both down. Bursts come in pairs because one of two
    // reclaims.
    let (mut to_one, mut to_many) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        to_one.push((0..2).map(|_| burst(&mut one.0, &mut one.1)).sum());
        to_many.push((0..2).map(|_| burst(&mut many.0, &mut many.1)).sum());
    }
    let (to_one, to_many) = (median(to_one), median(to_many));
    let ratio = to_many.as_secs_f64() / to_one.as_secs_f64();
    let each = |time: Duration| time.as_secs_f64() * 1e9 / (2 * BURST) as f64;
    println!("{:.1} ns to one, {:.1} ns to 64: {ratio:.2}", each(to_one), each(to_many));
    // In unoptimised code, the scan of 64 cursors outweighs the rest.
    let limit = if cfg!(debug_assertions) { 2.0 } else { 1.5 };
    assert!(ratio < limit, "{ratio:.2}");
}
