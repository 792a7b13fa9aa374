//! Small apps in one component; the parameter `scenario` selects one. `tests/scenarios.rs` runs each of them
//! linked in and as a guest, and expects the same results. `tests/conformance.rs` runs the groups of
//! `conformance` in every mix.
//!
//! All other scenarios read numbers from topics whose names start with `in`, and publish their results on
//! `out`.

mod conformance;
mod receiving;
mod sending;
mod waiting;

use blockcast::{AppError, Pod, Publisher, PublisherOptions, Session, Subscriber, SubscriberOptions};

pub use sending::LARGE;

/// The layout of all messages: numbers.
pub type Numbers = Pod<u64>;

/// Runs the app.
///
/// # Errors
/// The scenario's error, or that there is no such scenario.
pub async fn run(session: Session) -> Result<(), AppError> {
    if let Some(role) = session.parameter("role") {
        return conformance::play(&session, &role).await;
    }
    match session.parameter("scenario").as_deref() {
        Some("sum") => receiving::sum(&session).await,
        Some("stream") => receiving::stream(&session).await,
        Some("batches") => receiving::batches(&session).await,
        Some("keep") => receiving::keep(&session).await,
        Some("outlive") => receiving::outlive(&session).await,
        Some("losses") => receiving::losses(&session).await,
        Some("origins") => receiving::origins(&session).await,
        Some("addresses") => receiving::addresses(&session).await,
        Some("reopen") => receiving::reopen(&session).await,
        Some("count") => sending::count(&session).await,
        Some("build") => sending::build(&session).await,
        Some("large") => sending::large(&session).await,
        Some("too-large") => sending::too_large(&session).await,
        Some("select") => waiting::select(&session).await,
        Some("join") => waiting::join(&session).await,
        Some("many") => waiting::many(&session).await,
        Some("sleep") => waiting::sleep(&session).await,
        Some("shutdown") => waiting::shutdown(&session).await,
        Some("fail") => Err("as asked".into()),
        Some("panic") => panic!("as asked"),
        other => Err(format!("there is no scenario {other:?}").into()),
    }
}
blockcast::export!(run);

/// Path of this crate's component: beside the crate's source, or in the folder that `BLOCKCAST_GUESTS` names.
#[cfg(not(target_family = "wasm"))]
#[must_use]
pub fn component_file() -> std::path::PathBuf {
    let folder = std::env::var_os("BLOCKCAST_GUESTS").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    std::path::Path::new(&folder).join("guest-scenarios.wasm")
}

/// Subscribes to a topic without losing messages.
async fn input(session: &Session, topic: &str) -> Result<Subscriber<Numbers>, AppError> {
    Ok(session.subscriber(topic, SubscriberOptions::new()).await?)
}

/// Opens the publisher of results.
async fn output(session: &Session) -> Result<Publisher<Numbers>, AppError> {
    Ok(session.publisher("out", PublisherOptions::new().block_size(4096).blocks(4)).await?)
}

/// Returns the single number of a message.
fn number(message: &[u64]) -> u64 {
    message.first().copied().unwrap_or(0)
}
