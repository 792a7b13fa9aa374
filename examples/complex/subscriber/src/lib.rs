//! The subscriber of the complex example: it reads every line in place and reports what it counted.
//!
//! It subscribes to the topic `lines` (batches of lines, `list<string>`). When that topic has ended, it
//! publishes one [`Report`] on the topic `reports`.
//!
//! Parameters: `name`, which its report carries (empty), and `delay`, the milliseconds to wait after each
//! batch (0), so that people can watch. It stops waiting once it is asked to finish.

mod report;
mod tally;

use std::pin::pin;
use std::time::Duration;

use blockcast::{AppError, Flat, PublisherOptions, RecvError, Session, SubscriberOptions};
use futures::future::select;

pub use report::{Report, ReportLayout};
pub use tally::Tally;

/// The received messages: WIT's `list<string>`.
pub type TextLines = Flat<Vec<String>>;

/// Runs the app.
///
/// # Errors
/// A topic cannot be opened, a message cannot be received, or a parameter is not a number.
pub async fn run(session: Session) -> Result<(), AppError> {
    let name = session.parameter("name").unwrap_or_default();
    let delay: u64 = session.parameter("delay").map_or(Ok(0), |text| text.parse())?;
    let mut reports = session
        .publisher::<ReportLayout>("reports", PublisherOptions::new().block_size(4096).blocks(2))
        .await?;
    let mut lines = session.subscriber::<TextLines>("lines", SubscriberOptions::new()).await?;

    let mut tally = Tally::default();
    let mut messages = 0;
    loop {
        match lines.recv_ref().await {
            Ok(batch) => {
                messages += 1;
                batch.view().iter().for_each(|line| tally.add(line));
            }
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
        if delay > 0 {
            // When asked to finish, read the rest without further delay.
            let (delay, shutdown) = (session.sleep(Duration::from_millis(delay)), session.shutdown());
            select(pin!(delay), pin!(shutdown)).await;
        }
    }
    let report = Report { name, messages, tally };
    reports.loan().await?.send(&report.fields())?;
    Ok(())
}
blockcast::export!(run);

/// Path of this crate's component: beside the crate's source, or in the folder that `BLOCKCAST_GUESTS` names.
#[cfg(not(target_family = "wasm"))]
#[must_use]
pub fn component_file() -> std::path::PathBuf {
    let folder = std::env::var_os("BLOCKCAST_GUESTS").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    std::path::Path::new(&folder).join("complex-subscriber.wasm")
}
