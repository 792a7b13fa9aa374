//! Finds the programs of the examples.

use std::path::PathBuf;

/// Path of the example `name`. For `cargo test`, Cargo builds all examples into the folder beside that of
/// this test.
pub fn of(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.ancestors().nth(2).expect("a test is in target/PROFILE/deps");
    let program = profile.join("examples").join(name);
    assert!(
        program.is_file(),
        "{} is not there: `cargo test` builds it, `cargo test --test NAME` alone does not; run `cargo build --examples`",
        program.display()
    );
    program
}
