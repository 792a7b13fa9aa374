//! Code that would take too much of the compiler's time or memory is refused before it is compiled.

use blockcast_broker::{
    GuestEngine, GuestProgram, GuestSource, LoadError, LoadLimit, LoadLimits, LoadOptions,
};

fn load(code: String, limits: LoadLimits) -> Result<GuestProgram, LoadError> {
    let engine = GuestEngine::with_options(LoadOptions::new().limits(limits)).expect("an engine");
    GuestProgram::load(&engine, &GuestSource::bytes("hostile", code.into_bytes()))
}

/// Returns the limit that `code` exceeds, the value found, and the most that is accepted.
fn exceeds(code: String) -> (LoadLimit, u64, u64) {
    let mut limits = LoadLimits::default();
    // Large enough for the text of every test.
    limits.text_bytes = 64 << 20;
    match load(code, limits) {
        Err(LoadError::TooComplex { limit, value, most, guest, function }) => {
            let error = LoadError::TooComplex { limit, value, most, guest, function }.to_string();
            assert!(error.contains(limit.name()) && error.contains(&value.to_string()), "{error}");
            (limit, value, most)
        }
        other => panic!("{other:?}"),
    }
}

fn module(run: &str) -> String {
    format!(r#"(module (memory (export "memory") 1) (func (export "run") (result i32) {run} (i32.const 0)))"#)
}

/// A module that changes `locals` in the innermost of nested `loops`.
fn loops(locals: usize, loops: usize) -> String {
    let declared = "i32 ".repeat(locals);
    let change = |local| format!("(local.set {local} (i32.add (local.get {local}) (i32.const 1)))");
    let changes: String = (0..locals).map(change).collect();
    let (begin, end) = ("loop ".repeat(loops), "(br_if 0 (i32.const 0)) end ".repeat(loops));
    module(&format!("(local {declared}) {begin} {changes} {end}"))
}

#[test]
fn hostile_locals_in_nested_loops_are_refused() {
    // Without the limit, these 75 KB took 4 GiB to compile.
    let (limit, value, most) = exceeds(loops(8000, 400));
    assert_eq!(limit, LoadLimit::LoopNesting, "{value}");
    assert_eq!(exceeds(loops(8000, 40)).0, LoadLimit::LoopLocals);
    assert!(value > most);
}

#[test]
fn hostile_nested_loops_are_refused() {
    let (begin, end) = ("loop ".repeat(1000), "end ".repeat(1000));
    let (limit, value, most) = exceeds(module(&format!("{begin} {end}")));
    assert_eq!((limit, value, most), (LoadLimit::LoopNesting, 101, 100));
}

#[test]
fn hostile_amounts_of_text_are_refused_before_parsing() {
    // 64 MiB of such text took 4.9 GiB to parse, and its only error was at the end.
    let text = format!("(module {}", "(func) ".repeat(1 << 20));
    let bytes = text.len() as u64;
    match load(text, LoadLimits::default()) {
        Err(LoadError::TooComplex { limit: LoadLimit::TextBytes, value, most, .. }) => {
            assert_eq!((value, most), (bytes, LoadLimits::default().text_bytes));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn hostile_locals_carried_across_many_blocks_are_refused() {
    let branch =
        |local: usize| format!("(if (i32.const 0) (then (local.set {} (i32.const 1))))", local % 200);
    let branches: String = (0..20_000).map(branch).collect();
    let uses: String = (0..200).map(|local| format!("(drop (local.get {local}))")).collect();
    let declared = "i32 ".repeat(200);
    assert_eq!(exceeds(module(&format!("(local {declared}) {branches} {uses}"))).0, LoadLimit::CarriedLocals);
}

#[test]
fn hostile_calls_with_many_values_are_refused() {
    let signature = |count: usize| {
        let list = "i32 ".repeat(count);
        format!(
            "(module (type $f (func (param {list}) (result {list}))) (import \"a\" \"b\" (func $f (type $f)))"
        )
    };
    let values = "(i32.const 0) ".repeat(100);
    let body = format!("(func {values} {} {})", "(call $f) ".repeat(2000), "drop ".repeat(100));
    assert_eq!(exceeds(format!("{} {body})", signature(100))).0, LoadLimit::Values);
    assert_eq!(exceeds(format!("{})", signature(1000))).0, LoadLimit::Signature);
}

#[test]
fn hostile_instances_that_multiply_are_refused() {
    // Each component instantiates the previous one twice: 2 to the 40 instances in all.
    let first = "(component $c0 (core module $m) (core instance (instantiate $m)))";
    let twice = |number: usize| {
        let before = number - 1;
        format!(
            "(component $c{number} (alias outer $top $c{before} (component $c))
               (instance (instantiate $c)) (instance (instantiate $c)))"
        )
    };
    let rest: String = (1..=40).map(twice).collect();
    assert_eq!(exceeds(format!("(component $top {first} {rest})")).0, LoadLimit::Instances);
}

#[test]
fn hostile_tables_functions_locals_and_items_beyond_limits_are_refused() {
    assert_eq!(
        exceeds("(module (table 1000000 funcref))".to_owned()),
        (LoadLimit::TableElements, 1_000_000, 1 << 18)
    );
    assert_eq!(exceeds(format!("(module {})", "(func)".repeat(200_001))).0, LoadLimit::Functions);
    let locals = format!("(module (func (local {})))", "i32 ".repeat(20_001));
    assert_eq!(exceeds(locals), (LoadLimit::Locals, 20_001, 20_000));
    let large = format!("(module (func {}))", "nop ".repeat((1 << 20) + 1));
    assert_eq!(exceeds(large).0, LoadLimit::FunctionBytes);
    let mut limits = LoadLimits::default();
    limits.items = 10;
    let refused = load(format!("(module {})", "(global i32 (i32.const 0))".repeat(11)), limits);
    assert!(
        matches!(refused, Err(LoadError::TooComplex { limit: LoadLimit::Items, value: 11, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_limit_can_be_raised_and_looked_up_by_name() {
    let code = || module(&format!("{} {}", "loop ".repeat(101), "end ".repeat(101)));
    let mut limits = LoadLimits::default();
    assert!(load(code(), limits.clone()).is_err());
    let limit: LoadLimit = "loop-nesting".parse().expect("a limit");
    limits.set(limit, 101);
    load(code(), limits).expect("accepted");
    let unknown = "loops".parse::<LoadLimit>().expect_err("unknown").to_string();
    assert!(unknown.contains("loop-nesting"), "{unknown}");
}
