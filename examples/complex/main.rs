//! The lines of a text, published in batches as `list<string>` that are built in place, and read where they
//! lie by two subscribers: native tasks or wasm guests, from one source.
//!
//! ```text
//! input ──▶ topic "text" ──▶ publisher ──▶ topic "lines" ─┬▶ subscriber 1 ─┬▶ topic "reports" ──▶ table
//!           (raw chunks)     (app)         (list<string>) └▶ subscriber 2 ─┘
//! ```
//! `cargo run --release --example complex -- --help` tells the options.

mod deployment;
mod input;
mod table;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use blockcast::{
    Broker, Bytes, ExitReason, PublisherOptions, Subscriber, SubscriberOptions,
};
use clap::Parser;
use complex_subscriber::{Report, ReportLayout};
use tracing_subscriber::EnvFilter;

use deployment::{App, Apps, Deployment};
use input::{Feeder, Input, Progress};

/// Publishes the lines of a text to two subscribers, which read them without a copy.
#[derive(Debug, Parser)]
#[command(name = "complex")]
struct Arguments {
    /// Text to publish: a file, or - for standard input. Without it the Book of Genesis, which is shipped.
    file: Option<String>,

    /// How the apps run: `native` as tasks of this program, `wasm` as three guests, `mixed` with a native
    /// publisher, a native subscriber and a guest.
    #[arg(long, value_enum, default_value_t = Deployment::Mixed)]
    deployment: Deployment,

    /// Milliseconds that each subscriber waits after a message, to watch.
    #[arg(long, default_value_t = 0)]
    delay: u64,

    /// Bytes of a block, and so of the longest message.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=1 << 30))]
    block_size: u32,

    /// Blocks of the publisher.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    blocks: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("complex: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the whole pipeline; the error is what the user reads.
fn run(arguments: &Arguments) -> Result<(), String> {
    let input = Input::open(arguments.file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no threads to run on: {error}"))?;
    let broker = Broker::on_runtime(runtime.handle().clone());
    let apps = Apps::load(&broker, arguments.deployment)?;
    runtime.block_on(pipeline(arguments, &broker, apps, input))
}

async fn pipeline(arguments: &Arguments, broker: &Broker, apps: Apps, input: Input) -> Result<(), String> {
    let refused = |error: blockcast::OpenError| error.to_string();
    let reports = broker.subscriber::<ReportLayout>("reports", SubscriberOptions::new()).map_err(refused)?;
    let options = PublisherOptions::new().block_size(64 << 10).blocks(8);
    let mut text = broker.publisher::<Bytes>("text", options).map_err(refused)?;

    let delay = arguments.delay.to_string();
    let subscribers = [1, 2].map(|number| {
        let parameters = [("name", format!("subscriber {number}")), ("delay", delay.clone())];
        apps.start(broker, App::Subscriber(number), parameters)
    });
    let [first, second] = subscribers;
    let (first, second) = (first?, second?);
    let parameters = [
        ("block-size", arguments.block_size.to_string()),
        ("blocks", arguments.blocks.to_string()),
        ("subscribers", "2".to_owned()),
    ];
    let publisher = apps.start(broker, App::Publisher, parameters)?;

    // The text flows once the publisher listens and the subscribers have joined. A component that ends
    // before that has failed.
    tokio::select! {
        () = text.subscribers(1) => {}
        report = publisher.ended() => return Err(format!("publisher: {}", report.reason)),
        report = first.ended() => return Err(format!("subscriber 1: {}", report.reason)),
        report = second.ended() => return Err(format!("subscriber 2: {}", report.reason)),
    }

    let started = Instant::now();
    let progress = Progress::new(&input, std::io::stderr().is_terminal());
    let feeder = Arc::new(Feeder::new());
    let feeding = {
        let feeder = Arc::clone(&feeder);
        tokio::task::spawn_blocking(move || feeder.feed(input, text, &progress))
    };
    // The feeder stops at the end of the input, at Ctrl-C, or when a component is gone that it feeds.
    let mut interrupted = false;
    tokio::select! {
        _ = publisher.ended() => {}
        _ = first.ended() => {}
        _ = second.ended() => {}
        _ = tokio::signal::ctrl_c() => interrupted = true,
    }
    feeder.stop();
    let fed = feeding.await.map_err(|error| format!("the feeder ended: {error}"))??;

    // What was published is drained: the publisher sees the end of the text, then the subscribers see the
    // end of the lines, unless a subscriber has failed and the publisher would wait for it.
    let ended = [publisher.ended().await, first.ended().await, second.ended().await];
    let elapsed = started.elapsed();

    let reports = collect(reports);
    let summary = table::Summary {
        deployment: arguments.deployment,
        fed: &fed,
        elapsed,
        kinds: [App::Publisher, App::Subscriber(1), App::Subscriber(2)].map(|app| apps.kind(app)),
        ended: &ended,
        reports: &reports,
        lines: broker.topic("lines"),
    };
    print!("{summary}");

    for (name, report) in ["publisher", "subscriber 1", "subscriber 2"].iter().zip(&ended) {
        if report.reason != ExitReason::Finished {
            return Err(format!("{name}: {}", report.reason));
        }
    }
    if interrupted {
        println!("interrupted: everything that was published before has been received");
    }
    if fed.bytes == 0 {
        return Err(format!("{} is empty: there was nothing to publish", fed.name));
    }
    summary.check()
}

/// The reports that have come.
fn collect(mut reports: Subscriber<ReportLayout>) -> Vec<Report> {
    let mut collected = Vec::new();
    while let Ok(report) = reports.try_recv_ref() {
        collected.push(Report::read(report.view()));
    }
    collected.sort_by(|one, other| one.name.cmp(&other.name));
    collected
}
