//! `blockcast-bench compare`: Blockcast beside its peers on this machine.

use blockcast_bench::compare::Compare;
use clap::Parser;

#[derive(Parser, Debug)]
#[command(about)]
enum Command {
    /// Runs every candidate in turns and prints what each needed, in relation to Blockcast.
    Compare(Compare),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Compare(compare) => compare.run(),
    }
}
