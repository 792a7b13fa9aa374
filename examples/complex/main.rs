//! Publishes the lines of a text in batches. Each batch is a `list<string>`, built in place and read in place
//! by two subscribers: native tasks, wasm guests, native libraries or processes, all from one source.
//!
//! ```text
//! input ──▶ topic "text" ──▶ publisher ──▶ topic "lines" ─┬▶ subscriber 1 ─┬▶ topic "reports" ──▶ table
//!           (raw chunks)     (app)         (list<string>) └▶ subscriber 2 ─┘
//! ```
//! `cargo run --release --example complex -- --help` lists the options.

mod deployment;
mod input;
mod library;
mod running;
mod table;
mod waiting;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast::{Broker, Bytes, PublisherOptions, Subscriber, SubscriberOptions, TopicStats};
use clap::Parser;
use complex_publisher::longest_line;
use complex_subscriber::{Report, ReportLayout};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use deployment::{App, Apps, AsProgram, Deployment};
use input::{Feeder, Input, Progress};
use running::{GRACE, Running};
use waiting::{Interrupts, wait_for};

/// Publishes the lines of a text to two subscribers, which read them without copying.
#[derive(Debug, Parser)]
#[command(name = "complex")]
struct Arguments {
    /// Text to publish: a file, or - for standard input. Default: the Book of Genesis, which is included.
    file: Option<String>,

    /// How the apps run: `native` as tasks of this program; `wasm` as three guests; `library` as three native
    /// libraries, built with Cargo unless BLOCKCAST_LIBRARIES names the folder that holds them; `process` in
    /// three processes; `mixed` with a native publisher, a native subscriber and a guest.
    #[arg(long, value_enum, default_value_t = Deployment::Mixed)]
    deployment: Deployment,

    /// Milliseconds that each subscriber waits after a message, so that you can watch.
    #[arg(long, default_value_t = 0)]
    delay: u64,

    /// Bytes of a block, and thus of the longest message.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=1 << 30))]
    block_size: u32,

    /// Number of blocks of the publisher.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    blocks: u32,

    /// Runs an app as this program. The deployment `process` starts it like this.
    #[arg(long, value_enum, hide = true)]
    as_program: Option<AsProgram>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(app) = arguments.as_program {
        return app.run();
    }
    log();
    let Err(problems) = run(&arguments) else { return ExitCode::SUCCESS };
    for problem in problems {
        // Ignore a closed standard error.
        let _ = writeln!(io::stderr(), "complex: {problem}");
    }
    ExitCode::FAILURE
}

/// Prints the broker's log on standard error: errors, or what RUST_LOG selects, for example
/// `blockcast_broker=debug`.
fn log() {
    let selected = std::env::var("RUST_LOG").ok().and_then(|selected| selected.parse::<Targets>().ok());
    let filter = selected.unwrap_or_else(|| Targets::new().with_default(LevelFilter::ERROR));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines).with(filter).init();
}

/// Messages for the user, one line each, if the run did not go as it should.
type Problems = Vec<String>;

/// Runs the whole pipeline.
fn run(arguments: &Arguments) -> Result<(), Problems> {
    let alone = |problem| vec![problem];
    let input = Input::open(arguments.file.as_deref()).map_err(alone)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| alone(format!("no threads to run on: {error}")))?;
    let broker = Broker::on_runtime(runtime.handle().clone());
    // The table at the end lists topics that everyone has left.
    broker.keep_topics();
    let apps = Apps::load(&broker, arguments.deployment).map_err(alone)?;
    runtime.block_on(pipeline(arguments, &broker, apps, input))
}

async fn pipeline(arguments: &Arguments, broker: &Broker, apps: Apps, input: Input) -> Result<(), Problems> {
    let alone = |problem: String| vec![problem];
    let refused = |error: blockcast::OpenError| vec![error.to_string()];
    let reports = broker.subscriber::<ReportLayout>("reports", SubscriberOptions::new()).map_err(refused)?;
    let options = PublisherOptions::new().block_size(64 << 10).blocks(8);
    let mut text = broker.publisher::<Bytes>("text", options).map_err(refused)?;

    let subscriber = |number: u32| {
        let parameters = [("name", format!("subscriber {number}")), ("delay", arguments.delay.to_string())];
        apps.start(broker, App::Subscriber(number), parameters).map_err(alone)
    };
    let (first, second) = (subscriber(1)?, subscriber(2)?);
    let parameters = [
        ("block-size", arguments.block_size.to_string()),
        ("blocks", arguments.blocks.to_string()),
        ("subscribers", "2".to_owned()),
    ];
    let publisher = apps.start(broker, App::Publisher, parameters).map_err(alone)?;
    let running = Running::new([publisher, first, second]);

    // The text flows once the publisher listens. An app that ends earlier has failed.
    tokio::select! {
        biased;
        (app, reason) = running.one_ended() => return Err(vec![format!("{}: {reason}", Running::NAMES[app])]),
        () = wait_for("the publisher to subscribe to the text", text.subscribers(1)) => {}
    }

    let mut interrupts =
        Interrupts::new().map_err(|error| alone(format!("cannot be interrupted with Ctrl-C: {error}")))?;
    let started = Instant::now();
    let progress = Arc::new(Progress::new(&input, io::stderr().is_terminal()));
    let feeder = Arc::new(Feeder::new());
    let feeding = {
        let (feeder, progress) = (Arc::clone(&feeder), Arc::clone(&progress));
        let limit = longest_line(arguments.block_size.next_multiple_of(64) as usize);
        tokio::task::spawn_blocking(move || feeder.feed(input, limit, text, &progress))
    };
    // The feeder stops at the end of the input, on Ctrl-C, or when an app that it feeds is gone.
    let interrupted = tokio::select! {
        _ = running.one_ended() => false,
        () = interrupts.recv() => true,
    };
    feeder.stop();
    let fed = feeding.await.map_err(|error| alone(format!("the feeder ended: {error}")))?;
    // The publisher sees the end of the text, then the subscribers see the end of the lines.
    let (ended, interrupted) = running.drain(broker, &mut interrupts, interrupted).await;
    let elapsed = started.elapsed();
    drop(progress);

    let reports = collect(reports);
    let summary = table::Summary {
        deployment: arguments.deployment,
        fed: &fed,
        elapsed,
        kinds: [App::Publisher, App::Subscriber(1), App::Subscriber(2)].map(|app| apps.kind(app)),
        ended: &ended,
        reports: &reports,
        topics: settled(broker).await,
        interrupted,
    };
    let text = summary.to_string();
    let write = tokio::task::spawn_blocking(move || io::stdout().write_all(text.as_bytes()));
    let written = wait_for("a reader of the table", write).await;
    let written = written.map_err(|error| alone(format!("the table was not written: {error}")))?;
    let mut problems = summary.problems();
    match written {
        // Ignore a closed standard output: `head`, for example, stops reading early.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            problems.push(format!("cannot write the table: {error}"));
        }
        _ => {}
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The counters of all topics, once every block is free again. That takes a moment if they were freed by the
/// thread that serves processes.
async fn settled(broker: &Broker) -> Vec<TopicStats> {
    let deadline = Instant::now() + GRACE;
    loop {
        let topics = broker.topics();
        if table::not_back(&topics) == 0 || Instant::now() >= deadline {
            return topics;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The reports received so far.
fn collect(mut reports: Subscriber<ReportLayout>) -> Vec<Report> {
    let mut collected = Vec::new();
    while let Ok(report) = reports.try_recv_ref() {
        collected.push(Report::read(report.view()));
    }
    collected.sort_by(|one, other| one.name.cmp(&other.name));
    collected
}
