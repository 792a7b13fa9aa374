//! Sends or receives lines of plain text, with one topic of one broker and a bridge.
//!
//! ```text
//! text receive --connect ENDPOINT site temperature 3          prints the first 3 messages
//! text send --connect ENDPOINT site temperature 20.5 21.0     publishes two, once somebody subscribes
//! ```
//! The messages travel under the key `site/temperature`, as bytes without a layout. So the other end is
//! another program like this, or whatever zenoh has a bridge for, such as a client of MQTT: see `OTHERS.md`.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use blockcast_blocks::{Bytes, Payload};
use blockcast_broker::Broker;
use blockcast_subscriber::RecvError;
use blockcast_zenoh::{Bridge, BridgeOptions, Direction, Rule, Rules};
use clap::{Parser, Subcommand};
use zenoh::Wait;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Zenoh's mode: peer, or client of a router
    #[arg(long, global = true, default_value = "peer")]
    mode: String,
    /// Listen at this endpoint of zenoh
    #[arg(long, global = true)]
    listen: Vec<String>,
    /// Connect to this endpoint of zenoh
    #[arg(long, global = true)]
    connect: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print messages
    Receive { prefix: String, topic: String, count: usize },
    /// Publish messages
    Send { prefix: String, topic: String, lines: Vec<String> },
}

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let mut config = zenoh::Config::default();
    config.insert_json5("mode", &format!("{:?}", arguments.mode))?;
    config.insert_json5("listen/endpoints", &format!("{:?}", arguments.listen))?;
    config.insert_json5("connect/endpoints", &format!("{:?}", arguments.connect))?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    let session = zenoh::open(config).wait()?;
    let (Action::Receive { prefix, topic, .. } | Action::Send { prefix, topic, .. }) = &arguments.action;
    // With the schema, clients that are not bridges can publish.
    let rule = Rule::new(topic.as_str(), Direction::Both).schema(Bytes::schema());
    let rules = Rules::new(prefix.as_str())?.with(rule)?;
    let options = BridgeOptions::new().interval(Duration::from_millis(10)).back_pressure(true);
    let broker = Broker::new();
    let bridge = Bridge::new(&broker, session.clone(), rules, options)?;
    match &arguments.action {
        Action::Receive { count, .. } => receive(&broker, topic, *count)?,
        Action::Send { lines, .. } => send(&broker, &bridge, topic, lines)?,
    }
    bridge.close();
    // Waits until everything is sent.
    session.close().wait()
}

fn receive(broker: &Broker, topic: &str, count: usize) -> Result<(), Failure> {
    let mut messages = broker.subscriber::<Bytes>(topic, Default::default())?;
    let mut output = std::io::stdout();
    let mut received = 0;
    while received < count {
        match messages.blocking_recv_ref(None) {
            Ok(message) => {
                writeln!(output, "{}", String::from_utf8_lossy(message.view()))?;
                output.flush()?;
                received += 1;
            }
            // Another publisher may come.
            Err(RecvError::Ended) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn send(broker: &Broker, bridge: &Bridge, topic: &str, lines: &[String]) -> Result<(), Failure> {
    let mut messages = broker.publisher::<Bytes>(topic, Default::default())?;
    while bridge.stats().sending == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    for line in lines {
        messages.blocking_loan(None)?.send(line.as_bytes())?;
    }
    drop(messages);
    // The bridge has sent everything, and the end.
    while bridge.stats().sending > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
