//! Guests that are ordinary programs for `wasm32-wasip2`: parts of WASI, granted by name.
//!
//! A guest gets only the following parts, and only those that it is granted; the default is none. Without the
//! feature `wasi`, loading a guest that imports any of it fails.
//!
//! | part     | packages                      | what the guest gets                                                                |
//! | -------- | ----------------------------- | ---------------------------------------------------------------------------------- |
//! | `cli`    | `wasi:cli`, `wasi:filesystem` | its parameters as environment variables, its name as argument, lines of standard output (`info`) and standard error (`warn`) in its log; an empty standard input; no directory, so no file |
//! | `clocks` | `wasi:clocks`                 | both clocks, and waiting for a time                                                |
//! | `io`     | `wasi:io`                     | streams and polling, without which the other parts cannot be used                  |
//! | `random` | `wasi:random`                 | random numbers, secure ones too                                                    |
//!
//! There are no sockets. A program may also import `blockcast:blocks`, and exports either `run` or
//! `wasi:cli/run`. Its exit code determines how it ends: 0 is [`Finished`](crate::ExitReason::Finished),
//! others are [`Failed`](crate::ExitReason::Failed) (the second version of WASI reports all of them as 1).
//! Limits apply as to any guest: a program that sleeps or polls is suspended, and cancellation, shutdown and
//! the run time end it like a guest that waits. When WASI functions write into the guest's memory, the same
//! fault handler applies.

use std::collections::BTreeMap;

#[cfg(feature = "wasi")]
mod context;
#[cfg(feature = "wasi")]
mod output;

#[cfg(feature = "wasi")]
pub(crate) use context::{Wasi, WasiCtxView, WasiView, add_to_linker, exit_status};

use crate::control::wasi_part::WasiPart;

/// The parts of WASI that a program needs, each with the first import that belongs to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WasiNeeds(BTreeMap<WasiPart, String>);

impl WasiNeeds {
    /// Records an import. Returns `false` if it cannot be granted here.
    pub(crate) fn add(&mut self, import: &str) -> bool {
        match part_of(import) {
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

    /// Why a guest with these grants cannot be started, if it cannot.
    pub(crate) fn missing(&self, granted: &[WasiPart]) -> Option<String> {
        let (part, import) = self.0.iter().find(|(part, _)| !granted.contains(part))?;
        Some(format!("it imports {import}, and \"{part}\" of WASI was not granted to it"))
    }
}

/// The part that an imported interface such as `wasi:cli/stdout@0.2.3` belongs to.
fn part_of(import: &str) -> Option<WasiPart> {
    let (package, _) = import.strip_prefix("wasi:")?.split_once('/')?;
    match package {
        "cli" | "filesystem" => Some(WasiPart::Cli),
        "clocks" => Some(WasiPart::Clocks),
        "io" => Some(WasiPart::Io),
        "random" => Some(WasiPart::Random),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
