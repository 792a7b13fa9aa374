//! Receives and publishes bursts of small messages, and tells how long that took.
//!
//! Nothing but the app runs during a burst: the messages to be received lie there when it begins, and there are blocks for
//! all that are published. So the time is that of the app and of whatever lies between it and the broker, and nobody's sleep.

use blockcast::{
    AppError, Pod, Publisher, PublisherOptions, RecvError, Session, Subscriber, SubscriberOptions,
};

/// A reading: eight numbers.
pub type Reading = Pod<u64>;
/// Numbers in a reading.
pub const NUMBERS: usize = 8;
/// Messages in a burst.
pub const BURST: u32 = 4096;
/// Calls by which the cost of one is measured.
const CALLS: u32 = 10_000;

/// What the app tells of a burst; the fields of its message, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Nanoseconds that receiving took.
    pub received: u64,
    /// Nanoseconds that publishing took.
    pub published: u64,
    /// Nanoseconds that a number of calls took that do nothing but ask for the time.
    pub calls: u64,
    /// What was received, folded.
    pub checksum: u64,
}

impl Told {
    /// Nanoseconds of one such call.
    #[must_use]
    pub fn call(&self) -> f64 {
        self.calls as f64 / f64::from(CALLS)
    }

    /// From a message.
    #[must_use]
    pub fn read(message: &[u64]) -> Option<Self> {
        match *message {
            [received, published, calls, checksum] => Some(Self { received, published, calls, checksum }),
            _ => None,
        }
    }

    fn message(&self) -> [u64; 4] {
        [self.received, self.published, self.calls, self.checksum]
    }
}

/// Options for the publisher of a topic on which bursts are published.
#[must_use]
pub fn burst_options() -> PublisherOptions {
    PublisherOptions::new().block_size(NUMBERS * size_of::<u64>()).blocks(BURST)
}

/// The reading with this number.
#[must_use]
pub fn reading(number: u64) -> [u64; NUMBERS] {
    std::array::from_fn(|place| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(8 * place as u32))
}

/// Takes a reading into a checksum.
#[must_use]
pub fn fold(checksum: u64, reading: &[u64]) -> u64 {
    reading.iter().fold(checksum, |sum, number| sum.rotate_left(5) ^ number)
}

/// The app. For each message on `go` it receives a burst from `in` and publishes one on `out`, and tells of both on `told`.
///
/// # Errors
/// If a topic cannot be opened, or a message is lost.
pub async fn run(session: Session) -> Result<(), AppError> {
    let mut input: Subscriber<Reading> = session.subscriber("in", SubscriberOptions::new()).await?;
    let mut go: Subscriber<Reading> = session.subscriber("go", SubscriberOptions::new()).await?;
    let mut output: Publisher<Reading> = session.publisher("out", burst_options()).await?;
    let mut told =
        session.publisher::<Reading>("told", PublisherOptions::new().block_size(64).blocks(2)).await?;
    loop {
        match go.recv_ref().await {
            Ok(_) => {}
            Err(RecvError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let began = session.now();
        let checksum = receive(&mut input).await?;
        let between = session.now();
        publish(&mut output).await?;
        let ended = session.now();
        for _ in 0..CALLS {
            std::hint::black_box(session.shutdown_requested());
        }
        let called = session.now();
        let found = Told {
            received: nanos(between.since(began)),
            published: nanos(ended.since(between)),
            calls: nanos(called.since(ended)),
            checksum,
        };
        told.loan().await?.send(&found.message()[..])?;
    }
}
blockcast::export!(run);

async fn receive(input: &mut Subscriber<Reading>) -> Result<u64, AppError> {
    let mut checksum = 0;
    for _ in 0..BURST {
        checksum = fold(checksum, input.recv_ref().await?.view());
    }
    Ok(checksum)
}

async fn publish(output: &mut Publisher<Reading>) -> Result<(), AppError> {
    for number in 0..u64::from(BURST) {
        output.loan().await?.send(&reading(number)[..])?;
    }
    Ok(())
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
