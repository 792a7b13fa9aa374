//! The command-line tool and components in processes of their own.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::libraries::build::{build, library};
use super::{Folder, blockcast, output, stderr, stdout};

const GRANTS: [&str; 4] = ["--publish", "own", "--subscribe", "own"];

#[test]
fn a_library_runs_in_a_process_of_its_own_without_further_permission() {
    let library = library().display().to_string();
    let run = output(&[&["run", "--json", "--process", &library, "-p", "do=works"][..], &GRANTS].concat());
    assert!(run.status.success(), "{run:?}");
    let stats: serde_json::Value = serde_json::from_str(stdout(&run).trim()).expect("JSON");
    let component = &stats["components"][0];
    let counts = (&component["exit"], &component["published"], &component["received"]);
    assert_eq!(counts, (&"finished".into(), &44.into(), &44.into()), "{stats}");
}

#[test]
fn a_manifest_runs_libraries_and_programs_in_processes() {
    let folder = Folder::new("processes");
    std::fs::copy(library(), folder.0.join("libcomponent.so")).expect("copied");
    let manifest = folder.file(
        "processes.toml",
        r#"
        [[process]]
        name = "native"
        kind = "library"
        source = "libcomponent.so"
        publish = ["own"]
        subscribe = ["own"]
        parameters = { do = "works" }
        limits = { memory = "16MiB", held = 100 }

        [[process]]
        name = "shell"
        source = "sh"
        arguments = ["-c", "echo $GREETING; pwd; exit 7"]
        environment = { GREETING = "hello" }
        folder = "/"
        "#,
    );
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let said = stderr(&run);
    for line in [
        "native ENDED finished",
        "shell  INFO  hello",
        "shell  INFO  /",
        "shell not started: its program ended with exit status 7 before it connected to the host",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
}

#[test]
fn mistakes_about_processes_are_reported_before_anything_runs() {
    let folder = Folder::new("process-mistakes");
    std::fs::copy(library(), folder.0.join("libcomponent.so")).expect("copied");
    let process = "[[process]]\nsource = \"libcomponent.so\"\n";
    let cases: [(&str, String, &str, &[&str]); 10] = [
        ("missing", "[[process]]\nsource = \"./missing\"\n".to_owned(), ":2:10", &["there is no program"]),
        ("unknown", "[[process]]\nsource = \"no-such-program\"\n".to_owned(), ":2:10", &["no-such-program"]),
        ("library", "[[process]]\nsource = \"missing.so\"\n".to_owned(), ":2:10", &["there is no library"]),
        ("kind", format!("{process}kind = \"program\"\n"), ":2:10", &["this is a native library"]),
        ("arguments", format!("{process}arguments = [\"a\"]\n"), ":3:", &["a library has no arguments"]),
        ("wasi", format!("{process}wasi = [\"cli\"]\n"), ":2:10", &["WASI is only for guests"]),
        (
            "rate",
            "[[process]]\nsource = \"sh\"\nlimits = { publish-messages = \"5/s\" }\n".to_owned(),
            ":2:10",
            &["publish-messages", "nobody enforces"],
        ),
        (
            "elsewhere",
            "[[library]]\nsource = \"libcomponent.so\"\nfolder = \"/\"\n".to_owned(),
            ":3:",
            &["folder is only for a [[process]]"],
        ),
        (
            "unconfined",
            "[[library]]\nsource = \"libcomponent.so\"\nsandbox = {}\n".to_owned(),
            ":3:",
            &["sandbox is only for a [[process]]"],
        ),
        (
            "unreadable",
            format!("{process}sandbox = {{ read = [\"missing\"] }}\n"),
            ":2:10",
            &["the sandbox allows", "missing", "cannot be opened"],
        ),
    ];
    for (name, text, place, words) in cases {
        let manifest = folder.file(&format!("{name}.toml"), &text);
        let run = output(&["run", &manifest]);
        assert_eq!(run.status.code(), Some(2), "{name}: {run:?}");
        let said = stderr(&run);
        assert!(said.contains(&format!("{manifest}{place}")), "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
    }
    let run = output(&["run", "--process", "no-such-program"]);
    assert_eq!(
        (run.status.code(), stderr(&run)),
        (Some(2), "blockcast: there is no program \"no-such-program\"\n")
    );
}

/// Needs Landlock, like the sandbox itself.
#[test]
fn a_sandbox_confines_libraries_and_programs() {
    let folder = Folder::new("sandbox");
    std::fs::copy(library(), folder.0.join("libcomponent.so")).expect("copied");
    folder.file("text", "readable\n");
    folder.file("secret", "a secret\n");
    let manifest = folder.file(
        "sandbox.toml",
        r#"
        [[process]]
        name = "native"
        source = "libcomponent.so"
        publish = ["own"]
        subscribe = ["own"]
        parameters = { do = "handles" }
        sandbox = {}

        [[process]]
        name = "shell"
        source = "sh"
        arguments = ["-c", "while read line; do echo $line; done <text; echo written >out/new; : <secret"]
        folder = "."
        [process.sandbox]
        read = ["text"]
        write = ["out"]
        "#,
    );
    std::fs::create_dir(folder.0.join("out")).expect("created");
    let run = output(&["run", &manifest]);
    let said = stderr(&run);
    if said.contains("a sandbox needs Linux 6.12") {
        return eprintln!("skipped: {said}");
    }
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    for words in ["native ENDED finished", "shell  INFO  readable", "secret: Permission denied"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let written = std::fs::read_to_string(folder.0.join("out/new")).expect("it was written");
    assert_eq!(written, "written\n");
    let library = library().display().to_string();
    let flags = ["run", "--sandbox", "--process", &library, "-p", "do=handles"];
    let run = output(&[&flags[..], &GRANTS].concat());
    assert!(run.status.success() && stderr(&run).contains("ENDED finished"), "{run:?}");
}

#[test]
fn a_library_that_crashes_ends_only_its_component() {
    let crashes = build(&["CONSTRUCTOR=__builtin_abort()"]).display().to_string();
    let works = library().display().to_string();
    let run = output(
        &[&["run", "--process", &crashes, "--process", &works, "-p", "do=works"][..], &GRANTS].concat(),
    );
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let said = stderr(&run);
    assert!(said.contains("ended by signal 6 (SIGABRT)") && said.contains("ENDED finished"), "{said}");
}

#[test]
fn a_library_that_never_returns_is_killed_and_not_abandoned() {
    let folder = Folder::new("process-stuck");
    std::fs::copy(library(), folder.0.join("libcomponent.so")).expect("copied");
    let manifest = folder.file(
        "stuck.toml",
        "[[process]]\nsource = \"libcomponent.so\"\nparameters = { do = \"spins\" }\nlimits = { shutdown-grace = \"200ms\" }\n",
    );
    let mut running = blockcast(&["run", "--json", "--stats", "20ms", &manifest])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    // Wait until it has computed for a while, which is all it does.
    let mut counters = BufReader::new(running.stdout.take().expect("piped")).lines();
    let runs = counters.find(|line| {
        let stats = serde_json::from_str::<serde_json::Value>(line.as_ref().expect("UTF-8")).expect("JSON");
        stats["components"][0]["computed_seconds"].as_f64() > Some(0.0)
    });
    assert!(runs.is_some(), "it runs");
    std::thread::spawn(move || counters.for_each(drop));
    kill_process(Pid::from_child(&running), Signal::INT).expect("interrupted");
    let ended = running.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(stderr(&ended).contains("it did not stop when asked to"), "{ended:?}");
}
