//! Estimates how much work a function causes for the compiler.
//!
//! The compiler turns local variables into values. Where branches meet, each live local becomes a parameter
//! of the block, and each branch to it takes an argument. So a few bytes can create thousands of values. The
//! figures here bound their number from above, in one pass over the code, without validating it.

use wasmparser::{BlockType, FunctionBody, Operator};

use super::limits::{Exceeded, LoadLimit, LoadLimits};

/// Number of parameters and results of a function type.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arity {
    pub(crate) parameters: u32,
    pub(crate) results: u32,
}

impl Arity {
    pub(crate) const fn sum(self) -> u64 {
        self.parameters as u64 + self.results as u64
    }
}

/// The types that a function's code refers to.
pub(crate) struct Types<'a> {
    /// By index. Other types than those of functions have no values.
    pub(crate) types: &'a [Arity],
    /// The types of the module's functions.
    pub(crate) functions: &'a [u32],
}

impl Types<'_> {
    // If the index does not exist, the module is invalid, which the compiler reports.
    fn of_type(&self, index: u32) -> Arity {
        self.types.get(index as usize).copied().unwrap_or_default()
    }

    fn of_function(&self, index: u32) -> Arity {
        self.functions.get(index as usize).map_or(Arity::default(), |&index| self.of_type(index))
    }

    fn of_block(&self, ty: BlockType) -> Arity {
        match ty {
            BlockType::Empty => Arity::default(),
            BlockType::Type(_) => Arity { parameters: 0, results: 1 },
            BlockType::FuncType(index) => self.of_type(index),
        }
    }
}

/// The amount of work that a function causes in the compiler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) values: u64,
    pub(crate) loop_locals: u64,
    pub(crate) carried_locals: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Function,
    Block,
    Loop,
    If,
}

/// An open block.
struct Frame {
    kind: Kind,
    arity: Arity,
    /// Index in the log from which uses are forgotten at the block's end, since they may not have happened.
    forget: Option<usize>,
}

/// Why a function is refused.
pub(crate) enum Refused {
    Exceeded(Exceeded),
    Invalid(wasmparser::BinaryReaderError),
}

impl From<Exceeded> for Refused {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

impl From<wasmparser::BinaryReaderError> for Refused {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid(error)
    }
}

/// Buffers that are reused for each function.
#[derive(Default)]
pub(crate) struct Walk {
    frames: Vec<Frame>,
    loops: Vec<u64>,
    /// For each local: when it was last used, and how many joins came before the last use that certainly
    /// happened.
    used: Vec<(u64, u64)>,
    /// Locals, and the number of joins that came before their previous use.
    log: Vec<(u32, u64)>,
    /// The number of places so far where branches meet.
    joins: u64,
    now: u64,
    work: Work,
}

impl Walk {
    /// Reads the code of a function of type `own`.
    ///
    /// # Errors
    /// [`Refused`] at the first limit that it exceeds.
    pub(crate) fn function(
        &mut self,
        body: &FunctionBody<'_>,
        own: Arity,
        types: &Types<'_>,
        limits: &LoadLimits,
    ) -> Result<Work, Refused> {
        limits.check(LoadLimit::FunctionBytes, body.range().len() as u64)?;
        let mut locals = u64::from(own.parameters);
        for group in body.get_locals_reader()? {
            locals += u64::from(group?.0);
            limits.check(LoadLimit::Locals, locals)?;
        }
        (self.now, self.joins, self.work) = (0, 0, Work::default());
        self.frames.clear();
        self.loops.clear();
        self.log.clear();
        self.used.clear();
        self.used.resize(usize::try_from(locals).unwrap_or(usize::MAX), (0, 0));
        self.open(Kind::Function, own, limits)?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            self.now += 1;
            let operator = operators.read()?;
            self.operator(&operator, types, limits)?;
            limits.check(LoadLimit::Values, self.work.values)?;
            limits.check(LoadLimit::LoopLocals, self.work.loop_locals)?;
            limits.check(LoadLimit::CarriedLocals, self.work.carried_locals)?;
        }
        Ok(self.work)
    }

    fn operator(
        &mut self,
        operator: &Operator<'_>,
        types: &Types<'_>,
        limits: &LoadLimits,
    ) -> Result<(), Refused> {
        match operator {
            Operator::Block { blockty } => self.open(Kind::Block, types.of_block(*blockty), limits)?,
            Operator::TryTable { try_table } => {
                self.open(Kind::Block, types.of_block(try_table.ty), limits)?;
                // Any call inside may branch.
                self.branch(0);
                for catch in &try_table.catches {
                    let (wasmparser::Catch::One { label, .. }
                    | wasmparser::Catch::OneRef { label, .. }
                    | wasmparser::Catch::All { label }
                    | wasmparser::Catch::AllRef { label }) = catch;
                    self.branch(label.saturating_add(1));
                }
            }
            Operator::Loop { blockty } => self.open(Kind::Loop, types.of_block(*blockty), limits)?,
            Operator::If { blockty } => self.open(Kind::If, types.of_block(*blockty), limits)?,
            Operator::Else => {
                if let Some(forget) = self.frames.last().and_then(|frame| frame.forget) {
                    self.forget(forget);
                }
            }
            Operator::End => self.close(),
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth } => self.branch(*relative_depth),
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    self.branch(target?);
                }
                self.branch(targets.default());
            }
            Operator::Return => self.work.values += self.own().results as u64,
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                self.work.values += types.of_function(*function_index).sum();
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. }
            | Operator::CallRef { type_index }
            | Operator::ReturnCallRef { type_index } => {
                self.work.values += types.of_type(*type_index).sum();
            }
            Operator::LocalGet { local_index } => self.use_local(*local_index, true),
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                self.use_local(*local_index, false);
            }
            _ => {}
        }
        Ok(())
    }

    fn own(&self) -> Arity {
        self.frames.first().map_or(Arity::default(), |frame| frame.arity)
    }

    fn open(&mut self, kind: Kind, arity: Arity, limits: &LoadLimits) -> Result<(), Exceeded> {
        self.work.values += arity.sum();
        if kind == Kind::Loop {
            self.joins += 1;
            self.loops.push(self.now);
            limits.check(LoadLimit::LoopNesting, self.loops.len() as u64)?;
        }
        let forget = (kind == Kind::If).then_some(self.log.len());
        self.frames.push(Frame { kind, arity, forget });
        // The function itself is not a block.
        limits.check(LoadLimit::Nesting, self.frames.len() as u64 - 1)
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        if frame.kind == Kind::Loop {
            self.loops.pop();
        }
        if let Some(forget) = frame.forget {
            self.joins += 1;
            self.forget(forget);
        }
    }

    /// Forgets uses that may not have happened.
    fn forget(&mut self, from: usize) {
        for (local, joins) in self.log.drain(from.min(self.log.len())..).rev() {
            self.used[local as usize].1 = joins;
        }
    }

    fn branch(&mut self, depth: u32) {
        let log = self.log.len();
        let Some(frame) = (self.frames.len().checked_sub(1))
            .and_then(|top| top.checked_sub(depth as usize))
            .and_then(|index| self.frames.get_mut(index))
        else {
            return;
        };
        self.work.values += match frame.kind {
            Kind::Loop => u64::from(frame.arity.parameters),
            _ => u64::from(frame.arity.results),
        };
        if frame.kind == Kind::Block {
            frame.forget.get_or_insert(log);
        }
    }

    fn use_local(&mut self, local: u32, read: bool) {
        let Some(&(last, joins)) = self.used.get(local as usize) else { return };
        // Loops that opened after the last use have not seen the local yet.
        self.work.loop_locals += self.loops.iter().rev().take_while(|&&opened| opened > last).count() as u64;
        if read {
            self.work.carried_locals += self.joins - joins;
        }
        if joins != self.joins {
            self.log.push((local, joins));
        }
        self.used[local as usize] = (self.now, self.joins);
    }
}
