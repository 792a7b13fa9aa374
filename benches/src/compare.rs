//! The `compare` command.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::machine::Machine;
use crate::{plot, report, suite};

/// Runs all candidates alternately and prints their times relative to Blockcast.
#[derive(Args, Debug)]
pub struct Compare {
    /// Take about ten seconds instead of a minute or more, with fewer sizes and rounds.
    #[arg(long)]
    quick: bool,
    /// Write one record per row to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw SVG charts into DIR.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Run only these kinds of work, such as `fan-out`; may be repeated.
    #[arg(long, value_name = "NAME")]
    bench: Vec<String>,
    /// Run only Blockcast and candidates whose name contains this; may be repeated.
    #[arg(long, value_name = "NAME")]
    candidate: Vec<String>,
}

impl Compare {
    /// Runs the comparison.
    ///
    /// # Errors
    /// A candidate lost a message, one of Blockcast's processes failed, or a file could not be written.
    pub fn run(&self) -> anyhow::Result<()> {
        let machine = Machine::here();
        let mut groups = suite::groups(self.quick);
        if !self.bench.is_empty() {
            groups.retain(|group| self.bench.iter().any(|name| name == group.bench));
        }
        let rounds: usize = groups.iter().map(suite::Group::rounds).sum();
        let bar = ProgressBar::new(rounds as u64)
            .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} rounds, {eta} left  {msg}")?);
        let only = suite::Only(self.candidate.clone());
        let (mut records, mut left_out) = (Vec::new(), Vec::new());
        for group in &groups {
            let mode = group.mode.map(|mode| format!(", {mode}")).unwrap_or_default();
            let work = format!(
                "{}{mode}, {}, {} subscribers",
                group.bench,
                report::bytes(group.shape.payload),
                group.shape.subscribers
            );
            bar.set_message(work.clone());
            let (measured, failures) = group.run(&only, || bar.inc(1)).context(work.clone())?;
            records.extend(measured);
            left_out.extend(failures.into_iter().map(|failure| (work.clone(), failure)));
        }
        bar.finish_and_clear();
        print!("{}", report::text(&machine, &records));
        for (work, failure) in left_out {
            println!("\nLeft out of {work}: {failure}");
        }
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&records)?;
            fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(folder) = &self.plot {
            plot::draw(folder, &records)?;
        }
        Ok(())
    }
}
