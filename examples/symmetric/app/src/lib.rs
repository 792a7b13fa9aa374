//! Receives and publishes bursts of small messages, and tells how long that took.
//!
//! Nothing but the app runs during a burst: the messages to be received lie there when it begins, and there are blocks for
//! all that are published. So the time is that of the app and of whatever lies between it and the broker, and nobody's sleep.

use blockcast::{
    AppError, Loan, Pod, Publisher, PublisherOptions, RecvError, Session, Subscriber, SubscriberOptions,
};

/// A reading: numbers.
pub type Reading = Pod<u64>;

/// What a burst consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Messages.
    pub messages: u32,
    /// Numbers in each.
    pub numbers: usize,
}

impl Burst {
    /// The parameters that tell an app of it.
    #[must_use]
    pub fn parameters(self) -> [(String, String); 2] {
        [("messages".to_owned(), self.messages.to_string()), ("numbers".to_owned(), self.numbers.to_string())]
    }

    fn asked_for(session: &Session) -> Result<Self, AppError> {
        let parameter =
            |name: &str| session.parameter(name).ok_or(format!("the parameter {name:?} is missing"));
        Ok(Self { messages: parameter("messages")?.parse()?, numbers: parameter("numbers")?.parse()? })
    }

    /// Bytes of a message.
    #[must_use]
    pub fn message_len(self) -> usize {
        self.numbers * size_of::<u64>()
    }

    /// Options for the publisher of a topic on which bursts are published.
    #[must_use]
    pub fn options(self) -> PublisherOptions {
        PublisherOptions::new().block_size(self.message_len()).blocks(self.messages)
    }

    /// Builds message `number` in its block, and publishes it.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn send(self, loan: Loan<'_, Reading>, number: u64) -> Result<(), AppError> {
        loan.send_with(|block| {
            let mut builder = block.builder();
            fill(number, &mut builder.elements()[..self.numbers]);
            builder.finish(self.numbers)
        })?;
        Ok(())
    }
}
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

/// Writes the reading with this number.
pub fn fill(number: u64, reading: &mut [u64]) {
    for (place, word) in (0..).zip(reading) {
        *word = number.wrapping_add(place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Takes a reading into a checksum.
#[must_use]
pub fn fold(checksum: u64, reading: &[u64]) -> u64 {
    reading.iter().fold(checksum, |sum, number| sum.rotate_left(5) ^ number)
}

/// The app. For each message on `go` it receives a burst from `in` and publishes one on `out`, and tells of both on `told`.
///
/// # Errors
/// If a parameter is missing or no number, a topic cannot be opened, or a message is lost.
pub async fn run(session: Session) -> Result<(), AppError> {
    let burst = Burst::asked_for(&session)?;
    let mut input: Subscriber<Reading> = session.subscriber("in", SubscriberOptions::new()).await?;
    let mut go: Subscriber<Reading> = session.subscriber("go", SubscriberOptions::new()).await?;
    let mut output: Publisher<Reading> = session.publisher("out", burst.options()).await?;
    let mut told =
        session.publisher::<Reading>("told", PublisherOptions::new().block_size(64).blocks(2)).await?;
    loop {
        match go.recv_ref().await {
            Ok(_) => {}
            Err(RecvError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let began = session.now();
        let checksum = receive(&mut input, burst).await?;
        let between = session.now();
        publish(&mut output, burst).await?;
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

async fn receive(input: &mut Subscriber<Reading>, burst: Burst) -> Result<u64, AppError> {
    let mut checksum = 0;
    for _ in 0..burst.messages {
        checksum = fold(checksum, input.recv_ref().await?.view());
    }
    Ok(checksum)
}

async fn publish(output: &mut Publisher<Reading>, burst: Burst) -> Result<(), AppError> {
    for number in 0..u64::from(burst.messages) {
        burst.send(output.loan().await?, number)?;
    }
    Ok(())
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
