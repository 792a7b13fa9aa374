//! The parts of WASI that can be granted: [`WasiPart`].

use std::fmt;
use std::str::FromStr;

/// A part of WASI that can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WasiPart {
    /// Arguments, environment, standard streams, exit, and a file system without any directory.
    Cli,
    /// Clocks and timers.
    Clocks,
    /// Streams and polling.
    Io,
    /// Random numbers.
    Random,
}

impl WasiPart {
    /// Every part, as ordinary programs need them.
    pub const ALL: [Self; 4] = [Self::Cli, Self::Clocks, Self::Io, Self::Random];

    /// Its name in a grant.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Clocks => "clocks",
            Self::Io => "io",
            Self::Random => "random",
        }
    }
}

impl fmt::Display for WasiPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No part of WASI has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a part of WASI that can be granted; those are cli, clocks, io and random")]
pub struct UnknownWasiPart(String);

impl FromStr for WasiPart {
    type Err = UnknownWasiPart;

    fn from_str(name: &str) -> Result<Self, UnknownWasiPart> {
        let part = Self::ALL.into_iter().find(|part| part.name() == name);
        part.ok_or_else(|| UnknownWasiPart(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_name_and_nothing_else_is_one() {
        for part in WasiPart::ALL {
            assert_eq!(part.name().parse(), Ok(part));
        }
        let error = "sockets".parse::<WasiPart>().expect_err("none");
        assert!(error.to_string().contains("sockets"), "{error}");
    }
}
