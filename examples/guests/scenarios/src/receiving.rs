//! Scenarios that receive by reference, owned, in batches and as a stream, with losses, and that check where
//! messages are.

use blockcast::{AppError, Overflow, RecvError, Session, SubscriberOptions};
use futures::StreamExt;

use crate::{Numbers, input, number, output};

/// Publishes the count and sum of all numbers, read by reference.
pub(crate) async fn sum(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut numbers = input(session, "in").await?;
    let mut found = [0, 0];
    loop {
        match numbers.recv_ref().await {
            Ok(message) => found = [found[0] + 1, found[1] + message.view().iter().sum::<u64>()],
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Like [`sum`], but reads a stream of owned samples.
pub(crate) async fn stream(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut numbers = input(session, "in").await?;
    let mut found = [0, 0];
    while let Some(sample) = numbers.next().await {
        found = [found[0] + 1, found[1] + sample?.view().iter().sum::<u64>()];
    }
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Like [`sum`], but reads batches. It also publishes how many batches had more than `limit` messages: none.
pub(crate) async fn batches(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut numbers = input(session, "in").await?;
    let mut found = [0, 0, 0];
    loop {
        match numbers.recv_batch(7).await {
            Ok(batch) => {
                found[0] += batch.len() as u64;
                found[2] += u64::from(batch.len() > 7);
                for message in batch.views() {
                    found[1] += message?.iter().sum::<u64>();
                }
            }
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Keeps every tenth message to the end while the publisher, which has fewer blocks than messages, continues.
/// Publishes their contents at the end.
pub(crate) async fn keep(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut numbers = input(session, "in").await?;
    let mut kept = Vec::new();
    loop {
        match numbers.recv().await {
            Ok(sample) if number(sample.view()).is_multiple_of(10) => kept.push(sample.clone()),
            Ok(_) => {}
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let found: Vec<u64> = kept.iter().map(|sample| number(sample.view())).collect();
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Keeps three samples beyond their subscriber. It publishes a first number once the subscriber is gone, and
/// the contents of the samples once it receives a message on `in-go`.
pub(crate) async fn outlive(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut go = input(session, "in-go").await?;
    let mut numbers = input(session, "in").await?;
    let kept = [numbers.recv().await?, numbers.recv().await?, numbers.recv().await?];
    drop(numbers);
    out.loan().await?.send(&[0][..])?;
    go.recv_ref().await?;
    let found: Vec<u64> = kept.iter().map(|sample| number(sample.view())).collect();
    drop(kept);
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Receives nothing until a message arrives on `in-go`. Then it publishes how many messages it received, how
/// many losses were reported, and the last message received.
pub(crate) async fn losses(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut go = input(session, "in-go").await?;
    let options = SubscriberOptions::new().overflow(Overflow::DropOldest);
    let mut numbers = session.subscriber::<Numbers>("in", options).await?;
    out.loan().await?.send(&[0][..])?;
    go.recv_ref().await?;
    let mut found = [0, 0, 0];
    loop {
        match numbers.recv_ref().await {
            Ok(message) => {
                found[0] += 1;
                found[2] = number(message.view());
            }
            Err(RecvError::Lost(count)) => found[1] += count,
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if numbers.lost() != found[1] {
        return Err(format!("told {} losses, counted {}", found[1], numbers.lost()).into());
    }
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Publishes one message that lists the publisher, sequence and number of every message received.
pub(crate) async fn origins(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut numbers = input(session, "in").await?;
    let mut found = Vec::new();
    loop {
        match numbers.recv_ref().await {
            Ok(message) => {
                found.extend([message.publisher().get(), message.sequence().get(), number(message.view())])
            }
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Publishes one message that lists the address and the length in bytes of every message received.
pub(crate) async fn addresses(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut numbers = input(session, "in").await?;
    let mut found = Vec::new();
    loop {
        match numbers.recv_ref().await {
            Ok(message) => {
                let bytes = message.bytes();
                found.extend([bytes.as_ptr().addr() as u64, bytes.len() as u64]);
            }
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Opens and drops a subscription repeatedly, receives something each time, and publishes how often.
pub(crate) async fn reopen(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut times = 0;
    while !session.shutdown_requested() && times < 300 {
        let options = SubscriberOptions::new().history(1);
        let mut numbers = session.subscriber::<Numbers>("in", options).await?;
        number(numbers.recv_ref().await?.view());
        times += 1;
    }
    out.loan().await?.send(&[times][..])?;
    Ok(())
}
