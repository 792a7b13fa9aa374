//! Publishes files on topics, as plain bytes.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc;
use std::time::Duration;

use blockcast::{AppError, Broker, Bytes, Component, Grants, PublisherOptions, Session};
use tokio::sync::watch;

use crate::log;
use crate::plan::Input;

/// How long an input waits for subscribers before it reports that it waits.
const SILENCE: Duration = Duration::from_secs(2);

/// Tells when all guests and libraries have ended, so that no subscriber is left.
#[derive(Clone)]
pub struct Readers(watch::Receiver<bool>);

impl Readers {
    /// Send `true` when all have ended.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    async fn gone(&self) {
        // An error means that the sender is gone because the tool ends. Then the readers are gone, too.
        let _ = self.0.clone().wait_for(|&gone| gone).await;
    }

    fn are_gone(&self) -> bool {
        *self.0.borrow()
    }
}

/// Starts publishing. It ends at the end of the file, when asked to finish, or when no reader is left.
pub fn start(broker: &Broker, input: &Input, readers: &Readers) -> Result<Component, String> {
    let file = input.file.clone();
    let mut reader: Box<dyn Read + Send> = if file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(&file).map_err(|error| format!("{}: {error}", file.display()))?)
    };
    let options = PublisherOptions::new().block_size(input.block_size).blocks(input.blocks);
    let (topic, subscribers, block_size) = (input.topic.clone(), input.subscribers, input.block_size);
    let readers = readers.clone();
    let publish = async move |session: Session| -> Result<(), AppError> {
        let mut output = session.publisher::<Bytes>(&topic, options).await?;
        {
            let mut joined = std::pin::pin!(output.subscribers(subscribers));
            let mut said = false;
            loop {
                tokio::select! {
                    biased;
                    () = &mut joined => break,
                    () = session.shutdown() => return Ok(()),
                    () = readers.gone() => {
                        return Err(format!(
                            "all components have ended, but topic {topic:?} never had the {subscribers} subscribers \
                             that the input waits for"
                        )
                        .into());
                    }
                    () = tokio::time::sleep(SILENCE), if !said => {
                        said = true;
                        log::say(&format!("input {topic} waits for {subscribers} subscribers of the topic"));
                    }
                }
            }
        }
        // Reading may block forever, so it has a thread of its own. The thread ends when the receiver is
        // dropped.
        let (chunks, read) = mpsc::sync_channel::<io::Result<Vec<u8>>>(1);
        std::thread::Builder::new().name("input".to_owned()).spawn(move || {
            loop {
                let mut chunk = vec![0; block_size];
                let outcome = match reader.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(len) => {
                        chunk.truncate(len);
                        Ok(chunk)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                if chunks.send(outcome).is_err() {
                    return;
                }
            }
        })?;
        while !session.shutdown_requested() && !readers.are_gone() {
            match read.try_recv() {
                Ok(chunk) => {
                    let chunk = chunk?;
                    // Waits while a subscriber does not read.
                    tokio::select! {
                        loan = output.loan() => loan?.send(&chunk[..])?,
                        () = session.shutdown() => break,
                        () = readers.gone() => break,
                    };
                }
                Err(mpsc::TryRecvError::Empty) => {
                    tokio::select! {
                        () = session.sleep(Duration::from_millis(1)) => {}
                        () = readers.gone() => break,
                    }
                }
                Err(mpsc::TryRecvError::Disconnected) => break,
            }
        }
        Ok(())
    };
    let name = format!("input {}", input.topic);
    let started = broker.run(name, Grants::new().publish(&input.topic), [], publish);
    started.map_err(|error| error.to_string())
}
