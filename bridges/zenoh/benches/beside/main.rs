//! The bridge beside bare zenoh: messages from one process to another over TCP on the loopback device.
//!
//! ```text
//! cargo bench --bench beside                                everything
//! cargo bench --bench beside -- --smoke                     seconds, to see that everything arrives
//! cargo bench --bench beside -- --bytes 64 --candidates zenoh,bridge
//! ```
//! Every run starts two processes. They open zenoh sessions with the same configuration, and every candidate
//! sends with congestion control `Block`. Runs of the candidates alternate, and the tables show medians.

mod clock;
mod ends;
mod message;
mod report;
mod run;

use clap::{Parser, ValueEnum};

/// Who carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Candidate {
    /// A publisher of zenoh, and a subscriber with a callback
    Zenoh,
    /// A subscriber with zenoh's default channel, from which a thread receives
    Channel,
    /// A publisher and a subscriber of Blockcast, with a bridge on each side
    Bridge,
    /// The same, if small messages share samples of zenoh
    BridgeBatch,
    /// Without the check of the bytes
    BridgeUnchecked,
    /// zenoh-ext's advanced publisher and subscriber, with a cache
    Advanced,
    /// Through bridges that keep a cache
    CachingBridge,
}

/// What a run measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Measure {
    /// As many messages as pass
    Throughput,
    /// How long one message takes, when there are few
    Latency,
}

#[derive(Clone, Debug, Parser)]
#[command(about = "The bridge beside bare zenoh")]
struct Arguments {
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["zenoh", "channel", "bridge", "bridge-batch", "bridge-unchecked", "advanced", "caching-bridge"])]
    candidates: Vec<Candidate>,
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["throughput", "latency"])]
    measures: Vec<Measure>,
    /// Bytes of a message, at least 24 and a multiple of 8
    #[arg(long, value_delimiter = ',', default_values = ["64", "65536", "1048576"], value_parser = bytes)]
    bytes: Vec<usize>,
    /// Blocks of a bridge's publisher, instead of a MiB of them and at least 8
    #[arg(long)]
    blocks: Option<u32>,
    /// Runs of each candidate
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds that each run measures
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// One short run of everything
    #[arg(long)]
    smoke: bool,
    /// Which end this process is, in processes that the benchmark starts
    #[arg(long, value_enum, hide = true)]
    role: Option<ends::Role>,
    /// Where these processes meet
    #[arg(long, default_value = "", hide = true)]
    endpoint: String,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|error| format!("{error}"))?;
    match bytes >= message::MIN && bytes.is_multiple_of(8) {
        true => Ok(bytes),
        false => Err("it must be at least 24, and a multiple of 8".to_owned()),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.rounds, arguments.seconds) = (1, 0.2);
    }
    match arguments.role {
        Some(role) => ends::run(&arguments, role),
        None => run::all(&arguments),
    }
}
