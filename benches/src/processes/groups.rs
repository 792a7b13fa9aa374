//! The groups that are compared between processes.

use std::time::Duration;

use crate::latencies::Latencies;
use crate::limits::LIMIT;
use crate::machine;
use crate::pair::{median, one_way_of};
use crate::processes::ends::Ends;
use crate::processes::meeting::{Meeting, PUBLISHER, Task};
use crate::processes::peers;
use crate::processes::protocol::{Command, Report, Times};
use crate::record::Statistic;
use crate::rounds::{Failure, Timed};
use crate::suite::{Group, Make, Only, POOL};
use crate::work::{Content, Shape, Wait};

/// Numbers of subscribing processes to compare.
const PROCESSES: [usize; 3] = [1, 2, 8];

/// Number of subscribers in the rows that measure the publisher alone.
const MANY: usize = 64;

/// Number of messages in flight where the ends take turns: two turns.
const TURNS_POOL: usize = 512;

/// Returns everything that is compared. `quick` omits most rounds.
#[must_use]
pub fn groups(quick: bool) -> Vec<Group> {
    let mut groups = Vec::new();
    if machine::has_two_processors() {
        pairs(&mut groups, quick);
    }
    let turns = |subscribers| Shape {
        payload: 64,
        subscribers,
        blocks: TURNS_POOL,
        content: Content::Marked,
        wait: Wait::Spin,
    };
    let mut add = |mode, processes, subscribers, make| {
        groups.push(Group {
            bench: "fan-out-processes",
            mode,
            value: None,
            shape: turns(subscribers),
            processes: Some(processes),
            make,
            statistic: Statistic::Min,
            slice: Duration::from_micros(if quick { 50 } else { 500 }),
            rounds: if quick { 2 } else { 21 },
        });
    };
    for processes in PROCESSES {
        add(None, processes, processes, |group, only| all(group, only, Task::Turns, whole));
    }
    for processes in [1, 8] {
        let publishing: Make = |group, only| all(group, only, Task::Turns, publishing);
        add(Some("publishing to 64 subscribers"), processes, MANY, publishing);
    }
    groups
}

/// Two ends that run at the same time.
fn pairs(groups: &mut Vec<Group>, quick: bool) {
    let rounds = if quick { 2 } else { 41 };
    let slice = Duration::from_micros(if quick { 200 } else { 3000 });
    let mut add = |bench, mode, payload, content, wait, slice, make| {
        groups.push(Group {
            bench,
            mode: Some(mode),
            value: None,
            shape: Shape { payload, subscribers: 1, blocks: POOL, content, wait },
            processes: Some(1),
            make,
            statistic: Statistic::Median,
            slice,
            rounds,
        });
    };
    let throughput: Make = |group, only| all(group, only, Task::Throughput, whole);
    let ping_pong: Make = |group, only| all(group, only, Task::PingPong, whole);
    let latency: Make = |group, only| all(group, only, Task::Latency, whole);
    let wake_up: Make = |group, only| all(group, only, Task::WakeUp, whole);
    let modes = [("spinning", Wait::Spin), ("blocking", Wait::Block)];
    for (mode, wait) in modes {
        add("two-processes", mode, 64, Content::Marked, wait, slice, throughput);
    }
    let large = ("spinning", 1 << 20, Wait::Spin, slice * 3);
    for (mode, payload, wait, slice) in
        [("spinning", 64, Wait::Spin, slice), large, ("blocking", 64, Wait::Block, slice)]
    {
        add("two-processes-written", mode, payload, Content::Numbered, wait, slice, throughput);
    }
    for (mode, wait) in modes {
        add("ping-pong-processes", mode, 64, Content::Numbered, wait, slice, ping_pong);
    }
    for (mode, wait) in modes {
        add("latency-processes", mode, 64, Content::Numbered, wait, slice, latency);
    }
    // The total time of a message is far longer than the measured one, because its receiver must fall asleep
    // first.
    add("ping-pong-processes", "asleep", 64, Content::Numbered, Wait::Block, slice / 10, wake_up);
}

/// Returns the nanoseconds per message, given the reports and the number of messages.
type Measure = fn(&[Report], u64) -> f64;

/// Returns all candidates that can do the work. Their processes start with their first messages.
fn all(group: &Group, only: &Only, task: Task, measure: Measure) -> Vec<Timed> {
    let (shape, subscribing) = (group.shape, group.processes.unwrap_or(1));
    let mut all = Vec::new();
    for &candidate in peers::ALL {
        let is_wanted = candidate.name() == LIMIT || only.admits(candidate.name());
        if !is_wanted || !candidate.can(task, shape) {
            continue;
        }
        let mut ends = None;
        let latencies = (task == Task::Latency).then(Latencies::new);
        let recorded = latencies.clone();
        let work = move |messages| {
            let failed = |error: anyhow::Error| Failure::Process {
                candidate: candidate.name().to_owned(),
                reason: format!("{error:#}"),
            };
            let ends = match &mut ends {
                Some(ends) => ends,
                none => none.insert(Ends::start(candidate, task, shape, subscribing).map_err(failed)?),
            };
            let reports = ends.command(Command::Run { messages }).map_err(failed)?;
            check(candidate.name(), ends.meeting(), &reports, messages)?;
            for report in &reports {
                if let (Times::Trips(trips), Some(latencies)) = (&report.times, &recorded) {
                    latencies.record(trips);
                }
            }
            Ok(measure(&reports, messages))
        };
        let mut timed = Timed::new(candidate.name(), Box::new(work));
        if let Some(latencies) = latencies {
            timed = timed.with_latencies(latencies);
        }
        // Sleeping takes far longer than anything that a slice of many messages would average.
        let uses_all = candidate.has_blocks() && task != Task::WakeUp;
        all.push(if uses_all { timed.of_pool(POOL) } else { timed });
    }
    all
}

/// Checks that every subscriber has received every message.
fn check(name: &str, meeting: &Meeting, reports: &[Report], messages: u64) -> Result<(), Failure> {
    for &Report { end, tally, .. } in reports {
        let expected = meeting.expects(end, messages);
        if !tally.is_complete(meeting.shape.content, expected) {
            return Err(Failure::Lost { candidate: name.to_owned(), expected, tally });
        }
    }
    Ok(())
}

/// Returns the time from the first message's start to the last one's end; for answered messages, the median
/// of one way.
fn whole(reports: &[Report], messages: u64) -> f64 {
    let (mut started, mut ended, mut spent) = (0, 0, 0);
    for report in reports {
        match &report.times {
            Times::OneWay(one_way) => return *one_way,
            Times::Trips(trips) => return one_way_of(trips),
            Times::Woken { .. } => return woken(reports),
            Times::Started(at) => started = *at,
            Times::Ended(at) => ended = *at,
            Times::Spent(turns) => spent += turns,
            Times::None => {}
        }
    }
    (ended - started + spent) as f64 / messages as f64
}

/// Returns the median of one way, both there and back.
fn woken(reports: &[Report]) -> f64 {
    let mut ways = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        if let (Times::Woken { sent, .. }, Times::Woken { received, .. }) =
            (&reports[from].times, &reports[to].times)
        {
            ways.extend(received.iter().zip(sent).map(|(received, sent)| (received - sent) as f64));
        }
    }
    median(&mut ways)
}

/// Returns the publisher's own time.
fn publishing(reports: &[Report], messages: u64) -> f64 {
    whole(&reports[PUBLISHER..=PUBLISHER], messages)
}
