//! The README shows what there is.

const README: &str = include_str!("../README.md");

#[test]
fn the_first_snippet_is_the_minimal_example() {
    let snippet =
        README.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```")).map(|(code, _)| code);
    assert_eq!(snippet, Some(include_str!("../examples/minimal.rs")));
}

#[test]
fn every_file_that_is_linked_to_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
        let file = link.split('#').next().unwrap_or(link);
        assert!(root.join(file).exists(), "{link}");
    }
}

/// The tests that the README names, each with the file that it is in.
fn named_tests() -> Vec<(&'static str, &'static str)> {
    let mut tests = Vec::new();
    let mut file = None;
    // Links `](path)` and code `between backticks`, in their order.
    for line in README.lines().filter(|line| line.starts_with("| ")) {
        for (index, piece) in line.split('`').enumerate() {
            let link =
                piece.rsplit_once("](").and_then(|(_, rest)| rest.split_once(')')).map(|(link, _)| link);
            file = link.filter(|link| link.ends_with(".rs")).or(file);
            let name = index % 2 == 1 && piece.matches('_').count() >= 3;
            if let Some(file) = file.filter(|_| name) {
                tests.push((file, piece));
            }
        }
        file = None;
    }
    tests
}

#[test]
fn every_test_that_is_named_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = named_tests();
    assert!(tests.len() >= 15, "{tests:?}");
    for (file, test) in tests {
        let source = std::fs::read_to_string(root.join(file)).expect("the file is there");
        assert!(source.contains(test), "{test} in {file}");
    }
}
