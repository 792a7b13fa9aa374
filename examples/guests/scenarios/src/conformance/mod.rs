//! Apps in groups of two or three that check one promise together, in any mix of deployments: linked in, as a
//! native library, as a guest, in a process.
//!
//! The parameter `scenario` names the case, and `role` the app within it. An app reports what it saw in its
//! log. `tests/conformance.rs` lists what each app must log and how it must end, and runs every case in every
//! mix of deployments.
//!
//! Nothing here depends on time. An app that has to wait for another learns that from a count of subscribers,
//! or from a [`tell`] on a separate topic.

mod delivery;
mod ending;
mod overflow;
mod refusal;
mod samples;
mod several;
mod shutdown;

use std::fmt;

use blockcast::{
    AppError, Level, LoanError, Publisher, PublisherOptions, RecvError, Session, Subscriber,
    SubscriberOptions,
};

use crate::{Numbers, number};

/// The topic that most cases use.
const TOPIC: &str = "numbers";

/// Plays a role in the case that the parameter `scenario` names.
pub(crate) async fn play(session: &Session, role: &str) -> Result<(), AppError> {
    let case = session.parameter("scenario").unwrap_or_default();
    match (case.as_str(), role) {
        ("order", "publisher") => delivery::publish_in_order(session).await,
        ("order", "subscriber") => delivery::receive_in_order(session).await,
        ("batches", "publisher") => delivery::publish_in_batches(session).await,
        ("batches", "subscriber") => delivery::receive_in_order(session).await,
        ("fan-out", "publisher") => delivery::publish_to_two(session).await,
        ("fan-out", "subscriber" | "other") => delivery::receive_in_order(session).await,
        ("two-publishers", "publisher") => delivery::publish_as_one_of_two(session, 0).await,
        ("two-publishers", "other") => delivery::publish_as_one_of_two(session, 1_000_000).await,
        ("two-publishers", "subscriber") => delivery::receive_from_two(session).await,
        ("ways", "publisher") => delivery::publish_for_all_ways(session).await,
        ("ways", "subscriber") => delivery::receive_in_all_ways(session).await,
        ("lengths", "publisher") => delivery::publish_all_lengths(session).await,
        ("lengths", "subscriber") => delivery::receive_all_lengths(session).await,
        ("values", "publisher") => delivery::publish_values(session).await,
        ("values", "subscriber") => delivery::receive_values(session).await,
        ("history", "publisher") => delivery::publish_history(session).await,
        ("history", "subscriber") => delivery::receive_history(session).await,
        ("drop-oldest" | "drop-newest", "publisher") => overflow::publish_too_much(session).await,
        ("drop-oldest", "subscriber") => overflow::lose_the_oldest(session).await,
        ("drop-newest", "subscriber") => overflow::lose_the_newest(session).await,
        ("back-pressure", "publisher") => overflow::publish_until_held_back(session).await,
        ("back-pressure", "subscriber") => overflow::hold_back(session).await,
        ("slow-and-fast", "publisher") => overflow::publish_to_slow_and_fast(session).await,
        ("slow-and-fast", "subscriber") => delivery::receive_in_order(session).await,
        ("slow-and-fast", "other") => overflow::be_slow(session).await,
        ("let-go", "publisher") => overflow::publish_twice_what_fits(session).await,
        ("let-go", "subscriber") => overflow::look_at_something_else(session).await,
        ("end", "publisher") => ending::publish_and_end(session).await,
        ("end", "subscriber") => ending::drain_after_the_end(session).await,
        ("empty", "publisher") => ending::publish_nothing(session).await,
        ("empty", "subscriber") => delivery::receive_in_order(session).await,
        ("again", "publisher") => ending::publish_again(session).await,
        ("again", "subscriber") => ending::receive_again(session).await,
        ("fail" | "panic", "publisher") => ending::publish_and_break(session, &case).await,
        ("fail" | "panic", "subscriber") => delivery::receive_in_order(session).await,
        ("unsent", "publisher") => ending::break_while_loaned(session).await,
        ("unsent", "subscriber") => delivery::receive_in_order(session).await,
        ("keep", "publisher") => samples::publish_past_what_is_kept(session).await,
        ("keep", "subscriber") => samples::keep_some(session).await,
        ("outlive", "publisher") => samples::publish_past_a_subscriber(session).await,
        ("outlive", "subscriber") => samples::outlive_the_subscriber(session).await,
        ("schema", "publisher") => refusal::publish_numbers(session).await,
        ("schema", "subscriber") => refusal::ask_for_something_else(session).await,
        ("grants", "publisher" | "subscriber") => refusal::ask_for_what_is_not_granted(session).await,
        ("too-large", "publisher") => refusal::publish_too_large(session).await,
        ("too-large", "subscriber") => delivery::receive_in_order(session).await,
        ("select", "publisher") => several::publish_on(session, "left", 200).await,
        ("select", "other") => several::publish_on(session, "right", 300).await,
        ("select", "subscriber") => several::select_topics_and_timers(session).await,
        ("merge", "publisher") => several::publish_on(session, "left", 200).await,
        ("merge", "other") => several::publish_on(session, "right", 300).await,
        ("merge", "subscriber") => several::merge_streams(session).await,
        ("join", "publisher") => several::publish_on(session, "left", 200).await,
        ("join", "other") => several::publish_on(session, "right", 300).await,
        ("join", "subscriber") => several::join_topics(session).await,
        ("relay", "publisher") => several::publish_on(session, "left", 200).await,
        ("relay", "subscriber") => several::relay(session, "left", "right").await,
        ("relay", "other") => several::total_of(session, "right").await,
        ("replaced", "publisher") => several::publish_through_many(session).await,
        ("replaced", "subscriber") => several::total_of(session, "left").await,
        ("replaced", "other") => several::total_of(session, "right").await,
        ("timers", "publisher" | "subscriber") => several::sleep_in_order(session).await,
        ("given-up", "publisher") => several::give_up_a_loan(session).await,
        ("given-up", "subscriber") => several::give_up_a_receive(session).await,
        ("shutdown", "publisher") => shutdown::publish_until_asked(session).await,
        ("shutdown", "subscriber") => shutdown::receive_until_asked(session).await,
        ("cancel", "publisher") => shutdown::publish_past_one_that_is_cancelled(session).await,
        ("cancel", "subscriber") => shutdown::hold_back_for_ever(session).await,
        _ => Err(format!("there is no case {case:?} with a role {role:?}").into()),
    }
}

/// Logs what was seen.
fn say(session: &Session, what: impl fmt::Display) {
    session.log(Level::Info, &what.to_string());
}

/// Logs what was received, as one line of numbers.
fn say_numbers(session: &Session, what: &str, numbers: &[u64]) {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    say(session, format_args!("{what}: {}", numbers.join(" ")));
}

/// Opens a publisher of small messages.
async fn publisher(session: &Session, topic: &str, blocks: u32) -> Result<Publisher<Numbers>, AppError> {
    Ok(session.publisher(topic, PublisherOptions::new().block_size(64).blocks(blocks)).await?)
}

/// Opens a subscriber that loses nothing.
async fn subscriber(session: &Session, topic: &str) -> Result<Subscriber<Numbers>, AppError> {
    Ok(session.subscriber(topic, SubscriberOptions::new()).await?)
}

/// Publishes one number per message.
async fn send(
    publisher: &mut Publisher<Numbers>,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<(), AppError> {
    for number in numbers {
        publisher.loan().await?.send(&[number][..])?;
    }
    Ok(())
}

/// Publishes without waiting, and returns how many of `numbers` found a block.
fn send_what_fits(
    publisher: &mut Publisher<Numbers>,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<(u64, Option<LoanError>), AppError> {
    let mut count = 0;
    for number in numbers {
        match publisher.try_loan() {
            Ok(loan) => loan.send(&[number][..])?,
            Err(error) => return Ok((count, Some(error))),
        };
        count += 1;
    }
    Ok((count, None))
}

/// Everything received up to the end.
#[derive(Debug, Default)]
struct Received {
    numbers: Vec<u64>,
    /// Losses in the order of their reports, each with the number of messages received before it.
    losses: Vec<(usize, u64)>,
}

impl Received {
    /// Records one result. Returns `false` if the topic has ended.
    fn take(&mut self, received: Result<u64, RecvError>) -> Result<bool, AppError> {
        match received {
            Ok(number) => self.numbers.push(number),
            Err(RecvError::Lost(count)) => self.losses.push((self.numbers.len(), count)),
            Err(RecvError::Ended) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Receives everything.
    async fn all_of(subscriber: &mut Subscriber<Numbers>) -> Result<Self, AppError> {
        let mut this = Self::default();
        loop {
            let received = subscriber.recv_ref().await.map(|message| number(message.view()));
            if !this.take(received)? {
                return Ok(this);
            }
        }
    }

    /// Logs the number of messages, their sum, and whether each is larger than the previous one.
    fn say_total(&self, session: &Session) {
        let order =
            if self.numbers.is_sorted_by(|one, next| one < next) { "in order" } else { "in disorder" };
        say(
            session,
            format_args!("{} numbers {order}, sum {}", self.numbers.len(), self.numbers.iter().sum::<u64>()),
        );
        self.say_losses(session);
    }

    /// Logs all numbers.
    fn say_all(&self, session: &Session) {
        say_numbers(session, "received", &self.numbers);
        self.say_losses(session);
    }

    fn say_losses(&self, session: &Session) {
        for (before, count) in &self.losses {
            say(session, format_args!("{count} lost after {before}"));
        }
    }
}

/// Lets an app continue that [waits](hear) for this word. Waits until it has subscribed.
async fn tell(session: &Session, word: &str) -> Result<(), AppError> {
    let mut teller = publisher(session, word, 2).await?;
    teller.subscribers(1).await;
    send(&mut teller, [0]).await
}

/// Waits until another app [tells](tell) this word.
async fn hear(session: &Session, word: &str) -> Result<(), AppError> {
    subscriber(session, word).await?.recv_ref().await?;
    Ok(())
}
