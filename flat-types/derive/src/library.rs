//! The path of the library in the crate that uses a macro: the library itself, or the facade `blockcast`.

use std::path::Path;

use proc_macro2::TokenStream;
use quote::quote;

/// The path of `blockcast-flat-types` in the crate being compiled, according to its manifest.
///
/// A program that depends only on `blockcast` need not know about the crate of flat types.
pub(crate) fn path() -> TokenStream {
    if manifest().is_some_and(|manifest| through_facade(&manifest)) {
        quote!(::blockcast::flat)
    } else {
        quote!(::blockcast_flat_types)
    }
}

/// The path of `blockcast-blocks`, which has `__archive!`, in the crate being compiled.
pub(crate) fn blocks() -> TokenStream {
    let is_direct = manifest().is_some_and(|manifest| {
        names(&manifest, "blockcast-blocks") || manifest.contains("name = \"blockcast-blocks\"")
    });
    if is_direct { quote!(::blockcast_blocks) } else { quote!(::blockcast) }
}

/// The manifest of the crate being compiled.
fn manifest() -> Option<String> {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR")?;
    std::fs::read_to_string(Path::new(&folder).join("Cargo.toml")).ok()
}

/// Whether a manifest depends on the facade but not on the library.
fn through_facade(manifest: &str) -> bool {
    names(manifest, "blockcast") && !names(manifest, "blockcast-flat-types")
}

/// Whether `package` is among the dependencies of a manifest.
fn names(manifest: &str, package: &str) -> bool {
    manifest.lines().map(str::trim).any(|line| {
        let key = line.split(['=', '.']).next().unwrap_or_default().trim();
        let table = line.trim_matches(['[', ']']).rsplit_once("dependencies.").map(|(_, name)| name);
        key == package || table == Some(package)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_decides_between_library_and_facade() {
        for (manifest, facade) in [
            ("[dependencies]\nblockcast = \"0.1\"", true),
            ("[dependencies]\nblockcast = { path = \"..\" }\nserde = \"1\"", true),
            ("[dependencies]\nblockcast.workspace = true", true),
            ("[dependencies.blockcast]\nversion = \"0.1\"", true),
            ("[dependencies]\nblockcast = \"0.1\"\nblockcast-flat-types = \"0.1\"", false),
            ("[dependencies]\nblockcast-flat-types.workspace = true", false),
            ("[target.'cfg(unix)'.dependencies.blockcast-flat-types]\nversion = \"0.1\"", false),
            ("[package]\nname = \"blockcast\"\n[dependencies]\nblockcast-flat-types = \"0.1\"", false),
            ("[dependencies]\nblockcast-blocks = \"0.1\"", false),
            ("", false),
        ] {
            assert_eq!(through_facade(manifest), facade, "{manifest}");
        }
    }
}
