//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use blockcast::{CompilerProcess, LoadLimit, LoadLimits, LoadOptions, WasiPart};
use clap::{Args, Parser, Subcommand};

use crate::log::Filter;
use crate::units;

/// Runs sandboxed wasm guests, and native libraries, that publish and subscribe without copies.
#[derive(Debug, Parser)]
#[command(name = "blockcast", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run guests and native libraries until all of them have ended.
    ///
    /// Ctrl-C asks them to finish; a second one ends them. The exit code is 0 if all have finished, 1 if one has failed,
    /// 2 if nothing was run, and 130 after a second Ctrl-C.
    Run(Box<Run>),
    /// Print what files import, export and ask for, and whether they run here. Nothing of them is run.
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub struct Run {
    /// Guests (.wasm, .wat), native libraries (.so, with --native), or manifests (.toml).
    #[arg(required_unless_present = "manifest")]
    pub files: Vec<PathBuf>,
    /// A manifest: guests, libraries, grants, topics, limits, restart policies.
    #[arg(long, value_name = "FILE")]
    pub manifest: Vec<PathBuf>,
    /// Run native libraries that the command line names, too. Their code runs in this process, with no sandbox around it: it can
    /// do whatever you can. What is a native library is told by the file's content, not by its name.
    #[arg(long)]
    pub native: bool,
    #[command(flatten)]
    pub grants: Granted,
    #[command(flatten)]
    pub loading: Loading,
    /// Publish a file on a topic, as plain bytes in chunks; `-` is the standard input.
    #[arg(long, value_name = "TOPIC=FILE", value_parser = pair)]
    pub input: Vec<(String, String)>,
    /// Print the counters every so often, for example every 5s.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub stats: Option<Duration>,
    /// Print the counters as JSON, one line each time.
    #[arg(long)]
    pub json: bool,
    /// A folder for compiled guests, so that each is compiled once and not at every start. Only its owner may reach it.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Lines of the guests' logs to print: off, error, warn, info, debug, trace. Default: info, or what the manifest says.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<Filter>,
}

/// What the guests and libraries of the command line may do. Nothing is granted by default, and nothing of this concerns
/// those of manifests.
#[derive(Clone, Debug, Default, Args)]
pub struct Granted {
    /// Topics that guests may publish to: a name, or a prefix followed by `*`. `GUEST:` before it grants it to that
    /// guest only, which is called as its file without the extension.
    #[arg(long, value_name = "[GUEST:]PATTERN")]
    pub publish: Vec<String>,
    /// Topics that guests may subscribe to, as above.
    #[arg(long, value_name = "[GUEST:]PATTERN")]
    pub subscribe: Vec<String>,
    /// A parameter of the guests.
    #[arg(long, short, value_name = "[GUEST:]NAME=VALUE", value_parser = pair)]
    pub parameter: Vec<(String, String)>,
    /// Let guests use WASI: all of it that the broker has, or these parts, separated by commas: cli, clocks, io, random.
    #[arg(long, value_name = "PARTS", num_args = 0..=1, default_missing_value = "cli,clocks,io,random", value_delimiter = ',')]
    pub wasi: Vec<WasiPart>,
    /// Memory of each guest, for example 16MiB.
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    pub memory: Option<u64>,
    /// Time that each guest may compute, waiting not counted.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub compute: Option<Duration>,
    /// Time after which guests are ended.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub run_time: Option<Duration>,
    /// Restart guests: never, on-failure or always.
    #[arg(long, value_name = "WHEN", default_value = "never", value_parser = units::restart)]
    pub restart: units::When,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Guests (components or core modules, binary or as text) and native libraries.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print JSON, one line for each.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub loading: Loading,
}

/// How guests are compiled: in a child process, so that hostile code can exhaust neither the machine nor the tool.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Compiling")]
pub struct Loading {
    /// Memory that compiling a guest may take.
    #[arg(long, value_name = "BYTES", value_parser = units::bytes, default_value = "2GiB")]
    pub compile_memory: u64,
    /// Time that compiling a guest may take: of computing, and ten times as much in all.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "2m")]
    pub compile_time: Duration,
    /// Raise or lower what a guest's code may ask of the compiler, for example function-bytes=4194304. An unknown name
    /// shows all names.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = load_limit)]
    pub load_limit: Vec<(LoadLimit, u64)>,
}

impl Loading {
    /// The same for the broker.
    pub fn options(&self) -> LoadOptions {
        let compiler = CompilerProcess::this_program()
            .memory(self.compile_memory)
            .compute(self.compile_time)
            .time(self.compile_time.saturating_mul(10));
        LoadOptions::new().limits(self.limits()).compile_in(compiler)
    }

    /// What a guest's code may ask of the compiler.
    pub fn limits(&self) -> LoadLimits {
        let mut limits = LoadLimits::default();
        self.load_limit.iter().for_each(|&(limit, value)| limits.set(limit, value));
        limits
    }
}

fn load_limit(text: &str) -> Result<(LoadLimit, u64), String> {
    let (name, value) = pair(text)?;
    let limit = name.parse().map_err(|error: blockcast::UnknownLoadLimit| error.to_string())?;
    Ok((limit, units::bytes(&value)?))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no `=`")?;
    if name.is_empty() {
        Err("there is no name before `=`".to_owned())
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}
