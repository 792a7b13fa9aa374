//! Topics travel to other machines by the program `blockcast-bridge`. It is a program of its own, so that
//! this tool does not have to compile zenoh.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open, set_parent_process_death_signal,
};
use rustix::time::Timespec;

use crate::Refused;
use crate::log;
use crate::manifest::{Bridge, Source, argument};

const PROGRAM: &str = "blockcast-bridge";

/// How long a program may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait before a program is started again: first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of a line that are printed.
const LINE: u64 = 16 << 10;

/// `blockcast bridge`: becomes the program, so that its exit code is this tool's, and signals reach it.
pub fn become_program(arguments: &[OsString]) -> Refused {
    let program = program();
    let error = Command::new(&program).args(arguments).exec();
    missing(&program, &error)
}

/// The program beside this tool, or else the one in `PATH`.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|tool| Some(tool.parent()?.join(PROGRAM)));
    beside.filter(|program| program.is_file()).unwrap_or_else(|| PROGRAM.into())
}

fn missing(program: &Path, error: &io::Error) -> Refused {
    let program = program.display();
    match error.kind() {
        io::ErrorKind::NotFound if error.raw_os_error().is_some() => format!(
            "the program {program} is neither beside this tool nor in PATH: it comes from Blockcast's repository, \
             with `cargo install --path bridges/zenoh`"
        ),
        _ => format!("{program}: {error}"),
    }
}

/// A bridge to start, whose settings the program has accepted.
pub struct Planned {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// For errors: its position in the manifest.
    place: String,
}

impl Planned {
    /// Asks the program whether the settings of a manifest are correct. It connects to nobody.
    pub fn new(source: &Source, section: &Bridge, start: usize) -> Result<Self, Refused> {
        let arguments = section.arguments(source);
        let (program, at) = match &section.program {
            Some(named) => {
                let path = source.resolve(named.get_ref());
                // A name without a slash that is not a file here is looked up in PATH.
                let is_name = !named.get_ref().contains('/') && !path.exists();
                let path = if path.is_absolute() { path } else { Path::new(".").join(path) };
                (if is_name { named.get_ref().into() } else { path }, named.span().start)
            }
            None => (program(), start),
        };
        let checked = Command::new(&program).arg("--check").args(&arguments).stdin(Stdio::null()).output();
        let checked = checked.map_err(|error| source.error(at, &missing(&program, &error)))?;
        if !checked.status.success() {
            let said = String::from_utf8_lossy(&checked.stderr);
            let said = said.lines().next().unwrap_or_default();
            let said =
                said.strip_prefix("blockcast-bridge: ").or(said.strip_prefix("error: ")).unwrap_or(said);
            let at = section.position(said).unwrap_or(start);
            let said = if said.is_empty() { checked.status.to_string() } else { said.to_owned() };
            return Err(source.error(at, &format!("the bridge refuses this: {said}")));
        }
        let place = source.error(start, "the bridge cannot be started");
        Ok(Self { program, arguments, place })
    }

    /// Starts the program, with a thread that starts it again whenever it ends.
    pub fn start(&self, name: &str, width: usize, socket: &Path) -> Result<Running, Refused> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(argument("socket", socket.as_os_str()));
        // An interrupt from a terminal is for this tool, which ends the program last.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let parent = getpid();
        let confine = move || {
            // When the thread that starts it ends, thus also when this process is killed.
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // It may have been killed before.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        };
        // SAFETY: between fork and exec, it makes two system calls, and neither allocates nor takes a lock.
        unsafe { command.pre_exec(confine) };
        let failed = |error: &dyn std::fmt::Display| format!("{}\n    {error}", self.place);
        let (ends, end) = io::pipe().map_err(|error| failed(&error))?;
        let (tell, started) = mpsc::channel();
        let supervised = Supervised { command, name: name.to_owned(), width, ends };
        let thread = std::thread::Builder::new().name("blockcast-bridge".to_owned());
        let thread = thread.spawn(move || supervised.run(&tell)).map_err(|error| failed(&error))?;
        let running = Running { end: Some(end), thread: Some(thread) };
        match started.recv() {
            Ok(Err(error)) => Err(failed(&missing(&self.program, &error))),
            _ => Ok(running),
        }
    }
}

/// A bridge's program. Dropping this ends it cleanly, so that it sends what it has, and waits for that.
pub struct Running {
    /// Closing it is the sign.
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has that starts the program.
struct Supervised {
    command: Command,
    name: String,
    width: usize,
    /// Closed by the other end once the program should end.
    ends: PipeReader,
}

impl Supervised {
    fn run(mut self, tell: &Sender<io::Result<()>>) {
        let mut pause = PAUSE;
        loop {
            let began = Instant::now();
            let ended = match self.start() {
                Ok((child, lines)) => {
                    // Somebody waits for this the first time only, as below.
                    let _ = tell.send(Ok(()));
                    let ended = self.watch(child);
                    // Its last lines. Do not wait for the end of its standard error: another program may
                    // hold it open.
                    let _ = lines.recv_timeout(GRACE / 10);
                    ended.map(|status| status.to_string())
                }
                Err(error) => {
                    let said = error.to_string();
                    if tell.send(Err(error)).is_ok() { None } else { Some(said) }
                }
            };
            let Some(ended) = ended else { return };
            if began.elapsed() > LONGEST_PAUSE {
                pause = PAUSE;
            }
            log::about(&self.name, self.width, "ERROR", &format!("{ended}; starts again in {pause:?}"));
            if wait(&[&self.ends], Some(pause)) {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Starts the program. What is returned with it is disconnected once all that it has said is printed.
    fn start(&mut self) -> io::Result<(Child, Receiver<()>)> {
        let mut child = self.command.spawn()?;
        let (printed, lines) = mpsc::channel::<()>();
        if let Some(errors) = child.stderr.take() {
            let (name, width) = (self.name.clone(), self.width);
            let thread = std::thread::Builder::new().name("blockcast-lines".to_owned());
            thread.spawn(move || {
                print(errors, &name, width);
                drop(printed);
            })?;
        }
        Ok((child, lines))
    }

    /// Waits until the program has ended by itself, and returns how. Or ends it, and returns `None`.
    fn watch(&self, mut child: Child) -> Option<ExitStatus> {
        let pid = Pid::from_child(&child);
        // Descriptors may have run out. Then it is not known when the program ends.
        let ended = pidfd_open(pid, PidfdFlags::empty());
        match &ended {
            Ok(ended) => wait(&[&self.ends, ended], None),
            Err(_) => wait(&[&self.ends], None),
        };
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        // It runs, or nobody has waited for it: the number is still its.
        let _ = kill_process(pid, Signal::TERM);
        if let Ok(ended) = &ended
            && !wait(&[ended], Some(GRACE))
        {
            log::about(&self.name, self.width, "ERROR", "does not end when asked to, and is killed");
            let _ = child.kill();
        }
        let _ = child.wait();
        None
    }
}

/// Waits until one of the files has something to read, or is closed elsewhere. Returns `false` if the time is
/// over.
fn wait(files: &[&dyn AsFd], time: Option<Duration>) -> bool {
    let deadline = time.map(|time| Instant::now() + time);
    let mut files: Vec<_> =
        files.iter().map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)).collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut files, left.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            // It cannot wait. A program that may run is ended.
            Err(_) => return true,
        }
    }
}

/// Prints the lines that a program says.
fn print(errors: impl Read, name: &str, width: usize) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    while let Ok(1..) = errors.by_ref().take(LINE).read_until(b'\n', &mut line) {
        let said = String::from_utf8_lossy(&line);
        let said = said.trim_end();
        log::about(name, width, "INFO", said.strip_prefix("blockcast-bridge: ").unwrap_or(said));
        line.clear();
    }
}
