//! Guests that are ordinary programs for `wasm32-wasip2`: parts of WASI, granted by name.
//!
//! Nothing of WASI is granted by default, and of the following only what is. With the feature `wasi` off, a guest that imports any
//! of it is refused when it is loaded.
//!
//! | part     | packages                      | what the guest gets                                                                |
//! | -------- | ----------------------------- | ---------------------------------------------------------------------------------- |
//! | `cli`    | `wasi:cli`, `wasi:filesystem` | its parameters as environment variables, its name as argument, lines of standard output (`info`) and standard error (`warn`) in its log; an empty standard input; no directory, so no file |
//! | `clocks` | `wasi:clocks`                 | both clocks, and waiting for a time                                                |
//! | `io`     | `wasi:io`                     | streams and polling, without which the other parts cannot be used                  |
//! | `random` | `wasi:random`                 | random numbers, secure ones too                                                    |
//!
//! There are no sockets. A program may import `blockcast:blocks` beside WASI, and exports either `run` or `wasi:cli/run`. It ends as its
//! exit code says: 0 is [`Finished`](crate::component::exit::ExitReason::Finished), others are [`Failed`](crate::component::exit::ExitReason::Failed) (WASI's second version tells all of them as 1). Limits apply as to any
//! guest: a program that sleeps or polls is suspended, and is ended by cancellation, shutdown and run time like one that waits.
//! What the host writes for WASI into the guest's memory is subject to the same fault handler as everything else.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

#[cfg(feature = "wasi")]
mod context;
#[cfg(feature = "wasi")]
mod output;

#[cfg(feature = "wasi")]
pub(crate) use context::{Wasi, add_to_linker, exit_status};

/// A part of WASI that can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WasiPart {
    /// Arguments, environment, standard streams, exit; and a file system without any directory.
    Cli,
    /// Clocks and timers.
    Clocks,
    /// Streams and polling.
    Io,
    /// Random numbers.
    Random,
}

impl WasiPart {
    /// All of them: what an ordinary program needs.
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

    /// The part to which an imported interface such as `wasi:cli/stdout@0.2.3` belongs.
    fn of_import(import: &str) -> Option<Self> {
        let (package, _) = import.strip_prefix("wasi:")?.split_once('/')?;
        match package {
            "cli" | "filesystem" => Some(Self::Cli),
            "clocks" => Some(Self::Clocks),
            "io" => Some(Self::Io),
            "random" => Some(Self::Random),
            _ => None,
        }
    }
}

impl fmt::Display for WasiPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no part of WASI of this name.
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

/// What a program needs of WASI: for each part the first import that belongs to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WasiNeeds(BTreeMap<WasiPart, String>);

impl WasiNeeds {
    /// Takes an import into account. False if it is not one that could be granted here.
    pub(crate) fn add(&mut self, import: &str) -> bool {
        match WasiPart::of_import(import) {
            Some(part) if cfg!(feature = "wasi") => {
                self.0.entry(part).or_insert_with(|| import.to_owned());
                true
            }
            _ => false,
        }
    }

    /// The parts needed.
    pub(crate) fn parts(&self) -> impl Iterator<Item = WasiPart> {
        self.0.keys().copied()
    }

    /// Why a guest that is granted these parts cannot be started, if it cannot.
    pub(crate) fn missing(&self, granted: &[WasiPart]) -> Option<String> {
        let (part, import) = self.0.iter().find(|(part, _)| !granted.contains(part))?;
        Some(format!("it imports {import}, and \"{part}\" of WASI was not granted to it"))
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

    #[test]
    fn an_import_that_was_not_granted_is_named() {
        let mut needs = WasiNeeds::default();
        assert!(!needs.add("wasi:sockets/tcp@0.2.3"));
        assert!(!needs.add("wasi:cli"));
        assert!(!needs.add("other:cli/stdout@0.2.3"));
        assert_eq!(needs.missing(&[]), None);
        assert_eq!(needs.add("wasi:cli/stdout@0.2.3"), cfg!(feature = "wasi"));
        assert_eq!(needs.add("wasi:filesystem/types@0.2.3"), cfg!(feature = "wasi"));
        if cfg!(feature = "wasi") {
            let missing = needs.missing(&[WasiPart::Io]).expect("not granted");
            assert!(missing.contains("wasi:cli/stdout@0.2.3") && missing.contains("\"cli\""), "{missing}");
            assert_eq!(needs.missing(&WasiPart::ALL), None);
        }
    }
}
