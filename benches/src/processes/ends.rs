//! [`Ends`]: the processes of a candidate, from the comparing process's point of view.

use std::any::Any;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::processes::board::{Board, MAX_ENDS};
use crate::processes::candidate::Candidate;
use crate::processes::meeting::{Meeting, Task};
use crate::processes::protocol::{Command, Job, Report};
use crate::work::Shape;

/// How long a command may take. A round takes milliseconds; this only turns a hang into an error.
const PATIENCE: Duration = Duration::from_secs(120);

/// An error shows this many bytes from the end of standard error.
const SHOWN: usize = 4096;

/// The processes of a candidate's ends. They sleep between rounds. Dropping this ends them.
pub struct Ends {
    candidate: &'static dyn Candidate,
    meeting: Meeting,
    processes: Vec<Process>,
    events: Receiver<Event>,
    // Dropped in this order, after the processes have ended.
    _prepared: Box<dyn Any>,
    _board: Board,
}

/// A message from the threads that read the processes' output.
enum Event {
    Reported(Report),
    /// A process has written something else.
    Garbled(String),
    /// A process has closed its standard output, so it has ended.
    Ended(usize),
}

struct Process {
    child: Child,
    commands: Option<ChildStdin>,
    /// Reads standard error to its end.
    errors: Option<JoinHandle<String>>,
}

impl Ends {
    /// Starts the ends, and lets them meet.
    ///
    /// # Errors
    /// A process could not be started, or failed. The error shows its standard error.
    pub fn start(
        candidate: &'static dyn Candidate,
        task: Task,
        shape: Shape,
        subscribing: usize,
    ) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Ordering: Relaxed; only uniqueness matters.
        let name = format!("blockcast-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Folder::create(std::env::temp_dir().join(&name))?;
        let board = Board::create(candidate.board_bytes(shape)).context("cannot make a board")?;
        let (path, board_path) = (folder.0.clone(), board.path());
        let meeting = Meeting { name, folder: path, board: board_path, shape, task, subscribing };
        if meeting.ends() > MAX_ENDS {
            return Err(anyhow!("{} ends are too many", meeting.ends()));
        }
        let prepared = candidate.prepare(&meeting)?;
        let (sender, events) = channel();
        let ends = 0..meeting.ends();
        let each: Vec<Vec<usize>> = match candidate.is_one_process() {
            true => vec![ends.collect()],
            false => ends.map(|end| vec![end]).collect(),
        };
        let mut all =
            Self { candidate, meeting, processes: Vec::new(), events, _prepared: prepared, _board: board };
        for ends in each {
            let job = Job { candidate: candidate.name().to_owned(), ends, meeting: all.meeting.clone() };
            let process =
                Process::start(&job, all.processes.len(), &sender).context("cannot start an end")?;
            all.processes.push(process);
        }
        drop(sender);
        all.reports()?;
        all.command(Command::Meet)?;
        // Nobody needs names any more. So nothing is left behind if this process is killed.
        drop(folder);
        Ok(all)
    }

    /// Returns the information with which the ends find each other.
    #[must_use]
    pub fn meeting(&self) -> &Meeting {
        &self.meeting
    }

    /// Gives all ends a command, and returns the report of each, in order.
    ///
    /// # Errors
    /// A process failed. The error shows its standard error.
    pub fn command(&mut self, command: Command) -> anyhow::Result<Vec<Report>> {
        let line = serde_json::to_string(&command)? + "\n";
        for process in &mut self.processes {
            if let Some(commands) = &mut process.commands {
                // A process that does not read has ended, which its standard output shows.
                let _ = commands.write_all(line.as_bytes());
            }
        }
        self.reports()
    }

    /// Waits for a report of each end.
    fn reports(&mut self) -> anyhow::Result<Vec<Report>> {
        let mut reports: Vec<Option<Report>> = vec![None; self.meeting.ends()];
        while reports.iter().any(Option::is_none) {
            match self.events.recv_timeout(PATIENCE) {
                Ok(Event::Reported(report)) => match reports.get_mut(report.end) {
                    Some(place) => *place = Some(report),
                    None => return Err(anyhow!("there is no end {}", report.end)),
                },
                Ok(Event::Garbled(line)) => return Err(anyhow!("an end wrote {line:?}")),
                Ok(Event::Ended(index)) => return Err(self.failed(index)),
                Err(_) => {
                    let errors = self.kill();
                    return Err(anyhow!("no answer within {} seconds{errors}", PATIENCE.as_secs()));
                }
            }
        }
        Ok(reports.into_iter().flatten().collect())
    }

    /// Describes how a process ended, and ends all others.
    fn failed(&mut self, index: usize) -> anyhow::Error {
        let status = self.processes[index].child.wait();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let errors = self.kill();
        anyhow!("a process ended with {status}{errors}")
    }

    /// Kills all processes, and removes what they leave. Returns what they wrote to standard error.
    fn kill(&mut self) -> String {
        let mut errors = String::new();
        for process in &mut self.processes {
            // It may have ended.
            let _ = process.child.kill();
        }
        for process in &mut self.processes {
            let text = process.end();
            let text = text.trim();
            if !text.is_empty() {
                errors.push('\n');
                errors.push_str(text);
            }
        }
        self.processes.clear();
        self.candidate.clear();
        errors
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        // Close all of them first, so that the processes leave at the same time.
        self.processes.iter_mut().for_each(|process| drop(process.commands.take()));
        self.processes.iter_mut().for_each(|process| drop(process.end()));
    }
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ends").field("candidate", &self.candidate.name()).finish_non_exhaustive()
    }
}

impl Process {
    fn start(job: &Job, index: usize, events: &Sender<Event>) -> anyhow::Result<Self> {
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .arg("end")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C ends the comparing process. The ends notice, and leave in order.
            .process_group(0)
            .spawn()?;
        let (commands, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let events = events.clone();
        thread::spawn(move || {
            for line in
                output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok)
            {
                let event = serde_json::from_str(&line).map_or(Event::Garbled(line), Event::Reported);
                if events.send(event).is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Ended(index));
        });
        let errors = thread::spawn(move || errors.map_or(String::new(), read_last));
        let mut process = Self { child, commands, errors: Some(errors) };
        if let Some(commands) = &mut process.commands {
            let line = serde_json::to_string(job)? + "\n";
            // If it has ended, its standard output shows that.
            let _ = commands.write_all(line.as_bytes());
        }
        Ok(process)
    }

    /// Waits for its end. Returns its standard error.
    fn end(&mut self) -> String {
        self.commands = None;
        let _ = self.child.wait();
        self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default()
    }
}

/// Reads everything, and returns the last part.
fn read_last(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; SHOWN];
    while let Ok(len @ 1..) = from.read(&mut part) {
        bytes.extend_from_slice(&part[..len]);
        let excess = bytes.len().saturating_sub(SHOWN);
        bytes.drain(..excess);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A folder of its own. Dropping this removes it with its contents.
struct Folder(PathBuf);

impl Folder {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
