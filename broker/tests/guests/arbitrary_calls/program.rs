//! Builds programs for the interpreter.

use super::interpreter::{CALLS, Returns, opcode};

/// An operand of an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Number(u32),
    /// The result of an earlier instruction, counted from the first result.
    Kept(usize),
    /// A handle, by the number of open handles of its kind that are older.
    Slot(u8),
    /// The number of a handle that was kept earlier, whether it is still open or not.
    Stale(usize),
    /// The text `topic`, the name of a sealed topic, or `bytes`, the name of the schema and of an unsealed
    /// topic.
    Text(&'static str),
    /// Any text, by its address and length.
    TextAt(u32, u32),
    /// The end of the memory.
    End,
}

/// A sequence of instructions.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub(super) options: u8,
    pub(super) instructions: Vec<Vec<u8>>,
    kept: usize,
}

use Operand::{End, Kept, Number, Slot, Stale, Text, TextAt};

impl Program {
    pub(super) fn new(options: u8) -> Self {
        Self { options, ..Self::default() }
    }

    /// Adds a call. Returns the index of its first result.
    pub(super) fn call(&mut self, name: &str, operands: &[Operand]) -> usize {
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
            Returns::I32 | Returns::I64 | Returns::Sequence => 1,
            Returns::Record | Returns::Result(_) => {
                code.push(0);
                2
            }
        };
        self.instructions.push(code);
        self.keep(results)
    }

    /// Adds an instruction that is not a call. Returns the index of its first result.
    pub(super) fn other(&mut self, name: &str, operands: &[Operand], results: usize) -> usize {
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
                assert!(ago < 32, "the result is too old");
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

    pub(super) fn bytes(&self) -> Vec<u8> {
        std::iter::once(self.options).chain(self.instructions.iter().flatten().copied()).collect()
    }

    /// Subscribes to `topic`, on which the host publishes.
    pub(super) fn subscribe(&mut self, overflow: u32) {
        self.call(
            "subscription.open",
            &[Text("topic"), Text("bytes"), Number(overflow), Number(0), Number(0)],
        );
    }

    pub(super) fn publisher(&mut self, topic: &'static str, block_size: u32, blocks: u32) -> usize {
        let options = [Number(block_size), Number(blocks), Number(0)];
        self.call("publisher.open", &[&[Text(topic), Text("bytes")][..], &options].concat())
    }

    /// Grows the memory and donates pages of it to the first subscription or to memory blocks.
    pub(super) fn donate(&mut self, subscription: bool, pages: u32) {
        // The memory has 4 pages at first. The instruction takes its operand as a plain byte.
        self.other("grow", &[Number(15)], 1);
        let area = [Number(4 << 16), Number(pages << 16)];
        if subscription {
            self.call("subscription.add-storage", &[Slot(0), area[0], area[1]]);
        } else {
            self.call("block.add-storage", &area);
        }
    }
}
