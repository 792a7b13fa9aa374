//! Manifests: what to run, in TOML. Every key is known by name; a mistake is told with file, line and key.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use blockcast::{ComponentLimits, Grants, Isolation, Limit, Rate, RestartPolicy, WasiPart};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;

use crate::Refused;
use crate::log::Filter;
use crate::units;

/// A manifest as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(default)]
    pub broker: Broker,
    #[serde(default)]
    pub topic: Vec<Topic>,
    #[serde(default)]
    pub guest: Vec<Guest>,
    /// Native code, which runs with no sandbox around it: a section of its own, so that nobody runs it unawares.
    #[serde(default)]
    pub library: Vec<Guest>,
}

/// `[broker]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Broker {
    /// How often the counters are printed.
    pub stats: Option<Time>,
    /// Which lines of the guests' logs are printed.
    pub log: Option<Parsed<Filter>>,
    /// A folder for compiled guests.
    pub cache: Option<String>,
}

/// `[[topic]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Topic {
    pub name: Spanned<String>,
    /// Text of its schema, such as `flat1/u32:list<string>`.
    pub schema: Option<Spanned<String>>,
    /// A file that is published on it as plain bytes.
    pub input: Option<String>,
    /// Bytes of a block of the input, hence of a chunk.
    #[serde(default = "Topic::block_size")]
    pub block_size: Size,
    /// Blocks of the input.
    #[serde(default = "Topic::blocks")]
    pub blocks: u32,
    /// For how many subscribers the input waits.
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

/// `[[guest]]` and `[[library]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guest {
    /// Default: the source's file name without the extension.
    pub name: Option<Spanned<String>>,
    /// Its file, relative to the manifest.
    pub source: Spanned<String>,
    /// What the file is to be; it is looked at in any case.
    pub kind: Option<Kind>,
    /// How many of it run. More than one are called `name-1`, `name-2` and so on.
    #[serde(default = "Guest::instances")]
    pub instances: Spanned<u32>,
    /// In values, `{name}` stands for the instance's name and `{instance}` for its number.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    #[serde(default)]
    pub publish: Vec<String>,
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// Parts of WASI that it may use; for guests.
    #[serde(default)]
    pub wasi: Vec<Parsed<WasiPart>>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub restart: Restart,
    pub log: Option<Parsed<Filter>>,
}

impl Guest {
    fn instances() -> Spanned<u32> {
        Spanned::new(0..0, 1)
    }

    /// What it is granted.
    pub fn grants(&self) -> Grants {
        let grants = self.publish.iter().fold(Grants::new(), |grants, topic| grants.publish(topic));
        let grants = self.subscribe.iter().fold(grants, |grants, topic| grants.subscribe(topic));
        grants.wasi(self.wasi.iter().map(|part| part.0)).limits(self.limits.guest_limits())
    }
}

/// What a file holds that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A component or a core module, binary or as text: a guest.
    Wasm,
    /// A native shared library.
    Library,
}

impl Kind {
    /// What a file holds: by its first bytes, and where these tell nothing by its name.
    pub fn of(path: &Path) -> Result<Self, Refused> {
        let mut head = Vec::new();
        // What cannot be read is refused when it is loaded. Opening a pipe would wait for a writer.
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            let _ = File::open(path).and_then(|file| file.take(4).read_to_end(&mut head));
        }
        match (&*head, path.extension().and_then(|extension| extension.to_str())) {
            (b"\x7fELF", _) => Ok(Self::Library),
            (b"\0asm", _) | (_, Some("wasm" | "wat")) => Ok(Self::Wasm),
            (_, Some("so")) => Ok(Self::Library),
            _ => Err(format!(
                "{}: neither a guest (.wasm, .wat) nor a native library (.so) nor a manifest (.toml)",
                path.display()
            )),
        }
    }
}

/// `[guest.limits]`: what is not set is as [`ComponentLimits::default`] has it.
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
    isolation: Option<Parsed<Seen>>,
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
    /// The limits that end the guest rather than refuse.
    end_at: Vec<Parsed<Limit>>,
}

impl Limits {
    fn guest_limits(&self) -> ComponentLimits {
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
        limits.isolation = self.isolation.map_or(limits.isolation, |seen| seen.0.0);
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
struct Seen(Isolation);

impl FromStr for Seen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "arena" => Ok(Self(Isolation::Arena)),
            "strict" => Ok(Self(Isolation::Strict)),
            "copied" => Ok(Self(Isolation::Copied)),
            _ => Err(format!("{text:?} is none of \"arena\", \"strict\", \"copied\"")),
        }
    }
}

/// `restart = "on-failure"` or a table.
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
                f.write_str("\"never\", \"on-failure\", \"always\", or a table with `when`")
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

/// A number of bytes, as a number or a text such as `"64KiB"`.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

/// A time, as a text such as `"5s"`.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

/// A rate, as a text such as `"100/s"`.
#[derive(Clone, Copy, Debug)]
pub struct PerSecond(Rate);

/// Anything else that is written as text.
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

/// The most bytes of a manifest.
const MAX_MANIFEST: u64 = 16 << 20;

/// The text of a manifest, for telling where in it something is.
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
            source.wrong(start, error.message())
        })?;
        Ok((source, manifest))
    }

    /// Says what is wrong at a place of the manifest, and shows the line.
    pub fn wrong(&self, at: usize, message: &str) -> Refused {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let shown = self.text.lines().nth(line - 1).unwrap_or_default();
        let path = self.path.display();
        format!("{path}:{line}:{column}: {}\n    {shown}", message.trim_end().replace('\n', " "))
    }

    /// A path of the manifest, which is relative to it.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}
