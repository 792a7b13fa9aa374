//! Back-pressure, failed builds, messages that do not fit.

use blockcast::{AppError, PublisherOptions, Session};

use crate::{Numbers, output};

/// Publishes 0 to 999 from two blocks, to however many subscribers there are.
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

/// Fails to build, builds again with the same loan, drops a loan, and publishes what was built at last.
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

/// Tries to publish more than a block holds, and then as much as it holds.
pub(crate) async fn too_large(session: &Session) -> Result<(), AppError> {
    let options = PublisherOptions::new().block_size(64).blocks(2);
    let mut out = session.publisher::<Numbers>("out", options).await?;
    if out.loan().await?.send(&[7; 9][..]).is_ok() {
        return Err("72 bytes fit into 64".into());
    }
    out.loan().await?.send(&[7; 8][..])?;
    Ok(())
}
