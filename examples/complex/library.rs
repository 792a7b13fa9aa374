//! The apps as native libraries: found, or built when they are wanted.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that holds them already, where this is set.
const FOLDER: &str = "BLOCKCAST_LIBRARIES";

/// The library of `package`: in the folder that `BLOCKCAST_LIBRARIES` names, or built from its source, where Cargo puts it into
/// the folder `library` beside this program's build.
pub fn file(package: &str) -> Result<PathBuf, String> {
    let name = format!("lib{}.so", package.replace('-', "_"));
    match std::env::var_os(FOLDER) {
        Some(folder) => Ok(PathBuf::from(folder).join(name)),
        None => build(package, &name),
    }
}

fn build(package: &str, name: &str) -> Result<PathBuf, String> {
    let failed = |reason: String| {
        format!(
            "{package} cannot be built as a library: {reason}; {FOLDER}=FOLDER takes libraries that are built already"
        )
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !source.join("Cargo.toml").is_file() {
        return Err(failed(format!("its source is not at {} any more", source.display())));
    }
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    // target/PROFILE/examples/complex
    let Some(target) = program.ancestors().nth(3) else {
        return Err(failed(format!("{} lies in no folder of Cargo's", program.display())));
    };
    let target = target.join("library");
    if io::stderr().is_terminal() {
        eprintln!("building {package} as a library");
    }
    // What is a guest for wasm32 is a library with this setting. Other flags of the user apply as well.
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["rustc", "--quiet", "--package", package, "--lib", "--crate-type", "cdylib", "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", format!("{flags} --cfg blockcast_library"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(source);
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        cargo.arg("--release");
        "release"
    };
    let built = cargo.output().map_err(|error| failed(format!("no Cargo: {error}")))?;
    if built.status.success() {
        return Ok(target.join(profile).join(name));
    }
    let said = String::from_utf8_lossy(&built.stderr);
    Err(failed(format!("Cargo ended with {}\n{}\n", built.status, said.trim_end())))
}
