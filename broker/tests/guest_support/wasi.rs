//! WASI programs written as text.

use super::wat::{EXPORTS, HELPERS, IMPORTS, LOWERED, MAIN_IMPORTS, MEMORY};

/// Builds a component like [`wat::component`](super::wat::component) that also imports a part of WASI, and
/// exports `wasi:cli/run`. In addition, `body` sees
///
/// - `$stdout`, `$stderr` `(result i32)`: a new handle on the stream;
/// - `$write (param $stream i32) (param $address i32) (param $len i32) (param $result i32)`: at most 4096
///   bytes;
/// - `$exit (param $failed i32)`; `$clock (result i64)`;
/// - `$sleep (param $nanoseconds i64) (result i32)`: a pollable; `$block (param $pollable i32)`;
///   `$drop_pollable (param i32)`;
/// - `$wait_for (param $pollables i32) (param $count i32) (param $result i32)`;
/// - `$random (param $len i64) (param $result i32)`; `$arguments (param $result i32)`.
///
/// Its `run` returns 0 if it succeeded.
pub fn program(body: &str) -> String {
    let exports = EXPORTS
        .replace("(with \"memory\"", &format!("{WITH} (with \"memory\""))
        .replace("(func (export \"run\") (result u32)", "(func $run (result (result))");
    format!(
        "(component {IMPORTS} {WASI_IMPORTS} {MEMORY} {LOWERED} {WASI_LOWERED}
         (core module $main {MAIN_IMPORTS} {WASI_MAIN_IMPORTS} {HELPERS} {body}) {exports}
         (instance $command (export \"run\" (func $run))) (export \"wasi:cli/run@0.2.0\" (instance $command)))"
    )
}

const WASI_IMPORTS: &str = r#"
  (import "wasi:io/error@0.2.0" (instance $wasi-error (export "error" (type (sub resource)))))
  (alias export $wasi-error "error" (type $io-error))
  (import "wasi:io/poll@0.2.0" (instance $wasi-poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $wasi-poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $wasi-streams
    (alias outer 1 $io-error (type $error_))
    (export "error" (type $error (eq $error_)))
    (type $stream-error_ (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error_)))
    (export "output-stream" (type $output-stream (sub resource)))
    (export "[method]output-stream.blocking-write-and-flush" (func (param "self" (borrow $output-stream))
      (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $wasi-streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $wasi-stdout
    (alias outer 1 $output-stream (type $stream_))
    (export "output-stream" (type $stream (eq $stream_)))
    (export "get-stdout" (func (result (own $stream))))))
  (import "wasi:cli/stderr@0.2.0" (instance $wasi-stderr
    (alias outer 1 $output-stream (type $stream_))
    (export "output-stream" (type $stream (eq $stream_)))
    (export "get-stderr" (func (result (own $stream))))))
  (import "wasi:cli/exit@0.2.0" (instance $wasi-exit (export "exit" (func (param "status" (result))))))
  (import "wasi:cli/environment@0.2.0" (instance $wasi-environment
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $wasi-clock
    (alias outer 1 $pollable (type $pollable_))
    (export "pollable" (type $pollable (eq $pollable_)))
    (export "now" (func (result u64)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:random/random@0.2.0" (instance $wasi-random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
"#;

const WASI_LOWERED: &str = r#"
  (core func $stdout (canon lower (func $wasi-stdout "get-stdout")))
  (core func $stderr (canon lower (func $wasi-stderr "get-stderr")))
  (core func $write (canon lower (func $wasi-streams "[method]output-stream.blocking-write-and-flush") (memory (core memory $memory "memory"))))
  (core func $exit (canon lower (func $wasi-exit "exit")))
  (core func $clock (canon lower (func $wasi-clock "now")))
  (core func $sleep (canon lower (func $wasi-clock "subscribe-duration")))
  (core func $block (canon lower (func $wasi-poll "[method]pollable.block")))
  (core func $drop_pollable (canon resource.drop $pollable))
  (core func $wait_for (canon lower (func $wasi-poll "poll") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $random (canon lower (func $wasi-random "get-random-bytes") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $arguments (canon lower (func $wasi-environment "get-arguments") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
"#;

const WITH: &str = r#"
  (with "wasi" (instance
    (export "stdout" (func $stdout)) (export "stderr" (func $stderr)) (export "write" (func $write))
    (export "exit" (func $exit)) (export "clock" (func $clock)) (export "sleep" (func $sleep))
    (export "block" (func $block)) (export "drop_pollable" (func $drop_pollable))
    (export "wait_for" (func $wait_for)) (export "random" (func $random)) (export "arguments" (func $arguments))))
"#;

const WASI_MAIN_IMPORTS: &str = r#"
    (import "wasi" "stdout" (func $stdout (result i32)))
    (import "wasi" "stderr" (func $stderr (result i32)))
    (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
    (import "wasi" "exit" (func $exit (param i32)))
    (import "wasi" "clock" (func $clock (result i64)))
    (import "wasi" "sleep" (func $sleep (param i64) (result i32)))
    (import "wasi" "block" (func $block (param i32)))
    (import "wasi" "drop_pollable" (func $drop_pollable (param i32)))
    (import "wasi" "wait_for" (func $wait_for (param i32 i32 i32)))
    (import "wasi" "random" (func $random (param i64 i32)))
    (import "wasi" "arguments" (func $arguments (param i32)))
"#;
