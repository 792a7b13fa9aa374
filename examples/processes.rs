//! Programs on one machine share a topic. Nobody copies a message.
//!
//! ```sh
//! cargo run --example processes              # all three at once
//!
//! cargo run --example processes -- host      # or each in a terminal of its own
//! cargo run --example processes -- subscribe
//! cargo run --example processes -- publish
//! ```
//! A path may follow. Otherwise, the socket is `$XDG_RUNTIME_DIR/blockcast.sock`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use blockcast::{Broker, Connection, Pod, PublisherOptions, ServeOptions, SubscriberOptions};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next();
    let mut path = || arguments.next().map_or_else(blockcast::default_socket, |path| Ok(PathBuf::from(path)));
    match role.as_deref() {
        None => all(),
        Some("host") => host(&path()?),
        Some("publish") => publish(&path()?),
        Some("subscribe") => subscribe(&path()?),
        Some(other) => Err(format!("{other:?} is not host, publish or subscribe").into()),
    }
}

/// Brings the others together. Their messages do not pass through it.
fn host(path: &Path) -> Outcome {
    let broker = Broker::new();
    let _serving = broker.serve(path, ServeOptions::new())?;
    println!("serving at {}; press Enter to end", path.display());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn publish(path: &Path) -> Outcome {
    let connection = Connection::connect(path)?;
    let mut publisher = connection.publisher::<Pod<u32>>("numbers", PublisherOptions::new())?;
    publisher.blocking_subscribers(1, None);
    for number in 1..=3 {
        publisher.try_loan()?.send(&[number, number * number][..])?; // written in shared memory
    }
    Ok(())
}

fn subscribe(path: &Path) -> Outcome {
    let connection = Connection::connect(path)?;
    let mut subscriber = connection.subscriber::<Pod<u32>>("numbers", SubscriberOptions::new())?;
    while let Ok(message) = subscriber.blocking_recv_ref(None) {
        println!("{} {:?}", message.sequence(), message.view()); // read where it was written
    }
    Ok(())
}

/// Serves, and runs this program again for the other two.
fn all() -> Outcome {
    let path = std::env::temp_dir().join(format!("blockcast-example-{}.sock", std::process::id()));
    let broker = Broker::new();
    let _serving = broker.serve(&path, ServeOptions::new())?;
    let program = std::env::current_exe()?;
    let start = |role| Command::new(&program).arg(role).arg(&path).spawn();
    for mut process in [start("subscribe")?, start("publish")?] {
        if !process.wait()?.success() {
            return Err("a process failed".into());
        }
    }
    Ok(())
}
