//! `blockcast topic`: looks into a running host.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use blockcast::{ConnectOptions, Connection, HostPublisher, HostTopic, default_socket, text};
use serde_json::json;

use crate::args::{Host, Topic};
use crate::log::printable_json;
use crate::stats::align;
use crate::{Refused, echo, units};

/// Exit code if there is no such topic, or no host.
pub const MISSING: u8 = 1;

/// Runs one of the commands.
pub fn topic(command: &Topic) -> Result<ExitCode, Refused> {
    match command {
        Topic::List { host, json } => {
            let topics = host.connect()?.host_topics().map_err(|error| error.to_string())?;
            let shown = if *json { lines_of_json(&topics) } else { table(&topics) };
            print(&shown).map(|_| ExitCode::SUCCESS)
        }
        Topic::Info { topic, host, json } => {
            let Some(found) = find(&host.connect()?, topic)? else { return Ok(ExitCode::from(MISSING)) };
            let shown = if *json { lines_of_json(&[found]) } else { details(&found) };
            print(&shown).map(|_| ExitCode::SUCCESS)
        }
        Topic::Echo(arguments) => echo::echo(arguments),
    }
}

impl Host {
    /// Connects to the host.
    pub fn connect(&self) -> Result<Connection, Refused> {
        let path = match &self.socket {
            Some(path) => path.clone(),
            None => default_socket().map_err(|error| format!("{error}, with --socket"))?,
        };
        let options = ConnectOptions::new().name("blockcast topic");
        let options = self.host_user.into_iter().fold(options, ConnectOptions::host_user);
        Connection::connect_with(path, &options).map_err(|error| error.to_string())
    }
}

/// Asks the host for a topic. Reports to the user if there is none.
pub fn find(connection: &Connection, topic: &str) -> Result<Option<HostTopic>, Refused> {
    let found = connection.host_topic(topic).map_err(|error| error.to_string())?;
    if found.is_none() {
        crate::log::say(&format!("the host has no topic {topic:?}, or does not let you use it"));
    }
    Ok(found)
}

/// Prints to standard output. Returns `false` if it is closed.
pub fn print(text: &str) -> Result<bool, Refused> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        // The reader, for example `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("cannot write to standard output: {error}")),
    }
}

/// Marks a number as a lower bound if not all of the topic's publishers report their counters.
fn at_least(topic: &HostTopic, number: String) -> String {
    let silent = topic.publishers.iter().any(|publisher| publisher.counters.is_none());
    if silent || topic.omitted > 0 { format!("{number}+") } else { number }
}

fn table(topics: &[HostTopic]) -> String {
    let heads = ["topic", "schema", "publishers", "subscribing processes", "published", "bytes", "lost"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(topics.iter().map(|topic| {
        vec![
            text::line_within(&topic.name, 255).into_owned(),
            text::line_within(topic.schema().name(), 60).into_owned(),
            topic.publishers.len().to_string(),
            topic.subscribers.len().to_string(),
            at_least(topic, topic.published().to_string()),
            at_least(topic, units::of_bytes(topic.bytes())),
            at_least(topic, topic.lost().to_string()),
        ]
    }));
    align(&rows, &[0, 1])
}

fn details(topic: &HostTopic) -> String {
    let mut shown = format!("{}\n  schema {}\n", text::line(&topic.name), topic.schema());
    for publisher in &topic.publishers {
        shown.push_str(&of_publisher(publisher));
    }
    for process in &topic.subscribers {
        let _ = writeln!(shown, "  subscribing: {}", text::line(process));
    }
    if topic.omitted > 0 {
        let _ = writeln!(shown, "  and {} participants more", topic.omitted);
    }
    shown
}

fn of_publisher(publisher: &HostPublisher) -> String {
    let name = if publisher.name.is_empty() { "(unnamed)".into() } else { text::line(&publisher.name) };
    let role = if publisher.relay { "relay" } else { "publisher" };
    let mut shown = format!("  {role} {name} of {}: ", text::line(&publisher.process));
    let Some(counters) = &publisher.counters else {
        shown.push_str("its process does not answer\n");
        return shown;
    };
    let bytes = units::of_bytes(counters.bytes);
    let _ = writeln!(
        shown,
        "{} messages published, {bytes}; {} of {} blocks free; {} times out of blocks",
        counters.published, counters.free, counters.blocks, counters.exhausted
    );
    for subscriber in &counters.subscribers {
        let name = if subscriber.name.is_empty() { "(unnamed)".into() } else { text::line(&subscriber.name) };
        let _ = writeln!(
            shown,
            "    subscriber {name}: {} received, {} lost, {} behind",
            subscriber.received, subscriber.lost, subscriber.behind
        );
    }
    if counters.omitted > 0 {
        let _ = writeln!(shown, "    and {} subscribers more", counters.omitted);
    }
    shown
}

/// One line for each topic.
fn lines_of_json(topics: &[HostTopic]) -> String {
    let lines = topics.iter().map(|topic| {
        let publishers = topic.publishers.iter().map(|publisher| {
            json!({
                "number": publisher.number,
                "name": publisher.name,
                "process": publisher.process,
                "relay": publisher.relay,
                "counters": publisher.counters,
            })
        });
        let line = json!({
            "name": topic.name,
            "schema": topic.schema().name(),
            "fingerprint": format!("{:016x}", topic.schema().fingerprint()),
            "publishers": publishers.collect::<Vec<_>>(),
            "subscribing_processes": topic.subscribers,
            "omitted": topic.omitted,
        });
        printable_json(&line.to_string()) + "\n"
    });
    lines.collect()
}
