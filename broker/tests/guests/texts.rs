//! Logs and errors show a guest's text in visible characters, each line as one line, and cut to a bounded
//! length.

use std::sync::Arc;

use super::KIND;
use crate::guest_support::Guest;
use crate::guest_support::bus::Bus;
use blockcast_blocks::text::is_invisible;
use blockcast_blocks::{Bytes, OpenError, Payload};
use blockcast_broker::{Broker, ComponentOptions};
use blockcast_broker::{ExitReason, GuestEngine, GuestProgram, GuestSource};

/// Wasm text for 10 bytes at 4096: `a`, a line break, an escape sequence, a mark that reverses text, and `b`.
const TEXT: &str = r#"(data (i32.const 4096) "a\n\1b[2J\e2\80\aeb")"#;
const SHOWN: &str = r"a\n\u{1b}[2J\u{202e}b";

fn guest(run: &str) -> Guest {
    let engine = GuestEngine::new().expect("an engine");
    let body = format!(r#"{TEXT} (func (export "run") (result i32) {run})"#);
    KIND.guest(&engine, Arc::new(Bus::new()), &body)
}

/// The longest text of an exit reason, in bytes.
const LONGEST: usize = 8 << 10;

#[tokio::test]
async fn hostile_line_breaks_and_marks_in_a_log_line_are_escaped() {
    let guest = guest("(call $log (i32.const 2) (i32.const 4096) (i32.const 10)) (i32.const 0)");
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
    assert_eq!(*guest.log.lock().unwrap(), [SHOWN]);
}

#[tokio::test]
async fn hostile_line_breaks_and_marks_in_a_reason_are_escaped() {
    let fail = "(call $fail (i32.const 4096) (i32.const 10))";
    let reason = guest(&format!("{fail} (i32.const 1)")).run().await.reason;
    assert_eq!(reason, ExitReason::Failed(SHOWN.to_owned()));
    let ExitReason::Trapped { message, .. } = guest(&format!("{fail} unreachable")).run().await.reason else {
        panic!("it did not trap")
    };
    assert!(message.starts_with(SHOWN), "{message}");
}

#[tokio::test]
async fn hostile_long_texts_are_cut() {
    let fill = "(memory.fill (i32.const 0x10000) (i32.const 120) (i32.const 0x20000))";
    let fail = "(call $fail (i32.const 0x10000) (i32.const 0x20000))";
    let log = "(call $log (i32.const 2) (i32.const 0x10000) (i32.const 0x20000))";
    let guest = guest(&format!("{fill} {log} {fail} (i32.const 1)"));
    let ExitReason::Failed(text) = guest.run().await.reason else { panic!("it did not fail") };
    assert!((LONGEST / 2..=LONGEST).contains(&text.len()), "{}", text.len());
    assert!((LONGEST / 2..=LONGEST).contains(&guest.log.lock().unwrap()[0].len()));
}

#[tokio::test]
async fn hostile_names_of_functions_are_cut_and_escaped_in_a_backtrace() {
    let engine = GuestEngine::new().expect("an engine");
    let name = format!("{}\\n  0: 0x0 - forged\\u{{202e}}", "x".repeat(1 << 19));
    // One name is too long to be shown, the other one is shown whole.
    let body = format!(
        r#"(func $"{name}" unreachable) (func $"b\n\u{{202e}}" (call $"{name}"))
        (func (export "run") (result i32) (call $"b\n\u{{202e}}") (i32.const 0))"#
    );
    let reason = KIND.guest(&engine, Arc::new(Bus::new()), &body).run().await.reason;
    let ExitReason::Trapped { message, backtrace } = reason else { panic!("{reason:?}") };
    assert!(message.len() <= LONGEST && backtrace.len() <= LONGEST, "{}", backtrace.len());
    assert!(backtrace.contains(r"b\n\u{202e}"), "{backtrace}");
    assert!(!backtrace.chars().any(|c| c != '\n' && is_invisible(c)), "{backtrace}");
    assert_eq!(backtrace.lines().count(), 4, "a title and a line for each function: {backtrace}");
}

#[test]
fn hostile_names_of_imports_and_guests_are_escaped_in_errors() {
    let engine = GuestEngine::new().expect("an engine");
    let code = r#"(module (import "a\nb\u{202e}" "c\u{1b}" (func)) (memory (export "memory") 1)
      (func (export "run") (result i32) (i32.const 0)))"#;
    let source = GuestSource::bytes("name\nof\u{2066}a guest", code.as_bytes().to_vec());
    let error = GuestProgram::load(&engine, &source).expect_err("an unknown import").to_string();
    assert!(error.contains(r"name\nof\u{2066}a guest") && error.contains(r"a\nb\u{202e}"), "{error}");
    assert!(!error.chars().any(is_invisible), "{error:?}");
}

#[test]
fn hostile_names_of_topics_are_refused() {
    let broker = Broker::new();
    for name in ["a\nb", "a\u{202e}b", "a\u{200b}", "\u{feff}a", "a\tb", "\u{61c}"] {
        let error = broker.declare(name, &Bytes::schema(), None).expect_err("refused");
        assert_eq!(error, OpenError::BadName(name.to_owned()));
        assert!(!error.to_string().chars().any(is_invisible), "{error}");
    }
    broker.declare("größe/мир/世界 é", &Bytes::schema(), None).expect("an ordinary name");
}

#[test]
fn hostile_names_of_components_are_escaped() {
    let broker = Broker::new();
    let options = ComponentOptions::new().name("a\nb\0\u{202e}");
    let app = broker.supervise(options, |_session| Ok::<(), String>(())).expect("starts");
    assert_eq!(app.wait().reason, ExitReason::Finished);
    assert_eq!(app.name(), r"a\nb\u{0}\u{202e}");
}
