//! Code that attacks the reader or the compiler.

use std::sync::Arc;
use std::time::Duration;

use crate::guest_support::Guest;
use crate::guest_support::bus::Bus;
use crate::guest_support::child::{in_child, in_child_async};
use blockcast_broker::{Broker, Grants};
use blockcast_broker::{ExitReason, GuestEngine, GuestProgram, GuestSource, LoadError, LoadLimit};

/// The most bytes that a guest's code may have.
const MOST: u64 = 64 << 20;

fn load(code: Vec<u8>) -> Result<GuestProgram, LoadError> {
    let engine = GuestEngine::new().expect("an engine");
    GuestProgram::load(&engine, &GuestSource::bytes("hostile", code))
}

fn invalid(code: Vec<u8>, because: &str) {
    let error = load(code).expect_err("refused");
    assert!(matches!(&error, LoadError::Invalid { reason, .. } if reason.contains(because)), "{error:.500}");
}

/// A number in the encoding of the binary format (LEB128).
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 127) as u8;
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 128 });
        if value == 0 {
            return bytes;
        }
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &number(content.len()), content].concat()
}

/// A core module with a memory and one function, exported as `run`, whose body begins with `code`.
fn module(code: &[u8]) -> Vec<u8> {
    let body = [&[0][..], code, &[0x41, 0, 0x0b]].concat();
    let bodies = [&[1][..], &number(body.len()), &body].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 1, 0x7f]),
        section(3, &[1, 0]),
        section(5, &[1, 0, 1]),
        section(7, b"\x02\x03run\x00\x00\x06memory\x02\x00"),
        section(10, &bodies),
    ]
    .concat()
}

/// Components nested in each other.
fn nested(depth: usize) -> Vec<u8> {
    // Starts with the innermost. Each is a section of the one around it.
    (0..depth).fold(b"\0asm\x0d\0\x01\0".to_vec(), |code, _| {
        [b"\0asm\x0d\0\x01\0".to_vec(), section(4, &code)].concat()
    })
}

#[test]
fn hostile_text_that_is_nested_too_deeply_is_refused() {
    in_child!("hostile_text_that_is_nested_too_deeply_is_refused", || {
        invalid("(component ".repeat(100_000).into_bytes(), "nesting");
        invalid(format!("(module {}", "(func (block ".repeat(100_000)).into_bytes(), "");
    });
}

#[test]
fn hostile_components_nested_too_deeply_are_refused() {
    in_child!("hostile_components_nested_too_deeply_are_refused", || {
        for depth in [1, 10, 2000] {
            let error = load(nested(depth)).expect_err("refused");
            match depth {
                2000 => assert!(
                    matches!(error, LoadError::TooComplex { limit: LoadLimit::ComponentNesting, .. }),
                    "{error}"
                ),
                _ => assert!(matches!(error, LoadError::NoRun { .. }), "{depth}: {error}"),
            }
        }
    });
}

#[test]
fn hostile_depth_of_blocks_does_not_overflow_the_compiler() {
    in_child_async!("hostile_depth_of_blocks_does_not_overflow_the_compiler", async {
        let depth = 20_000;
        let program =
            load(module(&[[0x02_u8, 0x40].repeat(depth), vec![0x0b; depth]].concat())).expect("valid");
        let guest = Guest::of_program(program, Arc::new(Bus::new()));
        assert_eq!(guest.run().await.reason, ExitReason::Finished);
    });
}

#[test]
fn hostile_numbers_in_the_code_are_refused() {
    // A function larger than the format allows (7,654,321 bytes), more locals, more functions, a section
    // longer than the file.
    let error = load(module(&vec![0x01; 8 << 20])).expect_err("refused");
    assert!(matches!(error, LoadError::TooComplex { limit: LoadLimit::FunctionBytes, .. }), "{error}");
    let locals = [&[1][..], &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f], &[0x0b]].concat();
    let bodies = [&[1][..], &number(locals.len()), &locals].concat();
    let header = || b"\0asm\x01\0\0\0".to_vec();
    let functions = [header(), section(1, &[1, 0x60, 0, 0]), section(3, &[1, 0])].concat();
    let error = load([functions, section(10, &bodies)].concat()).expect_err("refused");
    assert!(matches!(error, LoadError::TooComplex { limit: LoadLimit::Locals, .. }), "{error}");
    let error = load([header(), section(3, &number(0x7fff_ffff))].concat()).expect_err("refused");
    assert!(matches!(error, LoadError::TooComplex { limit: LoadLimit::Functions, .. }), "{error}");
    invalid([header(), vec![1], number(0x7fff_ffff)].concat(), "");
    invalid([header(), vec![1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat(), "");
}

#[test]
fn hostile_amounts_of_text_do_not_reappear_in_errors() {
    // The parser's message contains the line with the error.
    let error = load(format!("(component {}", "x".repeat(1 << 20)).into_bytes()).expect_err("refused");
    assert!(matches!(error, LoadError::Invalid { .. }) && error.to_string().len() < 10_000);
    let name = "x".repeat(90_000);
    let error = load(format!(r#"(module (import "{name}" "f" (func)))"#).into_bytes()).expect_err("refused");
    assert!(matches!(error, LoadError::UnknownImport { .. }) && error.to_string().len() < 10_000);
}

#[test]
fn hostile_source_beyond_the_size_limit_is_refused_unread() {
    let code = [b"\0asm\x0d\0\x01\0".to_vec(), vec![0; MOST as usize]].concat();
    let bytes = code.len() as u64;
    let error = load(code).expect_err("too large");
    assert!(
        matches!(error, LoadError::TooLarge { bytes: reported, most: MOST, .. } if reported == bytes),
        "{error}"
    );

    // A sparse file, of which no more than the limit is read.
    let path = std::env::temp_dir().join(format!("blockcast-huge-guest-{}", std::process::id()));
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(1 << 40).expect("a hole");
    let engine = GuestEngine::new().expect("an engine");
    let error = GuestProgram::load(&engine, &GuestSource::File(path.clone())).expect_err("too large");
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(error, LoadError::TooLarge { bytes, most: MOST, .. } if bytes == 1 << 40), "{error}");
}

#[test]
fn hostile_changes_to_good_code_are_refused_or_do_no_harm() {
    in_child_async!("hostile_changes_to_good_code_are_refused_or_do_no_harm", async {
        let engine = GuestEngine::new().expect("an engine");
        // Contains a load, `memory.grow`, a block and a loop.
        let good = module(&[
            0x41, 16, 0x28, 2, 0, 0x1a, 0x41, 1, 0x40, 0, 0x1a, 0x02, 0x40, 0x03, 0x40, 0x41, 0, 0x0d, 0,
            0x0b, 0x0b,
        ]);
        let (mut refused, mut run) = (0, 0);
        let cut = (0..good.len()).map(|len| good[..len].to_vec());
        let changed = (0..good.len()).flat_map(|at| {
            let good = &good;
            [1, 0x80, 0xff].map(move |change| {
                let mut code = good.clone();
                code[at] ^= change;
                code
            })
        });
        for code in cut.chain(changed) {
            let Ok(program) = GuestProgram::load(&engine, &GuestSource::bytes("changed", code)) else {
                refused += 1;
                continue;
            };
            let guest = Guest::of_program(program, Arc::new(Bus::new()))
                .limits(|limits| limits.compute = Some(Duration::from_millis(20)));
            let reason = guest.run().await.reason;
            assert!(
                matches!(
                    reason,
                    ExitReason::Finished
                        | ExitReason::Failed(_)
                        | ExitReason::Trapped { .. }
                        | ExitReason::Killed(_)
                        | ExitReason::NotStarted(_)
                ),
                "{reason:?}"
            );
            run += 1;
        }
        assert!(refused > good.len() && run > 10, "{refused} refused, {run} run");
    });
}

#[tokio::test(flavor = "current_thread")]
async fn hostile_compilation_does_not_block_async_work() {
    let broker = Broker::on_runtime(tokio::runtime::Handle::current());
    // A hundred thousand additions keep the compiler busy for a while.
    let code = [vec![0x41, 1], [0x41_u8, 1, 0x6a].repeat(100_000), vec![0x1a]].concat();
    let source = GuestSource::Bytes { name: "slow".to_owned(), code: Arc::from(module(&code)) };
    let mut ticks = 0_u32;
    let mut loading = std::pin::pin!(broker.load_in_background(source));
    let program = loop {
        tokio::select! {
            biased;
            program = &mut loading => break program.expect("loads"),
            () = tokio::task::yield_now() => ticks += 1,
        }
    };
    assert!(ticks > 0, "the runtime's only thread was not blocked");
    let guest = broker.spawn_guest(&program, Grants::new(), []).expect("starts");
    assert_eq!(guest.ended().await.reason, ExitReason::Finished);
}
