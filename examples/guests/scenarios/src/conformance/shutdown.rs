//! Cases about apps that are asked to finish, or cancelled.

use std::time::Duration;

use blockcast::{AppError, Session};
use futures::{FutureExt, select_biased};

use super::{Received, TOPIC, hear, publisher, say, send, send_what_fits, subscriber, tell};
use crate::number;

/// Publishes until it is asked to finish.
pub(super) async fn publish_until_asked(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    say(session, "running");
    let asked = session.shutdown().fuse();
    let sending = async {
        for number in 0.. {
            send(&mut numbers, [number]).await?;
            // Let others run.
            session.sleep(Duration::from_micros(100)).await;
        }
        Ok::<_, AppError>(())
    };
    let sending = sending.fuse();
    futures::pin_mut!(asked, sending);
    select_biased! {
        () = asked => {}
        sent = sending => sent?,
    }
    say(session, format_args!("asked to finish: {}", session.shutdown_requested()));
    Ok(())
}

/// Receives until it is asked to finish.
pub(super) async fn receive_until_asked(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    let mut found = Received::default();
    let mut open = found.take(numbers.recv_ref().await.map(|message| number(message.view())))?;
    say(session, "running");
    let mut asked = Box::pin(session.shutdown().fuse());
    while open {
        select_biased! {
            () = asked => break,
            received = numbers.recv_ref().fuse() => {
                open = found.take(received.map(|message| number(message.view())))?;
            }
        }
    }
    if !open {
        // The broker asked the publisher first, so the topic ended before this request.
        asked.await;
    }
    say(session, format_args!("asked to finish: {}", session.shutdown_requested()));
    Ok(())
}

/// Publishes until it is held back, tells that, and continues once the subscriber that holds it back is gone.
pub(super) async fn publish_past_one_that_is_cancelled(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 4).await?;
    hear(session, "ready").await?;
    let (count, _) = send_what_fits(&mut numbers, 0..100)?;
    say(session, format_args!("published {count}"));
    say(session, "running");
    send(&mut numbers, count..100).await?;
    say(session, format_args!("published 100 to {}", numbers.subscriber_count()));
    Ok(())
}

/// Keeps a sample and never receives again.
pub(super) async fn hold_back_for_ever(session: &Session) -> Result<(), AppError> {
    let numbers = subscriber(session, TOPIC).await?;
    tell(session, "ready").await?;
    say(session, "running");
    std::future::pending::<()>().await;
    drop(numbers);
    Ok(())
}
