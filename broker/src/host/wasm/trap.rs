//! The engine's errors in words: why guests cannot be loaded, and how they trap.

use std::fmt::Write;

use blockcast_blocks::text;
use wasmtime::WasmBacktrace;

use crate::component::exit::ExitReason;
use crate::hosting::log::{MAX_TEXT, line};

/// Longest name of a function or a module in a backtrace, in bytes.
const MAX_NAME: usize = 256;

/// The text of an engine's error. The guest may have chosen any amount of it.
pub(crate) fn engine_text(error: &wasmtime::Error) -> String {
    // Indent all lines but the first, so that they do not look like lines of the host.
    text::lines_within(&format!("{error:#}").replace('\n', "\n    "), MAX_TEXT).into_owned()
}

/// The end that the engine reports with `error`; `said` is the guest's last `fail` text.
pub(crate) fn exit_reason(error: &wasmtime::Error, said: Option<&str>) -> ExitReason {
    let cause = error.root_cause().to_string();
    let cause = line(&cause);
    let message = match said {
        Some(said) if !said.is_empty() => format!("{said} ({cause})"),
        _ => cause.into_owned(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    ExitReason::Trapped { message: line(&message).into_owned(), backtrace }
}

/// The functions of a backtrace. The guest chooses their names.
fn frames(backtrace: &WasmBacktrace) -> String {
    let mut frames = String::from("error while executing at wasm backtrace:");
    for (number, frame) in backtrace.frames().iter().enumerate() {
        let module = frame.module().name().unwrap_or("<unknown>");
        let unnamed = format!("<wasm function {}>", frame.func_index());
        let function = frame.func_name().unwrap_or(&unnamed);
        let (module, function) = (text::line_within(module, MAX_NAME), text::line_within(function, MAX_NAME));
        let offset = frame.module_offset().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(frames, "\n{number:>5}: {offset:#8x} - {module}!{function}");
    }
    text::lines_within(&frames, MAX_TEXT).into_owned()
}
