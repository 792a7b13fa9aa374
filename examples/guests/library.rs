//! Builds an app of this repository as a native library, on demand.

use std::path::PathBuf;
use std::process::Command;

/// Builds `package` as a native library with cargo, and returns its path: the result of `RUSTFLAGS="--cfg
/// blockcast_library" cargo rustc --lib --crate-type cdylib --package PACKAGE`, in this program's profile and
/// in its own target folder beside this program's. Fast if nothing has changed.
///
/// # Errors
/// Cargo's own message, or that there is no cargo.
pub fn build(package: &str) -> Result<PathBuf, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let workspace = root.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).unwrap_or(&root);
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    // Tests and examples are in TARGET/PROFILE/deps and TARGET/PROFILE/examples.
    let target = program.ancestors().nth(3).ok_or("this program is not in a target folder")?;
    let target = target.join("libraries");
    let (profile, folder) = if cfg!(debug_assertions) { ("dev", "debug") } else { ("release", "release") };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace)
        .args(["rustc", "--quiet", "--locked", "--lib", "--crate-type", "cdylib"])
        .args(["--package", package, "--profile", profile, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", "--cfg blockcast_library")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo ended with {}\n{said}", output.status));
    }
    let name = format!(
        "{}{}{}",
        std::env::consts::DLL_PREFIX,
        package.replace('-', "_"),
        std::env::consts::DLL_SUFFIX
    );
    // Cargo puts what it builds for a chosen target into a folder of that target.
    let chosen = std::env::var_os("CARGO_BUILD_TARGET").unwrap_or_default();
    Ok(target.join(chosen).join(folder).join(name))
}
