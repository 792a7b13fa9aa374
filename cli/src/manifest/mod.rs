//! Manifests: TOML files that describe what to run. Unknown keys are errors. Errors include the file, line
//! and key.

mod bridge;
mod limits;
mod source;
mod values;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use blockcast::{Grants, WasiPart};
use serde::Deserialize;
use toml::Spanned;

use crate::Refused;
use crate::log::Filter;

pub use bridge::{Bridge, argument};
pub use limits::Limits;
pub use source::Source;
use values::{Mode, Parsed, Restart, Size, StallPolicy, Time};

/// A manifest's contents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(default)]
    pub broker: Broker,
    #[serde(default)]
    pub topic: Vec<Topic>,
    #[serde(default)]
    pub guest: Vec<Component>,
    /// Native code runs without a sandbox, so it has a section of its own: it never runs by accident.
    #[serde(default)]
    pub library: Vec<Component>,
    /// Libraries and programs in processes of their own.
    #[serde(default)]
    pub process: Vec<Component>,
    /// How to host the machine's topics.
    pub serve: Option<Spanned<Serve>>,
    /// How to carry topics to other machines.
    pub bridge: Option<Spanned<Bridge>>,
}

/// `[serve]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Serve {
    /// Path of the Unix socket, relative to the manifest.
    pub socket: Option<String>,
    /// Permissions of the socket.
    pub mode: Option<Mode>,
    /// What to do about a process that stalls a publisher.
    pub stall: Option<StallPolicy>,
    /// Grants of processes of other users.
    pub user: Vec<Peers>,
    /// Grants of processes with other groups.
    pub group: Vec<Peers>,
}

/// `[[serve.user]]` and `[[serve.group]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// ID of the user or group.
    pub id: u32,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
}

impl Peers {
    /// Returns the grants of these processes.
    pub fn grants(&self) -> Grants {
        topics(&self.publish, &self.subscribe)
    }
}

/// Grants for topics that match these patterns.
pub fn topics(publish: &[String], subscribe: &[String]) -> Grants {
    let grants = publish.iter().fold(Grants::new(), Grants::publish);
    subscribe.iter().fold(grants, Grants::subscribe)
}

/// `[broker]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Broker {
    /// Interval at which the counters are printed.
    pub stats: Option<Time>,
    /// Log lines to print.
    pub log: Option<Parsed<Filter>>,
    /// Folder for compiled guests.
    pub cache: Option<String>,
}

/// `[[topic]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Topic {
    pub name: Spanned<String>,
    /// The schema's text, such as `flat1/u32:list<string>`.
    pub schema: Option<Spanned<String>>,
    /// A file to publish on the topic as plain bytes.
    pub input: Option<String>,
    /// Block size of the input in bytes, and thus the size of its chunks.
    #[serde(default = "Topic::block_size")]
    pub block_size: Size,
    /// Number of blocks of the input.
    #[serde(default = "Topic::blocks")]
    pub blocks: u32,
    /// Number of subscribers that the input waits for.
    #[serde(default = "Topic::subscribers")]
    pub subscribers: u32,
}

impl Topic {
    fn block_size() -> Size {
        Size(64 << 10)
    }

    fn blocks() -> u32 {
        16
    }

    fn subscribers() -> u32 {
        1
    }
}

/// `[[guest]]`, `[[library]]` and `[[process]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Component {
    /// Default: the name of the source file without the extension.
    pub name: Option<Spanned<String>>,
    /// The file to run, relative to the manifest. For a process, it may also name a program in `PATH`.
    pub source: Spanned<String>,
    /// The expected kind of the file. The actual kind is detected in any case.
    pub kind: Option<Kind>,
    /// Number of instances. More than one are named `name-1`, `name-2` and so on.
    #[serde(default = "Component::instances")]
    pub instances: Spanned<u32>,
    /// In values, `{name}` stands for the instance's name and `{instance}` for its number.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    #[serde(default)]
    pub publish: Vec<String>,
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// Parts of WASI that a guest may use.
    #[serde(default)]
    pub wasi: Vec<Parsed<WasiPart>>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub restart: Restart,
    pub log: Option<Parsed<Filter>>,
    /// Arguments of a program in a process of its own.
    pub arguments: Option<Spanned<Vec<String>>>,
    /// Variables of a process's environment, besides a few that it gets anyway.
    pub environment: Option<Spanned<BTreeMap<String, String>>>,
    /// Whether a process gets the whole environment.
    pub inherit_environment: Option<Spanned<bool>>,
    /// The folder in which a process starts, relative to the manifest.
    pub folder: Option<Spanned<String>>,
    /// Confines a process.
    pub sandbox: Option<Spanned<Sandboxed>>,
}

/// `[process.sandbox]`: files and folders are relative to the manifest. An empty table allows nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Sandboxed {
    pub read: Vec<String>,
    pub write: Vec<String>,
    pub network: bool,
    pub processes: bool,
}

impl Component {
    fn instances() -> Spanned<u32> {
        Spanned::new(0..0, 1)
    }

    /// A key that only processes have, and its position.
    pub fn process_key(&self) -> Option<(&'static str, usize)> {
        let keys = [
            ("arguments", self.arguments.as_ref().map(Spanned::span)),
            ("environment", self.environment.as_ref().map(Spanned::span)),
            ("inherit-environment", self.inherit_environment.as_ref().map(Spanned::span)),
            ("folder", self.folder.as_ref().map(Spanned::span)),
            ("sandbox", self.sandbox.as_ref().map(Spanned::span)),
        ];
        keys.into_iter().find_map(|(key, span)| Some((key, span?.start)))
    }

    /// The component's grants.
    pub fn grants(&self) -> Grants {
        let grants = topics(&self.publish, &self.subscribe);
        grants.wasi(self.wasi.iter().map(|part| part.0)).limits(self.limits.component_limits())
    }
}

/// The kind of a file that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A guest: a component or a core module, as binary or text.
    Wasm,
    /// A native shared library.
    Library,
    /// A program. Only processes run one.
    Program,
}

impl Kind {
    /// Detects a file's kind from its first bytes, or else from its name. Programs count as libraries.
    pub fn of(path: &Path) -> Result<Self, Refused> {
        let mut head = Vec::new();
        // Unreadable files are refused when they are loaded. Opening a pipe would wait for a writer.
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            let _ = File::open(path).and_then(|file| file.take(4).read_to_end(&mut head));
        }
        match (&*head, path.extension().and_then(|extension| extension.to_str())) {
            (b"\x7fELF", _) => Ok(Self::Library),
            (b"\0asm", _) | (_, Some("wasm" | "wat")) => Ok(Self::Wasm),
            (_, Some("so")) => Ok(Self::Library),
            _ => Err(format!(
                "{}: not a guest (.wasm, .wat), a native library (.so) or a manifest (.toml)",
                path.display()
            )),
        }
    }
}
