//! Mistakes in a manifest or on the command line are reported before anything runs.

use super::{Folder, REPOSITORY, output, stderr};

#[test]
fn errors_in_a_manifest_include_file_line_and_key() {
    let folder = Folder::new("mistakes");
    let demo =
        std::fs::read_to_string(format!("{REPOSITORY}/examples/deployment/lines.toml")).expect("the demo");
    let guest = "[[guest]]\nsource = \"a.wasm\"\n";
    let cases: [(&str, String, &str, &[&str]); 12] = [
        ("typo", demo.replace("instances = 2", "instnaces = 2"), ":31:", &["`instnaces`", "`instances`"]),
        ("limit", format!("{guest}[guest.limits]\nmemroy = 5\n"), ":4:1:", &["`memroy`", "`memory`"]),
        ("size", format!("{guest}limits = {{ memory = \"5 stones\" }}\n"), ":3:", &["5 stones", "16MiB"]),
        ("end-at", format!("{guest}limits = {{ end-at = [\"hold\"] }}\n"), ":3:", &["\"hold\"", "held"]),
        ("restart", format!("{guest}restart = \"sometimes\"\n"), ":3:", &["sometimes", "on-failure"]),
        ("rate", format!("{guest}limits = {{ log-lines = \"5\" }}\n"), ":3:", &["is not a rate", "1000/s"]),
        ("source", "[[guest]]\nname = \"a\"\n".to_owned(), ":1:", &["source"]),
        ("twice", format!("{guest}{guest}"), ":4:", &["two components", "\"a\""]),
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
fn errors_about_a_guests_file_include_the_manifests_line() {
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
