//! Cases about several subscriptions and timers at once, relays, and cancelled futures.

use std::time::Duration;

use blockcast::{AppError, RecvError, Session, Subscriber};
use futures::stream::{FuturesUnordered, StreamExt, select};
use futures::{FutureExt, select_biased, try_join};

use super::{Received, TOPIC, hear, publisher, say, say_numbers, send, send_what_fits, subscriber, tell};
use crate::{Numbers, number};

/// Publishes `count` numbers on a topic.
pub(super) async fn publish_on(session: &Session, topic: &str, count: u64) -> Result<(), AppError> {
    let mut numbers = publisher(session, topic, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..count).await
}

/// Reads two topics and a repeating timer with `select!`.
pub(super) async fn select_topics_and_timers(session: &Session) -> Result<(), AppError> {
    let mut left = subscriber(session, "left").await?;
    let mut right = subscriber(session, "right").await?;
    let (mut from_left, mut from_right) = (Received::default(), Received::default());
    let (mut left_open, mut right_open, mut ticks) = (true, true, 0);
    let mut timer = Box::pin(session.sleep(Duration::from_millis(1)).fuse());
    while left_open || right_open || ticks < 3 {
        select_biased! {
            received = next(&mut left, left_open).boxed().fuse() => left_open = from_left.take(received)?,
            received = next(&mut right, right_open).boxed().fuse() => right_open = from_right.take(received)?,
            () = timer => {
                ticks += 1;
                timer.set(session.sleep(Duration::from_millis(1)).fuse());
            }
        }
    }
    from_left.say_total(session);
    from_right.say_total(session);
    Ok(())
}

/// Receives the next number of an open topic. A topic that has ended would always be ready.
async fn next(numbers: &mut Subscriber<Numbers>, open: bool) -> Result<u64, RecvError> {
    if !open {
        std::future::pending::<()>().await;
    }
    numbers.recv_ref().await.map(|message| number(message.view()))
}

/// Reads two topics as one stream.
pub(super) async fn merge_streams(session: &Session) -> Result<(), AppError> {
    let left =
        subscriber(session, "left").await?.map(|sample| sample.map(|sample| (0, number(sample.view()))));
    let right =
        subscriber(session, "right").await?.map(|sample| sample.map(|sample| (1, number(sample.view()))));
    let mut both = select(left, right);
    let mut found = [Received::default(), Received::default()];
    while let Some(received) = both.next().await {
        let (side, number) = received?;
        let of_it: &mut Received = &mut found[side];
        of_it.take(Ok(number))?;
    }
    for of_it in &found {
        of_it.say_total(session);
    }
    Ok(())
}

/// Drives two topics and twenty timers, each at its own pace.
pub(super) async fn join_topics(session: &Session) -> Result<(), AppError> {
    let mut left = subscriber(session, "left").await?;
    let mut right = subscriber(session, "right").await?;
    let timers: FuturesUnordered<_> =
        (0..20).map(|number| session.sleep(Duration::from_micros(number % 7 * 300))).collect();
    let (left, right, timers) = try_join!(
        Received::all_of(&mut left),
        Received::all_of(&mut right),
        timers.count().map(Ok::<_, AppError>),
    )?;
    left.say_total(session);
    right.say_total(session);
    say(session, format_args!("{timers} timers"));
    Ok(())
}

/// Forwards every message, doubled.
pub(super) async fn relay(session: &Session, from: &str, to: &str) -> Result<(), AppError> {
    let mut source = subscriber(session, from).await?;
    let mut target = publisher(session, to, 4).await?;
    target.subscribers(1).await;
    let mut open = true;
    while open {
        let received = source.recv_ref().await.map(|message| number(message.view()));
        match received {
            Ok(number) => send(&mut target, [2 * number]).await?,
            Err(error) => open = Received::default().take(Err(error))?,
        }
    }
    Ok(())
}

/// Publishes each number through a new publisher, on two topics in turn.
pub(super) async fn publish_through_many(session: &Session) -> Result<(), AppError> {
    // While these are open, the topics do not end.
    let mut open = [publisher(session, "left", 2).await?, publisher(session, "right", 2).await?];
    for publisher in &mut open {
        publisher.subscribers(1).await;
    }
    for number in 0..10 {
        let topic = if number % 2 == 0 { "left" } else { "right" };
        let mut next = publisher(session, topic, 2).await?;
        next.subscribers(1).await;
        send(&mut next, [number]).await?;
    }
    Ok(())
}

/// Receives everything of a topic.
pub(super) async fn total_of(session: &Session, topic: &str) -> Result<(), AppError> {
    let mut numbers = subscriber(session, topic).await?;
    Received::all_of(&mut numbers).await?.say_total(session);
    Ok(())
}

/// Starts three timers in one order that fire in another.
pub(super) async fn sleep_in_order(session: &Session) -> Result<(), AppError> {
    let started = session.now();
    let mut timers: FuturesUnordered<_> = [60, 1, 30]
        .into_iter()
        .map(|millis| session.sleep(Duration::from_millis(millis)).map(move |()| millis))
        .collect();
    let mut fired = Vec::new();
    while let Some(millis) = timers.next().await {
        let early = session.now().since(started) < Duration::from_millis(millis);
        fired.push(if early { 0 } else { millis });
    }
    say_numbers(session, "fired", &fired);
    Ok(())
}

/// Starts to wait for a block, gives up, and waits again.
pub(super) async fn give_up_a_loan(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 4).await?;
    hear(session, "ready").await?;
    let (count, _) = send_what_fits(&mut numbers, 0..100)?;
    say(session, format_args!("published {count}"));
    say(session, format_args!("given up: {}", numbers.loan().now_or_never().is_none()));
    tell(session, "look").await?;
    send(&mut numbers, count..100).await
}

/// Starts to receive before there is a message, gives up, and then receives everything.
pub(super) async fn give_up_a_receive(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    for _ in 0..3 {
        let given_up = numbers.recv_ref().now_or_never().is_none();
        let given_up_owned = numbers.recv().now_or_never().is_none();
        say(session, format_args!("given up: {given_up}, {given_up_owned}"));
    }
    tell(session, "ready").await?;
    hear(session, "look").await?;
    Received::all_of(&mut numbers).await?.say_total(session);
    Ok(())
}
