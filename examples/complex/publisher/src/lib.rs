//! The publisher of the complex example: it turns text into lines.
//!
//! It subscribes to the topic `text`, whose messages are chunks of a text as raw bytes, and cuts the text
//! into lines. It publishes the lines on the topic `lines` in batches, each a `list<string>` built in place
//! and as large as a block allows. A batch ends no later than its chunk, so that no line waits for more text.
//!
//! Parameters: `block-size` in bytes (65,536), `blocks` (64), and `subscribers`, the number that it waits for
//! before it publishes (1).
//!
//! If a line cannot be published, the app ends with a [`LineError`]. Everything before that line has been
//! published.

mod batch;
mod lines;

use std::pin::pin;
use std::str::FromStr;

use blockcast::{AppError, Bytes, Flat, Publisher, PublisherOptions, RecvError, Session, SubscriberOptions};
use futures::future::{Either, select};

pub use batch::{Batch, longest_line};
pub use lines::{LineError, Lines, Splitter};

/// The published messages: WIT's `list<string>`.
pub type TextLines = Flat<Vec<String>>;

/// Runs the app.
///
/// # Errors
/// A line cannot be published, a parameter is not a number, or a topic cannot be opened.
pub async fn run(session: Session) -> Result<(), AppError> {
    let options = PublisherOptions::new()
        .block_size(number(&session, "block-size", 64 << 10)?)
        .blocks(number(&session, "blocks", 64)?);
    let mut text = session.subscriber::<Bytes>("text", SubscriberOptions::new()).await?;
    let mut output = session.publisher::<TextLines>("lines", options).await?;
    let count = number(&session, "subscribers", 1)?;
    if let Either::Right(_) = select(pin!(output.subscribers(count)), pin!(session.shutdown())).await {
        return Ok(()); // asked to finish before anyone subscribed
    }

    let mut splitter = Splitter::new(longest_line(output.block_size()));
    loop {
        match text.recv_ref().await {
            Ok(chunk) => publish(&mut output, splitter.chunk(chunk.view())).await?,
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    publish(&mut output, splitter.finish()).await
}
blockcast::export!(run);

/// Publishes lines in as few messages as possible.
async fn publish<'t>(
    output: &mut Publisher<TextLines>,
    lines: impl IntoIterator<Item = Result<&'t str, LineError>>,
) -> Result<(), AppError> {
    let mut batch = Batch::new(output.block_size());
    for line in lines {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                send(output, &mut batch).await?;
                return Err(error.into());
            }
        };
        if !batch.push(line) {
            send(output, &mut batch).await?;
            if !batch.push(line) {
                return Err("a line that was accepted does not fit into an empty block".into());
            }
        }
    }
    send(output, &mut batch).await
}

/// Builds the batch in place in a block, and publishes it.
async fn send(output: &mut Publisher<TextLines>, batch: &mut Batch<'_>) -> Result<(), AppError> {
    if !batch.lines().is_empty() {
        output.loan().await?.send(batch.lines())?;
        batch.clear();
    }
    Ok(())
}

/// Value of a numeric parameter.
fn number<T: FromStr>(session: &Session, name: &str, default: T) -> Result<T, AppError> {
    let Some(text) = session.parameter(name) else { return Ok(default) };
    text.parse().map_err(|_| format!("parameter {name}: {text:?} is not a number in range").into())
}

/// Path of this crate's component: beside the crate's source, or in the folder that `BLOCKCAST_GUESTS` names.
#[cfg(not(target_family = "wasm"))]
#[must_use]
pub fn component_file() -> std::path::PathBuf {
    let folder = std::env::var_os("BLOCKCAST_GUESTS").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    std::path::Path::new(&folder).join("complex-publisher.wasm")
}
