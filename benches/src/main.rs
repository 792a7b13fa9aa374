//! `blockcast-bench compare` compares Blockcast with its peers on this machine. `blockcast-bench summarize`
//! writes what it has measured into pages.

use blockcast_bench::compare::Compare;
#[cfg(feature = "processes")]
use blockcast_bench::processes::end::End;
use blockcast_bench::summary::Summarize;
use clap::Parser;

#[derive(Parser, Debug)]
#[command(about)]
enum Command {
    /// Runs all candidates alternately and prints their times relative to Blockcast.
    Compare(Compare),
    /// Writes short tables, and links to charts, between the marks of pages.
    Summarize(Summarize),
    /// Is one end of a candidate between processes. For `compare` only.
    #[cfg(feature = "processes")]
    #[command(hide = true)]
    End(End),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Compare(compare) => compare.run(),
        Command::Summarize(summarize) => summarize.run(),
        #[cfg(feature = "processes")]
        Command::End(end) => end.run(),
    }
}
