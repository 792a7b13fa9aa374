//! Arbitrary sequences of calls of the host interface: the seeds of the fuzz target `host_calls`, and
//! thousands of variants of them, the same in every run.
//!
//! The files in `fuzz/seeds/host_calls` contain the programs of [`seeds`]. Set `BLOCKCAST_WRITE_SEEDS=1` to
//! rewrite them.

#[path = "../guest_support/arbitrary_calls.rs"]
mod calls;
#[path = "../guest_support/interpreter.rs"]
mod interpreter;
mod program;
mod seeds;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::guest_support::child::in_child;
use crate::guest_support::{process, wat};
use calls::{Observation, Stage};
use interpreter::CALLS;
use program::Operand::{Number, Stale};
use program::Program;
use seeds::programs;

/// How many programs are derived from the seeds.
const VARIANTS: usize = 3000;

/// Pseudorandom numbers that are the same on every machine (xorshift).
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

    /// Assembles a program from pieces of `known`, some of them changed.
    fn program(&mut self, known: &[Program]) -> Vec<u8> {
        let mut bytes = vec![self.byte() & 31];
        // Begins like one of them, so that there is something that can go wrong.
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

/// Runs a program, and names it if it fails.
fn run(stage: &Stage, program: &[u8]) -> Observation {
    let observation = catch_unwind(AssertUnwindSafe(|| stage.run(program)));
    let observation = observation.unwrap_or_else(|_| panic!("this program fails: {program:?}"));
    observation.expect("options and a program")
}

/// The name of the reason for which the guest ended.
fn end(observation: &Observation) -> String {
    let end = format!("{:?}", observation.reason);
    end.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

#[test]
fn the_seeds_of_the_fuzz_target_are_these_programs() {
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
    assert!(files == programs, "set BLOCKCAST_WRITE_SEEDS=1 to rewrite the seeds");
}

#[test]
fn the_seeds_make_every_call_succeed_and_every_error_occur() {
    in_child!("the_seeds_make_every_call_succeed_and_every_error_occur", || {
        let stage = Stage::new(wat::component, wat::module, true);
        let mut seen = BTreeSet::new();
        for (name, program) in programs() {
            let observation = run(&stage, &program.bytes());
            if std::env::var_os("BLOCKCAST_SHOW").is_some() {
                eprintln!("{name}: {observation:?}");
            }
            seen.extend(observation.calls);
        }
        let silent: Vec<_> =
            CALLS.iter().map(|(name, ..)| *name).filter(|name| !seen.contains(&(*name, 0))).collect();
        assert!(silent.is_empty(), "these never succeeded: {silent:?}");
        let errors: BTreeSet<u8> = seen.iter().map(|(_, code)| *code).filter(|&code| code > 0).collect();
        // All except 4, `internal`, which a healthy machine never returns.
        assert_eq!(errors, (1..=13).filter(|&code| code != 4).collect(), "the numbers of the errors plus 1");
    });
}

#[test]
fn hostile_sequences_of_arbitrary_calls_harm_nobody_and_leak_nothing() {
    in_child!("hostile_sequences_of_arbitrary_calls_harm_nobody_and_leak_nothing", || {
        let stage = Stage::new(wat::component, wat::module, false);
        let known: Vec<Program> = programs().into_values().collect();
        let mut dice = Dice(0x5eed_0fb1_0c4c_a575);
        let (mut calls, mut received, mut published) = (0, 0, 0);
        let mut ends: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..VARIANTS {
            let observation = run(&stage, &dice.program(&known));
            calls += observation.made;
            received += observation.received;
            published += observation.published;
            *ends.entry(end(&observation)).or_default() += 1;
        }
        eprintln!(
            "{VARIANTS} programs made {calls} calls, received {received} messages, published {published}: {ends:?}"
        );
        // The programs reach deep: they run for many calls and exchange messages.
        assert!(
            calls > 4 * VARIANTS as u64 && received > 0 && published > 0,
            "{calls} {received} {published}"
        );
        assert!(ends.len() >= 3, "{ends:?}");
    });
}

/// Steps with a loan, its block and its publisher.
const STEPS: [&str; 7] = ["write", "read", "detach", "publish", "drop block", "drop publisher", "fill"];

#[test]
fn hostile_orders_of_attaching_publishing_and_dropping_harm_nobody() {
    in_child!("hostile_orders_of_attaching_publishing_and_dropping_harm_nobody", || {
        let stage = Stage::new(wat::component, wat::module, false);
        let mut ends = BTreeSet::new();
        // All sequences of three steps, including repetitions, for components and core modules, with loans
        // that are copied and with loans that are built in place.
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
                    // Writes to the address where the block is first attached.
                    _ => {
                        program.other("fill", &[Number(4 << 16), Number(66), Number(size)], 0);
                    }
                }
                left /= STEPS.len();
            }
            ends.insert(end(&run(&stage, &program.bytes())));
        }
        let expected = ["Finished", "ReadOnlyViolation", "Trapped"].map(str::to_owned);
        assert_eq!(ends, expected.into_iter().collect());
    });
}
