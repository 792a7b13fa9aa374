//! Guests are run, and their output is reported and counted.

use std::io::{BufRead, BufReader, Read};

use super::{
    Folder, POLITE, Running, TRAPS, blockcast, component, output, stderr, stdout, wasi, without_a_reader,
};

#[test]
fn an_ordinary_program_runs_as_far_as_wasi_is_granted_and_is_compiled_once() {
    let folder = Folder::new("wasi");
    let body = r#"(func (export "run") (result i32)
      (call $write (call $stdout) (i32.const 16) (i32.const 5) (i32.const 1088)) (i32.const 0))"#;
    let program = folder.file("program.wat", &wasi::program(body));
    let cache = folder.0.join("cache").display().to_string();
    let run = output(&["run", &program]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert!(stderr(&run).contains("program not started: ") && stderr(&run).contains("wasi:"), "{run:?}");
    for _ in 0..2 {
        let run = output(&["run", "--cache", &cache, &program, "--wasi"]);
        assert!(run.status.success(), "{run:?}");
        assert!(stderr(&run).lines().any(|line| line.starts_with("program INFO  topic")), "{run:?}");
    }
    let kept = std::fs::read_dir(&cache).expect("the cache").filter_map(Result::ok);
    let kept = kept.filter(|file| file.file_name().to_string_lossy().ends_with(".guest")).count();
    assert_eq!(kept, 1, "one compiled guest for two runs");
    let manifest = folder.file(
        "m.toml",
        "[[guest]]\nsource = \"program.wat\"\nwasi = [\"cli\", \"io\", \"clocks\", \"random\"]\n",
    );
    assert!(output(&["run", &manifest]).status.success());
    let shown = output(&["inspect", &program]);
    assert!(shown.status.success() && stdout(&shown).contains("needs      WASI: cli, clocks"), "{shown:?}");
}

#[test]
fn the_demo_manifest_takes_a_text_to_two_guests() {
    let run = output(&["run", "--json", "examples/deployment/lines.toml"]);
    assert!(run.status.success(), "{run:?}");
    let line = stdout(&run).lines().last().expect("counters");
    let stats: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let guest = |name: &str| {
        let guests = stats["components"].as_array().expect("a list");
        guests
            .iter()
            .find(|guest| guest["name"] == name)
            .unwrap_or_else(|| panic!("{name} in {stats}"))
            .clone()
    };
    let published = guest("publisher")["published"].as_u64().expect("a number");
    assert!(published > 10, "{stats}");
    for name in ["subscriber-1", "subscriber-2"] {
        let subscriber = guest(name);
        assert_eq!(subscriber["received"], published, "{stats}");
        assert_eq!((&subscriber["lost"], &subscriber["exit"]), (&0.into(), &"finished".into()), "{stats}");
    }
    let topics = stats["topics"].as_array().expect("a list");
    assert_eq!(topics.len(), 3, "{stats}");
    assert!(topics.iter().all(|topic| topic["attached"] == 0), "all blocks are back: {stats}");
}

#[test]
fn the_same_runs_from_flags_and_shows_a_table() {
    let run = output(&[
        "run",
        "examples/complex/publisher/complex-publisher.wasm",
        "examples/complex/subscriber/complex-subscriber.wasm",
        "--input",
        "text=examples/complex/genesis.txt",
        "--subscribe",
        "complex-publisher:text",
        "--publish",
        "complex-publisher:lines",
        "--subscribe",
        "complex-subscriber:lines",
        "--publish",
        "complex-subscriber:reports",
        "--parameter",
        "name=reader",
        "--memory",
        "8MiB",
    ]);
    assert!(run.status.success(), "{run:?}");
    let table = stdout(&run);
    let row =
        |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{table}"));
    assert!(row("complex-subscriber").ends_with("finished"), "{table}");
    assert!(row("component").contains("refused") && row("lines").contains("KiB"), "{table}");
    assert!(stderr(&run).contains("complex-publisher"), "{run:?}");
}

#[test]
fn nothing_is_granted_by_default_and_a_guest_that_fails_makes_the_exit_code_1() {
    let run = output(&["run", "examples/complex/subscriber/complex-subscriber.wasm"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let said = stderr(&run);
    assert!(said.contains("blockcast: complex-subscriber failed: ") && said.contains("reports"), "{said}");
}

#[test]
fn a_trap_is_reported_with_its_backtrace_and_restarts_are_counted() {
    let folder = Folder::new("trap");
    let guest = folder.file("trap.wat", &component(TRAPS));
    let manifest = folder.file(
        "trap.toml",
        r#"
        [[guest]]
        source = "trap.wat"
        restart = { when = "on-failure", initial = "1ms", limit = 2 }
        "#,
    );
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let said = stderr(&run);
    assert!(said.contains("deep") && said.contains("unreachable"), "{said}");
    assert!(said.contains("trap was given up after 2 restarts: trapped"), "{said}");
    let run = output(&["run", &guest]);
    assert_eq!(run.status.code(), Some(1));
    assert!(stderr(&run).contains("blockcast: trap trapped: "), "{run:?}");
}

#[test]
fn the_exit_code_is_the_same_if_nobody_reads_the_output() {
    let folder = Folder::new("unheard");
    let trap = folder.file("trap.wat", &component(TRAPS));
    for (arguments, code) in [(["run", "nowhere.wasm"], 2), (["run", &trap], 1)] {
        let mut tool = blockcast(&arguments);
        let run =
            tool.stdout(without_a_reader()).stderr(without_a_reader()).status().expect("the tool starts");
        assert_eq!(run.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn counters_are_printed_at_the_interval() {
    let folder = Folder::new("stats");
    let guest = folder.file("polite.wat", &component(POLITE));
    let mut running = Running::until(&["run", "--json", "--stats", "50ms", &guest], "ready");
    let mut output = BufReader::new(running.child.stdout.take().expect("piped"));
    let mut printed = String::new();
    for _ in 0..3 {
        output.read_line(&mut printed).expect("UTF-8");
    }
    running.interrupt();
    output.read_to_string(&mut printed).expect("UTF-8");
    running.child.wait().expect("a child");
    let calls: Vec<u64> = printed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|stats| stats["components"][0]["host_calls"].as_u64().expect("a number"))
        .collect();
    assert!(calls.len() >= 3, "{printed}");
    assert!(calls.is_sorted() && calls[0] > 0, "they are counted while it runs: {calls:?}");
}

#[test]
fn logs_are_filtered_by_level() {
    let folder = Folder::new("levels");
    let says = |level: u32| format!("(call $log (i32.const {level}) (i32.const 16) (i32.const 5))");
    let body = format!(r#"(func (export "run") (result i32) {} {} (i32.const 0))"#, says(0), says(3));
    let guest = folder.file("levels.wat", &component(&body));
    let lines = |level: &str| {
        let run = output(&["run", "--log", level, &guest]);
        assert!(run.status.success(), "{run:?}");
        stderr(&run).matches("ready").count()
    };
    assert_eq!([lines("off"), lines("error"), lines("info"), lines("debug")], [0, 1, 1, 2]);
}

#[test]
fn the_deployment_page_runs_the_demo() {
    let page = include_str!("../../../examples/deployment/README.md");
    assert!(page.contains("-p blockcast-cli -- run examples/deployment/lines.toml"));
}
