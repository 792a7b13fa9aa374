//! Builds `component.c` when a test needs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Builds a library from `component.c` with these macros.
pub fn build(macros: &[&str]) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("component-{}-{number}", std::process::id()));
    remove_old();
    std::fs::create_dir_all(&folder).expect("a folder");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace");
    let library = folder.join(format!("libcomponent-{number}.so"));
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-pthread"])
        .args(macros.iter().map(|name| format!("-D{name}")))
        .args([Path::new("-I"), &workspace.join("blocks/include"), Path::new("-o"), &library])
        .arg(workspace.join("broker/tests/libraries/support/component.c"))
        .output()
        .expect("there is a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// Removes the folders of processes that have ended.
fn remove_old() {
    for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("component-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another test may be removing it.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The library without macros, which most tests use.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build(&[]))
}
