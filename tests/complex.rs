//! The promises of the example `complex` to its users, checked from outside on the built program.
//!
//! Its guests are those beside their source, or those in the folder that `BLOCKCAST_GUESTS` names.

mod support;

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use complex_subscriber::Tally;
use support::{Row, Run, Scratch, feed, start, start_library, start_with};

const NATIVE: [&str; 2] = ["--deployment", "native"];

/// The shipped text.
const GENESIS: &str = include_str!("../examples/complex/genesis.txt");

/// Compares the line about the text with counts made here.
#[track_caller]
fn counted(run: &Run, text: &str) {
    let tally = Tally::of(text);
    let hash = format!("{:016x}", tally.hash);
    assert_eq!(run.text(), (tally.lines, tally.words, tally.longest, hash), "{run:#?}");
    run.received(tally.lines);
}

/// Runs natively with `text` in a pipe, and checks that all of it arrives.
#[track_caller]
fn arrives(text: &str) {
    let run = feed(&[&NATIVE[..], &["-"]].concat(), text.as_bytes());
    run.succeeded();
    counted(&run, text);
}

/// Runs natively with `text` in a file. The run must fail with this message about the file, after both
/// subscribers have received the lines before the bad one.
#[track_caller]
fn refused(text: &[u8], before: &str, options: &[&str], message: &str) {
    let folder = Scratch::folder();
    let file = folder.file("text", text);
    let run = start(&[&NATIVE[..], options, &[&file]].concat()).end();
    run.failed(&format!("{file}: {message}"));
    counted(&run, before);
}

#[test]
fn the_shipped_text_is_long_enough_and_arrives_natively() {
    assert!(GENESIS.lines().count() >= 1000);
    let run = start(&NATIVE).end();
    run.succeeded();
    counted(&run, GENESIS);
    for name in ["publisher", "subscriber 1", "subscriber 2"] {
        assert_eq!(run.row(name).kind, "native", "{run:#?}");
    }
    assert_eq!(run.row("publisher").copied, Some(0), "{run:#?}");
}

#[test]
fn the_shipped_text_arrives_in_a_guest_and_natively_without_a_copy_by_default() {
    let run = start(&[]).end();
    run.succeeded();
    counted(&run, GENESIS);
    let kinds = ["publisher", "subscriber 1", "subscriber 2"].map(|name| run.row(name).kind);
    assert_eq!(kinds, ["native", "native", "wasm"]);
    assert_eq!(run.row("publisher").copied, Some(0), "{run:#?}");
}

#[test]
fn three_guests_get_the_same_text_and_the_publishers_bytes_are_copied_once() {
    let run = start(&["--deployment", "wasm"]).end();
    run.succeeded();
    counted(&run, GENESIS);
    let kinds = ["publisher", "subscriber 1", "subscriber 2"].map(|name| run.row(name).kind);
    assert_eq!(kinds, ["wasm"; 3]);
    let publisher = run.row("publisher");
    assert!(publisher.bytes > GENESIS.len() as u64);
    assert_eq!(publisher.copied, Some(publisher.bytes), "{run:#?}");
}

#[test]
fn three_libraries_get_the_same_text_without_a_copy() {
    // The example builds the libraries itself.
    let run = start(&["--deployment", "library"]).end_after_compiling();
    run.succeeded();
    counted(&run, GENESIS);
    let kinds = ["publisher", "subscriber 1", "subscriber 2"].map(|name| run.row(name).kind);
    assert_eq!(kinds, ["library"; 3]);
    assert_eq!(run.row("publisher").copied, Some(0), "{run:#?}");
    // It prints the same as with linked apps, except for times and how they run.
    let linked = start(&NATIVE).end();
    assert_eq!(run.text(), linked.text());
    for name in ["publisher", "subscriber 1", "subscriber 2"] {
        let (one, other) = (run.row(name), linked.row(name));
        assert_eq!((one.messages, one.bytes), (other.messages, other.bytes), "{name}");
    }
    let run = start_library(&["--blocks", "2", "--block-size", "128", "-"], Stdio::piped());
    let run = run.feed(b"to be\nor not\n");
    run.succeeded();
    counted(&run, "to be\nor not\n");
}

#[test]
fn three_processes_get_the_same_text_without_a_copy() {
    let run = start(&["--deployment", "process"]).end();
    run.succeeded();
    counted(&run, GENESIS);
    let names = ["publisher", "subscriber 1", "subscriber 2"];
    assert_eq!(names.map(|name| run.row(name).kind), ["process"; 3]);
    // It prints the same as with linked apps, except for times and how they run.
    let linked = start(&NATIVE).end();
    assert_eq!(run.text(), linked.text());
    for name in names {
        assert_eq!(Row { kind: "native".to_owned(), ..run.row(name) }, linked.row(name), "{name}");
    }
    let run =
        feed(&["--deployment", "process", "--blocks", "2", "--block-size", "128", "-"], b"to be\nor not\n");
    run.succeeded();
    counted(&run, "to be\nor not\n");
}

#[test]
fn a_bad_line_ends_a_process_with_the_same_error_after_all_lines_before_it() {
    let folder = Scratch::folder();
    let file = folder.file("text", b"fine\nbad \xFF\nnever");
    let run = start(&["--deployment", "process", &file]).end();
    run.failed(&format!("{file}: line 2 is not UTF-8: the byte at offset 9 of the text is wrong"));
    counted(&run, "fine\n");
    // An error before any line.
    let run = start(&["--deployment", "process", "--block-size", "1073741824", "--blocks", "1048576"]).end();
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.said().starts_with("complex: publisher: failed: topic \"lines\": "), "{run:#?}");
}

#[test]
fn a_library_that_is_missing_broken_or_cannot_be_built_is_an_error() {
    let folder = Scratch::folder();
    let library = |variable: &str, value: &str| {
        start_with(&["--deployment", "library"], |command| command.stdin(Stdio::null()).env(variable, value))
            .end()
    };
    let missing = folder.path("nowhere");
    library("BLOCKCAST_LIBRARIES", &missing)
        .failed(&format!("there is no library at {missing}/libcomplex_publisher.so"));
    let broken = folder.file("libcomplex_publisher.so", b"\x7fELF and then nothing");
    let run = library("BLOCKCAST_LIBRARIES", folder.name());
    assert_eq!((run.code, &*run.out), (Some(1), ""), "{run:#?}");
    let message =
        format!("complex: {broken} is not a shared library for this machine: it is damaged or cut off: ");
    assert!(run.said().starts_with(&message), "{run:#?}");
    let run = library("CARGO", "/bin/false");
    assert_eq!((run.code, &*run.out), (Some(1), ""), "{run:#?}");
    let message = "complex: complex-publisher cannot be built as a library: cargo ended with exit status: 1";
    assert!(run.said().starts_with(message) && run.err.contains("BLOCKCAST_LIBRARIES=FOLDER"), "{run:#?}");
}

#[test]
fn a_bad_line_ends_a_library_with_the_same_error_after_all_lines_before_it() {
    let folder = Scratch::folder();
    let file = folder.file("text", b"fine\nbad \xFF\nnever");
    let run = start_library(&[&file], Stdio::null()).end();
    run.failed(&format!("{file}: line 2 is not UTF-8: the byte at offset 9 of the text is wrong"));
    counted(&run, "fine\n");
}

#[test]
fn a_file_arrives() {
    let folder = Scratch::folder();
    let text: String =
        (0..20_000).map(|line| format!("line {line} größer {}\n", "x".repeat(line % 90))).collect();
    let file = folder.file("text", text.as_bytes());
    let run = start(&[&NATIVE[..], &[&file]].concat()).end();
    run.succeeded();
    counted(&run, &text);
    assert!(run.out.starts_with(&format!("{file} ({} bytes), deployment native", text.len())), "{run:#?}");
}

#[test]
fn a_large_text_in_a_pipe_arrives_through_few_small_blocks() {
    let text: String = (0..30_000).map(|line| format!("{line}\n")).collect();
    let run = feed(&[&NATIVE[..], &["--blocks", "2", "--block-size", "128", "-"]].concat(), text.as_bytes());
    run.succeeded();
    counted(&run, &text);
}

#[test]
fn line_ends_of_any_kind_arrive_as_the_standard_library_reads_them() {
    arrives("dos\r\nlines\r\n\r\nend\r\n");
    arrives("no end");
    arrives("one\n\n\ntwo\rthree\nno end\r");
    arrives("\n");
    arrives("π ≤ 4 🎈\n");
}

#[test]
fn text_that_comes_slowly_in_pieces_arrives() {
    let mut running = start_with(&[&NATIVE[..], &["-"]].concat(), |command| command.stdin(Stdio::piped()));
    let mut input = running.input();
    let text = "größer\r\nand\nlonger 🎈";
    for piece in text.as_bytes().chunks(3) {
        input.write_all(piece).expect("it reads");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(input);
    let run = running.end();
    run.succeeded();
    counted(&run, text);
}

#[test]
fn text_arrives_in_a_guest_before_the_input_ends() {
    let mut running = start_with(&["-"], |command| command.stdin(Stdio::piped()));
    let mut input = running.input();
    input.write_all(b"first\n").expect("it reads");
    std::thread::sleep(Duration::from_millis(200));
    input.write_all(b"second\n").expect("it reads");
    drop(input);
    let run = running.end();
    run.succeeded();
    counted(&run, "first\nsecond\n");
}

#[test]
fn an_empty_input_is_an_error() {
    let folder = Scratch::folder();
    let file = folder.file("nothing", b"");
    let run = start(&[&NATIVE[..], &[&file]].concat()).end();
    run.failed(&format!("{file} is empty: there was nothing to publish"));
    let run = start(&[&NATIVE[..], &["-"]].concat()).end();
    run.failed("standard input is empty: there was nothing to publish");
    run.received(0);
}

#[test]
fn an_input_that_cannot_be_read_is_an_error() {
    let folder = Scratch::folder();
    let missing = folder.path("missing");
    start(&[&missing])
        .end()
        .failed(&format!("cannot read {missing}: No such file or directory (os error 2)"));
    start(&[folder.name()]).end().failed(&format!("cannot read {}: it is a folder", folder.name()));
    // It can be opened, but not read.
    let run = start(&[&NATIVE[..], &["/proc/self/mem"]].concat()).end();
    run.failed("cannot read /proc/self/mem: Input/output error (os error 5)");
    run.received(0);
}

#[test]
fn text_that_is_not_utf8_is_named_and_everything_before_it_is_received() {
    let not_utf8 =
        |line, offset| format!("line {line} is not UTF-8: the byte at offset {offset} of the text is wrong");
    refused(b"caf\xE9\nnever", "", &[], &not_utf8(1, 3));
    refused(b"fine\nalso fine\nbad \xFF\nnever", "fine\nalso fine\n", &[], &not_utf8(3, 19));
    // After several blocks of text.
    let bad = [GENESIS.as_bytes(), b"\xF0\x9F\n"].concat();
    let line = GENESIS.lines().count() + 1;
    refused(&bad, GENESIS, &["--blocks", "2"], &not_utf8(line, GENESIS.len()));
}

#[test]
fn a_line_longer_than_a_block_is_named_and_everything_before_it_is_received() {
    let too_long = |line, bytes, room| {
        format!(
            "line {line} is too long: it has {bytes} bytes, and a block has room for {room}; it needs blocks of {} bytes, \
             which --block-size sets",
            bytes + 16
        )
    };
    let line = "x".repeat(48);
    let small = ["--block-size", "64"];
    refused(format!("fits\n{line}x\nnever\n").as_bytes(), "fits\n", &small, &too_long(2, 49, 48));
    refused(format!("fits\n{line}x").as_bytes(), "fits\n", &small, &too_long(2, 49, 48));
    refused(&[b'x'; 5000], "", &[], &too_long(1, 5000, 4080));
    arrives(&format!("{}\n", "x".repeat(4080)));
    // Longer than all blocks of the text together.
    let long = [&[b'x'; 3_000_000][..], b"\nnever\n"].concat();
    refused(&long, "", &[], &too_long(1, 3_000_000, 4080));
    let folder = Scratch::folder();
    let file = folder.file("text", &long);
    let run = start(&["--deployment", "wasm", &file]).end();
    run.failed(&format!("{file}: {}", too_long(1, 3_000_000, 4080)));
    // A block's size is rounded up.
    let run = feed(&[&NATIVE[..], &["--block-size", "65", "-"]].concat(), &[b'x'; 112]);
    run.succeeded();
}

#[test]
fn a_bad_line_ends_a_guest_with_the_same_error_after_all_lines_before_it() {
    let folder = Scratch::folder();
    let file = folder.file("text", b"fine\nbad \xFF\nnever");
    let run = start(&["--deployment", "wasm", &file]).end();
    run.failed(&format!("{file}: line 2 is not UTF-8: the byte at offset 9 of the text is wrong"));
    counted(&run, "fine\n");
}

#[test]
fn blocks_that_cannot_be_allocated_are_an_error() {
    let run = start(&[&NATIVE[..], &["--block-size", "1073741824", "--blocks", "1048576"]].concat()).end();
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.said().starts_with("complex: publisher: failed: topic \"lines\": "), "{run:#?}");
}

#[test]
fn an_argument_out_of_range_is_an_error() {
    for arguments in [["--block-size", "63"], ["--blocks", "1"], ["--deployment", "none"], ["--delay", "-1"]]
    {
        let run = start(&arguments).end();
        assert_eq!(run.code, Some(2), "{run:#?}");
        assert!(run.err.contains("error: "), "{run:#?}");
    }
}

/// Runs with the guests in `folder`.
fn with_guests(folder: &str, arguments: &[&str]) -> Run {
    start_with(arguments, |command| command.stdin(Stdio::null()).env("BLOCKCAST_GUESTS", folder)).end()
}

#[test]
fn a_guest_that_is_missing_or_broken_is_an_error() {
    let folder = Scratch::folder();
    let missing = folder.path("nowhere");
    with_guests(&missing, &[]).failed(&format!("there is no guest at {missing}/complex-subscriber.wasm"));

    let intact = std::fs::read(complex_subscriber::component_file()).expect("the guest is there");
    let cases: [(&[u8], &str); 5] = [
        (b"not wasm at all", " is not a wasm file"),
        (b"", " is not a wasm file"),
        (&intact[..intact.len() / 2], " is not a valid wasm component: "),
        (b"\0asm\x01\0\0\0", " does not export one memory as `memory`: "),
        (b"\0asm\x0d\0\x01\0", " does not export `run: func() -> u32`: "),
    ];
    for (content, message) in cases {
        let guest = folder.file("complex-subscriber.wasm", content);
        let run = with_guests(folder.name(), &[]);
        assert_eq!(run.code, Some(1), "{run:#?}");
        assert!(run.said().starts_with(&format!("complex: {guest}{message}")), "{run:#?}");
        assert_eq!(run.out, "", "nothing was published");
    }
}

/// A guest without imports, whose `run` is this code.
fn guest(code: &str) -> String {
    format!(
        r#"(component
            (core module $main (func (export "run") (result i32) {code}))
            (core instance $main (instantiate $main))
            (func (export "run") (result u32) (canon lift (core func $main "run"))))"#
    )
}

#[test]
fn a_guest_that_fails_before_it_subscribes_ends_the_run() {
    let folder = Scratch::folder();
    for (code, message) in [
        ("i32.const 1", "failed: "),
        ("unreachable", "trapped: wasm trap: wasm `unreachable` instruction executed"),
    ] {
        folder.file("complex-subscriber.wasm", guest(code).as_bytes());
        let run = with_guests(folder.name(), &[]);
        assert_eq!(run.code, Some(1), "{run:#?}");
        assert!(run.said().starts_with(&format!("complex: subscriber 2: {message}")), "{run:#?}");
    }
}

#[test]
fn a_publishing_guest_that_ends_without_a_word_does_not_keep_the_others_waiting() {
    let folder = Scratch::folder();
    std::fs::copy(complex_subscriber::component_file(), folder.path("complex-subscriber.wasm"))
        .expect("a copy");
    folder.file("complex-publisher.wasm", guest("i32.const 0").as_bytes());
    let run = with_guests(folder.name(), &["--deployment", "wasm"]);
    run.failed("publisher: finished");
}

#[test]
fn ctrl_c_ends_a_run_whose_input_never_ends_and_everything_published_is_received() {
    for deployment in ["native", "mixed", "library", "process"] {
        let mut running = match deployment {
            "library" => start_library(&["-"], Stdio::piped()),
            _ => start_with(&["--deployment", deployment, "-"], |command| command.stdin(Stdio::piped())),
        };
        let mut input = running.input();
        let (much, was_read) = std::sync::mpsc::channel();
        let feeding = std::thread::spawn(move || {
            // More than a pipe holds, so the example has read some of it.
            let _ = input.write_all(&b"for ever\n".repeat(100_000)).map(|()| much.send(()));
            while input.write_all(b"for ever\n").is_ok() {}
        });
        running.flows();
        was_read.recv().expect("it reads");
        running.interrupt();
        let run = running.end();
        feeding.join().expect("no panic");
        run.succeeded();
        assert!(run.text().0 > 0, "{run:#?}");
        run.received(run.text().0);
        assert!(run.line("interrupted").contains("has been received"), "{run:#?}");
    }
}

#[test]
fn ctrl_c_ends_a_run_that_waits_for_its_input() {
    let mut running = start_with(&[&NATIVE[..], &["-"]].concat(), |command| command.stdin(Stdio::piped()));
    let mut input = running.input();
    input.write_all(b"one\ntwo").expect("it reads");
    running.flows();
    std::thread::sleep(Duration::from_millis(500));
    running.interrupt();
    let run = running.end();
    drop(input);
    run.succeeded();
    counted(&run, "one\ntwo");
}

#[test]
fn ctrl_c_ends_a_run_in_the_middle_of_a_delay() {
    for deployment in ["native", "process"] {
        // Longer than the limit on a run.
        let mut running = start(&["--deployment", deployment, "--delay", "3600000"]);
        running.flows();
        std::thread::sleep(Duration::from_millis(500));
        running.interrupt();
        let run = running.end();
        run.succeeded();
        counted(&run, GENESIS);
    }
}

#[test]
fn a_long_wait_is_reported_and_one_signal_ends_it() {
    let mut running = start_with(&[&NATIVE[..], &["-"]].concat(), |command| command.stdin(Stdio::piped()));
    let mut input = running.input();
    input.write_all(b"one\ntwo").expect("it reads");
    running.waits_for("text from standard input");
    running.signal("TERM");
    let run = running.end();
    drop(input);
    run.succeeded();
    counted(&run, "one\ntwo");

    let mut running = start(&[&NATIVE[..], &["--delay", "3600000"]].concat());
    running.waits_for("the apps to receive what was published");
    running.signal("TERM");
    let run = running.end();
    run.succeeded();
    counted(&run, GENESIS);
}

#[test]
fn one_signal_ends_a_run_whose_table_nobody_reads() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe can be made not to wait");
    while writer.write(b"full").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("a pipe can be made to wait");
    let mut running = start_with(&NATIVE, |command| command.stdin(Stdio::null()).stdout(writer));
    running.waits_for("a reader of the table");
    running.signal("TERM");
    let run = running.end();
    drop(reader);
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.err.contains("complex: interrupted while it waited for a reader of the table\n"), "{run:#?}");
}

#[test]
fn ctrl_c_ends_a_guest_that_never_ends() {
    let folder = Scratch::folder();
    folder.file("complex-subscriber.wasm", guest("(loop $for_ever (br $for_ever)) i32.const 0").as_bytes());
    let mut running =
        start_with(&[], |command| command.stdin(Stdio::null()).env("BLOCKCAST_GUESTS", folder.name()));
    running.flows();
    running.interrupt();
    let run = running.end();
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(
        run.err.contains("complex: subscriber 2: interrupted before it had received everything\n"),
        "{run:#?}"
    );
    assert_eq!(run.line("blocks"), "all back in their pools", "{run:#?}");
}

#[test]
fn a_delay_paces_the_subscribers() {
    let run = feed(
        &[&NATIVE[..], &["--delay", "40", "--block-size", "64", "-"]].concat(),
        &b"0123456789\n".repeat(20),
    );
    run.succeeded();
    let messages = run.row("publisher").messages;
    assert!(messages >= 5, "{run:#?}");
    assert!(run.took >= Duration::from_millis(40) * u32::try_from(messages).expect("few"), "{run:#?}");
}

#[test]
fn a_reader_of_the_table_may_leave_early() {
    let mut running = start(&NATIVE);
    drop(running.output());
    running.end().succeeded();
}

#[test]
fn the_first_line_is_enough_for_a_reader() {
    let mut running = start(&NATIVE);
    let mut first = [0; 16];
    running.output().read_exact(&mut first).expect("there is a table");
    assert_eq!(&first, b"the shipped text");
    running.end().succeeded();
}
