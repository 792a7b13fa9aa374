//! The same app in three deployments, side by side, with its rate in each.
//!
//! ```text
//! cargo run --release --example symmetric
//! ```
//! See README.md beside this file.

#[path = "../guests/library.rs"]
mod library;
mod side;

use std::fmt;

use side::{Deployment, Side};
use symmetric_app::{BURST, fold, reading};

type Error = Box<dyn std::error::Error>;

/// Bursts that are not counted: everything is mapped and cached after them.
const WARM_UP: usize = 20;
/// Bursts that are.
const ROUNDS: usize = 300;

fn main() -> Result<(), Error> {
    let mut sides = Vec::new();
    for deployment in Deployment::ALL {
        match Side::start(deployment) {
            Ok(side) => sides.push(side),
            Err(error) if std::env::args().any(|argument| argument == "--all") => {
                return Err(format!("{deployment}: {error}").into());
            }
            Err(error) => eprintln!("{deployment} is left out: {error}"),
        }
    }
    // Round by round, so that whatever disturbs the machine disturbs all of them.
    for round in 0..WARM_UP + ROUNDS {
        for side in &mut sides {
            side.burst(round >= WARM_UP)?;
        }
    }
    let rows: Vec<Row> = sides.into_iter().map(Side::finish).collect::<Result<_, _>>()?;
    let expected = (0..u64::from(BURST)).fold(0, |sum, number| fold(sum, &reading(number)));
    for row in &rows {
        if row.checksums != (expected, expected) {
            return Err(format!("{} saw something else", row.deployment).into());
        }
    }
    println!("{ROUNDS} bursts of {BURST} messages of 64 bytes; medians");
    println!(
        "{:<10} {:>12} {:>8} {:>9} {:>12} {:>8} {:>9} {:>13}",
        "app", "received/s", "ns each", "of linked", "published/s", "ns each", "of linked", "ns, host call"
    );
    let linked = rows.first().map_or((0.0, 0.0), |row| (row.receiving, row.publishing));
    for row in &rows {
        println!("{}", Line(row, linked));
    }
    println!("every app received and published the same, checksum {expected:016x}");
    Ok(())
}

/// What became of one deployment. Times are nanoseconds.
struct Row {
    deployment: Deployment,
    /// Per message.
    receiving: f64,
    publishing: f64,
    /// A call into the host that asks for next to nothing.
    call: f64,
    /// Of what the app received, and of what it published.
    checksums: (u64, u64),
}

/// A row of the table, beside the rates of the linked app.
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
