//! The `summarize` command: writes short tables and links to charts into pages, from the records of
//! `compare --json`.
//!
//! A page says where a table or chart stands; what stands between the two comments is replaced:
//!
//! ```text
//! <!-- table fan-out -->
//! <!-- end -->
//! <!-- chart fan-out-by-subscribers: Time of a message by number of subscribers -->
//! <!-- end -->
//! ```
//!
//! `work` finds the records, `tables` lists the tables, `targets` checks the project's targets, and `faster`
//! lists the peers that are faster than Blockcast.

mod faster;
mod tables;
mod targets;
mod work;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::plot;
use crate::record::Record;

/// Where the pages find the charts.
const CHARTS: &str = "benches/charts";

/// Writes short tables, and links to charts, between the marks of pages.
#[derive(Args, Debug)]
pub struct Summarize {
    /// Records that `compare --json` wrote.
    rows: PathBuf,
    /// Pages to change.
    #[arg(required = true)]
    pages: Vec<PathBuf>,
    /// What the mark `run` becomes: when, at which commit and on which machine the records were measured.
    #[arg(long)]
    run: String,
    /// Draw all charts into DIR.
    #[arg(long, value_name = "DIR")]
    plot: PathBuf,
}

impl Summarize {
    /// Draws the charts and changes the pages.
    ///
    /// # Errors
    /// The records or a page could not be read or written, or a mark is unknown or has no end. No page has
    /// changed unless writing one failed.
    pub fn run(&self) -> anyhow::Result<()> {
        let text = read(&self.rows)?;
        let records: Vec<Record> =
            serde_json::from_str(&text).with_context(|| format!("{} has no records", self.rows.display()))?;
        plot::draw(&self.plot, &records)?;
        let replace = |mark: &str| self.replacement(mark, &records);
        let pages = self.pages.iter().map(|page| {
            let text =
                fill(&read(page)?, replace).with_context(|| format!("in the page {}", page.display()))?;
            Ok((page, text))
        });
        for (page, text) in pages.collect::<anyhow::Result<Vec<_>>>()? {
            fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))?;
        }
        Ok(())
    }

    /// Returns what stands after a mark. `None` if the comment is not a mark.
    fn replacement(&self, mark: &str, records: &[Record]) -> anyhow::Result<Option<String>> {
        Ok(Some(match mark.split_once(' ').unwrap_or((mark, "")) {
            ("run", "") => format!("{}\n", self.run),
            ("table", "targets") => targets::table(records),
            ("table", "faster") => faster::table(records),
            ("table", name) => {
                let table = tables::all().into_iter().find(|table| table.name == name);
                table.with_context(|| format!("there is no table `{name}`"))?.text(records)
            }
            ("chart", chart) => {
                let (name, title) =
                    chart.split_once(": ").with_context(|| format!("`{mark}` has no title"))?;
                if self.plot.join(format!("{name}.svg")).is_file() {
                    format!("![{title}]({CHARTS}/{name}.svg)\n")
                } else {
                    format!("{title}: not measured in this run.\n")
                }
            }
            _ => return Ok(None),
        }))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Replaces what stands between marks and their ends.
fn fill(page: &str, replacement: impl Fn(&str) -> anyhow::Result<Option<String>>) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text += line;
        text.push('\n');
        let comment = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->"));
        let Some(mark) = comment else { continue };
        let Some(new) = replacement(mark)? else { continue };
        loop {
            match lines.next() {
                Some("<!-- end -->") => break,
                Some(line) if !line.starts_with("<!-- ") => {}
                _ => bail!("the mark `{mark}` has no end"),
            }
        }
        text += &new;
        text += "<!-- end -->\n";
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Statistic;

    /// A row with one subscriber.
    pub(super) fn record(bench: &str, candidate: &str, payload: usize, nanoseconds: f64) -> Record {
        Record {
            bench: bench.to_owned(),
            payload,
            value: None,
            subscribers: 1,
            processes: None,
            mode: None,
            candidate: candidate.to_owned(),
            ns_min: nanoseconds,
            ns_median: 2.0 * nanoseconds,
            noise: 0.01,
            statistic: Statistic::Min,
            ratio: f64::NAN,
            messages_per_second: None,
            bytes_per_second: None,
            latency_ns: None,
        }
    }

    fn known(mark: &str) -> anyhow::Result<Option<String>> {
        Ok((mark == "known").then(|| "new\n".to_owned()))
    }

    #[test]
    fn only_what_stands_between_marks_is_replaced() {
        let page = "one\n<!-- known -->\nold\nolder\n<!-- end -->\ntwo\n<!-- comment -->\nthree\n";
        let expected = "one\n<!-- known -->\nnew\n<!-- end -->\ntwo\n<!-- comment -->\nthree\n";
        assert_eq!(fill(page, known).unwrap(), expected);
        assert_eq!(fill(expected, known).unwrap(), expected, "again");
    }

    #[test]
    fn a_mark_without_an_end_is_an_error() {
        for page in ["<!-- known -->\nold\n", "<!-- known -->\n<!-- known -->\n<!-- end -->\n"] {
            assert!(fill(page, known).unwrap_err().to_string().contains("has no end"));
        }
    }
}
