//! `blockcast-bench compare`: compares Blockcast with its peers on this machine.

use blockcast_bench::compare::Compare;
#[cfg(feature = "processes")]
use blockcast_bench::processes::end::End;
use clap::Parser;

#[derive(Parser, Debug)]
#[command(about)]
enum Command {
    /// Runs all candidates alternately and prints their times relative to Blockcast.
    Compare(Compare),
    /// Is one end of a candidate between processes. For `compare` only.
    #[cfg(feature = "processes")]
    #[command(hide = true)]
    End(End),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Compare(compare) => compare.run(),
        #[cfg(feature = "processes")]
        Command::End(end) => end.run(),
    }
}
