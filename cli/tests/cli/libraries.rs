//! The command-line tool and native libraries: runs them beside guests, never by accident, and inspects them
//! without running them.

#[path = "../../../broker/tests/libraries/support/build.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the broker's tests")]
pub mod build;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use build::library;
use rustix::process::{Pid, Signal, kill_process};

use super::{blockcast, output};

/// How long to wait for a tool whose library would never end by itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// A guest that ends at once.
const GUEST: &str = r#"(component (core module $main (func (export "run") (result i32) (i32.const 0)))
  (core instance $main (instantiate $main)) (func (export "run") (result u32) (canon lift (core func $main "run"))))"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder for one test that contains the library. Dropping this removes the folder.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        std::fs::copy(library(), path.join("libcomponent.so")).expect("copied");
        std::fs::write(path.join("guest.wat"), GUEST).expect("written");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).expect("written");
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn libraries_and_guests_run_side_by_side() {
    let folder = Folder::new("mixed");
    let (native, guest) = (folder.path("libcomponent.so"), folder.path("guest.wat"));
    let grants = ["--publish", "component:own", "--subscribe", "component:own", "-p", "component:do=works"];
    let run = output(&[&["run", "--json", "--native", &native, &guest][..], &grants].concat());
    assert!(run.status.success(), "{run:?}");
    let stats: serde_json::Value = serde_json::from_str(text(&run.stdout).trim()).expect("JSON");
    let of = |index: usize| {
        let guest = &stats["components"][index];
        (guest["name"].clone(), guest["exit"].clone(), guest["published"].clone(), guest["received"].clone())
    };
    assert_eq!(of(0), ("component".into(), "finished".into(), 44.into(), 44.into()), "{stats}");
    assert_eq!(of(1), ("guest".into(), "finished".into(), 0.into(), 0.into()), "{stats}");
}

#[test]
fn a_manifest_runs_both_each_under_its_own_heading() {
    let folder = Folder::new("manifest");
    let manifest = folder.file(
        "both.toml",
        r#"
        [[guest]]
        source = "guest.wat"
        instances = 2

        [[library]]
        name = "native"
        source = "libcomponent.so"
        publish = ["own"]
        subscribe = ["own"]
        parameters = { do = "works" }
        limits = { publishers = 1 }
        "#,
    );
    let run = output(&["run", &manifest]);
    assert!(run.status.success(), "{run:?}");
    for line in ["guest-1 ENDED finished", "guest-2 ENDED finished", "native  ENDED finished"] {
        assert!(text(&run.stderr).contains(line), "{line} in {run:?}");
    }
    let manifest = folder.file(
        "limited.toml",
        "[[library]]\nsource = \"libcomponent.so\"\nparameters = { do = \"works\" }\npublish = [\"own\"]\n",
    );
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(1), "it may not subscribe: {run:?}");
    assert!(text(&run.stderr).contains("component failed: line "), "{run:?}");
}

#[test]
fn hostile_native_code_never_runs_by_accident() {
    let folder = Folder::new("unawares");
    let native = folder.path("libcomponent.so");
    // The file type is detected from the content, not from the name.
    let disguised = folder.path("guest.wasm");
    std::fs::copy(&native, &disguised).expect("copied");
    for file in [&native, &disguised] {
        let run = output(&["run", file, "-p", "do=works", "--publish", "own", "--subscribe", "own"]);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(text(&run.stderr).contains("--native allows that"), "{run:?}");
    }
    let manifest = folder.file("guest.toml", "[[guest]]\nsource = \"guest.wasm\"\n");
    let run = output(&["run", "--native", &manifest]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(text(&run.stderr).contains("guest.toml:2:10: this is a native library"), "{run:?}");
    let manifest = folder.file("library.toml", "[[library]]\nsource = \"guest.wat\"\n");
    assert!(text(&output(&["run", &manifest]).stderr).contains("belongs under [[guest]]"));
    let manifest = folder.file("wasi.toml", "[[library]]\nsource = \"libcomponent.so\"\nwasi = [\"cli\"]\n");
    assert!(text(&output(&["run", &manifest]).stderr).contains("WASI is only for guests"));
}

#[test]
fn errors_in_a_library_are_reported_before_anything_runs() {
    let folder = Folder::new("wrong");
    let whole = std::fs::read(library()).expect("readable");
    std::fs::write(folder.0.join("cut.so"), &whole[..whole.len() / 2]).expect("written");
    let (cut, missing) = (folder.path("cut.so"), folder.path("missing.so"));
    for (file, said) in
        [(&cut, "is not a shared library for this machine"), (&missing, "there is no library at")]
    {
        let run = output(&["run", "--native", file]);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(text(&run.stderr).contains(said), "{run:?}");
    }
    let manifest = folder.file("cut.toml", "[[library]]\nsource = \"cut.so\"\n");
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(text(&run.stderr).contains("cut.toml:2:10: this library cannot be run"), "{run:?}");
}

#[test]
fn inspect_shows_a_library_without_running_it() {
    let marked = build::build(&["CONSTRUCTOR=puts(\"constructed\")"]).display().to_string();
    let shown = output(&["inspect", &marked]);
    assert!(shown.status.success(), "{shown:?}");
    let printed = text(&shown.stdout);
    for line in [
        "kind       native library",
        "interface  version 1",
        "exports    blockcast_app (symbol)",
        "needs      libc.so",
        "sandbox    none",
        "runs here  yes",
    ] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    assert!(!printed.contains("constructed"), "{printed}");
    let shown = output(&["inspect", "--json", &marked]);
    let json: serde_json::Value = serde_json::from_str(&text(&shown.stdout)).expect("JSON");
    assert_eq!((&json["kind"], &json["abi_version"]), (&"native library".into(), &1.into()), "{json}");
    let tool = env!("CARGO_BIN_EXE_blockcast");
    let shown = output(&["inspect", tool]);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
    assert!(text(&shown.stdout).contains("runs here  no: "), "{shown:?}");
}

#[test]
fn hostile_library_that_never_returns_does_not_keep_the_tool() {
    let folder = Folder::new("stuck");
    let manifest = folder.file(
        "stuck.toml",
        "[[library]]\nsource = \"libcomponent.so\"\nparameters = { do = \"spins\" }\nlimits = { shutdown-grace = \"200ms\" }\n",
    );
    let running = blockcast(&["run", "--json", "--stats", "20ms", &manifest]);
    let mut running =
        { running }.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the tool starts");
    // Wait until it has computed for a while, which is all it does.
    let mut counters = BufReader::new(running.stdout.take().expect("piped")).lines();
    let runs = counters.find(|line| {
        let stats = serde_json::from_str::<serde_json::Value>(line.as_ref().expect("UTF-8")).expect("JSON");
        stats["components"][0]["computed_seconds"].as_f64() > Some(0.0)
    });
    assert!(runs.is_some(), "it runs");
    std::thread::spawn(move || counters.for_each(drop));
    let asked = Instant::now();
    let child = Pid::from_child(&running);
    kill_process(child, Signal::INT).expect("interrupted");
    let ended = running.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    assert!(text(&ended.stderr).contains("abandoned"), "{ended:?}");
}
