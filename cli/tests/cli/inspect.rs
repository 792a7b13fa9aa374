//! Reports about files by `inspect`, which does not run them.

use super::{Folder, REPOSITORY, blockcast, component, output, stderr, stdout, without_a_reader};

#[test]
fn inspect_shows_a_guests_imports_exports_and_needs_without_running_it() {
    let file = "examples/complex/subscriber/complex-subscriber.wasm";
    let shown = output(&["inspect", file]);
    assert!(shown.status.success(), "{shown:?}");
    let text = stdout(&shown);
    for line in [
        "kind       component",
        "imports    blockcast:blocks/topics@0.1.0 (interface)",
        "exports    run (function)",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains("runs here  yes") && text.contains("initially, unlimited"), "{text}");
    let shown = output(&["inspect", "--json", file]);
    let json: serde_json::Value = serde_json::from_str(stdout(&shown)).expect("JSON");
    assert_eq!((&json["kind"], &json["runs_here"]), (&"component".into(), &true.into()));
    assert_eq!(json["bytes"], std::fs::metadata(format!("{REPOSITORY}/{file}")).expect("there").len());
}

#[test]
fn inspect_says_why_a_guest_does_not_run_here() {
    let folder = Folder::new("inspect");
    let wasi = folder
        .file("foreign.wat", r#"(component (import "acme:thing/door" (instance (export "open" (func)))))"#);
    let no_wasm = folder.file("text.wasm", "no wasm at all");
    let shown = output(&["inspect", &wasi, &no_wasm]);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
    let text = stdout(&shown);
    assert!(text.contains("imports    acme:thing/door (interface)"), "{text}");
    assert!(
        text.contains("no: ") && text.contains("acme:thing/door, which the broker does not provide"),
        "{text}"
    );
    assert!(
        text.contains("neither a component nor a core module") && text.contains("is not a wasm file"),
        "{text}"
    );
    assert_eq!(output(&["inspect", "nowhere.wasm"]).status.code(), Some(2));
}

#[test]
fn inspect_and_run_agree_on_guests_with_several_memories() {
    let folder = Folder::new("memories");
    for (name, memory, runs) in [("empty", "(memory 0)", true), ("pages", "(memory 1)", false)] {
        let body = format!(r#"{memory} (func (export "run") (result i32) (i32.const 0))"#);
        let guest = folder.file(&format!("{name}.wat"), &component(&body));
        let (shown, run) = (output(&["inspect", &guest]), output(&["run", &guest]));
        assert_eq!((shown.status.success(), run.status.success()), (runs, runs), "{shown:?} {run:?}");
        assert_eq!(stdout(&shown).contains("runs here  yes"), runs, "{shown:?}");
    }
}

#[test]
fn inspect_ends_quietly_when_nobody_reads_its_output() {
    let file = "examples/complex/subscriber/complex-subscriber.wasm";
    for arguments in [&["inspect", file, file][..], &["inspect", "--json", file]] {
        let shown = blockcast(arguments).stdout(without_a_reader()).output().expect("the tool starts");
        assert!(shown.status.success() && shown.stderr.is_empty(), "{shown:?}");
    }
}

#[test]
fn inspect_reports_an_output_that_cannot_be_written() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
    let file = "examples/complex/subscriber/complex-subscriber.wasm";
    let shown = blockcast(&["inspect", file]).stdout(full).output().expect("the tool starts");
    assert_eq!(shown.status.code(), Some(2), "{shown:?}");
    assert!(stderr(&shown).contains("cannot write to standard output: "), "{shown:?}");
}

#[test]
fn hostile_files_without_an_end_are_refused_before_they_are_read() {
    let folder = Folder::new("endless");
    let shown = output(&["inspect", "/dev/zero"]);
    assert_eq!(shown.status.code(), Some(2), "{shown:?}");
    assert!(stderr(&shown).contains("/dev/zero: not a regular file"), "{shown:?}");
    for head in ["\x7fELF", "\0asm"] {
        let sparse = folder.file("sparse", head);
        let file = std::fs::File::options().write(true).open(&sparse).expect("there");
        file.set_len(1 << 30).expect("sparse");
        let shown = output(&["inspect", &sparse]);
        assert_eq!(shown.status.code(), Some(1), "{shown:?}");
        assert!(stdout(&shown).contains("has 1073741824 bytes, "), "{shown:?}");
    }
    let manifest = folder.file("large.toml", "# ");
    let file = std::fs::File::options().write(true).open(&manifest).expect("there");
    file.set_len(1 << 30).expect("sparse");
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(stderr(&run).contains("a manifest has at most 16777216 bytes"), "{run:?}");
}
