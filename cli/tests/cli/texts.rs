//! Guests' texts cannot take over the terminal.

use super::{Folder, component, output, stderr, stdout};

#[test]
fn hostile_words_of_a_guest_reach_the_terminal_escaped() {
    let folder = Folder::new("words");
    let code = |names: &str, end: &str| {
        format!(
            r#"(module {names}
              (import "blockcast:blocks/session@0.1.0" "log" (func $log (param i32 i32 i32)))
              (import "blockcast:blocks/session@0.1.0" "fail" (func $fail (param i32 i32)))
              (memory (export "memory") 1) (data (i32.const 16) "\1b[2Jwiped\c2\9b\07")
              (func (export "run") (result i32)
                (call $log (i32.const 2) (i32.const 16) (i32.const 12))
                (call $fail (i32.const 16) (i32.const 12)) {end}))"#
        )
    };
    let import = r#"(import "\1b[2Jwiped" "f" (func))"#;
    for (name, code) in [
        ("failed.wat", code("", "(i32.const 1)")),
        ("trapped.wat", code("", "unreachable")),
        ("imports.wat", code(import, "(i32.const 1)")),
    ] {
        let file = folder.file(name, &code);
        for arguments in [vec!["run", &file], vec!["run", &file, "--json"], vec!["inspect", &file]] {
            let output = output(&arguments);
            let said = [&output.stdout[..], &output.stderr].concat();
            // JSON is for programs and contains one of the three unescaped.
            let json = arguments.contains(&"--json");
            let forbidden: &[&[u8]] =
                if json { &[b"\x1b", b"\x07"] } else { &[b"\x1b", b"\x07", b"\xc2\x9b"] };
            let has = |word: &[u8]| said.windows(word.len()).any(|part| part == word);
            assert!(!forbidden.iter().any(|word| has(word)), "{arguments:?}: {}", said.escape_ascii());
            assert!(arguments[0] != "run" || has(b"wiped"), "{arguments:?}: {}", said.escape_ascii());
        }
    }
}

#[test]
fn hostile_texts_of_a_guest_neither_forge_lines_nor_reach_the_terminal() {
    let folder = Folder::new("texts");
    let body = r#"(data (i32.const 64) "a\nroot INFO  forged\1b[2J\e2\80\aeb")
      (func $"f\nroot ERROR forged\u{202e}" unreachable)
      (func (export "run") (result i32) (call $log (i32.const 2) (i32.const 64) (i32.const 28))
        (call $"f\nroot ERROR forged\u{202e}") (i32.const 0))"#;
    let body = body.replacen("(data", "(import \"memory\" \"memory\" (memory 1)) (data", 1);
    let component = component(&body).replace(
        "(with \"host\"",
        "(with \"memory\" (instance (export \"memory\" (memory $memory \"memory\")))) (with \"host\"",
    );
    let guest = folder.file("guest.wat", &component);
    let module = r#"(module (import "a\nblockcast: forged\u{202e}" "b" (func)) (memory (export "memory") 1)
      (func (export "run") (result i32) (i32.const 0)))"#;
    let refused = folder.file("refused.wat", module);
    let outputs = [
        output(&["run", &guest]),
        output(&["run", "--json", &guest]),
        output(&["run", &refused]),
        output(&["inspect", &refused]),
        output(&["inspect", "--json", &refused]),
    ];
    for output in &outputs {
        for text in [stdout(output), stderr(output)] {
            let hidden = text.chars().any(|c| matches!(c, '\u{1b}' | '\u{202e}'));
            assert!(!hidden, "{text:?}");
            let forged =
                text.lines().any(|line| line.starts_with("root") || line.contains("blockcast: forged"));
            let named =
                |line: &&str| line.contains("blockcast: forged") && !line.contains("a\\nblockcast: forged");
            assert!(!forged || text.lines().find(named).is_none(), "{text}");
        }
    }
    assert!(
        stderr(&outputs[0]).contains(r"a\nroot INFO  forged\u{1b}[2J\u{202e}b"),
        "{}",
        stderr(&outputs[0])
    );
}
