//! Guests are compiled in a child process with limits.

use std::path::Path;
use std::time::{Duration, Instant};

use blockcast::{
    Broker, CompilerError, CompilerProcess, GuestProgram, GuestSource, LoadError, LoadLimits, LoadOptions,
    StartError,
};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

use super::{Folder, blockcast, output, stdout};

/// How long to wait for a process to start or end. Even on a busy machine, a longer wait means that it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Code that changes many locals in the innermost of many loops. Compiling it takes minutes on any machine.
fn endless() -> String {
    let (locals, loops) = (4000, 90);
    let declared = "i32 ".repeat(locals);
    let change = |local| format!("(local.set {local} (i32.add (local.get {local}) (i32.const 1)))");
    let changes: String = (0..locals).map(change).collect();
    let (begin, end) = ("loop ".repeat(loops), "(br_if 0 (i32.const 0)) end ".repeat(loops));
    module(&format!("(local {declared}) {begin} {changes} {end}"))
}

/// A function of the maximum length. Compiling it takes more than 100 times as much memory.
fn large() -> String {
    module(&"(drop (i32.load (i32.const 0)))".repeat(150_000))
}

fn module(run: &str) -> String {
    format!(r#"(module (memory (export "memory") 1) (func (export "run") (result i32) {run} (i32.const 0)))"#)
}

/// The tool as the compiler of another program: of this test.
fn helper() -> CompilerProcess {
    CompilerProcess::program(env!("CARGO_BIN_EXE_blockcast"))
}

fn load(code: &str, compiler: CompilerProcess) -> Result<GuestProgram, StartError> {
    let mut limits = LoadLimits::default();
    (limits.loop_locals, limits.text_bytes) = (u64::MAX, 64 << 20);
    let broker = Broker::new();
    broker.load_with(LoadOptions::new().limits(limits).compile_in(compiler)).expect("the first");
    broker.load(&GuestSource::bytes("guest", code.as_bytes()))
}

fn refused(code: &str, compiler: CompilerProcess) -> CompilerError {
    match load(code, compiler) {
        Err(StartError::Load(LoadError::Compiler { reason, .. })) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_is_compiled_by_a_helper_and_a_wrong_one_is_refused_with_the_reason() {
    load(&module(""), helper()).expect("loads");
    let wrong = load(&module("(i64.const 1) drop drop"), helper());
    assert!(
        matches!(&wrong, Err(StartError::Load(LoadError::Invalid { reason, .. })) if reason.contains("type mismatch")),
        "{wrong:?}"
    );
}

#[test]
fn hostile_code_that_exhausts_the_compilers_memory_is_refused_with_the_limit() {
    let error = refused(&large(), helper().memory(96 << 20));
    assert!(matches!(error, CompilerError::Memory { most } if most == 96 << 20), "{error}");
}

#[test]
fn hostile_code_that_the_compiler_computes_on_too_long_is_refused_with_the_limit() {
    let error = refused(&endless(), helper().compute(Duration::from_secs(1)));
    assert!(matches!(error, CompilerError::Compute { most } if most == Duration::from_secs(1)), "{error}");
}

#[test]
fn hostile_code_that_takes_too_long_to_compile_is_refused_with_the_limit() {
    let error = refused(&endless(), helper().time(Duration::from_millis(50)));
    assert!(
        matches!(error, CompilerError::Deadline { most } if most == Duration::from_millis(50)),
        "{error}"
    );
}

#[test]
fn a_program_that_is_not_a_compiler_is_an_error() {
    let error = refused(&module(""), CompilerProcess::program("/bin/true"));
    assert!(matches!(error, CompilerError::NoCompiler { .. }), "{error}");
    let error = refused(&module(""), CompilerProcess::program("/no/such/program"));
    assert!(matches!(error, CompilerError::NotStarted { .. }), "{error}");
}

#[test]
fn inspect_refuses_hostile_code_within_its_limits() {
    let folder = Folder::new("inspect-hostile");
    let hostile = folder.file("hostile.wat", &endless());
    let shown = output(&["inspect", &hostile]);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
    assert!(stdout(&shown).contains("raise the load limit `loop-locals`"), "{shown:?}");
    let shown = output(&["inspect", "--load-limit", "loop-locals=1000000", "--compile-time", "1s", &hostile]);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
    // On a busy machine, the elapsed time may exceed its limit first.
    assert!(stdout(&shown).contains("cannot be compiled: compiling it takes"), "{shown:?}");
}

/// Waits for a child process of `parent` that has limited itself.
fn child_of(parent: u32) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).expect("it runs");
        for task in tasks.filter_map(Result::ok) {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            if let Some(child) = children.split_whitespace().next().and_then(|child| child.parse().ok())
                && status_of(child).is_some_and(|status| status.contains("NoNewPrivs:\t1"))
            {
                return child;
            }
        }
        assert!(Instant::now() < deadline, "no child compiles");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn status_of(process: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{process}/status")).ok()
}

#[test]
fn the_compiling_child_has_no_other_descriptors_and_ends_with_the_tool() {
    let folder = Folder::new("compiling-child");
    let hostile = folder.file("hostile.wat", &endless());
    // A descriptor that every program started from here inherits.
    let leaked = std::fs::File::open("/dev/null").expect("open");
    fcntl_setfd(&leaked, FdFlags::empty()).expect("inherited");
    let mut tool = blockcast(&["run", "--load-limit", "loop-locals=1000000", &hostile])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let child = child_of(tool.id());
    let open = std::fs::read_dir(format!("/proc/{child}/fd")).expect("it runs");
    let mut open: Vec<_> = open.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    kill_process(Pid::from_raw(tool.id() as i32).expect("a process"), Signal::KILL).expect("killed");
    tool.wait().expect("a child");
    let deadline = Instant::now() + PATIENCE;
    // It may stay a zombie until its parent has waited for it.
    while status_of(child).is_some_and(|status| !status.contains("State:\tZ")) {
        assert!(Instant::now() < deadline, "it is still compiling");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Path::new(&hostile).exists());
}
