//! Receives and publishes bursts of small messages, and reports how long that took.
//!
//! Only the app runs during a burst: the messages to receive are already published, and there is a block for
//! each message it publishes. So the time is that of the app and of the layers between it and the broker,
//! without any sleep.

use blockcast::{
    AppError, Loan, Pod, Publisher, PublisherOptions, RecvError, Session, Subscriber, SubscriberOptions,
};

/// A reading: a slice of numbers.
pub type Reading = Pod<u64>;

/// Size of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Number of messages.
    pub messages: u32,
    /// Numbers in each message.
    pub numbers: usize,
}

impl Burst {
    /// Returns the parameters that pass the burst to an app.
    #[must_use]
    pub fn parameters(self) -> [(String, String); 2] {
        [("messages".to_owned(), self.messages.to_string()), ("numbers".to_owned(), self.numbers.to_string())]
    }

    fn asked_for(session: &Session) -> Result<Self, AppError> {
        let parameter =
            |name: &str| session.parameter(name).ok_or(format!("the parameter {name:?} is missing"));
        Ok(Self { messages: parameter("messages")?.parse()?, numbers: parameter("numbers")?.parse()? })
    }

    /// Bytes of one message.
    #[must_use]
    pub fn message_len(self) -> usize {
        self.numbers * size_of::<u64>()
    }

    /// Options for the publisher of a topic that carries bursts.
    #[must_use]
    pub fn options(self) -> PublisherOptions {
        PublisherOptions::new().block_size(self.message_len()).blocks(self.messages)
    }

    /// Builds message `number` in its block and publishes it.
    ///
    /// # Errors
    /// The message does not fit.
    pub fn send(self, loan: Loan<'_, Reading>, number: u64) -> Result<(), AppError> {
        loan.send_with(|block| {
            let mut builder = block.builder();
            fill(number, &mut builder.elements()[..self.numbers]);
            builder.finish(self.numbers)
        })?;
        Ok(())
    }
}
/// Number of calls that measure the cost of one.
const CALLS: u32 = 10_000;

/// The app's report about a burst: the fields of its message, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Nanoseconds for receiving.
    pub received: u64,
    /// Nanoseconds for publishing.
    pub published: u64,
    /// Nanoseconds for a number of calls that only ask for the time.
    pub calls: u64,
    /// Checksum of everything received.
    pub checksum: u64,
}

impl Told {
    /// Nanoseconds of one such call.
    #[must_use]
    pub fn call(&self) -> f64 {
        self.calls as f64 / f64::from(CALLS)
    }

    /// Reads it from a message.
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

/// Writes reading `number`.
pub fn fill(number: u64, reading: &mut [u64]) {
    for (place, word) in (0..).zip(reading) {
        *word = number.wrapping_add(place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Folds a reading into a checksum.
#[must_use]
pub fn fold(checksum: u64, reading: &[u64]) -> u64 {
    reading.iter().fold(checksum, |sum, number| sum.rotate_left(5) ^ number)
}

/// Runs the app. For each message on `go` it receives a burst from `in`, publishes one on `out`, and reports
/// both on `told`.
///
/// # Errors
/// A parameter is missing or not a number, a topic cannot be opened, or a message is lost.
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
