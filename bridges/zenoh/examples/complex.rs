//! The complex example of this repository on two machines: the publisher's app on one broker, the
//! subscribers' on another, with a bridge on each.
//!
//! ```text
//! input ──▶ "text" ──▶ publisher ──▶ "lines" ═══ zenoh ═══▶ "lines" ─┬▶ subscriber 1 ─┐
//!                                                                    └▶ subscriber 2 ─┤
//! table ◀── "reports" ◀══════════════════ zenoh ══════════════════ "reports" ◀────────┘
//!
//! complex publish ENDPOINT [FILE]     on one machine: listens, publishes the text, and prints the table
//! complex subscribe ENDPOINT          on another: connects, and counts the text
//! ```
//! Both end by themselves. The publisher's side fails if a subscriber has counted something else than the
//! text has.

use std::error::Error;
use std::time::Duration;

use blockcast_blocks::{Bytes, Pod};
use blockcast_broker::{Broker, Component, ExitReason, Grants};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{RecvError, Subscriber};
use blockcast_zenoh::{Bridge, BridgeOptions, Direction, Rule, Rules};
use complex_subscriber::{Report, ReportLayout, Tally};
use zenoh::{Session, Wait};

type Failure = Box<dyn Error + Send + Sync>;

/// The Book of Genesis, as in the example on one machine.
const GENESIS: &str = include_str!("../../../examples/complex/genesis.txt");

const SUBSCRIBERS: usize = 2;
/// How often to look whether something has happened.
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["publish", endpoint] => publish(endpoint, "the shipped text", GENESIS),
        ["publish", endpoint, file] => publish(endpoint, file, &std::fs::read_to_string(file)?),
        ["subscribe", endpoint] => subscribe(endpoint),
        _ => Err("usage: complex publish ENDPOINT [FILE], or complex subscribe ENDPOINT".into()),
    }
}

fn session(role: &str, endpoint: &str) -> Result<Session, Failure> {
    let mut config = zenoh::Config::default();
    config.insert_json5("mode", r#""peer""#)?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    config.insert_json5("listen/endpoints", "[]")?;
    config.insert_json5(&format!("{role}/endpoints"), &format!("[{endpoint:?}]"))?;
    zenoh::open(config).wait()
}

/// Lines in one direction; reports, and that everybody is there, in the other.
fn bridge(broker: &Broker, session: &Session, is_publishing: bool) -> Result<Bridge, Failure> {
    let (lines, others) = match is_publishing {
        true => (Direction::Out, Direction::In),
        false => (Direction::In, Direction::Out),
    };
    let rules = Rules::new("complex")?
        .with(Rule::new("lines", lines))?
        .with(Rule::new("reports", others))?
        .with(Rule::new("ready", others))?;
    // Nothing is lost: everybody waits for the slowest.
    let options = BridgeOptions::new().interval(PAUSE).back_pressure(true);
    Ok(Bridge::new(broker, session.clone(), rules, options)?)
}

/// The machine with the text.
fn publish(endpoint: &str, name: &str, text: &str) -> Result<(), Failure> {
    let session = session("listen", endpoint)?;
    let broker = Broker::new();
    let mut reports = broker.subscriber::<ReportLayout>("reports", Default::default())?;
    let mut ready = broker.subscriber::<Pod<u64>>("ready", Default::default())?;
    let input = broker.publisher::<Bytes>("text", PublisherOptions::new().block_size(64 << 10).blocks(8))?;
    let parameters = [("block-size", "4096"), ("blocks", "64"), ("subscribers", "1")];
    let grants = Grants::new().subscribe("text").publish("lines");
    let app = broker.run("publisher", grants, named(parameters), complex_publisher::run)?;
    let bridge = bridge(&broker, &session, true)?;
    // The other machine says so once its bridge has joined whoever reports. A wait for one message; the end
    // of the topic before means that a machine has come and gone.
    receive(&mut ready, |_| ())?;
    feed(input, text)?;
    let mut received = Vec::new();
    for _ in 0..SUBSCRIBERS {
        received.push(receive(&mut reports, |report| Report::read(report))?);
    }
    finished(app)?;
    bridge.close();
    session.close().wait()?;
    print(name, text, received)
}

/// Publishes a text in chunks.
fn feed(mut input: Publisher<Bytes>, text: &str) -> Result<(), Failure> {
    for chunk in text.as_bytes().chunks(input.block_size()) {
        input.blocking_loan(None)?.send(chunk)?;
    }
    Ok(())
}

/// Receives one message of any publisher.
fn receive<P: blockcast_blocks::Payload, R>(
    subscriber: &mut Subscriber<P>,
    read: impl Fn(P::View<'_>) -> R,
) -> Result<R, Failure> {
    loop {
        match subscriber.blocking_recv_ref(None) {
            Ok(message) => return Ok(read(message.view())),
            Err(RecvError::Ended) => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

fn named<const N: usize>(parameters: [(&str, &str); N]) -> [(String, String); N] {
    parameters.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Waits until an app has ended, which must succeed.
fn finished(app: Component) -> Result<(), Failure> {
    match blockcast_blocks::park::block_on(app.ended()).reason {
        ExitReason::Finished => Ok(()),
        reason => Err(format!("{}: {reason}", app.name()).into()),
    }
}

/// The table of the example on one machine, as far as it does not depend on the machine.
fn print(name: &str, text: &str, mut reports: Vec<Report>) -> Result<(), Failure> {
    reports.sort_by(|one, other| one.name.cmp(&other.name));
    println!("{name} ({} bytes), over zenoh", text.len());
    for report in &reports {
        println!("{:<13} {:>9} messages {:>10} strings", report.name, report.messages, report.tally.lines);
    }
    let tally = Tally::of(text);
    println!(
        "text          {} lines, {} words, longest line {} bytes, hash {:016x}",
        tally.lines, tally.words, tally.longest, tally.hash
    );
    match reports.iter().find(|report| report.tally != tally) {
        Some(wrong) => {
            Err(format!("{} has counted {:?} instead of {tally:?}", wrong.name, wrong.tally).into())
        }
        None => Ok(()),
    }
}

/// The machine with the subscribers.
fn subscribe(endpoint: &str) -> Result<(), Failure> {
    let broker = Broker::new();
    let apps = ["subscriber 1", "subscriber 2"].map(|name| {
        let grants = Grants::new().subscribe("lines").publish("reports");
        broker.run(name, grants, named([("name", name)]), complex_subscriber::run)
    });
    let apps = apps.into_iter().collect::<Result<Vec<_>, _>>()?;
    // The bridge asks for lines once somebody subscribes. Everybody should, by then.
    while broker.topic("lines").is_none_or(|lines| lines.subscriptions < SUBSCRIBERS) {
        std::thread::sleep(PAUSE);
    }
    let mut ready = broker.publisher::<Pod<u64>>("ready", Default::default())?;
    let session = session("connect", endpoint)?;
    let bridge = bridge(&broker, &session, false)?;
    while bridge.stats().sending < 2 {
        std::thread::sleep(PAUSE);
    }
    ready.blocking_loan(None)?.send(&[SUBSCRIBERS as u64][..])?;
    apps.into_iter().try_for_each(finished)?;
    drop(ready);
    // The bridge has sent all reports.
    while bridge.stats().sending > 0 {
        std::thread::sleep(PAUSE);
    }
    bridge.close();
    session.close().wait()
}
