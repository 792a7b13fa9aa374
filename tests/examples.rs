//! The small examples run and print what they promise.

#[path = "support/program.rs"]
mod program;

use std::process::Command;

/// Returns the output of the example `name`, line by line.
fn printed(name: &str) -> Vec<String> {
    let output = Command::new(program::of(name)).output().expect("the example starts");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

#[test]
fn minimal_shows_both_subscribers_the_same_numbers_at_the_same_addresses() {
    let lines = printed("minimal");
    let (first, second) = lines.split_at(3);
    assert_eq!(first, second);
    for (line, start) in first.iter().zip(["#0 [1, 1] at 0x", "#1 [2, 4] at 0x", "#2 [3, 9] at 0x"]) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn typed_reads_a_struct_and_refuses_a_subscriber_of_another_type() {
    let lines = printed("typed");
    assert_eq!(lines[0], "ferry at 11.97, 57.71");
    assert!(lines[1].starts_with("topic \"positions\" carries "), "{lines:?}");
}

#[test]
fn processes_share_a_topic() {
    assert_eq!(printed("processes"), ["#0 [1, 1]", "#1 [2, 4]", "#2 [3, 9]"]);
}

#[test]
fn archive_reads_an_archive_in_place() {
    assert_eq!(printed("archive"), ["roof: [20.5, 20.75, 21.0], Some(\"sunny\")"]);
}
