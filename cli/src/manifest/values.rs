//! Values that are written as texts: sizes, times, rates, and others.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use blockcast::{Rate, RestartPolicy, Stall};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::units;

/// A number of bytes: a number, or a text such as `"64KiB"`.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

/// A time: a text such as `"5s"`.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

/// A rate: a text such as `"100/s"`.
#[derive(Clone, Copy, Debug)]
pub struct PerSecond(pub Rate);

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
