//! An app that is a plain `fn`: it uses blocking calls and no `async`. The parameter `does` selects what it
//! does. `tests/plain.rs` runs it in every deployment and expects the same results.

use std::time::Duration;

use blockcast::{
    AppError, Level, Pod, Publisher, PublisherOptions, RecvError, Session, Subscriber, SubscriberOptions,
    Waitable, wait_any,
};

/// The layout of all messages: numbers.
pub type Numbers = Pod<u64>;

/// Runs the app.
///
/// # Errors
/// The error that it was asked for, or that the parameter is unknown.
pub fn run(session: Session) -> Result<(), AppError> {
    match session.parameter("does").as_deref() {
        Some("sums") => sums(&session),
        Some("several") => several(&session),
        Some("sleeps") => sleeps(&session),
        Some("shutdown") => shutdown(&session),
        Some("waits") => waits(&session),
        Some("waits for blocks") => waits_for_blocks(&session),
        Some("fails") => Err("as asked".into()),
        Some("panics") => panic!("as asked"),
        #[cfg(blockcast_library)]
        Some("reads in a destructor") => outlives::in_a_destructor(&session),
        #[cfg(blockcast_library)]
        Some("reads in a thread") => outlives::in_a_thread(&session),
        #[cfg(blockcast_library)]
        Some("waits in a thread") => outlives::in_a_call(&session),
        other => Err(format!("it cannot do {other:?}").into()),
    }
}
blockcast::export!(run);

/// Path of this crate's component: beside the crate's source, or in the folder that `BLOCKCAST_GUESTS` names.
#[cfg(not(target_family = "wasm"))]
#[must_use]
pub fn component_file() -> std::path::PathBuf {
    let folder = std::env::var_os("BLOCKCAST_GUESTS").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    std::path::Path::new(&folder).join("plain-app.wasm")
}

/// Publishes the running sum after each message, once someone subscribes.
fn sums(session: &Session) -> Result<(), AppError> {
    let mut numbers = input(session, "in")?;
    let mut out = output(session)?;
    out.blocking_subscribers(1, None);
    let mut sum = 0;
    loop {
        match numbers.blocking_recv_ref(None) {
            Ok(message) => sum += message.view().iter().sum::<u64>(),
            Err(RecvError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // The subscriber loses nothing. There are fewer blocks than messages, so this waits too.
        out.blocking_loan(None)?.send(&[sum][..])?;
    }
}

/// Publishes the total of two topics when both have ended.
fn several(session: &Session) -> Result<(), AppError> {
    let mut open = vec![input(session, "in")?, input(session, "in too")?];
    let mut out = output(session)?;
    let mut sum = 0;
    while !open.is_empty() {
        let mut all: Vec<&mut dyn Waitable> =
            open.iter_mut().map(|numbers| numbers as &mut dyn Waitable).collect();
        let ready = wait_any(&mut all, None).ok_or("nothing to wait for")?;
        let received = open[ready].try_recv_ref().map(|message| message.view().iter().sum::<u64>());
        match received {
            Ok(number) => sum += number,
            Err(RecvError::Empty) => {}
            Err(RecvError::Ended) => drop(open.swap_remove(ready)),
            Err(error) => return Err(error.into()),
        }
    }
    out.blocking_loan(None)?.send(&[sum][..])?;
    Ok(())
}

/// Sleeps three times, and fails if that took too little time.
fn sleeps(session: &Session) -> Result<(), AppError> {
    const NAP: Duration = Duration::from_millis(3);
    let began = session.now();
    for _ in 0..3 {
        session.blocking_sleep(NAP);
    }
    let slept = Duration::from_nanos(session.now().as_nanos() - began.as_nanos());
    if slept < 3 * NAP { Err(format!("only {slept:?}").into()) } else { Ok(()) }
}

/// Runs until it is asked to finish.
fn shutdown(session: &Session) -> Result<(), AppError> {
    session.log(Level::Info, "running");
    session.block_on(session.shutdown());
    session.log(Level::Info, &format!("asked to finish: {}", session.shutdown_requested()));
    Ok(())
}

/// Keeps the first message and waits for a second.
fn waits(session: &Session) -> Result<(), AppError> {
    let mut numbers = input(session, "in")?;
    let held = numbers.blocking_recv(None)?;
    session.log(Level::Info, "running");
    let next = numbers.blocking_recv(None)?;
    Err(format!("{:?} came after {:?}", next.view(), held.view()).into())
}

/// Waits for a block while nobody releases one.
fn waits_for_blocks(session: &Session) -> Result<(), AppError> {
    let mut out = output(session)?;
    while let Ok(loan) = out.try_loan() {
        loan.send(&[0][..])?;
    }
    session.log(Level::Info, "running");
    out.blocking_loan(None)?.send(&[1][..])?;
    Err("there was a block".into())
}

/// Subscribes to a topic without losing messages.
fn input(session: &Session, topic: &str) -> Result<Subscriber<Numbers>, AppError> {
    Ok(session.blocking_subscriber(topic, SubscriberOptions::new())?)
}

/// Opens the publisher of results.
fn output(session: &Session) -> Result<Publisher<Numbers>, AppError> {
    Ok(session.blocking_publisher("out", PublisherOptions::new().block_size(64).blocks(4))?)
}

#[cfg(blockcast_library)]
mod outlives;
