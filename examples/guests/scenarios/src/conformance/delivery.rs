//! Cases about order, fan-out, several publishers, all ways to receive, all lengths, typed values and
//! history.

use blockcast::{
    AppError, BatchError, Flat, LoanError, PublisherOptions, SendError, Session, SubscriberOptions,
};
use futures::{StreamExt, try_join};

use super::{Received, TOPIC, hear, publisher, say, say_numbers, send, subscriber, tell};
use crate::{Numbers, number};

/// Publishes more messages than there are blocks.
pub(super) async fn publish_in_order(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, 0..1000).await?;
    say(session, format_args!("next is {}", numbers.next_sequence()));
    Ok(())
}

/// Publishes batches of more messages than there are blocks, one of them with a value that does not fit.
pub(super) async fn publish_in_batches(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    let (all, long): (Vec<u64>, _) = ((0..1000).collect(), [0; 9]);
    for (number, batch) in all.chunks(20).enumerate() {
        let mut rest: Vec<&[u64]> = batch.chunks(1).collect();
        if number == 10 {
            rest.insert(5, &long);
        }
        while !rest.is_empty() {
            let Err(BatchError { sent, error }) = numbers.send_batch(rest.iter().copied()) else { break };
            rest.drain(..sent);
            match error {
                SendError::Publish(LoanError::Exhausted { .. }) => drop(numbers.loan().await?),
                SendError::Publish(error) => return Err(error.into()),
                SendError::Build(error) => {
                    say(session, error);
                    rest.remove(0);
                }
            }
        }
    }
    say(session, format_args!("next is {}", numbers.next_sequence()));
    Ok(())
}

/// Like [`publish_in_order`], to two subscribers.
pub(super) async fn publish_to_two(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(2).await;
    send(&mut numbers, 0..1000).await
}

/// Receives everything by reference.
pub(super) async fn receive_in_order(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    Received::all_of(&mut numbers).await?.say_total(session);
    Ok(())
}

/// Publishes one number, and a hundred more once the subscriber has one from each publisher.
pub(super) async fn publish_as_one_of_two(session: &Session, first: u64) -> Result<(), AppError> {
    let mut go = subscriber(session, "both").await?;
    let mut numbers = publisher(session, TOPIC, 8).await?;
    numbers.subscribers(1).await;
    send(&mut numbers, [first]).await?;
    go.recv_ref().await?;
    send(&mut numbers, first + 1..first + 101).await
}

/// Receives from two publishers, and reports the order of each one's messages.
pub(super) async fn receive_from_two(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    // Sequences and numbers of the messages, by publisher.
    let mut found: Vec<(blockcast::PublisherId, Vec<(u64, u64)>)> = Vec::new();
    let mut told = false;
    let mut go = publisher(session, "both", 2).await?;
    go.subscribers(2).await;
    loop {
        let (id, place, number) = match numbers.recv_ref().await {
            Ok(message) => (message.publisher(), message.sequence().get(), number(message.view())),
            Err(blockcast::RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        };
        match found.iter_mut().find(|(known, _)| *known == id) {
            Some((_, of_it)) => of_it.push((place, number)),
            None => found.push((id, vec![(place, number)])),
        }
        if found.len() == 2 && !told {
            told = true;
            send(&mut go, [0]).await?;
        }
    }
    found.sort_by_key(|(_, of_it)| of_it.first().map(|(_, number)| *number));
    for (_, of_it) in &found {
        let first = of_it.first().map_or(0, |(_, number)| *number);
        let whole = of_it.iter().zip(0..).all(|(found, place)| *found == (place, first + place));
        say(session, format_args!("{} from {first} on, none missing: {whole}", of_it.len()));
    }
    Ok(())
}

/// Publishes to subscriptions that receive in different ways.
pub(super) async fn publish_for_all_ways(session: &Session) -> Result<(), AppError> {
    let mut numbers = publisher(session, TOPIC, 16).await?;
    numbers.subscribers(4).await;
    send(&mut numbers, 0..500).await
}

/// Opens four subscriptions at once, which receive by reference, owned, in batches and as a stream.
pub(super) async fn receive_in_all_ways(session: &Session) -> Result<(), AppError> {
    let mut by_reference = subscriber(session, TOPIC).await?;
    let mut owned = subscriber(session, TOPIC).await?;
    let mut batches = subscriber(session, TOPIC).await?;
    let mut stream = subscriber(session, TOPIC).await?;
    let (by_reference, owned, batches, stream) = try_join!(
        Received::all_of(&mut by_reference),
        async {
            let mut found = Received::default();
            while found.take(owned.recv().await.map(|sample| number(sample.view())))? {}
            Ok::<_, AppError>(found)
        },
        async {
            let mut found = Received::default();
            loop {
                match batches.recv_batch(5).await {
                    Ok(batch) => {
                        for view in batch.views() {
                            found.take(view.map(number))?;
                        }
                    }
                    Err(error) => {
                        if !found.take(Err(error))? {
                            return Ok(found);
                        }
                    }
                }
            }
        },
        async {
            let mut found = Received::default();
            while let Some(sample) = stream.next().await {
                found.take(sample.map(|sample| number(sample.view())))?;
            }
            Ok(found)
        },
    )?;
    for found in [by_reference, owned, batches, stream] {
        found.say_total(session);
    }
    Ok(())
}

/// Numbers per message: none, a few, more than a page, and more than a guest copies.
const LENGTHS: [usize; 6] = [0, 1, 7, 1000, 20_000, 100_000];

/// Publishes two messages of each length, up to that of a whole block.
pub(super) async fn publish_all_lengths(session: &Session) -> Result<(), AppError> {
    let longest = LENGTHS[LENGTHS.len() - 1] * size_of::<u64>();
    let options = PublisherOptions::new().block_size(longest).blocks(4);
    let mut numbers = session.publisher::<Numbers>(TOPIC, options).await?;
    numbers.subscribers(1).await;
    for round in 0..2 {
        for len in LENGTHS {
            let message: Vec<u64> = (round..).take(len).collect();
            let loan = numbers.loan_sized(len * size_of::<u64>()).await?;
            loan.send(&message[..])?;
        }
    }
    Ok(())
}

/// Receives messages of all lengths.
pub(super) async fn receive_all_lengths(session: &Session) -> Result<(), AppError> {
    let mut numbers = subscriber(session, TOPIC).await?;
    let mut lens = Vec::new();
    let mut wrong = 0;
    loop {
        match numbers.recv_ref().await {
            Ok(message) => {
                let round = lens.len() as u64 / LENGTHS.len() as u64;
                let expected = (round..).take(message.view().len());
                wrong += u64::from(!message.view().iter().copied().eq(expected));
                lens.push(message.view().len() as u64);
            }
            Err(blockcast::RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    say_numbers(session, "lengths", &lens);
    say(session, format_args!("{wrong} wrong"));
    Ok(())
}

/// The layout of the case `values`.
type Lines = Flat<Vec<String>>;

/// Publishes lists of strings.
pub(super) async fn publish_values(session: &Session) -> Result<(), AppError> {
    let options = PublisherOptions::new().block_size(512).blocks(4);
    let mut lines = session.publisher::<Lines>(TOPIC, options).await?;
    lines.subscribers(1).await;
    for count in 0..5 {
        let list: Vec<String> = (0..count).map(|word| format!("word {word} of {count}")).collect();
        lines.loan().await?.send(&list)?;
    }
    Ok(())
}

/// Reads lists of strings in place.
pub(super) async fn receive_values(session: &Session) -> Result<(), AppError> {
    let mut lines = session.subscriber::<Lines>(TOPIC, SubscriberOptions::new()).await?;
    loop {
        match lines.recv_ref().await {
            Ok(message) => {
                let list: Vec<&str> = message.view().iter().collect();
                say(session, format_args!("{list:?}"));
            }
            Err(blockcast::RecvError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Publishes ten numbers to nobody, of which the last three stay, and one more once there are three
/// subscriptions.
pub(super) async fn publish_history(session: &Session) -> Result<(), AppError> {
    let options = PublisherOptions::new().block_size(64).blocks(8).history(3);
    let mut numbers = session.publisher::<Numbers>(TOPIC, options).await?;
    send(&mut numbers, 0..10).await?;
    tell(session, "published").await?;
    numbers.subscribers(3).await;
    send(&mut numbers, [10]).await
}

/// Subscribes late, asking for none, some and all of the history.
pub(super) async fn receive_history(session: &Session) -> Result<(), AppError> {
    hear(session, "published").await?;
    let open = |history| session.subscriber::<Numbers>(TOPIC, SubscriberOptions::new().history(history));
    let mut all = [open(0).await?, open(2).await?, open(3).await?];
    for numbers in &mut all {
        Received::all_of(numbers).await?.say_all(session);
    }
    Ok(())
}
