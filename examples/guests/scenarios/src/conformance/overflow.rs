//! Cases about slow subscribers: losses and their counts, back-pressure.

use blockcast::{AppError, Overflow, Session, Subscriber, SubscriberOptions};

use super::{Received, TOPIC, hear, publisher, say, say_numbers, send, send_what_fits, subscriber, tell};
use crate::{Numbers, number};

/// Opens a subscriber that may lose messages and keeps four.
async fn loser(session: &Session, overflow: Overflow) -> Result<Subscriber<Numbers>, AppError> {
    let options = SubscriberOptions::new().overflow(overflow).depth(4);
    Ok(session.subscriber(TOPIC, options).await?)
}

/// Publishes a hundred messages to a subscriber that is not receiving, three more once it has caught up, and
/// ends.
pub(super) async fn publish_too_much(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 16).await?;
    hear(session, "ready").await?;
    let (count, refused) = send_what_fits(&mut numbers, 0..100)?;
    say(session, format_args!("published {count}, refused: {}", refused.is_some()));
    tell(session, "look").await?;
    hear(session, "looked").await?;
    send(&mut numbers, 100..103).await
}

/// Receives until a loss was reported and no message is left, and logs both.
async fn catch_up(session: &Session, numbers: &mut Subscriber<Numbers>) -> Result<(), AppError> {
    let mut found = Received::default();
    while found.losses.is_empty() || found.numbers.len() < 4 {
        found.take(numbers.recv_ref().await.map(|message| number(message.view())))?;
    }
    found.say_all(session);
    say(session, format_args!("{} lost in all", numbers.lost()));
    Ok(())
}

/// Keeps the newest four.
pub(super) async fn lose_the_oldest(session: &Session) -> Result<(), AppError> {
    lose(session, Overflow::DropOldest).await
}

/// Keeps the oldest four, and learns of the losses after them.
pub(super) async fn lose_the_newest(session: &Session) -> Result<(), AppError> {
    lose(session, Overflow::DropNewest).await
}

async fn lose(session: &Session, overflow: Overflow) -> Result<(), AppError> {
    let mut numbers = loser(session, overflow).await?;
    tell(session, "ready").await?;
    hear(session, "look").await?;
    catch_up(session, &mut numbers).await?;
    tell(session, "looked").await?;
    Received::all_of(&mut numbers).await?.say_all(session);
    say(session, format_args!("{} lost in all", numbers.lost()));
    Ok(())
}

/// Publishes until every block is in use, then waits for each block.
pub(super) async fn publish_until_held_back(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 4).await?;
    hear(session, "ready").await?;
    let (count, refused) = send_what_fits(&mut numbers, 0..100)?;
    let refused = refused.map_or_else(|| "nothing".to_owned(), |error| error.to_string());
    say(session, format_args!("published {count}, then {refused}"));
    tell(session, "look").await?;
    send(&mut numbers, count..100).await
}

/// Starts receiving late, and loses nothing.
pub(super) async fn hold_back(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    tell(session, "ready").await?;
    hear(session, "look").await?;
    Received::all_of(&mut numbers).await?.say_total(session);
    Ok(())
}

/// Fills every block, and does so again once the subscriber, which meanwhile waits for another topic, has
/// released all of them.
pub(super) async fn publish_twice_what_fits(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 4).await?;
    hear(session, "ready").await?;
    for first in [0, 4] {
        send(&mut numbers, first..first + 4).await?;
        tell(session, "look").await?;
        hear(session, "looked").await?;
    }
    Ok(())
}

/// Receives four messages, and then waits for another topic only.
pub(super) async fn look_at_something_else(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    tell(session, "ready").await?;
    for _ in 0..2 {
        hear(session, "look").await?;
        let mut found = Vec::new();
        for _ in 0..4 {
            found.push(number(numbers.recv_ref().await?.view()));
        }
        say_numbers(session, "received", &found);
        tell(session, "looked").await?;
    }
    Ok(())
}

/// Publishes to one subscriber that keeps up and to one that receives only at the end.
pub(super) async fn publish_to_slow_and_fast(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 16).await?;
    numbers.subscribers(2).await;
    send(&mut numbers, 0..1000).await?;
    drop(numbers);
    tell(session, "look").await
}

/// Receives when everything is over.
pub(super) async fn be_slow(session: &Session) -> Result<(), AppError> {
    let mut numbers = loser(session, Overflow::DropOldest).await?;
    hear(session, "look").await?;
    let found = Received::all_of(&mut numbers).await?;
    let lost: u64 = found.losses.iter().map(|(_, count)| count).sum();
    say(
        session,
        format_args!(
            "{} received or lost, the last is {:?}",
            found.numbers.len() as u64 + lost,
            found.numbers.last()
        ),
    );
    say(session, format_args!("no more than it keeps: {}", found.numbers.len() <= 4));
    Ok(())
}
