//! Files that are published on topics, as plain bytes.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc;

use blockcast::{AppError, Broker, Bytes, Component, Grants, PublisherOptions, Session};

use crate::plan::Input;

/// Starts publishing. It ends with the file.
pub fn start(broker: &Broker, input: &Input) -> Result<Component, String> {
    let file = input.file.clone();
    let mut reader: Box<dyn Read + Send> = if file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(&file).map_err(|error| format!("{}: {error}", file.display()))?)
    };
    let options = PublisherOptions::new().block_size(input.block_size).blocks(input.blocks);
    let (topic, subscribers, block_size) = (input.topic.clone(), input.subscribers, input.block_size);
    let publish = async move |session: Session| -> Result<(), AppError> {
        let mut output = session.publisher::<Bytes>(&topic, options).await?;
        output.subscribers(subscribers).await;
        // Reading may take for ever, so it has a thread of its own, which ends when nobody listens any more.
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
        while !session.shutdown_requested() {
            match read.try_recv() {
                Ok(chunk) => {
                    output.loan().await?.send(&chunk?[..])?;
                }
                Err(mpsc::TryRecvError::Empty) => session.sleep(std::time::Duration::from_millis(1)).await,
                Err(mpsc::TryRecvError::Disconnected) => break,
            }
        }
        Ok(())
    };
    let name = format!("input {}", input.topic);
    let started = broker.run(name, Grants::new().publish(&input.topic), [], publish);
    started.map_err(|error| error.to_string())
}
