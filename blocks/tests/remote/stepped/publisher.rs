//! Publishers that are stopped and killed after any instruction.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::task::{Context, Waker};

use blockcast_blocks::{Bell, Channel, Overflow, SegmentFiles, Writer, channel};

use super::receiver::Receiver;
use super::{
    Fate, Stops, be_met, hear, marked, meet, part, report, resources, run, shares, stay_on_this_processor,
    stops,
};
use crate::messages::{self, Random};
use crate::other_process::{OtherProcess, Socket};
use crate::{attach, config, open_files, open_unanswered, publish, terms};

/// Blocks of the channel.
const BLOCKS: u64 = 32;
/// Messages kept for a subscriber that keeps the oldest.
const KEPT: u64 = 4;

/// The operation of a publisher that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Publish,
    /// Rings the bell of a process that waits.
    Wake,
    /// Gets blocks back that everybody has passed.
    Reclaim,
    /// Overtakes subscribers that may lose messages, and lists the messages that they have claimed.
    Overtake,
    /// Takes back messages that a subscriber has claimed and not taken.
    Revoke,
    /// Announces that it waits for a block.
    Wait,
    Attach,
    Detach,
    Close,
}

use Operation::{Attach, Close, Detach, Overtake, Publish, Reclaim, Revoke, Wait, Wake};

impl Operation {
    const ALL: [Self; 9] = [Publish, Wake, Reclaim, Overtake, Revoke, Wait, Attach, Detach, Close];

    /// Its share of the kills, compared with others: smaller if it makes system calls.
    fn weight(self) -> u64 {
        if self == Attach { 1 } else { 8 }
    }

    /// Messages published before it.
    fn before(self) -> u64 {
        match self {
            Reclaim | Overtake | Revoke | Wait => BLOCKS,
            Publish | Wake | Attach | Detach | Close => 3,
        }
    }

    /// Receives the messages that must be received before it.
    fn prepare(self, [reliable, overtakable, keeping]: &mut [Receiver; 3]) {
        match self {
            Publish | Wait | Attach | Detach | Close => {}
            Reclaim => [reliable, overtakable, keeping].into_iter().for_each(Receiver::receive_all),
            Wake => {
                for one in [reliable, overtakable, keeping] {
                    one.receive_all();
                    one.wait();
                }
            }
            Overtake => {
                reliable.receive_all();
                overtakable.receive();
                keeping.receive_owned();
            }
            Revoke => {
                (0..KEPT).for_each(|_| assert!(reliable.receive()));
                overtakable.receive();
                (0..KEPT).for_each(|_| assert!(keeping.receive()));
            }
        }
    }
}

/// The process that is stopped.
fn be_victim(socket: &Socket, operation: Operation) {
    let mut writer = channel(config()).expect("a channel");
    be_met(socket);
    attach(writer.channel(), socket);
    socket.expect("joined");
    (0..operation.before()).for_each(|sequence| publish(&mut writer, sequence));
    let shared = Arc::clone(writer.channel());
    let (mut offered, mut other) = (None, None);
    if matches!(operation, Attach | Detach) {
        let SegmentFiles { control, arena } = shared.share().expect("it is shared");
        let (bell, others_bell) = Bell::pair().expect("descriptors are left");
        socket.send("another", &[control.as_fd(), arena.as_fd(), others_bell.as_fd()]);
        let [annex] = socket.receive_files("annex");
        offered = Some((annex, bell));
    }
    if operation == Detach {
        let (annex, bell) = offered.take().expect("just offered");
        other = Some(shared.attach(annex, terms(), bell).expect("an annex"));
    }
    socket.send("ready", &[]);
    socket.expect("go");
    let mut writer = Some(writer);
    let the_writer = writer.as_mut().expect("there is one");
    match operation {
        Publish | Wake | Reclaim | Overtake => marked(|| publish(the_writer, operation.before())),
        Revoke => marked(|| publish_all(the_writer)),
        Wait => marked(|| {
            let _ = the_writer.poll_loanable(&mut Context::from_waker(Waker::noop()), 1);
        }),
        Attach => marked(|| {
            let (annex, bell) = offered.take().expect("offered above");
            shared.attach(annex, terms(), bell).expect("an annex");
        }),
        Detach => marked(|| drop(shared.detach(other.expect("attached above")))),
        Close => {
            let writer = writer.take();
            marked(|| drop(writer));
        }
    }
    socket.send(&shared.stats().published.to_string(), &[]);
    socket.expect("end");
}

/// Publishes as many messages as blocks come free.
fn publish_all(writer: &mut Writer) {
    loop {
        let sequence = writer.next_sequence().get();
        let Ok(mut loan) = writer.try_loan(messages::LONGEST) else { return };
        let len = messages::fill(&mut loan, sequence);
        loan.publish(len).expect("it fits");
    }
}

/// The effect of an operation that runs to its end undisturbed.
#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    instructions: u64,
    published: u64,
}

/// The subscribers, and the fates of their publishers so far.
struct Stage {
    test: &'static str,
    random: Random,
    stops: Stops,
    messages: u64,
    lost: u64,
}

impl Stage {
    /// Stops a victim after `most` instructions of an operation that was seen to do `whole` undisturbed.
    /// Returns its effect if it continues.
    fn stop(&mut self, operation: Operation, most: u64, fate: Fate, whole: Whole) -> Whole {
        let what = format!("{operation:?}, {fate:?} after {most} instructions");
        let before = resources();
        let victim = OtherProcess::start(self.test);
        let index = Operation::ALL.iter().position(|one| *one == operation).expect("one of all");
        victim.socket.send(&format!("victim {index}"), &[]);
        let tracee = meet(&victim).expect("it was permitted before");
        let (channel, bell) = open_unanswered(&victim.socket);
        let mut readers = <[Receiver; 3]>::default();
        let paces = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest];
        readers.iter_mut().zip(paces).for_each(|(reader, pace)| reader.join(&channel, pace));
        victim.socket.send("joined", &[]);
        let mut others = None;
        if matches!(operation, Attach | Detach) {
            let [control, arena, bell] = victim.socket.receive_files("another");
            let (other, annex) = open_files(control, arena, Bell::from_fd(bell).expect("a bell"));
            victim.socket.send("annex", &[annex.as_fd()]);
            others = Some(other);
        }
        victim.socket.expect("ready");
        operation.prepare(&mut readers);
        victim.socket.send("go", &[]);
        tracee.wait_for_mark();

        let (instructions, is_inside) = run(&tracee, most);
        if fate != Fate::Undisturbed && self.random.below(2) == 0 {
            readers.iter_mut().for_each(Receiver::receive_all);
        }
        let mut does = Whole { instructions, published: 0 };
        if fate == Fate::Killed {
            victim.kill_stopped(tracee);
        } else {
            if is_inside {
                tracee.go_on();
                tracee.wait_for_mark();
            }
            tracee.release();
            let published: u64 = hear(&victim).parse().expect("a number");
            assert_eq!(channel.stats().published, published, "{what}");
            does.published = published - operation.before();
            victim.socket.send("end", &[]);
            assert!(victim.end().success(), "{what}");
        }
        channel.publisher_is_gone();
        let published = channel.stats().published;
        let range = operation.before()..=operation.before() + whole.published;
        assert!(fate != Fate::Killed || range.contains(&published), "{what}: {published} of {range:?}");
        self.check(&channel, &mut readers, published, &what);
        drop((readers, others));
        assert_eq!(Arc::strong_count(&channel), 1, "nothing else keeps it, {what}");
        drop((channel, bell));
        assert_eq!(resources(), before, "descriptors and mappings, {what}");
        does
    }

    /// Receives everything that the publisher has left.
    fn check(&mut self, channel: &Arc<Channel>, readers: &mut [Receiver; 3], published: u64, what: &str) {
        for (index, reader) in readers.iter_mut().enumerate() {
            reader.receive_all();
            let (received, lost) = (reader.received, reader.lost);
            assert_eq!(received + lost, published, "{what}, subscriber {index}");
            assert!(index != 0 || lost == 0, "{what}: the publisher waits for it, and it has lost {lost}");
            assert!(index != 2 || received >= published.min(KEPT), "{what}: it has received {received}");
            assert!(reader.reader.as_ref().is_some_and(|reader| reader.has_ended()), "{what}");
            reader.drop_samples();
            self.lost += lost;
        }
        let bytes: u64 = (0..published).map(|sequence| messages::len(sequence) as u64).sum();
        assert_eq!(channel.stats().bytes, bytes, "{what}: {published} messages");
        assert!(channel.is_closed(), "{what}");
        self.messages += published;
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
}

#[test]
fn publishers_are_killed_after_any_instruction() {
    let test = "stepped::publisher::publishers_are_killed_after_any_instruction";
    let Some((socket, role)) = part(test) else { return };
    if let Some(("victim", index)) = role.split_once(' ') {
        return be_victim(&socket, Operation::ALL[index.parse::<usize>().expect("a number")]);
    }
    stay_on_this_processor();
    let (random, stops) = (Random(std::process::id().into()), Stops::default());
    let mut stage = Stage { test, random, stops, messages: 0, lost: 0 };
    for (operation, share) in shares(&Operation::ALL, Operation::weight) {
        stage.perform(operation, share);
    }
    report(&socket, "publisher every", &stage.stops, stage.messages, stage.lost);
}
