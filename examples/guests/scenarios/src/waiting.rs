//! Scenarios that wait for several things at once, for time, and for the end.

use std::time::Duration;

use blockcast::{AppError, RecvError, Session, Subscriber};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, select_biased, try_join};

use crate::{Numbers, input, number, output};

/// Reads two topics and a timer with `select!`. Publishes the sum of each topic and whether the timer fired.
pub(crate) async fn select(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut left = input(session, "in-left").await?;
    let mut right = input(session, "in-right").await?;
    let mut found = [0, 0, 0];
    let mut open = 2;
    let mut timer = Box::pin(session.sleep(Duration::from_millis(5)).fuse());
    while open > 0 || found[2] == 0 {
        let (side, received) = select_biased! {
            received = left.recv_ref().fuse() => (0, received.map(|message| number(message.view()))),
            received = right.recv_ref().fuse() => (1, received.map(|message| number(message.view()))),
            () = timer => {
                found[2] += 1;
                continue;
            }
        };
        match received {
            Ok(number) => found[side] += number,
            Err(RecvError::Ended) if open == 2 => {
                // A topic that has ended is always ready. Wait for the other one alone, then for the timer.
                open = 0;
                let other = if side == 0 { &mut right } else { &mut left };
                found[1 - side] += total(other).await?;
                if found[2] == 0 {
                    timer.as_mut().await;
                    found[2] += 1;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    out.loan().await?.send(&found[..])?;
    Ok(())
}

/// Reads two topics at the same time with `join!`, each as fast as its messages arrive.
pub(crate) async fn join(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut left = input(session, "in-left").await?;
    let mut right = input(session, "in-right").await?;
    let (left, right) = try_join!(total(&mut left), total(&mut right))?;
    out.loan().await?.send(&[left, right][..])?;
    Ok(())
}

/// Drives two topics and fifty timers in one set, which polls only futures that were woken.
pub(crate) async fn many(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut left = input(session, "in-left").await?;
    let mut right = input(session, "in-right").await?;
    let mut tasks = FuturesUnordered::new();
    tasks.push(total(&mut left).boxed());
    tasks.push(total(&mut right).boxed());
    for timer in 0..50 {
        tasks.push(
            async move {
                session.sleep(Duration::from_millis(timer % 7)).await;
                Ok(1_000_000)
            }
            .boxed(),
        );
    }
    let mut sum = 0;
    while let Some(found) = tasks.next().await {
        sum += found?;
    }
    drop(tasks);
    out.loan().await?.send(&[sum][..])?;
    Ok(())
}

/// Sleeps three times, and publishes the duration of each sleep in nanoseconds, by the session's clock.
pub(crate) async fn sleep(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    let mut took = Vec::new();
    for millis in [0, 3, 20] {
        let before = session.now();
        session.sleep(Duration::from_millis(millis)).await;
        took.push(u64::try_from(session.now().since(before).as_nanos())?);
    }
    out.loan().await?.send(&took[..])?;
    Ok(())
}

/// Publishes a message, waits until it is asked to finish, and publishes another one.
pub(crate) async fn shutdown(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    out.loan().await?.send(&[1][..])?;
    session.shutdown().await;
    if !session.shutdown_requested() {
        return Err("woken without a request".into());
    }
    out.loan().await?.send(&[2][..])?;
    Ok(())
}

/// Returns the sum of a topic.
async fn total(numbers: &mut Subscriber<Numbers>) -> Result<u64, AppError> {
    let mut sum = 0;
    loop {
        match numbers.recv_ref().await {
            Ok(message) => sum += number(message.view()),
            Err(RecvError::Ended) => return Ok(sum),
            Err(error) => return Err(error.into()),
        }
    }
}
