//! Cases about refusals: a different schema, a missing grant, a value that does not fit.

use blockcast::{AppError, Flat, OpenError, Pod, PublisherOptions, Session, SubscriberOptions};

use super::{TOPIC, publisher, say, send, subscriber};
use crate::Numbers;

/// Creates the topic, and thereby sets its schema.
pub(super) async fn publish_numbers(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..10).await
}

/// The kind of a refusal, in one word.
fn word(refused: Result<(), OpenError>) -> &'static str {
    match refused {
        Ok(()) => "accepted",
        Err(OpenError::SchemaMismatch { .. }) => "another schema",
        Err(OpenError::Denied { .. }) => "denied",
        Err(OpenError::BadName(_)) => "no name",
        Err(_) => "refused otherwise",
    }
}

/// Joins with types that the topic does not have, as a subscriber and as a publisher, and then with the right
/// one.
pub(super) async fn ask_for_something_else(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    let asked = session.subscriber::<Pod<u32>>(TOPIC, SubscriberOptions::new()).await;
    say(session, word(asked.map(drop)));
    let asked = session.subscriber::<Flat<String>>(TOPIC, SubscriberOptions::new()).await;
    say(session, word(asked.map(drop)));
    let asked = session.publisher::<Flat<Vec<u64>>>(TOPIC, PublisherOptions::new()).await;
    say(session, word(asked.map(drop)));
    super::Received::all_of(&mut numbers).await?.say_total(session);
    Ok(())
}

/// Asks for topics that are not granted, and for impossible ones.
pub(super) async fn ask_for_what_is_not_granted(session: &Session) -> Result<(), AppError> {
    let long = "n".repeat(256);
    for topic in ["secret", "", "numbers\n", &long] {
        let asked = session.subscriber::<Numbers>(topic, SubscriberOptions::new()).await;
        let subscribed = word(asked.map(drop));
        let asked = session.publisher::<Numbers>(topic, PublisherOptions::new()).await;
        say(session, format_args!("{subscribed}, {}", word(asked.map(drop))));
    }
    match session.subscriber::<Numbers>("secret", SubscriberOptions::new()).await {
        Ok(_) => Err("it is not granted".into()),
        Err(error) => {
            say(session, error);
            Ok(())
        }
    }
}

/// Publishes a value that does not fit, and continues.
pub(super) async fn publish_too_large(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 4).await?;
    numbers.subscribers(1).await;
    for len in [8, 9, 100, 1] {
        match numbers.loan().await?.send(&vec![len; len as usize][..]) {
            Ok(sequence) => say(session, format_args!("{sequence}")),
            Err(error) => say(session, error),
        }
    }
    match numbers.loan_sized(65).await {
        Ok(_) => return Err("65 bytes fit into 64".into()),
        Err(error) => say(session, error),
    }
    Ok(())
}
