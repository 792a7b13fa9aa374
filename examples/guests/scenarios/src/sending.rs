//! Scenarios with back-pressure, failed builds, messages that do not fit, and large and small messages in
//! turn.

use blockcast::{AppError, PublisherOptions, Session};

use crate::{Numbers, output};

/// Publishes 0 to 999 from two blocks, to any number of subscribers.
pub(crate) async fn count(session: &Session) -> Result<(), AppError> {
    let options = PublisherOptions::new().block_size(64).blocks(2);
    let mut out = session.publisher::<Numbers>("out", options).await?;
    out.subscribers(1).await;
    for number in 0..1000_u64 {
        let sequence = out.loan().await?.send(&[number][..])?;
        if sequence.get() != number {
            return Err(format!("message {number} got {sequence}").into());
        }
    }
    Ok(())
}

/// Fails to build, builds again with the same loan, drops a loan, and publishes the last value built.
pub(crate) async fn build(session: &Session) -> Result<(), AppError> {
    let mut out = output(session).await?;
    {
        let unused = out.loan().await?;
        if unused.capacity() < 4096 {
            return Err("the block is smaller than asked for".into());
        }
    }
    let loan = out.loan().await?;
    let Err(failed) = loan.build(|_| Err("not now")) else {
        return Err("a failed build was accepted".into());
    };
    if failed.error != "not now" {
        return Err("another error than the build's".into());
    }
    let built = failed.loan.build(|block| block.write(&[1, 2, 3][..])).map_err(|failed| failed.error)?;
    if built.len() != 24 {
        return Err(format!("{} bytes were built", built.len()).into());
    }
    built.publish()?;
    Ok(())
}

/// Tries to publish more than a block holds, and then exactly as much as it holds.
pub(crate) async fn too_large(session: &Session) -> Result<(), AppError> {
    let options = PublisherOptions::new().block_size(64).blocks(2);
    let mut out = session.publisher::<Numbers>("out", options).await?;
    if out.loan().await?.send(&[7; 9][..]).is_ok() {
        return Err("72 bytes fit into 64".into());
    }
    out.loan().await?.send(&[7; 8][..])?;
    Ok(())
}

/// Numbers in a large message, and number of messages.
pub const LARGE: (usize, u64) = (100_000, 40);

/// Publishes large messages, each of which repeats one number, and small ones in turn. Drops a loan before
/// each.
pub(crate) async fn large(session: &Session) -> Result<(), AppError> {
    let options = PublisherOptions::new().block_size(1 << 20).blocks(4);
    let mut out = session.publisher::<Numbers>("out", options).await?;
    out.subscribers(1).await;
    for number in 0..LARGE.1 {
        let mut unused = out.loan().await?;
        if unused.grow(1 << 20).is_err() || unused.capacity() != 1 << 20 {
            return Err("the block is not as large as asked for".into());
        }
        drop(unused);
        if number % 2 == 0 {
            let size = LARGE.0 * size_of::<u64>();
            out.loan_sized(size).await?.send(&vec![number; LARGE.0][..])?;
        } else {
            out.loan_sized(size_of::<u64>()).await?.send(&[number][..])?;
        }
    }
    Ok(())
}
