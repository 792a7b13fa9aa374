//! `blockcast serve`: hosts the machine's topics.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use blockcast::{Broker, ServeOptions, Serving, default_socket};

use crate::Refused;
use crate::args::Serve;
use crate::log;
use crate::plan::{Hosting, Plan};
use crate::run::{self, Settings};

/// The first descriptor that systemd passes.
const FIRST_PASSED: RawFd = 3;

/// The broker's own log lines to print by default, including those about processes that join and leave.
const LOG: &str = "warn,blockcast_broker::peers=info";

/// Serves until it is interrupted.
pub fn serve(arguments: &Serve) -> Result<ExitCode, Refused> {
    // First of all, so that nothing in this process has used the descriptors that it was given.
    let passed = passed_socket()?;
    let plan = Plan::of_host(arguments)?;
    let socket = match passed {
        Some(_) if arguments.socket.is_some() => {
            return Err("the service manager passes a socket, so --socket has no effect: omit it".to_owned());
        }
        Some(passed) => Socket::Passed(passed),
        None => Socket::Path(match &plan.serve.socket {
            Some(path) => path.clone(),
            None => default_socket().map_err(|error| format!("{error}, with --socket"))?,
        }),
    };
    let settings = Settings { loading: &arguments.loading, json: arguments.json, socket: Some(socket) };
    run::start(plan, settings, LOG)
}

/// Where to serve.
pub enum Socket {
    Path(PathBuf),
    /// A socket that listens already.
    Passed(OwnedFd),
}

impl Socket {
    /// Serves the broker's topics, and prints the address.
    pub fn serve(self, broker: &Broker, hosting: &Hosting) -> Result<Serving, Refused> {
        let options = hosting.options();
        let serving = match self {
            Self::Path(path) => broker.serve(path, options),
            Self::Passed(socket) => broker.serve_at(socket, options),
        };
        let serving = serving.map_err(|error| error.to_string())?;
        log::say(&format!("serving at {}", serving.path().display()));
        Ok(serving)
    }
}

impl Hosting {
    fn options(&self) -> ServeOptions {
        let has_others = !self.users.is_empty() || !self.groups.is_empty();
        let mode = self.mode.unwrap_or(if has_others { 0o666 } else { 0o600 });
        let stall = self.stall.unwrap_or_default();
        let options = ServeOptions::new().name("blockcast").mode(mode).stall(stall);
        let users = self.users.iter().cloned();
        let options = users.fold(options, |options, (id, grants)| options.user(id, grants));
        let groups = self.groups.iter().cloned();
        groups.fold(options, |options, (id, grants)| options.group(id, grants))
    }
}

/// Takes the socket that a service manager such as systemd passes, if there is one (`sd_listen_fds`).
fn passed_socket() -> Result<Option<OwnedFd>, Refused> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    // A parent may have received the variables, and this process has only inherited them.
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        None | Some(0) => Ok(None),
        Some(1) => {
            // SAFETY: only used for this call, which fails if the descriptor is not open.
            let passed = unsafe { BorrowedFd::borrow_raw(FIRST_PASSED) };
            passed.try_clone_to_owned().map_err(|error| format!("the service manager's socket: {error}"))?;
            // SAFETY: the descriptor is open, as the clone has shown. It was passed to this program, which
            // calls this once, before it opens anything.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) }))
        }
        Some(many) => Err(format!("the service manager passes {many} sockets: one is expected")),
    }
}
