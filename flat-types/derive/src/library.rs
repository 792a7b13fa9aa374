//! How the crate that the macro is used in calls the library: directly, or through the facade `blockcast`.

use std::path::Path;

use proc_macro2::TokenStream;
use quote::quote;

/// The library's path for the crate that is being compiled, as far as its manifest tells.
///
/// Someone who depends on `blockcast` alone need not know that there is a crate of flat types.
pub(crate) fn path() -> TokenStream {
    if manifest().is_some_and(|manifest| through_facade(&manifest)) {
        quote!(::blockcast::flat)
    } else {
        quote!(::blockcast_flat_types)
    }
}

/// The path of the library with the messages' layouts, `blockcast-blocks`.
pub(crate) fn blocks() -> TokenStream {
    let of_blocks = manifest().is_some_and(|manifest| {
        names(&manifest, "blockcast-blocks") || manifest.contains("name = \"blockcast-blocks\"")
    });
    if of_blocks { quote!(::blockcast_blocks) } else { quote!(::blockcast) }
}

/// The manifest of the crate that is being compiled.
fn manifest() -> Option<String> {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR")?;
    std::fs::read_to_string(Path::new(&folder).join("Cargo.toml")).ok()
}

/// Whether a manifest names the facade but not the library.
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
    fn the_library_is_found_by_the_name_it_has() {
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
