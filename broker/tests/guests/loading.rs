//! Files that cannot be loaded are refused with a message that says why.

use std::path::PathBuf;
use std::sync::Arc;

use crate::guest_support::wat;
use blockcast_broker::{GuestEngine, GuestProgram, GuestSource, LoadError};

fn load(code: &[u8]) -> Result<GuestProgram, LoadError> {
    let engine = GuestEngine::new().expect("an engine");
    GuestProgram::load(&engine, &GuestSource::bytes("the guest", code))
}

fn refused(code: &[u8]) -> (LoadError, String) {
    let error = load(code).expect_err("refused");
    let text = error.to_string();
    (error, text)
}

const RUN: &str = r#"(func (export "run") (result i32) (i32.const 0))"#;

#[test]
fn a_guest_in_text_form_is_loaded() {
    load(wat::component(RUN).as_bytes()).expect("loads");
    load(format!("\n ;; a comment\n{}", wat::component(RUN)).as_bytes()).expect("loads");
}

#[test]
fn a_missing_file_and_a_directory_are_different_errors() {
    let engine = GuestEngine::new().expect("an engine");
    let load = |path: &str| {
        GuestProgram::load(&engine, &GuestSource::File(PathBuf::from(path))).expect_err("refused")
    };
    let missing = load("no/such/guest.wasm");
    assert!(matches!(&missing, LoadError::Missing { path } if path.ends_with("guest.wasm")), "{missing}");
    let directory = load(env!("CARGO_MANIFEST_DIR"));
    assert!(matches!(&directory, LoadError::Unreadable { .. }), "{directory}");
}

#[test]
fn files_that_are_not_wasm_are_refused_as_such() {
    for code in [&b""[..], b"hello", b"\0as", b"\x7fELF\x02\x01\x01", b"(", b"()", b"\xff\xfe\0(component)"] {
        assert!(matches!(refused(code).0, LoadError::NotWasm { .. }), "{code:?}");
    }
}

#[test]
fn a_core_module_is_loaded_in_either_form() {
    load(wat::module(RUN).as_bytes()).expect("loads");
    let smallest =
        r#"(module (memory (export "memory") 0) (func (export "run") (result i32) (i32.const 0)))"#;
    load(smallest.as_bytes()).expect("loads");
    let binary = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x05\x03\x01\0\0\
      \x07\x10\x02\x06memory\x02\0\x03run\0\0\x0a\x06\x01\x04\0\x41\0\x0b";
    load(binary).expect("loads");
}

#[test]
fn a_damaged_component_is_refused() {
    let cut = b"\0asm\x0d\0\x01\0\x01\xff\xff";
    assert!(matches!(refused(cut).0, LoadError::Invalid { .. }));
    assert!(matches!(refused(b"(component (nonsense))").0, LoadError::Invalid { .. }));
}

#[test]
fn an_import_that_the_broker_lacks_is_named() {
    let (error, text) =
        refused(br#"(component (import "wasi:sockets/network@0.2.0" (instance)) (import "other" (func)))"#);
    assert!(
        matches!(&error, LoadError::UnknownImport { import, .. } if import == "wasi:sockets/network@0.2.0"),
        "{text}"
    );
}

#[test]
fn an_import_of_the_wrong_type_is_a_mismatch() {
    let (error, text) = refused(
        br#"(component
          (import "blockcast:blocks/session@0.1.0" (instance (export "now" (func (result string)))))
          (core module $m (func (export "run") (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          (func (export "run") (result u32) (canon lift (core func $i "run"))))"#,
    );
    assert!(matches!(error, LoadError::Mismatch { .. }), "{text}");
    assert!(text.contains("now"), "{text}");
}

#[test]
fn run_must_be_exported_with_the_right_type() {
    let with = |lifted: &str, core: &str| {
        format!(
            r#"(component (core module $m (memory (export "memory") 1) (func (export "run") {core}))
              (core instance $i (instantiate $m)) {lifted})"#
        )
    };
    let cases = [
        ("(component)".to_owned(), "no export"),
        (with(r#"(func (export "run") (canon lift (core func $i "run")))"#, ""), "result"),
        (
            with(
                r#"(func (export "run") (param "a" u32) (result u32) (canon lift (core func $i "run")))"#,
                "(param i32) (result i32) local.get 0",
            ),
            "parameters",
        ),
        (
            with(
                r#"(func (export "run") (result s32) (canon lift (core func $i "run")))"#,
                "(result i32) i32.const 0",
            ),
            "result",
        ),
        (
            r#"(component (component $c) (instance $i (instantiate $c)) (export "run" (instance $i)))"#
                .to_owned(),
            "not a function",
        ),
    ];
    for (code, expected) in cases {
        let (error, text) = refused(code.as_bytes());
        assert!(matches!(error, LoadError::NoRun { .. }), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn an_engine_is_dropped_with_its_last_guest() {
    let engine = GuestEngine::new().expect("an engine");
    let source = GuestSource::bytes("the guest", wat::component(RUN).into_bytes());
    let program = GuestProgram::load(&engine, &source).expect("loads");
    assert_eq!(program.name(), "the guest");
    let weak = Arc::downgrade(&engine);
    drop(engine);
    assert!(weak.upgrade().is_some());
    drop(program);
    assert!(weak.upgrade().is_none());
}

#[test]
fn an_import_of_another_toolchain_is_refused_with_advice() {
    for (module, name, advice) in [
        ("wasi_snapshot_preview1", "fd_write", "wasm32-wasip2"),
        ("env", "abort", "--use abort="),
        ("env", "puts", "does not define"),
        ("wbg", "__wbg_log", "wasm-bindgen"),
        ("somewhere", "else", "blockcast:blocks"),
    ] {
        let code =
            format!(r#"(module (import "{module}" "{name}" (func)) (memory (export "memory") 1) {RUN})"#);
        let (error, text) = refused(code.as_bytes());
        assert!(matches!(error, LoadError::UnknownImport { .. }) && text.contains(advice), "{text}");
    }
}
