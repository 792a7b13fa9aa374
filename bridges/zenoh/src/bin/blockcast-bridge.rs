//! The tool `blockcast-bridge`: carries topics between a host of this machine and other machines.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use blockcast_blocks::Schema;
use blockcast_broker::{ConnectOptions, Connection, default_socket};
use blockcast_zenoh::{Bridge, BridgeOptions, BridgeStats, Direction, Pattern, Rule, Rules};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tracing_subscriber::EnvFilter;
use zenoh::Wait;
use zenoh::config::EndPoint;

/// Carries topics between the programs of this machine and other machines, over zenoh.
///
/// Connects to the host that serves this machine's topics (`blockcast serve`). Ends cleanly on Ctrl-C, and at
/// once on a second one. The variable RUST_LOG chooses what is logged. The exit code is 2 if an argument or
/// the configuration is wrong, and 1 if it cannot do its work.
#[derive(Debug, Parser)]
#[command(name = "blockcast-bridge", version)]
struct Arguments {
    /// The host's socket. By default, the one that `blockcast serve` uses
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The user as whom the host runs, if it is another one
    #[arg(long, value_name = "UID")]
    host_user: Option<u32>,
    /// Zenoh's configuration, in JSON5: endpoints, mode, TLS, users
    #[arg(long, value_name = "FILE")]
    zenoh: Option<PathBuf>,
    /// Role in zenoh's network: peer, client (of a router) or router. Default: the configuration's, or peer
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Connect to this endpoint of zenoh, such as tcp/192.168.1.2:7447. May be repeated
    #[arg(long, value_name = "ENDPOINT")]
    connect: Vec<String>,
    /// Listen at this endpoint. May be repeated
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<String>,
    /// The start of the keys under which messages travel
    #[arg(long, default_value = "blockcast")]
    prefix: String,
    /// Carry this topic, or those that start with what precedes a *, both ways. May be repeated
    #[arg(long, value_name = "PATTERN")]
    both: Vec<String>,
    /// Carry these topics to other machines only. Precedes --both
    #[arg(long, value_name = "PATTERN")]
    out: Vec<String>,
    /// Carry these topics from other machines only. Precedes --both
    #[arg(long = "in", value_name = "PATTERN")]
    incoming: Vec<String>,
    /// Leave out these topics, whatever else is said
    #[arg(long, value_name = "PATTERN")]
    deny: Vec<String>,
    /// Carry this topic, and accept messages of clients that are not bridges if they have this schema, as in
    /// words=flat1/u32:string. In the topic, write = as \= and \ as \\. Both ways, unless --in or --out name
    /// the topic. May be repeated
    #[arg(long, value_name = "TOPIC=SCHEMA", value_parser = pair)]
    schema: Vec<(String, String)>,
    /// Carry this topic under this key, instead of the prefix and its name, as in camera/front=site/camera/7.
    /// In the topic, write = as \= and \ as \\. Both ways, unless --in or --out name the topic. May be
    /// repeated
    #[arg(long, value_name = "TOPIC=KEY", value_parser = pair)]
    key: Vec<(String, String)>,
    /// Let publishers of this machine wait for zenoh, instead of losing messages
    #[arg(long)]
    back_pressure: bool,
    /// Keep this number of each topic's messages for bridges that have missed some
    #[arg(long, value_name = "MESSAGES", default_value_t = 0)]
    cache: usize,
    /// Let messages of up to 1 KiB share samples of zenoh, of up to this number of bytes, such as 32768. That
    /// is faster, but only bridges understand such samples. By default, none do
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    batch: usize,
    /// Send messages without a check of their bytes, and do not compare that of others. Zenoh can deliver
    /// wrong bytes
    #[arg(long)]
    unchecked: bool,
    /// Do not send the ends of publishers, which are empty messages. Programs other than bridges may be
    /// unable to bear them, such as those of ROS 2
    #[arg(long)]
    without_ends: bool,
    /// Print counters this often, in seconds. They are also printed at the end
    #[arg(long, value_name = "SECONDS")]
    stats: Option<u64>,
    /// Only check the arguments and zenoh's configuration: connect to nobody
    #[arg(long)]
    check: bool,
}

type Failure = Box<dyn Error + Send + Sync>;

/// Exit code if an argument or the configuration is wrong, so that the same would happen again.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_ansi(std::io::stderr().is_terminal());
    log.with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let (outcome, code) = match rules(&arguments).and_then(|rules| Ok((rules, config(&arguments)?))) {
        Ok(_) if arguments.check => (Ok(()), ExitCode::SUCCESS),
        Ok((rules, config)) => (run(&arguments, rules, config), ExitCode::FAILURE),
        Err(error) => (Err(error), ExitCode::from(REFUSED)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blockcast-bridge: {error}");
            code
        }
    }
}

fn run(arguments: &Arguments, rules: Rules, config: zenoh::Config) -> Result<(), Failure> {
    // Before anything that must be ended cleanly.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            eprintln!("blockcast-bridge: ending; a second signal ends it at once");
            // Otherwise it is ending already.
            let _ = sender.send(());
        }
        if let Some(signal) = signals.next() {
            // As if it had not been caught.
            let _ = emulate_default_handler(signal);
        }
    });
    let session = zenoh::open(config).wait()?;
    let path = arguments.socket.clone().map_or_else(default_socket, Ok)?;
    let options = ConnectOptions::new().name("blockcast-bridge");
    let options = arguments.host_user.into_iter().fold(options, ConnectOptions::host_user);
    let connection = Arc::new(Connection::connect_with(path, &options)?);
    let options = BridgeOptions::new()
        .back_pressure(arguments.back_pressure)
        .cache(arguments.cache)
        .batch(arguments.batch)
        .check(!arguments.unchecked)
        .ends(!arguments.without_ends);
    let bridge = Bridge::new(connection, session.clone(), rules, options)?;
    eprintln!("blockcast-bridge: running");
    let pause = arguments.stats.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.max(1)));
    while asked.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
        print(&bridge.stats());
    }
    print(&bridge.close());
    session.close().wait()
}

/// Those for single topics first, since the first rule that matches applies.
fn rules(arguments: &Arguments) -> Result<Rules, Failure> {
    let names = |patterns: &[String], topic: &str| {
        patterns.iter().any(|pattern| Pattern::new(pattern.as_str()).matches(topic))
    };
    let direction = |topic: &str| match topic {
        topic if names(&arguments.incoming, topic) => Direction::In,
        topic if names(&arguments.out, topic) => Direction::Out,
        _ => Direction::Both,
    };
    let prefix = arguments.prefix.as_str();
    let mut rules = Rules::new(prefix).map_err(|error| format!("--prefix {prefix}: {error}"))?;
    let mut singles: BTreeMap<&str, (&str, Rule)> = BTreeMap::new();
    let mut single = |flag, topic, change: &dyn Fn(Rule) -> Rule| {
        let (_, rule) = singles.remove(topic).unwrap_or_else(|| (flag, Rule::new(topic, direction(topic))));
        singles.insert(topic, (flag, change(rule)));
    };
    for (topic, schema) in &arguments.schema {
        single("schema", topic.as_str(), &|rule| rule.schema(Schema::named(schema.clone())));
    }
    for (topic, key) in &arguments.key {
        single("key", topic.as_str(), &|rule| rule.key(key.as_str()));
    }
    let singles = singles.into_iter().map(|(topic, (flag, rule))| (flag, topic, rule));
    let patterns = [
        ("in", &arguments.incoming, Direction::In),
        ("out", &arguments.out, Direction::Out),
        ("both", &arguments.both, Direction::Both),
    ];
    let patterns = patterns.into_iter().flat_map(|(flag, patterns, direction)| {
        patterns.iter().map(move |pattern| (flag, pattern.as_str(), Rule::new(pattern.as_str(), direction)))
    });
    for (flag, text, rule) in singles.chain(patterns) {
        rules = rules.with(rule).map_err(|error| format!("--{flag} {text}: {error}"))?;
    }
    Ok(arguments.deny.iter().fold(rules, |rules, pattern| rules.deny(pattern.as_str())))
}

fn config(arguments: &Arguments) -> Result<zenoh::Config, Failure> {
    let mut config = match &arguments.zenoh {
        Some(file) => {
            zenoh::Config::from_file(file).map_err(|error| format!("--zenoh {}: {error}", file.display()))?
        }
        None => zenoh::Config::default(),
    };
    if let Some(mode) = &arguments.mode {
        let set = config.insert_json5("mode", &serde_json::to_string(mode)?);
        set.map_err(|_| format!("--mode {mode}: it is neither peer nor client nor router"))?;
    }
    for (flag, key, endpoints) in [
        ("--connect", "connect/endpoints", &arguments.connect),
        ("--listen", "listen/endpoints", &arguments.listen),
    ] {
        for endpoint in endpoints {
            let refused = |_| format!("{flag} {endpoint}: an endpoint is written as tcp/192.168.1.2:7447");
            endpoint.parse::<EndPoint>().map_err(refused)?;
        }
        if !endpoints.is_empty() {
            config.insert_json5(key, &serde_json::to_string(endpoints)?)?;
        }
    }
    Ok(config)
}

/// Splits a text at the first `=`. In the topic before it, `\=` stands for an equals sign, and `\\` for a
/// backslash.
fn pair(text: &str) -> Result<(String, String), String> {
    let (mut topic, mut rest) = (String::new(), text.chars());
    while let Some(letter) = rest.next() {
        match (letter, rest.clone().next()) {
            ('=', _) => return Ok((topic, rest.as_str().to_owned())),
            ('\\', Some(escaped @ ('=' | '\\'))) => {
                topic.push(escaped);
                rest.next();
            }
            _ => topic.push(letter),
        }
    }
    Err("there is no =".to_owned())
}

fn print(stats: &BridgeStats) {
    let round_trip = stats.round_trip.map(|time| format!(", round trip {time:.1?}")).unwrap_or_default();
    eprintln!(
        "blockcast-bridge: {} peers{round_trip}; sent {} messages, {} bytes, of {} topics, {} lost before; received {}, {} \
         bytes, of {} topics; {} missing, {} refused, {} repeated",
        stats.peers,
        stats.sent,
        stats.sent_bytes,
        stats.sending,
        stats.unsent,
        stats.received,
        stats.received_bytes,
        stats.receiving,
        stats.missing,
        stats.refused,
        stats.repeated
    );
}
