//! Manifests: TOML files that describe what to run. Unknown keys are errors. Errors include the file, line
//! and key.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use blockcast::{ComponentLimits, Grants, Isolation, Limit, Rate, RestartPolicy, Stall, WasiPart};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;

use crate::Refused;
use crate::log::Filter;
use crate::units;

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

/// Permissions: a text such as `"0660"`.
#[derive(Clone, Copy, Debug)]
pub struct Mode(pub u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        units::mode(&text).map(Self).map_err(de::Error::custom)
    }
}

/// What to do about a process that stalls a publisher: a text such as `"kill:30s"`.
#[derive(Clone, Copy, Debug)]
pub struct StallPolicy(pub Stall);

impl<'de> Deserialize<'de> for StallPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        units::stall(&text).map(Self).map_err(de::Error::custom)
    }
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

/// `[guest.limits]`, `[library.limits]` and `[process.limits]`. Defaults are those of [`ComponentLimits`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    memory: Option<Size>,
    windows: Option<Size>,
    subscriptions: Option<u32>,
    subscriptions_per_topic: Option<u32>,
    publishers: Option<u32>,
    publisher_bytes: Option<Size>,
    departed_publishers: Option<u32>,
    departed_per_subscription: Option<u32>,
    loans: Option<u32>,
    memory_blocks: Option<u32>,
    memory_block_bytes: Option<Size>,
    in_place: Option<Size>,
    isolation: Option<Parsed<IsolationName>>,
    topics: Option<u32>,
    attached: Option<u32>,
    held: Option<u32>,
    pool_share: Option<u32>,
    back_pressure: Option<bool>,
    publish_messages: Option<PerSecond>,
    publish_bytes: Option<PerSecond>,
    log_lines: Option<PerSecond>,
    host_calls: Option<PerSecond>,
    start_up: Option<Time>,
    compute: Option<Time>,
    run_time: Option<Time>,
    shutdown_grace: Option<Time>,
    /// Limits that end the component instead of refusing the call.
    end_at: Vec<Parsed<Limit>>,
}

impl Limits {
    /// The limits, as the broker knows them.
    pub fn component_limits(&self) -> ComponentLimits {
        let mut limits = ComponentLimits::default();
        let set = |to: &mut u64, size: Option<Size>| *to = size.map_or(*to, |size| size.0);
        set(&mut limits.memory, self.memory);
        set(&mut limits.windows, self.windows);
        set(&mut limits.publisher_bytes, self.publisher_bytes);
        set(&mut limits.memory_block_bytes, self.memory_block_bytes);
        let set = |to: &mut u32, number: Option<u32>| *to = number.unwrap_or(*to);
        set(&mut limits.subscriptions, self.subscriptions);
        set(&mut limits.subscriptions_per_topic, self.subscriptions_per_topic);
        set(&mut limits.publishers, self.publishers);
        set(&mut limits.departed_publishers, self.departed_publishers);
        set(&mut limits.departed_per_subscription, self.departed_per_subscription);
        set(&mut limits.loans, self.loans);
        set(&mut limits.memory_blocks, self.memory_blocks);
        set(&mut limits.topics, self.topics);
        set(&mut limits.attached, self.attached);
        set(&mut limits.held, self.held);
        set(&mut limits.pool_share, self.pool_share);
        let in_place = self.in_place.map(|size| u32::try_from(size.0).unwrap_or(u32::MAX));
        limits.in_place = in_place.unwrap_or(limits.in_place);
        limits.isolation = self.isolation.map_or(limits.isolation, |name| name.0.0);
        limits.back_pressure = self.back_pressure.unwrap_or(limits.back_pressure);
        let rate = |rate: Option<PerSecond>| rate.map(|rate| rate.0);
        limits.publish_messages = rate(self.publish_messages);
        limits.publish_bytes = rate(self.publish_bytes);
        limits.log_lines = rate(self.log_lines).unwrap_or(limits.log_lines);
        limits.host_calls = rate(self.host_calls);
        let time = |time: Option<Time>| time.map(|time| time.0);
        limits.start_up = time(self.start_up).unwrap_or(limits.start_up);
        limits.compute = time(self.compute);
        limits.run_time = time(self.run_time);
        limits.shutdown_grace = time(self.shutdown_grace).unwrap_or(limits.shutdown_grace);
        limits.end_at = self.end_at.iter().map(|limit| limit.0).collect();
        limits
    }
}

/// `isolation`
#[derive(Clone, Copy, Debug)]
struct IsolationName(Isolation);

impl FromStr for IsolationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "arena" => Ok(Self(Isolation::Arena)),
            "strict" => Ok(Self(Isolation::Strict)),
            "copied" => Ok(Self(Isolation::Copied)),
            _ => Err(format!("{text:?} is not an isolation: use \"arena\", \"strict\" or \"copied\"")),
        }
    }
}

/// `restart`: a text such as `"on-failure"`, or a table.
#[derive(Debug)]
pub struct Restart(pub RestartPolicy);

impl Default for Restart {
    fn default() -> Self {
        Self(RestartPolicy::never())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RestartTable {
    when: Parsed<When>,
    initial: Option<Time>,
    factor: Option<f64>,
    max: Option<Time>,
    limit: Option<u32>,
    period: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct When(units::When);

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        units::restart(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for Restart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Restart;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"never\", \"on-failure\", \"always\" or a table with `when`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Restart, E> {
                let restart = units::restart(text).map_err(E::custom)?;
                Ok(Restart(RestartPolicy { restart, ..RestartPolicy::never() }))
            }

            fn visit_map<M: de::MapAccess<'de>>(self, map: M) -> Result<Restart, M::Error> {
                let table = RestartTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let default = RestartPolicy::never();
                Ok(Restart(RestartPolicy {
                    restart: table.when.0.0,
                    initial: table.initial.map_or(default.initial, |time| time.0),
                    factor: table.factor.unwrap_or(default.factor),
                    max: table.max.map_or(default.max, |time| time.0),
                    limit: table.limit.or(default.limit),
                    period: table.period.map_or(default.period, |time| time.0),
                }))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A number of bytes: a number, or a text such as `"64KiB"`.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

/// A time: a text such as `"5s"`.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

/// A rate: a text such as `"100/s"`.
#[derive(Clone, Copy, Debug)]
pub struct PerSecond(Rate);

/// Any other value that is written as text.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<T>(pub T);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text such as \"64KiB\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
                u64::try_from(number).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                units::bytes(text).map(Size).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        units::duration(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for PerSecond {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        units::rate(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

/// Maximum size of a manifest in bytes.
const MAX_MANIFEST: u64 = 16 << 20;

/// The text of a manifest, from which errors quote the line.
pub struct Source {
    pub path: PathBuf,
    text: String,
}

impl Source {
    /// Reads and parses a manifest.
    pub fn read(path: &Path) -> Result<(Self, Manifest), Refused> {
        let failed = |error| format!("{}: {error}", path.display());
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_MANIFEST + 1).read_to_string(&mut text))
            .map_err(failed)?;
        if text.len() as u64 > MAX_MANIFEST {
            return Err(format!("{}: a manifest has at most {MAX_MANIFEST} bytes", path.display()));
        }
        let source = Self { path: path.to_owned(), text };
        let manifest = toml::from_str(&source.text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            source.error(start, error.message())
        })?;
        Ok((source, manifest))
    }

    /// Describes an error at a position in the manifest, and quotes the line.
    pub fn error(&self, at: usize, message: &str) -> Refused {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let shown = self.text.lines().nth(line - 1).unwrap_or_default();
        let path = self.path.display();
        format!("{path}:{line}:{column}: {}\n    {shown}", message.trim_end().replace('\n', " "))
    }

    /// Resolves a path relative to the manifest.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}
