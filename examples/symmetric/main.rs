//! Runs the same app in three deployments side by side, and prints its rate in each.
//!
//! ```text
//! cargo run --release --example symmetric
//! ```
//! See README.md beside this file.

#[path = "../guests/library.rs"]
mod library;
mod side;

use std::fmt;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use side::{Deployment, Side};
use symmetric_app::{Burst, fill, fold};

type Error = Box<dyn std::error::Error>;

/// Messages of 64 bytes, which measure almost only the transport, and of 4 and 64 KiB, which the apps fill
/// and read.
const BURSTS: [Burst; 3] = [
    Burst { messages: 4096, numbers: 8 },
    Burst { messages: 512, numbers: 512 },
    Burst { messages: 64, numbers: 8192 },
];

/// Bursts that are not counted. They map and cache everything.
const WARM_UP: usize = 20;
/// Bursts that are counted.
const ROUNDS: usize = 300;

fn main() -> Result<(), Error> {
    // Built before this thread is confined to one processor. Errors are reported when the library is started.
    let _ = library::build("symmetric-app");
    stay_on_one_processor();
    for burst in BURSTS {
        compare(burst)?;
    }
    Ok(())
}

/// Confines this thread, and all threads that it starts, to one of its allowed processors. It must not matter
/// on which processor an app finds the messages that another thread has written. If the system refuses, it
/// does.
fn stay_on_one_processor() {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    if let Some(processor) = (0..CpuSet::MAX_CPU).find(|&processor| allowed.is_set(processor)) {
        let mut one = CpuSet::new();
        one.set(processor);
        let _ = sched_setaffinity(None, &one);
    }
}

/// Runs all deployments with this burst.
fn compare(burst: Burst) -> Result<(), Error> {
    let mut sides = Vec::new();
    for deployment in Deployment::ALL {
        match Side::start(deployment, burst) {
            Ok(side) => sides.push(side),
            Err(error) if std::env::args().any(|argument| argument == "--all") => {
                return Err(format!("{deployment}: {error}").into());
            }
            Err(error) => eprintln!("{deployment} is left out: {error}"),
        }
    }
    // Alternate, so that whatever disturbs the machine disturbs all of them.
    for round in 0..WARM_UP + ROUNDS {
        for side in &mut sides {
            side.burst(round >= WARM_UP)?;
        }
    }
    let rows: Vec<Row> = sides.into_iter().map(Side::finish).collect::<Result<_, _>>()?;
    let mut reading = vec![0; burst.numbers];
    let expected = (0..u64::from(burst.messages)).fold(0, |sum, number| {
        fill(number, &mut reading);
        fold(sum, &reading)
    });
    for row in &rows {
        if row.checksums != (expected, expected) {
            return Err(format!("{} saw something else", row.deployment).into());
        }
    }
    println!("{ROUNDS} bursts of {} messages of {} bytes; medians", burst.messages, burst.message_len());
    println!(
        "{:<10} {:>12} {:>8} {:>9} {:>12} {:>8} {:>9} {:>13}",
        "app", "received/s", "ns each", "of linked", "published/s", "ns each", "of linked", "ns, host call"
    );
    let linked = rows.first().map_or((0.0, 0.0), |row| (row.receiving, row.publishing));
    for row in &rows {
        println!("{}", Line(row, linked));
    }
    println!("every app received and published the same, checksum {expected:016x}\n");
    Ok(())
}

/// Results of one deployment. Times are in nanoseconds.
struct Row {
    deployment: Deployment,
    /// Per message.
    receiving: f64,
    publishing: f64,
    /// A call into the host that does almost nothing.
    call: f64,
    /// Checksums of what the app received and of what it published.
    checksums: (u64, u64),
}

/// A row of the table, compared with the rates of the linked app.
struct Line<'r>(&'r Row, (f64, f64));

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(row, linked) = self;
        let percent = |linked: f64, own: f64| format!("{:.0} %", 100.0 * linked / own);
        write!(
            f,
            "{:<10} {:>12.0} {:>8.1} {:>9} {:>12.0} {:>8.1} {:>9} {:>13.1}",
            row.deployment.to_string(),
            1e9 / row.receiving,
            row.receiving,
            percent(linked.0, row.receiving),
            1e9 / row.publishing,
            row.publishing,
            percent(linked.1, row.publishing),
            row.call
        )
    }
}
