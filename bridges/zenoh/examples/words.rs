//! Sends words to other machines, or receives them, with one topic of one broker.
//!
//! ```text
//! words receive ENDPOINT COUNT     listens, and prints the first COUNT messages
//! words send ENDPOINT LINE...      listens, and publishes the lines once somebody subscribes
//! ```
//! The other end is a program like this one on another machine, or a client of zenoh in any language, such as
//! those in `python/`.

use std::error::Error;
use std::time::Duration;

use blockcast_blocks::Payload;
use blockcast_broker::Broker;
use blockcast_flat_types::Flat;
use blockcast_zenoh::{Bridge, BridgeOptions, Direction, Rule, Rules};
use zenoh::Wait;

type Words = Flat<Vec<String>>;

const TOPIC: &str = "words";

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [direction, endpoint, rest @ ..] = arguments.as_slice() else {
        return Err("usage: words send|receive ENDPOINT COUNT|LINE...".into());
    };
    let mut config = zenoh::Config::default();
    config.insert_json5("mode", r#""peer""#)?;
    config.insert_json5("listen/endpoints", &format!("[{endpoint:?}]"))?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    let session = zenoh::open(config).wait()?;
    let broker = Broker::new();
    // With the schema, clients that are not bridges can publish.
    let rules = Rules::new("example")?
        .with(Rule::new(TOPIC, Direction::Both).schema(<Words as Payload>::schema()))?;
    let options = BridgeOptions::new().interval(Duration::from_millis(10)).back_pressure(true);
    let bridge = Bridge::new(&broker, session.clone(), rules, options)?;
    match direction.as_str() {
        "receive" => receive(&broker, rest.first().ok_or("no count")?.parse()?)?,
        "send" => send(&broker, &bridge, rest)?,
        other => return Err(format!("neither send nor receive: {other}").into()),
    }
    bridge.close();
    // Waits until everything is sent.
    session.close().wait()
}

fn receive(broker: &Broker, count: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut words = broker.subscriber::<Words>(TOPIC, Default::default())?;
    for _ in 0..count {
        let message = words.blocking_recv_ref(None)?;
        println!("{}", message.view().iter().collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

fn send(broker: &Broker, bridge: &Bridge, lines: &[String]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut words = broker.publisher::<Words>(TOPIC, Default::default())?;
    while bridge.stats().sending == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    for line in lines {
        let line: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        words.blocking_loan(None)?.send(&line)?;
    }
    drop(words);
    // The bridge has sent everything, and the end.
    while bridge.stats().sending > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
