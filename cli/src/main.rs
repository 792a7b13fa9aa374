//! The command-line tool: runs guests, native libraries and programs under a broker, and inspects them.
//!
//! ```text
//! blockcast run deployment.toml          runs what a manifest lists
//! blockcast run a.wasm b.wasm --publish 'sensors/*' --subscribe log
//! blockcast run --native libfast.so slow.wasm
//! blockcast run --process libfast.so     runs the library in a process of its own
//! blockcast inspect guest.wasm           shows what it imports, exports and needs
//! blockcast serve                        hosts the machine's topics
//! blockcast topic echo words             prints messages of a topic that a host serves
//! blockcast bridge --both 'camera/*'     carries topics to other machines
//! ```

mod args;
mod bridge;
mod echo;
mod hosting;
mod input;
mod inspect;
mod log;
mod manifest;
mod plan;
mod run;
mod stats;
mod topic;
mod units;
mod value;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

/// An error before anything ran. The message names the file, line and key, if there is one.
type Refused = String;

/// Exit code if the command line, a manifest or a file is wrong, so that nothing was run.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    // This process may be a child that `run` or `inspect` has started to compile a guest.
    blockcast::compile_child_main();
    // Or one that `run` or `serve` has started to run a library.
    blockcast::library_child_main();
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Serve(arguments) => hosting::serve(&arguments),
        Command::Topic(arguments) => topic::topic(&arguments),
        Command::Bridge(arguments) => Err(bridge::become_program(&arguments.arguments)),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
    };
    outcome.unwrap_or_else(|refused| {
        log::say(&refused);
        ExitCode::from(REFUSED)
    })
}
