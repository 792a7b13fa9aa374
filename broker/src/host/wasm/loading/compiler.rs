//! Compiling in a child process: the parent's side.
//!
//! The child is this same program, or a helper that calls [`compile_child_main`](super::compile_child_main).
//! It receives the code in a memory file as its standard input, and leaves the compiled code in another one,
//! its standard output. Before it reads a byte of the code, it limits its own memory and time, gives up all
//! other descriptors and the ability to gain privileges, and asks the system to end it with its parent (see
//! `child`).
//!
//! The parent runs the machine code that the child returns. So the child protects against code that exhausts
//! or crashes the compiler, but not against code that takes the compiler over. Such code would decide what
//! the parent runs, as it would if the parent compiled it itself.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Resource, Signal, WaitId, WaitIdOptions};

use super::child::{ARGUMENT, Answer, IN_CHILD, Job};

/// The most threads of the compiler.
const THREADS: usize = 8;

/// The most bytes of a failed child's error output that are kept.
const SAID: u64 = 4096;

/// Compiles guests in a child process with limits on memory and time.
///
/// A guest that makes the compiler exceed a limit is refused with a [`CompilerError`]. Starting the child
/// takes some milliseconds. The limits apply to each compilation, not to all together.
///
/// The child protects the host from code that exhausts or crashes the compiler. It does not protect from code
/// that exploits a bug in the compiler to choose the machine code, which then runs in the host.
#[derive(Clone, Debug)]
pub struct CompilerProcess {
    program: PathBuf,
    memory: u64,
    compute: Duration,
    time: Duration,
}

impl CompilerProcess {
    /// Compiles in a process of this same program, whose `main` must call
    /// [`compile_child_main`](super::compile_child_main) before anything else.
    #[must_use]
    pub fn this_program() -> Self {
        // The file that this process was started from, even if its path has changed.
        Self::program("/proc/self/exe")
    }

    /// Compiles in a process of a helper program, built from the same version of this crate, whose `main`
    /// calls [`compile_child_main`](super::compile_child_main).
    #[must_use]
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            memory: 2 << 30,
            compute: Duration::from_secs(120),
            time: Duration::from_secs(300),
        }
    }

    /// Sets how many bytes of memory the child may have. Default: 2 GiB. Compiling takes about 20 times the
    /// size of the code, and more with many processors.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets how long the child may compute, over all processors, in whole seconds, rounded up. Default: 2
    /// minutes.
    #[must_use]
    pub fn compute(mut self, time: Duration) -> Self {
        self.compute = time;
        self
    }

    /// Sets the time after which the child is ended in any case. Default: 5 minutes.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Compiles binary code.
    pub(crate) fn compile(&self, kind: u8, code: &[u8]) -> Result<Outcome, CompilerError> {
        if std::env::var_os(IN_CHILD).is_some() {
            return Err(CompilerError::NotCalled);
        }
        let failed = |source: io::Error| CompilerError::NotStarted { program: self.program.clone(), source };
        let compute = self.compute.as_secs() + u64::from(self.compute.subsec_nanos() > 0);
        let job = Job { kind, parent: std::process::id(), memory: self.memory, compute: compute.max(1) };
        let input = self.input(&job, code).map_err(failed)?;
        let output = memory_file("blockcast-compiled").map_err(failed)?;
        let said = memory_file("blockcast-compiler-said").map_err(failed)?;
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS));
        let mut command = Command::new(&self.program);
        command
            .arg0("blockcast-compiler")
            .arg(ARGUMENT)
            .env_clear()
            .env(IN_CHILD, "1")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(input)
            .stdout(share(&output).map_err(failed)?)
            .stderr(share(&said).map_err(failed)?);
        // Where the system's loader finds the libraries of the program.
        let libraries = std::env::var_os("LD_LIBRARY_PATH").filter(|path: &OsString| !path.is_empty());
        command.envs(libraries.map(|path| ("LD_LIBRARY_PATH", path)));
        let child = command.spawn().map_err(failed)?;
        let ended = Running { child, time: self.time }.wait().map_err(failed)?;
        self.judge(ended, output, said)
    }

    /// The standard input of the child.
    fn input(&self, job: &Job, code: &[u8]) -> io::Result<Stdio> {
        let header = job.to_bytes();
        let bytes = (header.len() + code.len()) as u64;
        let most = rustix::process::getrlimit(Resource::Fsize).current;
        if most.is_some_and(|most| bytes > most) {
            return Err(io::Error::other(
                "the limit on the size of files of this process (RLIMIT_FSIZE) is below the code's size",
            ));
        }
        let mut input = memory_file("blockcast-code")?;
        input.write_all(&header)?;
        input.write_all(code)?;
        input.seek(SeekFrom::Start(0))?;
        Ok(input.into())
    }

    /// The result of a child that has ended.
    fn judge(&self, ended: Ended, mut output: File, mut said: File) -> Result<Outcome, CompilerError> {
        let status = match ended {
            Ended::Late => return Err(CompilerError::Deadline { most: self.time }),
            Ended::Itself(status) => status,
        };
        let mut words = || {
            let mut text = Vec::new();
            // Output that cannot be read is not reported.
            let _ = said.seek(SeekFrom::Start(0)).and_then(|_| (&mut said).take(SAID).read_to_end(&mut text));
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        match (status.code(), status.signal().and_then(Signal::from_named_raw)) {
            (Some(0), _) => {
                let mut answer = Vec::new();
                let read = output.seek(SeekFrom::Start(0)).and_then(|_| output.read_to_end(&mut answer));
                read.map_err(|source| CompilerError::NotStarted { program: self.program.clone(), source })?;
                match Answer::read(answer) {
                    Some(Answer::Compiled(code)) => Ok(Outcome::Compiled(code)),
                    Some(Answer::Invalid(reason)) => Ok(Outcome::Invalid(reason)),
                    None => Err(CompilerError::NoCompiler { program: self.program.clone() }),
                }
            }
            (None, Some(Signal::XCPU)) => Err(CompilerError::Compute { most: self.compute }),
            (code, signal) => {
                let words = words();
                // The texts with which the standard library and the engine report a lack of memory.
                let memory = ["memory allocation of", "out of memory", "Cannot allocate memory"];
                if memory.iter().any(|text| words.contains(text)) {
                    return Err(CompilerError::Memory { most: self.memory });
                }
                if code.is_some() && words.is_empty() {
                    return Err(CompilerError::NoCompiler { program: self.program.clone() });
                }
                let how = match signal {
                    Some(Signal::KILL) => {
                        "it was killed, perhaps by a system that is short of memory".to_owned()
                    }
                    _ => status.to_string(),
                };
                let how = if words.is_empty() { how } else { format!("{how}: {words}") };
                Err(CompilerError::Crashed { how })
            }
        }
    }
}

/// The compiler's result.
#[derive(Debug)]
pub(crate) enum Outcome {
    Compiled(Vec<u8>),
    /// The code is invalid, for this reason.
    Invalid(String),
}

/// A guest could not be compiled in a child process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompilerError {
    /// The compiler needed more memory than allowed.
    #[error(
        "compiling it takes more than {most} bytes of memory; allow more (CompilerProcess::memory, `--compile-memory`) if you trust it"
    )]
    Memory {
        /// The limit in bytes.
        most: u64,
    },
    /// The compiler computed longer than allowed.
    #[error(
        "compiling it takes more than {most:?} of computing; allow more (CompilerProcess::compute, `--compile-time`) if you trust it"
    )]
    Compute {
        /// The limit.
        most: Duration,
    },
    /// The compiler did not end in time.
    #[error(
        "compiling it takes longer than {most:?}; allow more (CompilerProcess::time, `--compile-time`) if you trust it"
    )]
    Deadline {
        /// The limit.
        most: Duration,
    },
    /// The compiler ended without an answer.
    #[error("the compiler failed: {how}")]
    Crashed {
        /// How it ended, and its error output.
        how: String,
    },
    /// The child could not be started, or the system refused something that it needs.
    #[error("the compiler {program} cannot be started: {source}")]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The started program did not compile.
    #[error(
        "{program} is not a compiler: its `main` has to call `blockcast_broker::compile_child_main` first of all"
    )]
    NoCompiler {
        /// The program.
        program: PathBuf,
    },
    /// This process was started as a compiler, but loads a guest itself.
    #[error(
        "this process was started to compile a guest: its `main` has to call `blockcast_broker::compile_child_main` first of all"
    )]
    NotCalled,
    /// The program contains another version of the compiler, or compiles with other settings.
    #[error("the compiler {program} compiles for another engine: build it from the same version")]
    OtherEngine {
        /// The program.
        program: PathBuf,
    },
}

impl CompilerProcess {
    pub(crate) fn other_engine(&self) -> CompilerError {
        CompilerError::OtherEngine { program: self.program.clone() }
    }
}

/// A file in memory that vanishes with its last descriptor.
fn memory_file(name: &str) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

fn share(file: &File) -> io::Result<Stdio> {
    Ok(file.try_clone()?.into())
}

/// A child that is compiling.
struct Running {
    child: Child,
    time: Duration,
}

enum Ended {
    /// It was ended, because its time was over.
    Late,
    Itself(ExitStatus),
}

impl Running {
    /// Waits for the end of the child.
    ///
    /// Call it on the thread that started the child, since the system ends the child with that thread.
    fn wait(mut self) -> io::Result<Ended> {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else {
            return Err(io::Error::other("the child has no number"));
        };
        let (done, over) = mpsc::channel::<()>();
        let time = self.time;
        let watchdog = std::thread::Builder::new().name("blockcast-compiler".to_owned()).spawn(move || {
            let late = over.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                // The child still owns this process number, which is given up only after this thread has
                // ended.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            late
        });
        let watchdog = match watchdog {
            Ok(watchdog) => watchdog,
            Err(error) => {
                // The child has read nothing that could keep it from ending.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return Err(error);
            }
        };
        // Waits without giving up the child's process number.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let waited = loop {
            match rustix::process::waitid(WaitId::Pid(pid), options) {
                Err(rustix::io::Errno::INTR) => {}
                waited => break waited,
            }
        };
        drop(done);
        let late = watchdog.join().unwrap_or(false);
        waited?;
        let status = self.child.wait()?;
        // The child may have ended by itself at the last moment.
        Ok(if late && status.code().is_none() { Ended::Late } else { Ended::Itself(status) })
    }
}
