//! Sends or receives lines of plain text, with one topic of one broker and a bridge.
//!
//! ```text
//! text receive --connect ENDPOINT site temperature 3          prints the first 3 messages
//! text send --connect ENDPOINT site temperature 20.5 21.0     publishes two, once somebody subscribes
//! ```
//! The messages travel under the key `site/temperature`, as bytes without a layout. So the other end is
//! another program like this, or whatever zenoh has a bridge for, such as a client of MQTT: see `OTHERS.md`.
//! With `--cdr`, they are strings of ROS 2.

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
    /// Use this key instead of the prefix and the topic's name
    #[arg(long, global = true)]
    key: Option<String>,
    /// Messages are strings of ROS 2: `std_msgs/msg/String`, encoded as CDR
    #[arg(long, global = true)]
    cdr: bool,
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
    let mut rule = Rule::new(topic.as_str(), Direction::Both).schema(Bytes::schema());
    if let Some(key) = &arguments.key {
        rule = rule.key(key.as_str());
    }
    let rules = Rules::new(prefix.as_str())?.with(rule)?;
    // ROS 2 does not get any further than an empty message.
    let options = BridgeOptions::new().ends(!arguments.cdr);
    let options = options.interval(Duration::from_millis(10)).back_pressure(true);
    let broker = Broker::new();
    let bridge = Bridge::new(&broker, session.clone(), rules, options)?;
    match &arguments.action {
        Action::Receive { count, .. } => receive(&broker, topic, *count, arguments.cdr)?,
        Action::Send { lines, .. } => send(&broker, &bridge, topic, lines, arguments.cdr)?,
    }
    bridge.close();
    // Waits until everything is sent.
    session.close().wait()
}

fn receive(broker: &Broker, topic: &str, count: usize, cdr: bool) -> Result<(), Failure> {
    let mut messages = broker.subscriber::<Bytes>(topic, Default::default())?;
    let mut output = std::io::stdout();
    let mut received = 0;
    while received < count {
        match messages.blocking_recv_ref(None) {
            Ok(message) => {
                let bytes: &[u8] = message.view();
                let line =
                    if cdr { from_cdr(bytes).ok_or("a message is not a string of ROS 2")? } else { bytes };
                writeln!(output, "{}", String::from_utf8_lossy(line))?;
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

fn send(broker: &Broker, bridge: &Bridge, topic: &str, lines: &[String], cdr: bool) -> Result<(), Failure> {
    let mut messages = broker.publisher::<Bytes>(topic, Default::default())?;
    while bridge.stats().sending == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    for line in lines {
        let message = if cdr { to_cdr(line)? } else { line.clone().into_bytes() };
        messages.blocking_loan(None)?.send(message.as_slice())?;
    }
    drop(messages);
    // The bridge has sent everything, and the end.
    while bridge.stats().sending > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Four bytes that name the encoding, here little-endian CDR; the length of the string; the string. It ends
/// with a zero byte, which the length includes.
fn to_cdr(line: &str) -> Result<Vec<u8>, Failure> {
    let len = u32::try_from(line.len() + 1)?;
    Ok([&[0, 1, 0, 0], &len.to_le_bytes(), line.as_bytes(), &[0]].concat())
}

fn from_cdr(bytes: &[u8]) -> Option<&[u8]> {
    let (encoding, rest) = bytes.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = match encoding[..2] {
        [0, 0] => u32::from_be_bytes(*len),
        [0, 1] => u32::from_le_bytes(*len),
        _ => return None,
    };
    rest.get(..usize::try_from(len).ok()?)?.strip_suffix(&[0])
}
