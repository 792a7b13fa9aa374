//! The `end` command: a process that is one or more ends of a candidate.

use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use rustix::time::{ClockId, clock_gettime};

use crate::machine;
use crate::pair::{ping, ping_each, pong, start_together};
use crate::processes::board::Board;
use crate::processes::candidate::Member;
use crate::processes::meeting::{Meeting, PUBLISHER, Task};
use crate::processes::peers;
use crate::processes::protocol::{Command, Job, Report, Times};
use crate::processes::sleeper::Sleeper;
use crate::work::{Sink, Source, Tally};

/// How long a process stays after its commands have ended, if a round does not finish because another end is
/// gone.
const GRACE: Duration = Duration::from_secs(10);

/// How long the other end must have slept before it is woken, so that its processor sleeps too.
const REST: Duration = Duration::from_micros(20);

/// An end of a candidate. `compare` starts it, and controls it through standard input.
#[derive(Args, Debug)]
pub struct End {}

impl End {
    /// Executes commands until there are no more.
    ///
    /// # Errors
    /// The end could not join the others, or a command could not be parsed.
    pub fn run(&self) -> anyhow::Result<()> {
        leave_on_panic();
        let mut lines = io::stdin().lock().lines();
        let job = lines.next().context("this command is for `compare` only")??;
        let Job { candidate, ends, meeting } = serde_json::from_str(&job).context("a line is not a job")?;
        let candidate = peers::find(&candidate).ok_or_else(|| anyhow!("{candidate} is not a candidate"))?;
        let board = Arc::new(Board::open(&meeting.board).context("cannot open the board")?);
        let member = candidate.join(&meeting, &board)?;
        thread::scope(|scope| {
            let mut commands = Vec::new();
            for end in ends {
                let (sender, receiver) = channel();
                commands.push(sender);
                let worker = Worker { end, meeting: &meeting, board: &board, member: &*member };
                scope.spawn(move || {
                    if let Err(error) = worker.run(&receiver) {
                        eprintln!("{error:#}");
                        std::process::exit(1);
                    }
                });
            }
            for line in lines {
                let command: Command = serde_json::from_str(&line?).context("a line is not a command")?;
                for worker in &commands {
                    // A worker that is gone has failed, and ends the process.
                    let _ = worker.send(command);
                }
            }
            thread::spawn(|| {
                thread::sleep(GRACE);
                eprintln!("a round does not finish");
                std::process::exit(1);
            });
            Ok(())
        })
    }
}

/// Ends the process if a thread panics, so that the others do not wait for it.
fn leave_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}

/// The monotonic clock that all processes share, in nanoseconds.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The thread of one end.
struct Worker<'a> {
    end: usize,
    meeting: &'a Meeting,
    board: &'a Board,
    member: &'a dyn Member,
}

impl Worker<'_> {
    fn run(&self, commands: &Receiver<Command>) -> anyhow::Result<()> {
        let Self { end, meeting, board, member } = *self;
        board.sign_in(end);
        let mut sinks = Vec::new();
        if let Some(topic) = meeting.subscribes(end) {
            let each = meeting.subscribers_each();
            let first = end.saturating_sub(1) * each;
            for index in first..first + each {
                sinks.push(member.sink(topic, index).context("cannot open a subscriber")?);
            }
        }
        self.report(Times::None, Tally::default())?;
        let Ok(Command::Meet) = commands.recv() else { return Ok(()) };
        let source = meeting.publishes(end).map(|topic| member.source(topic));
        let mut work = Work {
            end,
            meeting,
            board,
            sinks,
            source: source.transpose().context("cannot open a publisher")?,
            // Only a pair has another end.
            other: match meeting.task {
                Task::WakeUp => {
                    let (process, thread) = board.thread_of(1 - end);
                    Some(Sleeper::new(process, thread).context("cannot observe the other end")?)
                }
                _ => None,
            },
            turns: 0,
        };
        // Threads that the candidate has started stay where the system puts them.
        machine::pin(usize::from(end != PUBLISHER));
        self.report(Times::None, Tally::default())?;
        let mut first = 0;
        for command in commands {
            let Command::Run { messages } = command else { return Err(anyhow!("the ends have met")) };
            let (times, tally) = work.round(first, messages)?;
            first += messages;
            self.report(times, tally)?;
        }
        Ok(())
    }

    fn report(&self, times: Times, tally: Tally) -> anyhow::Result<()> {
        let report = serde_json::to_string(&Report { end: self.end, times, tally })?;
        // This fails if nothing compares any more. Then the commands end, too.
        let _ = writeln!(io::stdout().lock(), "{report}");
        Ok(())
    }
}

/// The work of an end.
struct Work<'a> {
    end: usize,
    meeting: &'a Meeting,
    board: &'a Board,
    sinks: Vec<Box<dyn Sink>>,
    source: Option<Box<dyn Source>>,
    other: Option<Sleeper>,
    /// Number of turns so far.
    turns: u32,
}

impl Work<'_> {
    fn round(&mut self, first: u64, messages: u64) -> anyhow::Result<(Times, Tally)> {
        let task = self.meeting.task;
        if task == Task::Turns {
            return Ok(self.take_turns(first, messages));
        }
        start_together(self.board.arrivals(), 2);
        match (task, &mut self.source, self.sinks.first_mut()) {
            (Task::Throughput, Some(source), None) => {
                let started = now();
                source.publish(first, messages);
                Ok((Times::Started(started), Tally::default()))
            }
            (Task::Throughput, None, Some(sink)) => {
                let tally = sink.receive(first, messages);
                Ok((Times::Ended(now()), tally))
            }
            (Task::PingPong, Some(source), Some(sink)) if self.end == PUBLISHER => {
                let (one_way, tally) = ping(&mut **source, &mut **sink, first, messages);
                Ok((Times::OneWay(one_way), tally))
            }
            (Task::Latency, Some(source), Some(sink)) if self.end == PUBLISHER => {
                let (trips, tally) = ping_each(&mut **source, &mut **sink, first, messages);
                Ok((Times::Trips(trips), tally))
            }
            (Task::PingPong | Task::Latency, Some(source), Some(sink)) => {
                Ok((Times::None, pong(&mut **source, &mut **sink, first, messages)))
            }
            (Task::WakeUp, Some(_), Some(_)) => self.wake(first, messages),
            _ => Err(anyhow!("the end cannot do this")),
        }
    }

    /// Like [`ping`] and [`pong`], but waits until the other end sleeps before it sends.
    fn wake(&mut self, first: u64, messages: u64) -> anyhow::Result<(Times, Tally)> {
        let (Some(source), Some(sink), Some(other)) = (&mut self.source, self.sinks.first_mut(), &self.other)
        else {
            return Err(anyhow!("this end cannot wake the other"));
        };
        let mut tally = Tally::default();
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for number in first..first + messages {
            if self.end != PUBLISHER {
                tally += sink.receive(number, 1);
                received.push(now());
            }
            while !other.is_asleep()? {
                std::hint::spin_loop();
            }
            let rested = now() + REST.as_nanos() as u64;
            while now() < rested {
                std::hint::spin_loop();
            }
            sent.push(now());
            source.publish(number, 1);
            if self.end == PUBLISHER {
                tally += sink.receive(number, 1);
                received.push(now());
            }
        }
        Ok((Times::Woken { sent, received }, tally))
    }

    /// Works in turns of half a pool, so that the publisher never waits for a block.
    fn take_turns(&mut self, first: u64, messages: u64) -> (Times, Tally) {
        let ends = self.meeting.ends();
        let most = (self.meeting.shape.blocks as u64 / 2).max(1);
        let (mut tally, mut spent) = (Tally::default(), 0);
        let until = first + messages;
        let mut number = first;
        while number < until {
            let turn = most.min(until - number);
            if self.end != PUBLISHER {
                self.turns = self.turns.wrapping_add(1);
                self.board.wait_for_turn(self.end, self.turns);
            }
            let began = now();
            if let Some(source) = &mut self.source {
                source.publish(number, turn);
            }
            for sink in &mut self.sinks {
                tally += sink.receive(number, turn);
            }
            spent += now() - began;
            self.board.give_turn((self.end + 1) % ends);
            if self.end == PUBLISHER {
                self.turns = self.turns.wrapping_add(1);
                self.board.wait_for_turn(self.end, self.turns);
            }
            number += turn;
        }
        (Times::Spent(spent), tally)
    }
}
