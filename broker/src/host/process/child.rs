//! The child's side: how a program becomes the process of a component, or a program that takes part in topics
//! by itself.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blockcast_blocks::abi::Level;
use blockcast_blocks::text;
use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, getppid};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::component::exit::{ComponentReport, ExitReason};
use crate::component::handle::{Component, ComponentOptions};
use crate::control::broker::Broker;
use crate::control::grants::Grants;
use crate::control::start_error::StartError;
use crate::host::linked::AppOutcome;
use crate::hosting::log::{LogSink, line};
use crate::peers::client::Orders;
use crate::peers::connection::Connection;
use crate::peers::job::{Job, Outcome, Tally};
use crate::peers::options::ConnectOptions;
use crate::peers::place::default_socket;
use crate::peers::protocol::Request;
use crate::session::Session;

/// The variable with the number of the socket that a child inherits, and the ID of the process that started
/// it.
pub(super) const SOCKET_FD: &str = "BLOCKCAST_SOCKET_FD";

/// The variable with the path of the host's socket, for programs that are started by hand.
const SOCKET: &str = "BLOCKCAST_SOCKET";

/// The first argument of a program that is started to run a library.
pub(super) const LIBRARY_ARGUMENT: &str = "blockcast-run-library";

/// Maximum number of threads of a child's runtime.
const THREADS: usize = 4;

/// How long a child waits for its host, and for processes that join. The host itself knows that time better.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a child waits until its host has received the outcome. Its exit status says nearly the same.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// The exit status of a program that could not be started as an app.
const NOT_STARTED: u8 = 2;

/// The exit status of an app that panicked: the same as for any panic.
const PANICKED: u8 = 101;

/// Runs an app as this program: `blockcast::main!` makes this the program's `main`.
///
/// If a broker has [started](Broker::spawn_process) the program, the app is a component of that broker.
///
/// If the program is started by hand, it [connects](Connection) to the host at the path in the variable
/// `BLOCKCAST_SOCKET`, or else at the [default path](default_socket). Its arguments are the app's parameters,
/// as in `words file=README.md fast=1`, and its log goes to standard error. The first `SIGINT` or `SIGTERM`
/// asks the app to finish, the second one ends the program.
///
/// # Exit status
/// | status | meaning |
/// | --- | --- |
/// | 0 | the app finished |
/// | 1 | it failed, or was cancelled |
/// | 2 | it was not started: there is no host, or the arguments make no sense |
/// | 101 | it panicked |
/// | 128 and more | a second signal ended the program: 128 and the number of the signal |
pub fn process_main<K, A, R>(app: A) -> ExitCode
where
    A: FnOnce(Session) -> R + Send + 'static,
    R: AppOutcome<K>,
{
    let run = |connection: &Connection, options| connection.broker().run_once(options, app);
    match inherited_socket() {
        Some(socket) => ExitCode::from(as_child(socket, run)),
        None => ExitCode::from(by_hand(run)),
    }
}

/// If a broker has started the program to run a [library](crate::ProcessSource::library), runs it and ends
/// the process. Otherwise returns immediately.
///
/// Call it first in `main`.
pub fn library_child_main() {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(first), Some(path), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return;
    };
    if first != LIBRARY_ARGUMENT {
        return;
    }
    let Some(socket) = inherited_socket() else { return };
    let status = as_child(socket, |connection, options| {
        let broker = connection.broker();
        // SAFETY: the host that has started this process for the library vouches for it, like a user who runs
        // a program: nothing else is in this process.
        let program = unsafe { broker.load_library(Path::new(&path)) }?;
        broker.supervise_library(&program, options)
    });
    std::process::exit(status.into())
}

/// Takes the socket that the process inherited from its host, if a host started it.
fn inherited_socket() -> Option<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = std::env::var(SOCKET_FD).ok()?;
    let (fd, parent) = variable.split_once(':')?;
    let (fd, parent) = (fd.parse().ok().filter(|fd| *fd > 2)?, parent.parse().ok().and_then(Pid::from_raw)?);
    // Processes that a child starts inherit the variable, but not the socket.
    if getppid() != Some(parent) || TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: a system call with numbers only.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open. By the variable, the parent has passed it to this process, whose code
    // does not know of it, except for this function. It is taken once.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if !fstat(&socket).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket) {
        // The descriptor belongs to somebody else.
        std::mem::forget(socket);
        return None;
    }
    fcntl_setfd(&socket, FdFlags::CLOEXEC).ok()?;
    Some(socket)
}

/// Runs a component of the host that has started this process.
fn as_child(
    socket: OwnedFd,
    run: impl FnOnce(&Connection, ComponentOptions) -> Result<Component, StartError>,
) -> u8 {
    let failed = |why: &dyn fmt::Display| {
        say(why);
        NOT_STARTED
    };
    let runtime = match runtime(false) {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let broker = Broker::on_runtime(runtime.handle().clone());
    // Their counters are those of the component.
    broker.keep_topics();
    let options = ConnectOptions::new().patience(PATIENCE);
    let (connection, job, orders) = match Connection::to_parent(socket, &options, broker) {
        Ok(connected) => connected,
        Err(error) => return failed(&error),
    };
    let log = log_to_host(&connection);
    let limits = job.limits();
    let Job { name, parameters, await_restarts, .. } = job;
    let options = ComponentOptions::new()
        .name(name)
        .grants(Grants::all().limits(limits))
        .parameters(parameters)
        .await_restarts(await_restarts)
        .log(log);
    let (reason, tally) = match run(&connection, options) {
        Ok(component) => runtime.block_on(serve(&connection, &component, orders)),
        Err(error) => (ExitReason::NotStarted(error.to_string()), Tally::default()),
    };
    let outcome = Outcome::of(&reason);
    connection.report_to_host(Request::Outcome { outcome, tally }, LAST_PATIENCE);
    runtime.shutdown_background();
    exit_status(&reason)
}

/// Waits for a component's end, and meanwhile follows the host's requests.
async fn serve(
    connection: &Connection,
    component: &Component,
    mut orders: watch::Receiver<Orders>,
) -> (ExitReason, Tally) {
    let (mut counts, mut goes_on) = (0, true);
    let report = loop {
        let orders = tokio::select! {
            report = component.ended() => break report,
            changed = orders.changed(), if goes_on => {
                goes_on = changed.is_ok();
                *orders.borrow_and_update()
            }
        };
        if orders.is_to_end || orders.is_lost || !goes_on {
            component.cancel();
        } else if orders.is_to_finish {
            component.request_shutdown();
        }
        if orders.counts != counts {
            counts = orders.counts;
            let tally = count(connection, component).await;
            connection.report_to_host(Request::Tally { tally }, Duration::ZERO);
        }
    };
    let ComponentReport { reason, .. } = report;
    (reason, count(connection, component).await)
}

/// Returns the counters of a component: a library's own, or those of an app's topics.
async fn count(connection: &Connection, component: &Component) -> Tally {
    let own = Tally::of(&component.stats().await);
    if own == Tally::default() { connection.broker().shared().tally() } else { own }
}

/// Creates a log that goes to the host. Writing a line waits until it is sent, so that no number of lines is
/// too large for the connection.
fn log_to_host(connection: &Connection) -> LogSink {
    let reporter = connection.reporter();
    Arc::new(move |level: Level, text: &str| {
        let text = line(text).into_owned();
        reporter.report(Request::Log { level: level.number(), text }, Duration::MAX);
    })
}

/// Runs an app that takes part in topics by itself.
fn by_hand(run: impl FnOnce(&Connection, ComponentOptions) -> Result<Component, StartError>) -> u8 {
    match connect_by_hand(run) {
        Ok(reason) => {
            if !reason.is_success() {
                say(&reason);
            }
            exit_status(&reason)
        }
        Err(why) => {
            say(&why);
            NOT_STARTED
        }
    }
}

fn connect_by_hand(
    run: impl FnOnce(&Connection, ComponentOptions) -> Result<Component, StartError>,
) -> Result<ExitReason, String> {
    let parameters = parameters(std::env::args_os().skip(1))?;
    let path = match std::env::var_os(SOCKET).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => default_socket().map_err(|error| format!("{error} in the variable {SOCKET}"))?,
    };
    let runtime = runtime(true).map_err(|error| error.to_string())?;
    // Register them before the app runs, so that no signal ends it.
    let signals = {
        let _context = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate()].map(signal)
    };
    let [Ok(mut interrupt), Ok(mut terminate)] = signals else {
        return Err("the system refuses to handle signals".to_owned());
    };
    let name = program_name();
    let options = ConnectOptions::new().name(&*name);
    let broker = Broker::on_runtime(runtime.handle().clone());
    let connection =
        Connection::connect_broker(&path, &options, broker).map_err(|error| error.to_string())?;
    let log: LogSink = Arc::new(|level, text| say(&format_args!("{level:?}: {text}")));
    let options = ComponentOptions::new().name(name).grants(Grants::all()).parameters(parameters).log(log);
    let component = run(&connection, options).map_err(|error| error.to_string())?;
    let reason = runtime.block_on(async {
        let mut is_asked = false;
        loop {
            let number = tokio::select! {
                report = component.ended() => break report.reason,
                number = received(&mut interrupt, SignalKind::interrupt()) => number,
                number = received(&mut terminate, SignalKind::terminate()) => number,
            };
            if std::mem::replace(&mut is_asked, true) {
                std::process::exit(128 + number);
            }
            component.request_shutdown();
        }
    });
    runtime.shutdown_background();
    Ok(reason)
}

async fn received(signal: &mut Signal, kind: SignalKind) -> i32 {
    match signal.recv().await {
        Some(()) => kind.as_raw_value(),
        None => std::future::pending().await,
    }
}

/// Parses the arguments of a program as parameters.
fn parameters(
    arguments: impl Iterator<Item = std::ffi::OsString>,
) -> Result<BTreeMap<String, String>, String> {
    let mut parameters = BTreeMap::new();
    for argument in arguments {
        let pair = argument.to_str().and_then(|argument| argument.split_once('='));
        let Some((name, value)) = pair.filter(|(name, _)| !name.is_empty()) else {
            return Err(format!(
                "arguments are parameters, such as \"file=README.md\", and {argument:?} is none"
            ));
        };
        if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("the parameter {name:?} is given twice"));
        }
    }
    Ok(parameters)
}

fn program_name() -> String {
    let path = std::env::args_os().next().map(PathBuf::from);
    let name = path.as_deref().and_then(Path::file_stem).and_then(OsStr::to_str);
    name.unwrap_or("program").to_owned()
}

/// Creates a runtime with few threads, since each takes memory. Without signals, it uses fewer descriptors.
fn runtime(signals: bool) -> io::Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS));
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name("blockcast").enable_time();
    if signals {
        builder.enable_io();
    }
    builder.build()
}

fn exit_status(reason: &ExitReason) -> u8 {
    match reason {
        ExitReason::Finished => 0,
        ExitReason::NotStarted(_) => NOT_STARTED,
        ExitReason::Trapped { .. } => PANICKED,
        _ => 1,
    }
}

/// Writes a line to standard error.
fn say(what: &dyn fmt::Display) {
    // Ignore a closed standard error.
    let _ = writeln!(io::stderr(), "{}: {}", program_name(), text::line(&what.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parameters_and_mistakes_are_named() {
        let parse = |arguments: &[&str]| parameters(arguments.iter().map(Into::into));
        assert_eq!(parse(&["a=1", "b=x=y", "c="]).unwrap().len(), 3);
        for (arguments, named) in
            [(&["file"][..], "\"file\""), (&["=1"], "\"=1\""), (&["a=1", "a=2"], "\"a\"")]
        {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn the_exit_status_says_how_the_app_ended() {
        let trapped = ExitReason::Trapped { message: String::new(), backtrace: String::new() };
        let reasons = [
            ExitReason::Finished,
            ExitReason::Failed(String::new()),
            ExitReason::NotStarted(String::new()),
            trapped,
        ];
        assert_eq!(reasons.map(|reason| exit_status(&reason)), [0, 1, 2, 101]);
    }
}
