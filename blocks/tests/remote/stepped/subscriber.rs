//! Subscribers that are stopped and killed after any instruction.

use std::os::fd::AsFd as _;

use blockcast_blocks::{
    Bell, LoanError, Overflow, Reader, ReaderStats, ReceiveError, SegmentFiles, Writer, channel,
};

use super::receiver::Receiver;
use super::{
    Fate, Stops, be_met, detaches_alive, hear, marked, meet, part, report, resources, run, shares,
    stay_on_this_processor, stops,
};
use crate::kills::{every_block_is_free, join, survive};
use crate::messages::{self, Random};
use crate::other_process::{OtherProcess, Socket};
use crate::{attach, config, open, open_files};

/// Blocks of the channel.
const BLOCKS: u64 = 32;

/// The operation of a subscriber that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Open,
    Join,
    Receive,
    ReceiveOwned,
    Batch,
    /// Counts its samples as holds, and announces that it waits.
    Wait,
    DropSample,
    /// Receives the messages that it claimed but the publisher has passed, learns of its loss, and continues.
    Jump,
    /// The same with a sample.
    JumpWithSample,
    /// Leaves, and keeps a sample.
    Leave,
    Close,
}

use Operation::{
    Batch, Close, DropSample, Join, Jump, JumpWithSample, Leave, Open, Receive, ReceiveOwned, Wait,
};

impl Operation {
    const ALL: [Self; 11] =
        [Open, Join, Receive, ReceiveOwned, Batch, Wait, DropSample, Jump, JumpWithSample, Leave, Close];

    /// How many kills it gets, compared with others. Those that make system calls have many more
    /// instructions, few of which touch shared memory.
    fn weight(self) -> u64 {
        match self {
            Open => 1,
            Join => 4,
            _ => 16,
        }
    }

    /// Whether subscribers of this pace perform this operation.
    fn is_for(self, pace: Overflow) -> bool {
        pace != Overflow::Block || !matches!(self, Jump | JumpWithSample)
    }
}

/// A subscriber that is stopped.
struct Victim<'s> {
    socket: &'s Socket,
    receiver: Receiver,
}

impl Victim<'_> {
    fn ask_for(&self, messages: u64) {
        self.socket.send(&messages.to_string(), &[]);
        self.socket.expect("published");
    }

    /// Takes the steps before an operation of a subscriber that has joined.
    fn prepare(&mut self, operation: Operation) {
        match operation {
            Open | Join => {}
            Receive | ReceiveOwned | Batch => {
                self.ask_for(9);
                self.receiver.receive();
            }
            Wait | Leave => {
                self.ask_for(1);
                self.receiver.receive_owned();
            }
            DropSample => {
                self.ask_for(1);
                self.receiver.receive_owned();
                // Now it is a counted hold.
                self.receiver.wait();
            }
            Jump => {
                self.ask_for(2);
                self.receiver.receive();
                self.ask_for(2 * BLOCKS);
            }
            JumpWithSample => {
                self.ask_for(2);
                self.receiver.receive_owned();
                self.ask_for(2 * BLOCKS);
            }
            Close => {
                self.ask_for(1);
                self.receiver.receive();
                self.receiver.reader = None;
            }
        }
    }

    /// Reports its counts of received and lost messages.
    fn say(&self, what: &str) {
        self.socket.send(&format!("{what} {} {}", self.receiver.received, self.receiver.lost), &[]);
    }
}

/// The process that is stopped.
fn be_victim(socket: &Socket, operation: Operation, pace: Overflow) {
    let mut victim = Victim { socket, receiver: Receiver::default() };
    be_met(socket);
    if operation == Open {
        let [control, arena, bell] = socket.receive_files("open");
        victim.say("ready");
        drop(marked(|| open_files(control, arena, Bell::from_fd(bell).expect("a bell"))));
        victim.say("did");
        return socket.expect("end");
    }
    let (channel, bells) = open(socket);
    if operation != Join {
        victim.receiver.join(&channel, pace);
        victim.prepare(operation);
    }
    victim.say("ready");
    let receiver = &mut victim.receiver;
    match operation {
        Join => marked(|| receiver.join(&channel, pace)),
        Receive => _ = marked(|| receiver.receive()),
        ReceiveOwned => _ = marked(|| receiver.receive_owned()),
        Batch => _ = marked(|| receiver.receive_batch()),
        Wait => marked(|| receiver.wait()),
        DropSample => {
            let sample = receiver.samples.pop();
            marked(|| drop(sample));
        }
        Jump | JumpWithSample => marked(|| receiver.receive_until_lost()),
        Leave => {
            let reader = receiver.reader.take();
            marked(|| drop(reader));
        }
        Open | Close => {
            drop(bells);
            marked(|| drop(channel));
        }
    }
    victim.say("did");
    if victim.receiver.reader.is_some() {
        victim.receiver.receive_all();
        victim.receiver.drop_samples();
        // Its interval passes the samples.
        assert!(!victim.receiver.receive(), "nothing is published meanwhile");
    }
    victim.say("has");
    socket.expect("end");
}

/// The publisher, and subscribers that survive: one in this process and one in another.
struct Stage {
    test: &'static str,
    pace: Overflow,
    writer: Writer,
    here: Reader,
    there: OtherProcess,
    published: u64,
    random: Random,
    stops: Stops,
    lost: u64,
}

/// The effect of an operation that runs to its end undisturbed.
#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    instructions: u64,
    received: u64,
}

impl Stage {
    fn new(test: &'static str, pace: Overflow) -> Self {
        let writer = channel(config()).expect("a channel");
        let here = join(writer.channel(), Overflow::Block);
        let there = OtherProcess::start(test);
        there.socket.send("survivor", &[]);
        attach(writer.channel(), &there.socket);
        there.socket.expect("joined");
        stay_on_this_processor();
        let (random, stops) = (Random(std::process::id().into()), Stops::default());
        Self { test, pace, writer, here, there, published: 0, random, stops, lost: 0 }
    }

    /// The counters of all subscribers: the survivors come first.
    fn readers(&self) -> Vec<ReaderStats> {
        self.writer.channel().stats().subscribers
    }

    /// Receives here. Returns `true` if the other survivor has received everything too.
    fn catch_up(&mut self) -> bool {
        loop {
            let next = self.here.next_sequence().get();
            match self.here.receive() {
                Ok(message) => messages::check(message.bytes(), next),
                Err(ReceiveError::Empty) => break,
                Err(other) => panic!("{other}"),
            }
        }
        self.readers()[..2].iter().all(|survivor| survivor.behind == 0)
    }

    /// Publishes this many messages, or as many as the victim permits.
    fn publish(&mut self, most: u64) {
        let end = self.published + most;
        while self.published < end {
            let caught_up = self.catch_up();
            match self.writer.try_loan(messages::LONGEST) {
                Ok(mut loan) => {
                    let len = messages::fill(&mut loan, self.published);
                    loan.publish(len).expect("it fits");
                    self.published += 1;
                }
                Err(LoanError::Exhausted { .. }) if caught_up => break,
                Err(LoanError::Exhausted { .. }) => std::thread::yield_now(),
                Err(other) => panic!("{other}"),
            }
        }
        while !self.catch_up() {
            std::thread::yield_now();
        }
    }

    /// Stops a victim after `most` instructions of an operation that was seen to do `whole` undisturbed.
    /// Returns its effect if it continues.
    fn stop(&mut self, operation: Operation, most: u64, fate: Fate, whole: Whole) -> Whole {
        let what = format!("{operation:?}, {:?}, {fate:?} after {most} instructions", self.pace);
        let before = resources();
        let victim = OtherProcess::start(self.test);
        let index = Operation::ALL.iter().position(|one| *one == operation).expect("one of all");
        victim.socket.send(&format!("victim {index}"), &[]);
        let tracee = meet(&victim).expect("it was permitted before");
        let annex = if operation == Open {
            let SegmentFiles { control, arena } = self.writer.channel().share().expect("it is shared");
            let (_, bell) = Bell::pair().expect("descriptors are left");
            victim.socket.send("open", &[control.as_fd(), arena.as_fd(), bell.as_fd()]);
            None
        } else {
            Some(attach(self.writer.channel(), &victim.socket).0)
        };
        let start = self.published;
        let counted = loop {
            let said = hear(&victim);
            let Ok(messages) = said.parse() else { break counts(&said, "ready") };
            self.publish(messages);
            victim.socket.send("published", &[]);
        };
        tracee.wait_for_mark();
        let earlier = self.readers().get(2).cloned().unwrap_or_default();
        assert!(earlier.received <= counted.0 && earlier.lost == counted.1, "{what}: {earlier:?}");

        let (instructions, is_inside) = run(&tracee, most);
        if let Some(annex) = annex.filter(|_| detaches_alive()) {
            self.writer.channel().detach(annex);
        }
        if fate != Fate::Undisturbed && self.random.below(4) != 0 {
            self.publish(3 * BLOCKS);
        }
        let mut does = Whole { instructions, ..Whole::default() };
        if fate == Fate::Killed {
            victim.kill_stopped(tracee);
        } else {
            if is_inside {
                tracee.go_on();
                tracee.wait_for_mark();
            }
            tracee.release();
            let then = counts(&hear(&victim), "did");
            does.received = then.0 - counted.0;
            if operation != Open {
                let has = counts(&hear(&victim), "has");
                if let Some(counted) = self.readers().get(2) {
                    assert_eq!((counted.received, counted.lost, counted.behind), (has.0, has.1, 0), "{what}");
                    assert!(operation == Join || has.0 + has.1 == self.published - start, "{what}");
                }
            }
            victim.socket.send("end", &[]);
            assert!(victim.end().success(), "{what}");
        }
        let detached = annex.map(|annex| self.writer.channel().detach(annex)).unwrap_or_default();
        if fate == Fate::Killed && operation != Open && !detaches_alive() {
            self.check_counts(operation, start, counted, whole, &detached.readers, &what);
        }
        // Every block is free, and nothing is left of the victim.
        self.publish(2 * BLOCKS);
        every_block_is_free(&mut self.writer);
        assert_eq!(resources(), before, "descriptors and mappings, {what}");
        does
    }

    /// Checks the last counters of a victim that had received and lost these numbers of messages before the
    /// operation.
    fn check_counts(
        &mut self,
        operation: Operation,
        start: u64,
        (received, lost): (u64, u64),
        whole: Whole,
        readers: &[ReaderStats],
        what: &str,
    ) {
        let [reader] = readers else {
            let may_be_absent = readers.is_empty() && matches!(operation, Join | Leave | Close);
            assert!(may_be_absent, "{what}: {readers:?}");
            return;
        };
        let all = reader.received + reader.lost + reader.behind;
        assert!(operation == Join || all == self.published - start, "{what}: {reader:?}");
        assert!(reader.received <= received + whole.received, "{what}: {reader:?}, {whole:?}");
        if reader.lost != lost {
            // It has jumped, after everything that it receives. Whatever it has skipped counts as lost.
            assert_eq!(reader.received, received + whole.received, "{what}: {reader:?}");
        }
        self.lost += reader.lost;
    }

    /// Stops and kills this number of victims in the operation.
    fn perform(&mut self, operation: Operation, kills: u64) {
        let whole = self.stop(operation, u64::MAX, Fate::Undisturbed, Whole::default());
        self.stops.operations += 1;
        self.stops.instructions += whole.instructions;
        for (most, fate) in stops(&mut self.random, whole.instructions, kills) {
            self.stop(operation, most, fate, whole);
            self.stops.count(fate);
        }
    }

    /// The survivors have received everything.
    fn end(self) -> u64 {
        let Self { writer, mut here, there, published, .. } = self;
        drop(writer);
        assert_eq!(here.receive().unwrap_err(), ReceiveError::Ended);
        assert_eq!(here.next_sequence().get(), published);
        there.socket.expect(&published.to_string());
        assert!(there.end().success());
        published
    }
}

/// Parses the numbers of messages received and lost from a text that begins with `what`.
fn counts(said: &str, what: &str) -> (u64, u64) {
    let counts = said.strip_prefix(what).and_then(|counts| counts.trim_start().split_once(' '));
    let (received, lost) = counts.expect("two counts");
    (received.parse().expect("a number"), lost.parse().expect("a number"))
}

/// Plays the parts of all processes.
fn subscribers_are_stopped(test: &'static str, pace: Overflow, name: &str) {
    let Some((socket, role)) = part(test) else { return };
    match role.split_once(' ') {
        Some(("victim", index)) => {
            be_victim(&socket, Operation::ALL[index.parse::<usize>().expect("a number")], pace);
        }
        None if role == "survivor" => {
            let (channel, _bells) = open(&socket);
            let reader = join(&channel, Overflow::Block);
            socket.send("joined", &[]);
            socket.send(&survive(reader).to_string(), &[]);
        }
        _ => {
            let mut stage = Stage::new(test, pace);
            let operations: Vec<_> = Operation::ALL.into_iter().filter(|one| one.is_for(pace)).collect();
            for (operation, share) in shares(&operations, Operation::weight) {
                stage.perform(operation, share);
            }
            let (stops, lost) = (std::mem::take(&mut stage.stops), stage.lost);
            report(&socket, &format!("subscriber {name}"), &stops, stage.end(), lost);
        }
    }
}

#[test]
fn reliable_subscribers_are_killed_after_any_instruction() {
    let test = "stepped::subscriber::reliable_subscribers_are_killed_after_any_instruction";
    subscribers_are_stopped(test, Overflow::Block, "reliable");
}

#[test]
fn overtakable_subscribers_are_killed_after_any_instruction() {
    let test = "stepped::subscriber::overtakable_subscribers_are_killed_after_any_instruction";
    subscribers_are_stopped(test, Overflow::DropOldest, "overtakable");
}

#[test]
fn keeping_subscribers_are_killed_after_any_instruction() {
    let test = "stepped::subscriber::keeping_subscribers_are_killed_after_any_instruction";
    subscribers_are_stopped(test, Overflow::DropNewest, "keeping");
}
