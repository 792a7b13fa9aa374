//! Processes that are killed after each single instruction of an operation.
//!
//! The victim runs in lockstep with this program: it marks the begin and the end of one operation, and
//! executes a given number of its instructions. There it is killed, or continues after all others have done
//! as much as they can. Wherever that is, each effect of the operation is either complete or absent.
//!
//! `BLOCKCAST_KILLS` is the number of kills per test. If an operation has no more instructions than that,
//! each of them is the last one once; otherwise they are spread over it.
//!
//! `BLOCKCAST_OPERATION` names the only operation to stop in, as in `Jump`.
//!
//! With `BLOCKCAST_CONTROL=alive`, the tests break the protocol and must fail: they give back what a process
//! keeps while it lives. `.ci/kills` expects that.

use std::fmt::Debug;
use std::io::Write as _;

use crate::kills::kills;
use crate::messages::Random;
use crate::other_process::{OtherProcess, Socket};
use crate::tracee::{Stop, Tracee, mark, this_thread};

mod publisher;
mod receiver;
mod subscriber;

/// The part that this process plays in a test, and the socket to the process that says so. `None` in the
/// process of the test itself, which plays none: it starts the one that does everything, whose descriptors
/// and mappings are its own. The same if that has happened or is impossible here.
fn part(test: &str) -> Option<(Socket, String)> {
    if let Some(socket) = Socket::of_this_process() {
        let (part, _) = socket.receive().expect("the other process lives");
        if part == "probe" {
            be_met(&socket);
            socket.receive();
            return None;
        }
        return Some((socket, part));
    }
    match obstacle(test) {
        Some(reason) => skip(test, &reason),
        None => {
            let stage = OtherProcess::start(test);
            stage.socket.send("stage", &[]);
            if let Some((report, _)) = stage.socket.receive() {
                println!("{report}");
            }
            assert!(stage.end().success(), "see above");
        }
    }
    None
}

/// Returns why nothing can be single-stepped here, if that is so.
fn obstacle(test: &str) -> Option<String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some(
            "a single-stepped thread may never finish an atomic operation on this processor".to_owned(),
        );
    }
    let victim = OtherProcess::start(test);
    victim.socket.send("probe", &[]);
    match meet(&victim) {
        Ok(tracee) => {
            victim.kill_stopped(tracee);
            None
        }
        Err(error) => Some(format!("ptrace is not permitted: {error}")),
    }
}

/// The victim's side of [`meet`].
fn be_met(socket: &Socket) {
    socket.send(&this_thread().to_string(), &[]);
    socket.expect("met");
}

/// Traces the only working thread of a victim.
fn meet(victim: &OtherProcess) -> Result<Tracee, nix::errno::Errno> {
    let (thread, _) = victim.socket.receive().expect("it lives");
    let tracee = Tracee::seize(thread.parse().expect("a number"))?;
    victim.socket.send("met", &[]);
    Ok(tracee)
}

/// Reports that a test did not run, past the capture of its output.
fn skip(test: &str, reason: &str) {
    writeln!(std::io::stderr(), "{test}: skipped: {reason}").expect("standard error is open");
}

/// Keeps this thread, and the processes that it starts from now on, on one processor: a step then takes a
/// tenth of the time.
fn stay_on_this_processor() {
    let mut here = rustix::thread::CpuSet::new();
    here.set(rustix::thread::sched_getcpu());
    // If that is not permitted, everything takes longer.
    let _ = rustix::thread::sched_setaffinity(None, &here);
}

/// Executes up to `most` instructions of the operation whose begin `tracee` has marked. Returns how many it
/// executed, and whether the operation has not ended.
fn run(tracee: &Tracee, most: u64) -> (u64, bool) {
    for executed in 0..most {
        if tracee.step() == Stop::Mark {
            return (executed, false);
        }
    }
    (most, true)
}

/// Chooses after how many instructions of an operation of this length to stop: after each if there are as
/// many kills.
fn places(random: &mut Random, length: u64, kills: u64) -> Vec<u64> {
    let everywhere = if kills >= length { length } else { 0 };
    let rest = kills - everywhere;
    let spread = |index: u64| {
        let (from, to) = (index * length / rest, (index + 1) * length / rest);
        1 + from + random.below((to - from).max(1))
    };
    (1..=everywhere).chain((0..rest).map(spread)).collect()
}

/// Chooses where to stop in an operation of this length, and the victim's fate: kills, and a quarter as many
/// that continue.
fn stops(random: &mut Random, length: u64, kills: u64) -> Vec<(u64, Fate)> {
    let killed = places(random, length, kills).into_iter().map(|most| (most, Fate::Killed));
    let continued = places(random, length, kills.div_ceil(4)).into_iter().map(|most| (most, Fate::Continues));
    let mut stops: Vec<_> = killed.chain(continued).collect();
    stops.sort_by_key(|(most, _)| *most);
    stops
}

/// Distributes all kills over the operations, by their weights.
fn shares<T: Copy + Debug>(operations: &[T], weight: impl Fn(T) -> u64) -> Vec<(T, u64)> {
    let only = std::env::var("BLOCKCAST_OPERATION");
    let is_asked = |one: &T| only.as_ref().map_or(true, |only| *only == format!("{one:?}"));
    let asked: Vec<T> = operations.iter().copied().filter(is_asked).collect();
    let all: u64 = asked.iter().map(|&one| weight(one)).sum();
    let mut before = 0;
    let share = |one| {
        let first = kills() * before / all;
        before += weight(one);
        (one, kills() * before / all - first)
    };
    asked.into_iter().map(share).collect()
}

/// Returns the next message of a victim.
fn hear(victim: &OtherProcess) -> String {
    victim.socket.receive().expect("the victim has ended itself").0
}

/// The fate of a stopped victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    /// It continues, after others may have done as much as they can.
    Continues,
    /// It continues, and nobody has done anything.
    Undisturbed,
}

/// Whether the tests break the protocol.
fn detaches_alive() -> bool {
    std::env::var("BLOCKCAST_CONTROL").is_ok_and(|control| control == "alive")
}

/// Open descriptors and mappings of channels in this process.
fn resources() -> (usize, usize) {
    let files = std::fs::read_dir("/proc/self/fd").expect("a Linux process").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a Linux process");
    (files, maps.lines().filter(|line| line.contains("memfd:blockcast")).count())
}

/// Reports the result of a series of kills, in one line that `.ci/kills` reads.
fn report(socket: &Socket, victim: &str, stops: &Stops, messages: u64, lost: u64) {
    let Stops { killed, continued, operations, instructions } = stops;
    let counts = format!("kills: {victim} stepped {killed} {messages} {lost}");
    let details =
        format!("{operations} operations, {instructions} instructions; {continued} others continued");
    socket.send(&format!("{counts} ({details})"), &[]);
}

/// How often victims were stopped.
#[derive(Default)]
struct Stops {
    killed: u64,
    continued: u64,
    operations: u64,
    instructions: u64,
}

impl Stops {
    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Killed => self.killed += 1,
            Fate::Continues => self.continued += 1,
            Fate::Undisturbed => {}
        }
    }
}

/// The operation between two marks.
fn marked<T>(operation: impl FnOnce() -> T) -> T {
    mark();
    let result = operation();
    mark();
    result
}
