//! The tool `blockcast-bridge`: carries topics between a host of this machine and other machines.

use std::error::Error;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use blockcast_blocks::Schema;
use blockcast_broker::{ConnectOptions, Connection, default_socket};
use blockcast_zenoh::{Bridge, BridgeOptions, BridgeStats, Direction, Rule, Rules};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;
use zenoh::Wait;

/// Carries topics between the programs of this machine and other machines, over zenoh.
///
/// Connects to the host that serves this machine's topics (`blockcast serve`). Ends cleanly on Ctrl-C. The
/// variable RUST_LOG chooses what is logged.
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
    /// Accept messages of clients that are not bridges for a topic with this schema, both ways, as in
    /// words=flat1/u32:string. Precedes --in and --out
    #[arg(long, value_name = "TOPIC=SCHEMA")]
    schema: Vec<String>,
    /// Let publishers of this machine wait for zenoh, instead of losing messages
    #[arg(long)]
    back_pressure: bool,
    /// Keep this number of each topic's messages for bridges that have missed some
    #[arg(long, value_name = "MESSAGES", default_value_t = 0)]
    cache: usize,
    /// Print counters this often, in seconds. They are also printed at the end
    #[arg(long, value_name = "SECONDS")]
    stats: Option<u64>,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_ansi(std::io::stderr().is_terminal());
    log.with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blockcast-bridge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error + Send + Sync>> {
    let rules = rules(arguments)?;
    // Before anything that must be ended cleanly.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Otherwise it is ending already.
            let _ = sender.send(());
        }
    });
    let session = zenoh::open(config(arguments)?).wait()?;
    let path = arguments.socket.clone().map_or_else(default_socket, Ok)?;
    let options = ConnectOptions::new().name("blockcast-bridge");
    let options = arguments.host_user.into_iter().fold(options, ConnectOptions::host_user);
    let connection = Arc::new(Connection::connect_with(path, &options)?);
    let options = BridgeOptions::new().back_pressure(arguments.back_pressure).cache(arguments.cache);
    let bridge = Bridge::new(connection, session.clone(), rules, options)?;
    eprintln!("blockcast-bridge: running");
    let pause = arguments.stats.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.max(1)));
    while asked.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
        print(&bridge.stats());
    }
    let stats = bridge.stats();
    bridge.close();
    print(&stats);
    session.close().wait()
}

/// Those for single topics first, since the first rule that matches applies.
fn rules(arguments: &Arguments) -> Result<Rules, Box<dyn Error + Send + Sync>> {
    let mut rules = Rules::new(arguments.prefix.as_str())?;
    for text in &arguments.schema {
        let (topic, schema) =
            text.split_once('=').ok_or_else(|| format!("--schema {text}: there is no ="))?;
        let schema = Schema::named(schema.to_owned());
        rules = rules.with(Rule::new(topic, Direction::Both).schema(schema))?;
    }
    for (patterns, direction) in [
        (&arguments.incoming, Direction::In),
        (&arguments.out, Direction::Out),
        (&arguments.both, Direction::Both),
    ] {
        for pattern in patterns {
            rules = rules.with(Rule::new(pattern.as_str(), direction))?;
        }
    }
    Ok(arguments.deny.iter().fold(rules, |rules, pattern| rules.deny(pattern.as_str())))
}

fn config(arguments: &Arguments) -> Result<zenoh::Config, Box<dyn Error + Send + Sync>> {
    let mut config = match &arguments.zenoh {
        Some(file) => {
            zenoh::Config::from_file(file).map_err(|error| format!("{}: {error}", file.display()))?
        }
        None => zenoh::Config::default(),
    };
    for (key, endpoints) in
        [("connect/endpoints", &arguments.connect), ("listen/endpoints", &arguments.listen)]
    {
        if !endpoints.is_empty() {
            config.insert_json5(key, &format!("{endpoints:?}"))?;
        }
    }
    Ok(config)
}

fn print(stats: &BridgeStats) {
    eprintln!(
        "blockcast-bridge: {} peers; sent {} messages, {} bytes, of {} topics, {} lost before; received {}, {} \
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
