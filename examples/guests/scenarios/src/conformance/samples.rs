//! Cases about owned samples that outlive the next receive, the end of the topic, or their subscriber.

use blockcast::{AppError, RecvError, Sample, Session};

use super::{TOPIC, hear, publisher, say_numbers, send, subscriber, tell};
use crate::{Numbers, number};

/// Publishes many more messages than there are blocks.
pub(super) async fn publish_past_what_is_kept(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 64).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..400).await
}

fn say_samples(session: &Session, what: &str, samples: &[Sample<Numbers>]) {
    let numbers: Vec<u64> = samples.iter().map(|sample| number(sample.view())).collect();
    say_numbers(session, what, &numbers);
}

/// Keeps every twentieth message to the end, and drops them in a different order.
pub(super) async fn keep_some(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    let mut kept = Vec::new();
    loop {
        match numbers.recv().await {
            Ok(sample) if number(sample.view()).is_multiple_of(20) => kept.push(sample.clone()),
            Ok(_) => {}
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    say_samples(session, "kept", &kept);
    let mut left = Vec::new();
    for (place, sample) in kept.into_iter().enumerate() {
        if place % 3 == 1 {
            left.insert(0, sample);
        }
    }
    drop(numbers);
    say_samples(session, "left", &left);
    Ok(())
}

/// Publishes three messages, and many more from eight blocks once their subscriber is gone.
pub(super) async fn publish_past_a_subscriber(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..3).await?;
    hear(session, "left").await?;
    send(&mut numbers, 3..200).await?;
    tell(session, "went on").await
}

/// Keeps three samples beyond their subscriber.
pub(super) async fn outlive_the_subscriber(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    let kept = [numbers.recv().await?, numbers.recv().await?, numbers.recv().await?];
    drop(numbers);
    tell(session, "left").await?;
    hear(session, "went on").await?;
    say_samples(session, "kept", &kept);
    Ok(())
}
