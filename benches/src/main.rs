//! `blockcast-bench compare`: compares Blockcast with its peers on this machine.

use blockcast_bench::compare::Compare;
use clap::Parser;

#[derive(Parser, Debug)]
#[command(about)]
enum Command {
    /// Runs all candidates alternately and prints their times relative to Blockcast.
    Compare(Compare),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Compare(compare) => compare.run(),
    }
}
