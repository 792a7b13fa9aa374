//! Cases about the end of a topic: with messages left, without any, twice, and because a publisher fails.

use blockcast::{AppError, Session};

use super::{Received, TOPIC, hear, publisher, say, send, subscriber, tell};

/// Publishes, and leaves before anyone receives.
pub(super) async fn publish_and_end(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..5).await?;
    drop(numbers);
    tell(session, "ended").await
}

/// Receives the remaining messages and then the end, again and again.
pub(super) async fn drain_after_the_end(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    hear(session, "ended").await?;
    Received::all_of(&mut numbers).await?.say_all(session);
    Received::all_of(&mut numbers).await?.say_all(session);
    say(session, format_args!("{:?}", numbers.try_recv().map(drop)));
    Ok(())
}

/// Publishes nothing.
pub(super) async fn publish_nothing(session: &Session) -> Result<(), AppError> {
    publisher(session, TOPIC, 8).await?.subscribers(1).await;
    Ok(())
}

/// Publishes, ends, and publishes again after the end was seen.
pub(super) async fn publish_again(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..3).await?;
    drop(numbers);
    hear(session, "end seen").await?;
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 3..6).await?;
    tell(session, "there again").await
}

/// Sees an end, and continues when there is a publisher again.
pub(super) async fn receive_again(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    Received::all_of(&mut numbers).await?.say_all(session);
    tell(session, "end seen").await?;
    hear(session, "there again").await?;
    Received::all_of(&mut numbers).await?.say_all(session);
    Ok(())
}

/// Publishes, and ends with an error or a panic.
pub(super) async fn publish_and_break(session: &Session, how: &str) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..100).await?;
    assert!(how != "panic", "as asked");
    Err("as asked".into())
}

/// Publishes, takes a loan, and panics before publishing it.
pub(super) async fn break_while_loaned(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..100).await?;
    let loan = numbers.loan().await?;
    panic!("as asked, with {} bytes in hand", loan.capacity());
}
