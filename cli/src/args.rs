//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use blockcast::{CompilerProcess, LoadLimit, LoadLimits, LoadOptions, Stall, WasiPart};
use clap::{Args, Parser, Subcommand};

use crate::log::Filter;
use crate::units;

/// Runs sandboxed wasm guests, native libraries and programs that publish and subscribe without copying.
#[derive(Debug, Parser)]
#[command(name = "blockcast", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run guests, native libraries and programs until all of them have ended.
    ///
    /// Ctrl-C asks them to finish; a second Ctrl-C ends them. The exit code is 0 if all have finished, 1 if
    /// one has failed, 2 if nothing was run, and 130 after a second Ctrl-C.
    Run(Box<Run>),
    /// Host this machine's topics, so that other processes can join them, and run manifests' components.
    ///
    /// Goes on until it is interrupted or terminated, even if no process is connected. Ctrl-C asks the
    /// components to finish; a second Ctrl-C ends them. The exit code is that of `run`.
    Serve(Box<Serve>),
    /// Look into a running host without disturbing it.
    #[command(subcommand)]
    Topic(Topic),
    /// Carry topics of a running host to other machines, over zenoh.
    ///
    /// Runs the program `blockcast-bridge`, which is beside this one or in PATH, with all that follows. A
    /// manifest of `serve` can have a [bridge] section instead. `blockcast bridge --help` describes the
    /// flags.
    #[command(disable_help_flag = true)]
    Bridge(Bridge),
    /// Print what files import, export and need, and whether they run here, without running them.
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub struct Bridge {
    /// Flags of `blockcast-bridge`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Guests (.wasm, .wat), native libraries (.so, with --native) or manifests (.toml).
    #[arg(required_unless_present_any = ["manifest", "process"])]
    pub files: Vec<PathBuf>,
    /// Manifest with guests, libraries, processes, grants, topics, limits and restart policies.
    #[arg(long, value_name = "FILE")]
    pub manifest: Vec<PathBuf>,
    /// Run a native library, or a program made with `blockcast::main!`, in a process of its own. If it
    /// crashes, only the component ends. A name without a slash that is not a file here is looked up in PATH.
    #[arg(long, value_name = "FILE")]
    pub process: Vec<PathBuf>,
    /// Confine the processes of --process: they take part in topics, but reach neither the user's files nor
    /// other processes nor the network. A manifest can allow more.
    #[arg(long, requires = "process")]
    pub sandbox: bool,
    /// Also run native libraries named on the command line. Their code runs in this process, without a
    /// sandbox: it can do whatever you can. Files are detected as native libraries from their content, not
    /// their name.
    #[arg(long)]
    pub native: bool,
    #[command(flatten)]
    pub grants: Granted,
    #[command(flatten)]
    pub loading: Loading,
    /// Publish a file on a topic, as plain bytes in chunks. `-` is the standard input.
    #[arg(long, value_name = "TOPIC=FILE", value_parser = pair)]
    pub input: Vec<(String, String)>,
    /// Print the counters at this interval, for example 5s.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub stats: Option<Duration>,
    /// Print the counters as JSON, on one line each time.
    #[arg(long)]
    pub json: bool,
    /// Folder for compiled guests, so that each is compiled only once and not at every start. Only its owner
    /// may have access.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Log lines to print: off, error, warn, info, debug or trace. Default: the manifest's setting, or info.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<Filter>,
}

/// Grants for the components named on the command line. Nothing is granted by default. Manifests
/// have their own grants.
#[derive(Clone, Debug, Default, Args)]
pub struct Granted {
    /// Topics that may be published to: a name, or a prefix followed by `*`. `COMPONENT:` before it restricts
    /// the grant to one component, named by its file without the extension.
    #[arg(long, value_name = "[COMPONENT:]PATTERN")]
    pub publish: Vec<String>,
    /// Topics that may be subscribed to, as above.
    #[arg(long, value_name = "[COMPONENT:]PATTERN")]
    pub subscribe: Vec<String>,
    /// A parameter for guests, libraries and programs.
    #[arg(long, short, value_name = "[COMPONENT:]NAME=VALUE", value_parser = pair)]
    pub parameter: Vec<(String, String)>,
    /// Let guests use WASI: everything that the broker provides, or these parts, separated by commas: cli,
    /// clocks, io, random.
    #[arg(long, value_name = "PARTS", num_args = 0..=1, default_missing_value = "cli,clocks,io,random", value_delimiter = ',')]
    pub wasi: Vec<WasiPart>,
    /// Memory limit of each guest or process, for example 16MiB.
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    pub memory: Option<u64>,
    /// Processor time limit of each component. Waiting does not count.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub compute: Option<Duration>,
    /// Time after which components are ended.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub run_time: Option<Duration>,
    /// When to restart components: never, on-failure or always.
    #[arg(long, value_name = "WHEN", default_value = "never", value_parser = units::restart)]
    pub restart: units::When,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Manifests (.toml) with guests, libraries, processes, topics, and who may join.
    pub manifest: Vec<PathBuf>,
    /// Path of the Unix socket. Default: the manifest's, or `$XDG_RUNTIME_DIR/blockcast.sock`. A socket that
    /// systemd passes comes first.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Permissions of the socket, such as 0660. Default: the manifest's, or 0666 if other users or groups
    /// may join, or 0600.
    #[arg(long, value_name = "MODE", value_parser = units::mode)]
    pub mode: Option<u32>,
    /// Let processes of this user join, as far as --publish and --subscribe allow. Their messages are copied,
    /// so that nobody can change what others read.
    #[arg(long, value_name = "UID")]
    pub allow_user: Vec<u32>,
    /// Let processes with this effective group join, as above.
    #[arg(long, value_name = "GID")]
    pub allow_group: Vec<u32>,
    /// Topics that these users and groups may publish to: a name, or a prefix followed by `*`.
    #[arg(long, value_name = "PATTERN")]
    pub publish: Vec<String>,
    /// Topics that these users and groups may subscribe to, as above.
    #[arg(long, value_name = "PATTERN")]
    pub subscribe: Vec<String>,
    /// What to do about a process whose subscriber holds a publisher of another process back and does not
    /// move: `wait`, or `kill:TIME` to kill that process after a time, such as kill:30s. A process that is
    /// stopped or debugged does not move either. Default: the manifest's, or `wait`.
    #[arg(long, value_name = "POLICY", value_parser = units::stall)]
    pub stall: Option<Stall>,
    /// Print the components' counters at this interval, for example 5s.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub stats: Option<Duration>,
    /// Print the counters as JSON, on one line each time.
    #[arg(long)]
    pub json: bool,
    /// Folder for compiled guests. Only its owner may have access.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Components' log lines to print: off, error, warn, info, debug or trace. Default: the manifest's
    /// setting, or info.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<Filter>,
    #[command(flatten)]
    pub loading: Loading,
}

#[derive(Debug, Subcommand)]
pub enum Topic {
    /// List the topics with their counters.
    List {
        #[command(flatten)]
        host: Host,
        /// Print JSON, one line per topic.
        #[arg(long)]
        json: bool,
    },
    /// Print the publishers and subscribers of a topic with their counters.
    Info {
        topic: String,
        #[command(flatten)]
        host: Host,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the messages of a topic as they are published, until its publishers have left.
    ///
    /// Publishers do not wait for it: if it is too slow, it loses messages, and says how many.
    Echo(Echo),
}

/// Which host to ask.
#[derive(Clone, Debug, Args)]
pub struct Host {
    /// Path of the host's socket. Default: `$XDG_RUNTIME_DIR/blockcast.sock`.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Trust a host of this user. Otherwise it must be yours or root's.
    #[arg(long, value_name = "UID")]
    pub host_user: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Echo {
    pub topic: String,
    #[command(flatten)]
    pub host: Host,
    /// End after this number of messages.
    #[arg(long, value_name = "NUMBER")]
    pub count: Option<u64>,
    /// Begin with this number of earlier messages of each publisher, as far as it keeps them.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub history: u32,
    /// Print JSON, one line per message.
    #[arg(long)]
    pub json: bool,
    /// Print at most this many bytes of a value, except in JSON.
    #[arg(long, value_name = "BYTES", value_parser = units::bytes, default_value = "1KiB")]
    pub limit: u64,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Guests (components or core modules, as binary or text) and native libraries.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print JSON, one line per file.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub loading: Loading,
}

/// How guests are compiled. It happens in a child process, so that hostile code can exhaust neither the
/// machine nor the tool.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Compiling")]
pub struct Loading {
    /// Memory limit for compiling a guest.
    #[arg(long, value_name = "BYTES", value_parser = units::bytes, default_value = "2GiB")]
    pub compile_memory: u64,
    /// Processor time limit for compiling a guest. Elapsed time may be ten times as much.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "2m")]
    pub compile_time: Duration,
    /// Set a limit on what a guest's code may ask of the compiler, for example function-bytes=4194304. An
    /// unknown name lists all names.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = load_limit)]
    pub load_limit: Vec<(LoadLimit, u64)>,
}

impl Loading {
    /// Converts to the broker's options.
    pub fn options(&self) -> LoadOptions {
        let compiler = CompilerProcess::this_program()
            .memory(self.compile_memory)
            .compute(self.compile_time)
            .time(self.compile_time.saturating_mul(10));
        LoadOptions::new().limits(self.limits()).compile_in(compiler)
    }

    /// Limits on what a guest's code may ask of the compiler.
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
    let (name, value) = text.split_once('=').ok_or("`=` is missing")?;
    if name.is_empty() {
        Err("the name before `=` is missing".to_owned())
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}
