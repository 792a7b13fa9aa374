//! The programs with which fuzzing begins. Together they make every call succeed and every error occur.

use std::collections::BTreeMap;

use super::program::Operand::{End, Kept, Number, Slot, Text, TextAt};
use super::program::Program;

/// All programs, under names that describe them.
pub(super) fn programs() -> BTreeMap<String, Program> {
    let mut programs = BTreeMap::new();
    // As a component and as a core module, in both isolations.
    for options in 0..4 {
        let form = ["component", "module", "strict_component", "strict_module"][usize::from(options)];
        let mut add = |name: &str, program: Program| programs.insert(format!("{name}_{form}"), program);
        add("receive", receive(options, 0));
        add("receive_the_latest", receive(options | 8, 1));
        add("publish", publish(options));
        add("publish_by_key", publish_by_key(options));
        add("publish_a_batch", publish_batch(options));
        add("lend", lend(options, "topic"));
        add("lend_unsealed", lend(options, "bytes"));
        add("blocks", blocks(options));
        add("session", session(options));
        add("refused", refused(options));
        add("violate", violate(options));
    }
    programs
}

/// Receives, holds, releases and leaves.
fn receive(options: u8, overflow: u32) -> Program {
    let mut program = Program::new(options);
    program.subscribe(overflow);
    program.call("subscription.minimum-size", &[Slot(0)]);
    program.donate(true, 2);
    let poll = |program: &mut Program, released: u32| {
        program.call("wait", &[Number(1_000_000)]);
        program.call("subscription.poll", &[Slot(0), Number(4096), Number(64), Number(released)]);
    };
    poll(&mut program, 0);
    let hold = program.call("subscription.hold", &[Slot(0), Number(0)]);
    poll(&mut program, 1);
    program.call("subscription.stats", &[Slot(0)]);
    program.other("load", &[Number(4096 + 16)], 1);
    program.call("subscription.unhold", &[Slot(0), Kept(hold)]);
    poll(&mut program, 2);
    program.call("subscription.remove-storage", &[Slot(0), Number(5 << 16), Number(1 << 16)]);
    program.call("subscription.leave", &[Slot(0)]);
    program.call("subscription.drop", &[Slot(0)]);
    program
}

/// Publishes copied messages.
fn publish(options: u8) -> Program {
    let mut program = Program::new(options);
    program.publisher("topic", 60, 4);
    program.call("publisher.block-size", &[Slot(0)]);
    program.call("publisher.in-place-from", &[Slot(0)]);
    program.call("publisher.subscriber-count", &[Slot(0)]);
    program.other("fill", &[Number(5000), Number(65), Number(60)], 0);
    for _ in 0..3 {
        program.call("publisher.publish", &[Slot(0), Number(5000), Number(60)]);
        program.call("publisher.free-blocks", &[Slot(0)]);
        program.call("wait", &[Number(0)]);
    }
    program.call("publisher.drop", &[Slot(0)]);
    program
}

/// Publishes by the key of one publisher, then of another in its place.
fn publish_by_key(options: u8) -> Program {
    let mut program = Program::new(options);
    program.other("fill", &[Number(5000), Number(65), Number(60)], 0);
    for _ in 0..2 {
        program.publisher("topic", 60, 2);
        let key = program.call("publisher.key", &[Slot(0)]);
        let areas = [(5000, 60), (5001, 0), (5000, 61), (u32::MAX, 2), (5000, 60), (5000, 60)];
        for (address, size) in areas {
            program.call("publish-to", &[Kept(key), Number(address), Number(size)]);
        }
        program.call("publish-to", &[Kept(key), End, Number(1)]);
        program.call("wait", &[Number(0)]);
        program.call("publisher.drop", &[Slot(0)]);
        program.call("publish-to", &[Kept(key), Number(5000), Number(60)]);
    }
    for key in [0, 1, 2, u32::MAX] {
        program.call("publish-to", &[Number(key), Number(5000), Number(60)]);
    }
    program
}

/// Publishes batches, with a message that is refused.
fn publish_batch(options: u8) -> Program {
    let mut program = Program::new(options);
    program.publisher("topic", 60, 4);
    program.other("fill", &[Number(5000), Number(65), Number(60)], 0);
    let entries = [(5000, 60), (5001, 0), (5010, 40), (5000, 61), (u32::MAX, 2)];
    for (entry, (address, size)) in (4096..).step_by(8).zip(entries) {
        program.other("store", &[Number(entry), Number(address)], 0);
        program.other("store", &[Number(entry + 4), Number(size)], 0);
    }
    for (start, size) in [(4096, 40), (4120, 16), (4128, 8), (4096, 8), (4096, 0), (4097, 8), (4096, 5)] {
        program.call("publisher.publish-batch", &[Slot(0), Number(start), Number(size)]);
        program.call("wait", &[Number(0)]);
    }
    program.call("publisher.publish-batch", &[Slot(0), End, Number(8)]);
    program.call("publisher.drop", &[Slot(0)]);
    program
}

/// Builds and publishes a message that is copied, then one in place.
fn lend(options: u8, topic: &'static str) -> Program {
    let mut program = Program::new(options);
    program.publisher(topic, 16_384, 4);
    program.donate(false, 15);
    for size in [100, 10_000] {
        program.call("publisher.loan", &[Slot(0), Number(size)]);
        program.call("block.minimum-size", &[Slot(0)]);
        let at = program.call("block.attach", &[Slot(0), Number(1)]);
        program.other("fill", &[Kept(at), Number(66), Number(size)], 0);
        program.call("block.create-partition", &[Slot(0), Number(0), Number(8), Number(2)]);
        program.call("publisher.publish-block", &[Slot(0), Slot(0), Number(size)]);
        program.call("block.drop", &[Slot(1)]);
        program.call("block.drop", &[Slot(0)]);
    }
    // One loan stays open.
    program.call("publisher.loan", &[Slot(0), Number(10_000)]);
    program.call("publisher.drop", &[Slot(0)]);
    program
}

/// Uses memory blocks of its own.
fn blocks(options: u8) -> Program {
    let mut program = Program::new(options);
    program.call("block.new", &[Number(100_000)]);
    program.call("block.optimum-size", &[Number(2), Number(100_000)]);
    program.donate(false, 15);
    let at = program.call("block.attach", &[Slot(0), Number(3)]);
    program.other("store", &[Kept(at), Number(7)], 0);
    program.call("block.detach", &[Slot(0), Number(50_000)]);
    program.call("block.clone", &[Slot(0)]);
    for handle in [0, 1] {
        program.call("block.attach", &[Slot(handle), Number(2)]);
    }
    program.call("block.create-partition", &[Slot(1), Number(4096), Number(100), Number(2)]);
    program.call("block.attach", &[Slot(2), Number(2)]);
    for handle in [2, 1, 0] {
        program.call("block.detach", &[Slot(handle), Number(0)]);
        program.call("block.drop", &[Slot(handle)]);
    }
    program.call("block.remove-storage", &[Number(4 << 16), Number(1 << 16)]);
    program.call("block.create-local", &[Number(5000), Number(64)]);
    program.call("block.attach", &[Slot(0), Number(2)]);
    program
}

/// Calls of the session.
fn session(options: u8) -> Program {
    let mut program = Program::new(options | 16);
    program.call("parameter", &[TextAt(48, 7)]);
    program.call("parameter", &[Text("topic")]);
    program.call("log", &[Number(2), Text("topic")]);
    program.call("fail", &[Text("topic")]);
    program.call("now", &[]);
    program.call("wait", &[Number(1000)]);
    program.call("shutdown-requested", &[]);
    program.call("wait", &[Number(u32::MAX)]);
    program.call("shutdown-requested", &[]);
    program
}

/// Calls that are refused, each with the error in the comment before it.
fn refused(options: u8) -> Program {
    let mut program = Program::new(options);
    program.subscribe(0);
    program.call("wait", &[Number(0)]);
    // no-storage, wrong-size, out-of-bounds, invalid-handle
    for (batch, size, released) in
        [(4096, 64, 0), (4096, 64, 0), (4097, 64, 0), (4096, 5, 0), (u32::MAX - 7, 64, 0), (4096, 64, 99)]
    {
        program.call("subscription.poll", &[Slot(0), Number(batch), Number(size), Number(released)]);
    }
    program.call("subscription.hold", &[Slot(0), Number(5)]);
    program.call("subscription.unhold", &[Slot(0), Number(5)]);
    program.call("subscription.add-storage", &[Slot(0), End, Number(1 << 16)]);
    program.call("subscription.add-storage", &[Slot(0), Number(4096), Number(1 << 16)]);
    program.call("subscription.remove-storage", &[Slot(0), Number(0), Number(1 << 16)]);
    // denied (it does not exist and may not be created), schema-mismatch, limit
    program.call("subscription.open", &[TextAt(16, 3), Text("bytes"), Number(0), Number(0), Number(0)]);
    program.call("subscription.open", &[Text("topic"), Text("topic"), Number(0), Number(0), Number(0)]);
    for _ in 0..4 {
        program.subscribe(0);
    }
    program.call("publisher.open", &[Text("topic"), Text("bytes"), Number(0), Number(0), Number(0)]);
    program.publisher("topic", 1 << 20, 64);
    program.publisher("topic", 60, 2);
    // too-large, invalid-payload, exhausted
    program.call("publisher.publish", &[Slot(0), Number(0), Number(1000)]);
    program.other("store", &[Number(5000), Number(u32::from(b'!'))], 0);
    program.call("publisher.publish", &[Slot(0), Number(5000), Number(4)]);
    for _ in 0..4 {
        program.call("publisher.publish", &[Slot(0), Number(16), Number(4)]);
    }
    program.call("block.new", &[Number(1000)]);
    program.call("block.attach", &[Slot(0), Number(0)]);
    program.call("block.attach", &[Slot(0), Number(1)]);
    program.call("block.create-partition", &[Slot(0), Number(0), Number(0), Number(0)]);
    program.call("block.create-partition", &[Slot(0), Number(0), Number(1001), Number(0)]);
    program.call("publisher.publish-block", &[Slot(0), Slot(0), Number(0)]);
    // denied, closed
    program.call("block.create-partition", &[Slot(0), Number(0), Number(1), Number(0)]);
    program.call("block.attach", &[Slot(1), Number(1)]);
    program.publisher("topic", 60, 2);
    program.call("publisher.loan", &[Slot(1), Number(60)]);
    program.call("publisher.drop", &[Slot(1)]);
    program.call("block.attach", &[Slot(2), Number(1)]);
    program
}

/// Receives a message and writes to it.
fn violate(options: u8) -> Program {
    let mut program = Program::new(options);
    program.subscribe(0);
    program.donate(true, 2);
    program.call("wait", &[Number(1_000_000)]);
    program.call("subscription.poll", &[Slot(0), Number(4096), Number(64), Number(0)]);
    let at = program.other("load", &[Number(4096 + 16)], 1);
    program.other("fill", &[Kept(at), Number(7), Number(7)], 0);
    program.call("now", &[]);
    program
}
