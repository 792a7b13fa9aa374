//! Runs of all candidates, in turn.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::report::{self, Row};
use crate::{Arguments, Candidate, Failure, Measure};

/// What one run has measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    /// From the first message that was received to the end.
    pub(crate) nanoseconds: u64,
    /// Nanoseconds of processor time of both processes.
    pub(crate) sender: u64,
    pub(crate) receiver: u64,
    /// Nanoseconds from publishing to receiving.
    pub(crate) median: u64,
    pub(crate) p99: u64,
}

/// A process of the benchmark, which is ended with it.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[String]) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take().ok_or("no pipe")?);
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn say(&mut self) -> Result<(), Failure> {
        Ok(self.input.as_mut().ok_or("no pipe")?.write_all(b"\n")?)
    }

    /// The numbers in the next line.
    fn hear(&mut self) -> Result<Vec<u64>, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a process of the benchmark has failed".into());
        }
        let words = line.split_whitespace().filter(|&word| word != "ready" && word != "arrives");
        words.map(|word| Ok(word.parse()?)).collect()
    }

    /// Lets it end.
    fn end(mut self) -> Result<(), Failure> {
        drop(self.input.take());
        match self.child.wait()?.success() {
            true => Ok(()),
            false => Err("a process of the benchmark has failed".into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless something has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn run(
    arguments: &Arguments,
    candidate: Candidate,
    measure: Measure,
    bytes: usize,
) -> Result<Outcome, Failure> {
    let Arguments { seconds, blocks, .. } = arguments;
    // Nobody listens there any more. Should another program be faster, the receiver fails.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let start = |role: &str| {
        let mut arguments = vec![
            format!("--role={role}"),
            format!("--candidates={}", name(candidate)),
            format!("--measures={}", name(measure)),
            format!("--bytes={bytes}"),
            format!("--seconds={seconds}"),
            format!("--endpoint=tcp/127.0.0.1:{port}"),
        ];
        arguments.extend(blocks.map(|blocks| format!("--blocks={blocks}")));
        Process::start(&arguments)
    };
    let mut receiver = start("receive")?;
    receiver.hear()?;
    let mut sender = start("send")?;
    sender.hear()?;
    receiver.hear()?;
    sender.say()?;
    let arrived = receiver.hear()?;
    sender.say()?;
    let left = sender.hear()?;
    sender.end()?;
    receiver.end()?;
    let (&[received, nanoseconds, receiver, median, p99], &[sent, sender]) = (&*arrived, &*left) else {
        return Err("a process of the benchmark says something else".into());
    };
    // The receiver has seen that it was told of every one of them.
    let lost = sent - received;
    Ok(Outcome { sent, received, lost, nanoseconds, sender, receiver, median, p99 })
}

/// Runs and prints everything.
pub(crate) fn all(arguments: &Arguments) -> Result<(), Failure> {
    report::machine();
    for &measure in &arguments.measures {
        let mut rows = Vec::new();
        for &bytes in &arguments.bytes {
            let mut outcomes = vec![Vec::new(); arguments.candidates.len()];
            for round in 0..arguments.rounds {
                let mut order: Vec<_> = arguments.candidates.iter().zip(&mut outcomes).collect();
                // So that what changes meanwhile affects all of them.
                if round % 2 == 1 {
                    order.reverse();
                }
                for (&candidate, outcomes) in order {
                    outcomes.push(run(arguments, candidate, measure, bytes)?);
                }
            }
            let of = |(&candidate, outcomes)| Row { candidate, bytes, outcomes };
            rows.extend(arguments.candidates.iter().zip(outcomes).map(of));
        }
        report::print(measure, &rows);
    }
    Ok(())
}
