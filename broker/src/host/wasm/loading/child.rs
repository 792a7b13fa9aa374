//! Compiling in a child process: the child's side.

use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit};
use wasmtime::Engine;

use super::kind::Kind;
use crate::host::wasm::config::config;
use crate::host::wasm::sys;
use crate::host::wasm::trap::engine_text;

/// The only argument of a program that is started to compile.
pub(crate) const ARGUMENT: &str = "blockcast-compile-guest";

/// The variable that is set in a process that is a compiler.
pub(crate) const IN_CHILD: &str = "BLOCKCAST_COMPILER";

const JOB: &[u8; 16] = b"blockcast-job\0\0\x01";

const ANSWER: &[u8; 16] = b"blockcast-code\0\x01";

/// The most bytes of compiled code.
const OUTPUT: u64 = 1 << 30;

/// The child's job, in front of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) kind: u8,
    /// The process that started the child.
    pub(crate) parent: u32,
    /// The most bytes of memory for the child.
    pub(crate) memory: u64,
    /// The most seconds that the child may compute.
    pub(crate) compute: u64,
}

impl Job {
    const LEN: usize = 37;

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let Self { kind, parent, memory, compute } = self;
        [&JOB[..], &[kind], &parent.to_le_bytes(), &memory.to_le_bytes(), &compute.to_le_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        bytes.starts_with(JOB).then(|| Self {
            kind: bytes[16],
            parent: u32::from_le_bytes(std::array::from_fn(|index| bytes[17 + index])),
            memory: number(21),
            compute: number(29),
        })
    }
}

/// A child's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Compiled(Vec<u8>),
    Invalid(String),
}

impl Answer {
    const LEN: usize = 17;

    fn write(&self, mut to: impl Write) -> io::Result<()> {
        let (kind, bytes) = match self {
            Self::Compiled(code) => (0, &code[..]),
            Self::Invalid(reason) => (1, reason.as_bytes()),
        };
        to.write_all(ANSWER)?;
        to.write_all(&[kind])?;
        to.write_all(bytes)?;
        to.flush()
    }

    /// Reads the answer of a child that ended well.
    pub(crate) fn read(mut bytes: Vec<u8>) -> Option<Self> {
        let (header, _) = bytes.split_at_checked(Self::LEN)?;
        if !header.starts_with(ANSWER) {
            return None;
        }
        let kind = header[Self::LEN - 1];
        bytes.drain(..Self::LEN);
        match kind {
            0 => Some(Self::Compiled(bytes)),
            1 => Some(Self::Invalid(String::from_utf8_lossy(&bytes).into_owned())),
            _ => None,
        }
    }
}

/// Compiles a guest and ends the process, if a [`CompilerProcess`](super::CompilerProcess) started the
/// process for that. Otherwise returns immediately.
///
/// Call it first in `main`, before starting threads or opening files.
pub fn compile_child_main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|argument| argument != ARGUMENT) || arguments.next().is_some() {
        return;
    }
    let status = match serve() {
        Ok(()) => 0,
        Err(error) => {
            // If this fails, nobody reads it.
            let _ = writeln!(io::stderr(), "{error}");
            1
        }
    };
    sys::exit_now(status)
}

fn serve() -> io::Result<()> {
    // Other threads may be using descriptors that are about to be closed.
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("compile_child_main was called after threads had been started"));
    }
    // SAFETY: no other thread runs, and this one ends the process without returning to code that may have
    // opened descriptors. From here on it uses only descriptors that it opens itself, and the standard
    // streams.
    unsafe { sys::close_all_but_standard_streams() };
    let mut input = io::stdin().lock();
    let mut header = [0; Job::LEN];
    input.read_exact(&mut header)?;
    let job = Job::from_bytes(&header).ok_or_else(|| io::Error::other("this is not a job"))?;
    confine(&job)?;
    let mut code = Vec::new();
    input.read_to_end(&mut code)?;
    let answer = match compile(job.kind, &code) {
        Ok(code) => Answer::Compiled(code),
        Err(error) => Answer::Invalid(engine_text(&error)),
    };
    answer.write(io::stdout().lock())
}

/// Gives up everything that a compiler does not need, and bounds the rest.
fn confine(job: &Job) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // The parent may have ended before.
    if rustix::process::getppid()
        .is_none_or(|parent| parent.as_raw_nonzero().get().unsigned_abs() != job.parent)
    {
        return Err(io::Error::other("the process that wants the code has ended"));
    }
    rustix::thread::set_no_new_privs(true)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, OUTPUT, OUTPUT)?;
    // At the first limit, the process learns why it ends; at the second, it is just killed.
    limit(Resource::Cpu, job.compute, job.compute + 1)?;
    // Heap and stacks. Address space itself is not scarce: the allocator reserves more than it uses.
    limit(Resource::Data, job.memory, job.memory)
}

/// Lowers a limit, unless it is lower already.
fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let lower = |limit: Option<u64>, most: u64| Some(limit.map_or(most, |limit| limit.min(most)));
    let limit = Rlimit { current: lower(now.current, soft), maximum: lower(now.maximum, hard) };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

fn compile(kind: u8, code: &[u8]) -> wasmtime::Result<Vec<u8>> {
    let engine = Engine::new(&config())?;
    match Kind::of_number(kind) {
        Some(Kind::Component) => engine.precompile_component(code),
        Some(Kind::Module) => engine.precompile_module(code),
        None => Err(wasmtime::Error::msg("the job is of no known kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_the_way_to_the_child() {
        let job = Job { kind: 2, parent: 7, memory: 1 << 33, compute: 9 };
        let bytes: [u8; Job::LEN] = job.to_bytes().try_into().expect("its length");
        assert_eq!(Job::from_bytes(&bytes), Some(job));
        assert_eq!(Job::from_bytes(&[0; Job::LEN]), None);
    }

    #[test]
    fn a_truncated_or_foreign_answer_is_rejected() {
        let mut bytes = Vec::new();
        Answer::Compiled(b"code".to_vec()).write(&mut bytes).expect("written");
        assert!(matches!(Answer::read(bytes.clone()), Some(Answer::Compiled(code)) if code == b"code"));
        bytes.truncate(Answer::LEN - 1);
        assert!(Answer::read(bytes).is_none());
        assert!(Answer::read(b"Usage: blockcast [OPTIONS] <COMMAND>".to_vec()).is_none());
    }
}
