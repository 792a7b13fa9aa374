//! The command line tool: what it runs, what it says, and how it ends.

#[path = "../broker/tests/guest_support/wasi.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the broker's tests")]
mod wasi;
#[path = "../broker/tests/guest_support/wat.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the broker's tests")]
mod wat;

#[path = "cli/compiling.rs"]
mod compiling;
#[path = "cli/inputs.rs"]
mod inputs;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The tool, in the folder of the repository.
fn blockcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockcast"));
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    blockcast(arguments).output().expect("the tool starts")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// A folder for one test, which goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blockcast-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A component that imports `blockcast:blocks/session.log` and nothing else; `body` is the content of its module, in which
/// `$log` takes level, address and length of a text. `ready` is at 16.
fn component(body: &str) -> String {
    format!(
        r#"(component
          (import "blockcast:blocks/session@0.1.0" (instance $session
            (type $level_ (enum "error" "warn" "info" "debug" "trace"))
            (export "level" (type $level (eq $level_)))
            (export "log" (func (param "level" $level) (param "text" string)))
            (export "shutdown-requested" (func (result bool)))))
          (core module $memory (memory (export "memory") 1) (data (i32.const 16) "ready"))
          (core instance $memory (instantiate $memory))
          (core func $log (canon lower (func $session "log") (memory (core memory $memory "memory"))))
          (core func $asked (canon lower (func $session "shutdown-requested")))
          (core module $main
            (import "host" "log" (func $log (param i32 i32 i32)))
            (import "host" "asked" (func $asked (result i32)))
            {body})
          (core instance $main (instantiate $main
            (with "host" (instance (export "log" (func $log)) (export "asked" (func $asked))))))
          (func (export "run") (result u32) (canon lift (core func $main "run"))))"#
    )
}

/// Says that it is ready, then computes until it is asked to finish.
const POLITE: &str = r#"(func (export "run") (result i32)
  (call $log (i32.const 2) (i32.const 16) (i32.const 5))
  (loop $on (br_if $on (i32.eqz (call $asked)))) (i32.const 0))"#;

/// Says that it is ready, then computes for ever.
const STUBBORN: &str = r#"(func (export "run") (result i32)
  (call $log (i32.const 2) (i32.const 16) (i32.const 5)) (loop $on (br $on)) unreachable)"#;

const TRAPS: &str =
    r#"(func $deep unreachable) (func (export "run") (result i32) (call $deep) (i32.const 0))"#;

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
        let guests = stats["guests"].as_array().expect("a list");
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
    assert!(row("guest").contains("refused") && row("lines").contains("KiB"), "{table}");
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
fn a_trap_is_told_with_its_backtrace_and_restarts_are_counted() {
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
fn hostile_words_of_a_guest_do_not_reach_the_terminal_as_they_are() {
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
            // JSON is for programs, and has one of the three as it is.
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
fn mistakes_in_a_manifest_are_told_with_file_line_and_key() {
    let folder = Folder::new("mistakes");
    let demo = std::fs::read_to_string("examples/deployment/lines.toml").expect("the demo");
    let guest = "[[guest]]\nsource = \"a.wasm\"\n";
    let cases: [(&str, String, &str, &[&str]); 12] = [
        ("typo", demo.replace("instances = 2", "instnaces = 2"), ":31:", &["`instnaces`", "`instances`"]),
        ("limit", format!("{guest}[guest.limits]\nmemroy = 5\n"), ":4:1:", &["`memroy`", "`memory`"]),
        ("size", format!("{guest}limits = {{ memory = \"5 stones\" }}\n"), ":3:", &["5 stones", "16MiB"]),
        ("end-at", format!("{guest}limits = {{ end-at = [\"hold\"] }}\n"), ":3:", &["\"hold\"", "held"]),
        ("restart", format!("{guest}restart = \"sometimes\"\n"), ":3:", &["sometimes", "on-failure"]),
        ("rate", format!("{guest}limits = {{ log-lines = \"5\" }}\n"), ":3:", &["is no rate", "1000/s"]),
        ("source", "[[guest]]\nname = \"a\"\n".to_owned(), ":1:", &["source"]),
        ("twice", format!("{guest}{guest}"), ":4:", &["two guests", "\"a\""]),
        ("native", "[[guest]]\nsource = \"a.so\"\n".to_owned(), ":2:", &["native library", "[[library]]"]),
        ("instances", format!("{guest}instances = 0\n"), ":3:", &["instances is 0", "1 to 1024"]),
        (
            "schema",
            format!("[[topic]]\nname = \"t\"\nschema = \"flat1/u32:lst\"\n{guest}"),
            ":3:",
            &["flat schema"],
        ),
        ("syntax", "[[guest]\n".to_owned(), ":1:", &[]),
    ];
    for (name, text, place, words) in cases {
        let manifest = folder.file(&format!("{name}.toml"), &text);
        let run = output(&["run", &manifest]);
        assert_eq!(run.status.code(), Some(2), "{name}: {run:?}");
        let said = stderr(&run);
        assert!(said.contains(&format!("{manifest}{place}")), "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
    }
}

#[test]
fn guests_that_are_not_there_or_no_guests_are_told_with_the_manifests_line() {
    let folder = Folder::new("missing");
    let manifest = folder.file("missing.toml", "[[guest]]\nname = \"g\"\nsource = \"nowhere.wasm\"\n");
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    let said = stderr(&run);
    assert!(said.contains("missing.toml:3:10") && said.contains("there is no guest at"), "{said}");
    for arguments in
        [&["run", "README.md"][..], &["run"], &["run", "nowhere.wasm"], &["run", "--memory", "5x", "a.wasm"]]
    {
        assert_eq!(output(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// A tool that runs, with what it says read up to a line.
struct Running {
    child: Child,
    said: Vec<String>,
    /// What it says from then on; all is read, so that the tool is never stopped by a full pipe.
    lines: mpsc::Receiver<String>,
}

/// Bounds the wait for one line of a tool that runs, or for its end.
const PATIENCE: Duration = Duration::from_secs(600);

impl Running {
    /// Starts the tool and waits for a line that contains `word`.
    fn until(arguments: &[&str], word: &str) -> Self {
        let mut child =
            blockcast(arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let errors = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || errors.for_each(|line| drop(say.send(line.expect("UTF-8")))));
        let mut running = Self { child, said: Vec::new(), lines };
        running.says(word);
        running
    }

    /// Waits for a line that contains `word`.
    fn says(&mut self, word: &str) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            let found = line.contains(word);
            self.said.push(line);
            if found {
                return;
            }
        }
        self.child.kill().expect("ended");
        panic!("it never said {word:?}: {:?}", self.said);
    }

    fn interrupt(&self) {
        let child = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(child, Signal::INT).expect("interrupted");
    }

    fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().expect("ended");
                panic!("it did not end: {:?}", self.said);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut printed = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut printed).expect("UTF-8");
        (status, printed)
    }
}

#[test]
fn the_first_interrupt_asks_guests_to_finish() {
    let folder = Folder::new("polite");
    let guest = folder.file("polite.wat", &component(POLITE));
    let running = Running::until(&["run", &guest], "ready");
    assert!(running.said.iter().any(|line| line.starts_with("polite INFO  ready")), "{:?}", running.said);
    running.interrupt();
    let (status, printed) = running.end();
    assert!(status.success(), "{status}");
    assert!(printed.contains("finished"), "{printed}");
}

#[test]
fn a_guest_that_goes_on_after_the_first_interrupt_has_failed() {
    let folder = Folder::new("grace");
    folder.file("stubborn.wat", &component(STUBBORN));
    let manifest = folder
        .file("grace.toml", "[[guest]]\nsource = \"stubborn.wat\"\nlimits = { shutdown-grace = \"50ms\" }\n");
    let running = Running::until(&["run", &manifest], "ready");
    running.interrupt();
    let (status, printed) = running.end();
    assert_eq!(status.code(), Some(1));
    assert!(printed.contains("it did not stop when asked to"), "{printed}");
}

#[test]
fn the_second_interrupt_ends_guests_at_once() {
    let folder = Folder::new("stubborn");
    folder.file("stubborn.wat", &component(STUBBORN));
    let manifest = folder.file(
        "stubborn.toml",
        "[[guest]]\nsource = \"stubborn.wat\"\nlimits = { shutdown-grace = \"1h\" }\n",
    );
    let mut running = Running::until(&["run", &manifest], "ready");
    running.interrupt();
    running.says("asked all to finish");
    running.interrupt();
    let (status, printed) = running.end();
    assert_eq!(status.code(), Some(130));
    assert!(printed.contains("cancelled"), "{printed}");
}

#[test]
fn counters_are_printed_every_so_often() {
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
        .map(|stats| stats["guests"][0]["host_calls"].as_u64().expect("a number"))
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
fn inspect_tells_what_a_guest_imports_exports_and_asks_for_without_running_it() {
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
    assert!(text.contains("runs here  yes") && text.contains("at first, any at most"), "{text}");
    let shown = output(&["inspect", "--json", file]);
    let json: serde_json::Value = serde_json::from_str(stdout(&shown)).expect("JSON");
    assert_eq!((&json["kind"], &json["runs_here"]), (&"component".into(), &true.into()));
    assert_eq!(json["bytes"], std::fs::metadata(file).expect("there").len());
}

#[test]
fn inspect_tells_why_a_guest_does_not_run_here() {
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
fn hostile_files_without_an_end_are_refused_before_they_are_read() {
    let folder = Folder::new("endless");
    let shown = output(&["inspect", "/dev/zero"]);
    assert_eq!(shown.status.code(), Some(2), "{shown:?}");
    assert!(stderr(&shown).contains("/dev/zero: it is not a file"), "{shown:?}");
    for head in ["\x7fELF", "\0asm"] {
        let sparse = folder.file("sparse", head);
        let file = std::fs::File::options().write(true).open(&sparse).expect("there");
        file.set_len(1 << 30).expect("sparse");
        let shown = output(&["inspect", &sparse]);
        assert_eq!(shown.status.code(), Some(1), "{shown:?}");
        assert!(stdout(&shown).contains("has 1073741824 bytes, and "), "{shown:?}");
    }
    let manifest = folder.file("large.toml", "# ");
    let file = std::fs::File::options().write(true).open(&manifest).expect("there");
    file.set_len(1 << 30).expect("sparse");
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(stderr(&run).contains("a manifest has at most 16777216 bytes"), "{run:?}");
}

#[test]
fn the_readme_runs_the_demo() {
    let readme = include_str!("../README.md");
    assert!(readme.contains("run examples/deployment/lines.toml"));
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deployment/lines.toml").exists());
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
