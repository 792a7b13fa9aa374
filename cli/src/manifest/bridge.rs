//! [`Bridge`]: topics that travel to other machines.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use serde::Deserialize;
use toml::Spanned;

use super::Source;
use super::values::{Size, Time};

/// `[bridge]`: the settings of `blockcast-bridge`, whose flags have the same names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Bridge {
    /// The program, relative to the manifest, or in `PATH`. By default, `blockcast-bridge` beside this tool
    /// or in `PATH`.
    pub program: Option<Spanned<String>>,
    /// Zenoh's configuration, relative to the manifest.
    zenoh: Option<Spanned<String>>,
    mode: Option<Spanned<String>>,
    connect: Option<Spanned<Vec<String>>>,
    listen: Option<Spanned<Vec<String>>>,
    prefix: Option<Spanned<String>>,
    both: Option<Spanned<Vec<String>>>,
    out: Option<Spanned<Vec<String>>>,
    r#in: Option<Spanned<Vec<String>>>,
    deny: Option<Spanned<Vec<String>>>,
    /// Schemas of topics to which clients that are not bridges may publish.
    schema: Option<Spanned<BTreeMap<String, String>>>,
    /// Keys of topics that do not travel under their names.
    key: Option<Spanned<BTreeMap<String, String>>>,
    back_pressure: bool,
    cache: Option<u32>,
    batch: Option<Size>,
    unchecked: bool,
    without_ends: bool,
    stats: Option<Time>,
}

impl Bridge {
    /// The program's arguments, except for the host's socket.
    pub fn arguments(&self, source: &Source) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut add = |flag: &str, value: &str| arguments.push(argument(flag, value.as_ref()));
        for (flag, value) in [("mode", &self.mode), ("prefix", &self.prefix)] {
            value.iter().for_each(|value| add(flag, value.get_ref()));
        }
        for (flag, values) in self.lists() {
            values.iter().flat_map(|values| values.get_ref()).for_each(|value| add(flag, value));
        }
        for (flag, map) in [("schema", &self.schema), ("key", &self.key)] {
            for (topic, value) in map.iter().flat_map(|map| map.get_ref()) {
                // The first `=` that is not escaped ends the topic.
                let topic = topic.replace('\\', r"\\").replace('=', r"\=");
                add(flag, &format!("{topic}={value}"));
            }
        }
        if let Some(messages) = self.cache {
            add("cache", &messages.to_string());
        }
        if let Some(size) = self.batch {
            add("batch", &size.0.to_string());
        }
        if let Some(time) = self.stats {
            add("stats", &time.0.as_secs().max(1).to_string());
        }
        if let Some(file) = &self.zenoh {
            arguments.push(argument("zenoh", source.resolve(file.get_ref()).as_os_str()));
        }
        let flags = [
            ("--back-pressure", self.back_pressure),
            ("--unchecked", self.unchecked),
            ("--without-ends", self.without_ends),
        ];
        for (flag, is_set) in flags {
            arguments.extend(is_set.then(|| flag.into()));
        }
        arguments
    }

    fn lists(&self) -> [(&'static str, &Option<Spanned<Vec<String>>>); 6] {
        [
            ("connect", &self.connect),
            ("listen", &self.listen),
            ("both", &self.both),
            ("out", &self.out),
            ("in", &self.r#in),
            ("deny", &self.deny),
        ]
    }

    /// Where the key is whose flag an error of the program names.
    pub fn position(&self, error: &str) -> Option<usize> {
        let texts = [("zenoh", &self.zenoh), ("mode", &self.mode), ("prefix", &self.prefix)];
        let texts = texts.into_iter().filter_map(|(flag, key)| Some((flag, key.as_ref()?.span())));
        let lists = self.lists().into_iter().filter_map(|(flag, key)| Some((flag, key.as_ref()?.span())));
        let maps = [("schema", &self.schema), ("key", &self.key)];
        let maps = maps.into_iter().filter_map(|(flag, key)| Some((flag, key.as_ref()?.span())));
        let named = |flag: &str| error.split([' ', '=', '\'']).any(|word| word == format!("--{flag}"));
        let mut keys = texts.chain(lists).chain(maps);
        keys.find(|(flag, _)| named(flag)).map(|(_, span)| span.start)
    }
}

/// An argument of the program. It is one word, so that the value may start with a dash.
pub fn argument(flag: &str, value: &OsStr) -> OsString {
    let mut argument = OsString::from(format!("--{flag}="));
    argument.push(value);
    argument
}
