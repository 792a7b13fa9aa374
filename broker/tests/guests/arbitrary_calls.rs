//! Any sequence of calls of the host interface with any arguments: the programs that the fuzz target `host_calls` begins with,
//! and thousands that come from them by chance, always the same.
//!
//! The seeds in `fuzz/seeds/host_calls` are the programs below; with `BLOCKCAST_WRITE_SEEDS=1` they are written anew.

#[path = "../guest_support/arbitrary_calls.rs"]
mod calls;
#[path = "../guest_support/interpreter.rs"]
mod interpreter;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::guest_support::child::in_child;
use crate::guest_support::{process, wat};
use calls::Stage;
use interpreter::{CALLS, Returns, opcode};

/// Programs that come from the seeds by chance.
const VARIANTS: usize = 3000;

/// An operand of an instruction.
#[derive(Clone, Copy, Debug)]
enum Operand {
    Number(u32),
    /// A number that an earlier instruction has left, counted from the first.
    Kept(usize),
    /// A handle: how many of its kind were made before it and not dropped.
    Slot(u8),
    /// The number of a handle, kept earlier, whether it still stands for something or not.
    Stale(usize),
    /// The text `topic`, which is the name of a sealed topic, or `bytes`, the name of the schema and of an unsealed topic.
    Text(&'static str),
    /// Any text: address and length.
    TextAt(u32, u32),
    /// The end of the memory.
    End,
}

use Operand::{End, Kept, Number, Slot, Stale, Text, TextAt};

/// Instructions one after the other.
#[derive(Clone, Debug, Default)]
struct Program {
    options: u8,
    instructions: Vec<Vec<u8>>,
    kept: usize,
}

impl Program {
    fn new(options: u8) -> Self {
        Self { options, ..Self::default() }
    }

    /// Adds a call; returns where its first result is kept.
    fn call(&mut self, name: &str, operands: &[Operand]) -> usize {
        let (_, types, returns) = CALLS.iter().find(|(known, ..)| *known == name).expect("a call");
        let mut code = vec![opcode(name)];
        let mut operands = operands.iter();
        for kind in types.chars() {
            if kind == 'f' {
                code.push(0);
                continue;
            }
            self.operand(&mut code, *operands.next().expect("an operand"));
            if kind == 'l' {
                code.push(0);
            }
        }
        assert!(operands.next().is_none(), "too many operands for {name}");
        let results = match returns {
            Returns::Nothing => 0,
            Returns::I32 | Returns::I64 => 1,
            Returns::Record | Returns::Result(_) => {
                code.push(0);
                2
            }
        };
        self.instructions.push(code);
        self.keep(results)
    }

    /// Adds an instruction that is no call.
    fn other(&mut self, name: &str, operands: &[Operand], results: usize) -> usize {
        let mut code = vec![opcode(name)];
        for &operand in operands {
            self.operand(&mut code, operand);
        }
        self.instructions.push(code);
        self.keep(results)
    }

    fn keep(&mut self, results: usize) -> usize {
        self.kept += results;
        self.kept - results
    }

    fn operand(&self, code: &mut Vec<u8>, operand: Operand) {
        match operand {
            Number(number) if number < 64 => code.push(number as u8),
            Number(number) => {
                code.push(255);
                code.extend(number.to_le_bytes());
            }
            Kept(index) => {
                let ago = self.kept - 1 - index;
                assert!(ago < 32, "too long ago");
                code.push(64 + ago as u8);
            }
            Slot(slot) => code.push(slot),
            Stale(index) => {
                code.push(240);
                self.operand(code, Kept(index));
            }
            Text("topic") => code.push(0),
            Text(_) => code.push(120),
            TextAt(address, len) => {
                code.push(240);
                self.operand(code, Number(address));
                self.operand(code, Number(len));
            }
            End => code.push(160),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        std::iter::once(self.options).chain(self.instructions.iter().flatten().copied()).collect()
    }

    /// A subscription to `topic` that the host's messages arrive at.
    fn subscribe(&mut self, overflow: u32) {
        self.call(
            "subscription.open",
            &[Text("topic"), Text("bytes"), Number(overflow), Number(0), Number(0)],
        );
    }

    fn publisher(&mut self, topic: &'static str, block_size: u32, blocks: u32) -> usize {
        let options = [Number(block_size), Number(blocks), Number(0)];
        self.call("publisher.open", &[&[Text(topic), Text("bytes")][..], &options].concat())
    }

    /// Grows the memory and donates pages of it for the first subscription or for memory blocks.
    fn donate(&mut self, subscription: bool, pages: u32) {
        // The memory has 4 pages to begin with. The instruction takes a byte as it is.
        self.other("grow", &[Number(15)], 1);
        let area = [Number(4 << 16), Number(pages << 16)];
        if subscription {
            self.call("subscription.add-storage", &[Slot(0), area[0], area[1]]);
        } else {
            self.call("block.add-storage", &area);
        }
    }
}

/// What each program shows is said by its name; together they make every call succeed.
fn programs() -> BTreeMap<String, Program> {
    let mut programs = BTreeMap::new();
    // As a component and as a core module, with both isolations.
    for options in 0..4 {
        let form = ["component", "module", "strict_component", "strict_module"][usize::from(options)];
        let mut add = |name: &str, program: Program| programs.insert(format!("{name}_{form}"), program);
        add("receive", receive(options, 0));
        add("receive_the_latest", receive(options | 8, 1));
        add("publish", publish(options));
        add("lend", lend(options, "topic"));
        add("lend_unsealed", lend(options, "bytes"));
        add("blocks", blocks(options));
        add("session", session(options));
        add("refused", refused(options));
        add("violate", violate(options));
    }
    programs
}

/// Receives, holds, releases, leaves.
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

/// Publishes copies.
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

/// Publishes what it builds: a copied message, then one in place.
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
    // One is left lent.
    program.call("publisher.loan", &[Slot(0), Number(10_000)]);
    program.call("publisher.drop", &[Slot(0)]);
    program
}

/// Memory blocks of its own.
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

/// What is no topic and no block.
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

/// Calls that are refused, most of them with an error of their own.
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

/// Receives, and writes into what was received.
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

/// A sequence of numbers that is the same on every machine (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides
    }

    fn byte(&mut self) -> u8 {
        self.throw(256) as u8
    }

    /// A program made of pieces of `known`, some of them changed.
    fn program(&mut self, known: &[Program]) -> Vec<u8> {
        let mut bytes = vec![self.byte() & 31];
        // One to begin with, so that there is something to go wrong with.
        let first = &known[self.throw(known.len())];
        let begin = first.instructions.iter().take(self.throw(first.instructions.len() + 1));
        let mut instructions: Vec<Vec<u8>> = begin.cloned().collect();
        for _ in 0..self.throw(24) {
            let from = &known[self.throw(known.len())];
            let at = self.throw(instructions.len() + 1);
            let instruction = from.instructions[self.throw(from.instructions.len())].clone();
            instructions.insert(at, instruction);
        }
        for instruction in &mut instructions {
            if self.throw(6) == 0 {
                let at = self.throw(instruction.len());
                instruction[at] = self.byte();
            }
        }
        if self.throw(8) == 0 {
            instructions.push((0..self.throw(64)).map(|_| self.byte()).collect());
        }
        bytes.extend(instructions.concat());
        bytes
    }
}

#[test]
fn seeds_of_the_fuzz_target_are_these_programs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/host_calls");
    let programs: BTreeMap<_, _> =
        programs().into_iter().map(|(name, program)| (name, program.bytes())).collect();
    if std::env::var_os("BLOCKCAST_WRITE_SEEDS").is_some() {
        std::fs::create_dir_all(&folder).expect("a folder");
        for (name, bytes) in &programs {
            std::fs::write(folder.join(name), bytes).expect("written");
        }
    }
    let files: BTreeMap<_, _> = std::fs::read_dir(&folder)
        .expect("seeds")
        .map(|entry| {
            let path = entry.expect("a seed").path();
            (
                path.file_name().expect("a name").to_string_lossy().into_owned(),
                std::fs::read(path).expect("a seed"),
            )
        })
        .collect();
    assert!(files == programs, "BLOCKCAST_WRITE_SEEDS=1 writes the seeds anew");
}

#[test]
fn every_call_succeeds_and_every_error_occurs_in_the_seeds() {
    in_child!("every_call_succeeds_and_every_error_occurs_in_the_seeds", || {
        let stage = Stage::new(wat::component, wat::module, true);
        let mut seen = BTreeSet::new();
        for (name, program) in programs() {
            let performance = stage.run(&program.bytes()).expect("a program");
            if std::env::var_os("BLOCKCAST_SHOW").is_some() {
                eprintln!("{name}: {performance:?}");
            }
            seen.extend(performance.calls);
        }
        let silent: Vec<_> =
            CALLS.iter().map(|(name, ..)| *name).filter(|name| !seen.contains(&(*name, 0))).collect();
        assert!(silent.is_empty(), "these have never succeeded: {silent:?}");
        let errors: BTreeSet<u8> = seen.iter().map(|(_, code)| *code).filter(|&code| code > 0).collect();
        // All but 4, `internal`, which a healthy machine does not answer with.
        assert_eq!(errors, (1..=13).filter(|&code| code != 4).collect(), "errors by their numbers plus 1");
    });
}

#[test]
fn hostile_sequences_of_arbitrary_calls_harm_nobody_and_leave_nothing() {
    in_child!("hostile_sequences_of_arbitrary_calls_harm_nobody_and_leave_nothing", || {
        let stage = Stage::new(wat::component, wat::module, false);
        let known: Vec<Program> = programs().into_values().collect();
        let mut dice = Dice(0x5eed_0fb1_0c4c_a575);
        let (mut calls, mut received, mut published) = (0, 0, 0);
        let mut ends: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..VARIANTS {
            let program = dice.program(&known);
            let performance = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.run(&program)));
            let performance = performance.unwrap_or_else(|_| panic!("this program fails: {program:?}"));
            let performance = performance.expect("options and a program");
            calls += performance.made;
            received += performance.received;
            published += performance.published;
            let end = format!("{:?}", performance.reason);
            let word = end.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            *ends.entry(word.to_owned()).or_default() += 1;
        }
        eprintln!(
            "{VARIANTS} programs made {calls} calls, received {received} messages, published {published}: {ends:?}"
        );
        // It reaches deep: neither do all of them end at once, nor do they talk to nobody.
        assert!(
            calls > 4 * VARIANTS as u64 && received > 0 && published > 0,
            "{calls} {received} {published}"
        );
        assert!(ends.len() >= 3, "{ends:?}");
    });
}

/// What can be done with a loan, its block and its publisher.
const STEPS: [&str; 7] = ["write", "read", "detach", "publish", "drop block", "drop publisher", "fill"];

#[test]
fn hostile_orders_of_attaching_publishing_and_dropping_harm_nobody_whichever_it_is() {
    in_child!("hostile_orders_of_attaching_publishing_and_dropping_harm_nobody_whichever_it_is", || {
        let stage = Stage::new(wat::component, wat::module, false);
        let mut ends = BTreeSet::new();
        // All sequences of three steps, repetitions included, of components and core modules; each with a loan that is
        // copied and with one that is built in place.
        for number in 0..4 * STEPS.len().pow(3) {
            let (order, options, size) = (number / 4, (number & 1) as u8, [100, 10_000][number / 2 % 2]);
            let mut program = Program::new(options);
            let publisher = program.publisher("topic", 16_384, 2);
            program.donate(false, 4);
            let block = program.call("publisher.loan", &[Stale(publisher), Number(size)]);
            let mut left = order;
            for _ in 0..3 {
                match STEPS[left % STEPS.len()] {
                    "write" => {
                        program.call("block.attach", &[Stale(block), Number(1)]);
                    }
                    "read" => {
                        program.call("block.attach", &[Stale(block), Number(2)]);
                    }
                    "detach" => {
                        program.call("block.detach", &[Stale(block), Number(size)]);
                    }
                    "publish" => {
                        program
                            .call("publisher.publish-block", &[Stale(publisher), Stale(block), Number(size)]);
                    }
                    "drop block" => {
                        program.call("block.drop", &[Stale(block)]);
                    }
                    "drop publisher" => {
                        program.call("publisher.drop", &[Stale(publisher)]);
                    }
                    // Where it is attached first, if it is.
                    _ => {
                        program.other("fill", &[Number(4 << 16), Number(66), Number(size)], 0);
                    }
                }
                left /= STEPS.len();
            }
            let performance =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.run(&program.bytes())));
            let performance =
                performance.unwrap_or_else(|_| panic!("this program fails: {:?}", program.bytes()));
            let end = format!("{:?}", performance.expect("options and a program").reason);
            ends.insert(end.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned());
        }
        let expected = ["Finished", "ReadOnlyViolation", "Trapped"].map(str::to_owned);
        assert_eq!(ends, expected.into_iter().collect());
    });
}
