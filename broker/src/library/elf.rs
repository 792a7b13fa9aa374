//! What a library's file says about itself, found out without running anything of it: [`LibraryFile`].

use std::fs;
use std::io;
use std::path::Path;

use blockcast_blocks::abi::{ENTRY, Misfit, VERSION};
use object::elf::{DT_NEEDED, ET_DYN, FileHeader64};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

use super::error::LibraryError;

/// A shared library, as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryFile {
    /// Bytes of the file.
    pub bytes: u64,
    /// Names of the libraries that it needs.
    pub needs: Vec<String>,
    /// Version of the interface that it was built for, where its file says it.
    pub abi_version: Option<u32>,
    /// Functions and variables that others can use. An app has one: `blockcast_app`.
    pub exports: Vec<String>,
}

impl LibraryFile {
    /// Reads a file without running anything of it, and looks whether it is an app for this machine, as far as
    /// that can be seen.
    ///
    /// # Errors
    /// [`LibraryError::Missing`], [`LibraryError::Unreadable`], [`LibraryError::NotALibrary`] and [`LibraryError::NoEntry`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, LibraryError> {
        let path = path.as_ref();
        let bytes = read(path)?;
        Self::examine(path, &bytes)
    }

    pub(crate) fn examine(path: &Path, bytes: &[u8]) -> Result<Self, LibraryError> {
        let library = parse(bytes);
        let library =
            library.map_err(|reason| LibraryError::NotALibrary { path: path.to_owned(), reason })?;
        if !library.exports.iter().any(|name| name == ENTRY) {
            return Err(LibraryError::NoEntry { path: path.to_owned() });
        }
        match library.abi_version {
            Some(theirs) if theirs != VERSION => {
                let misfit = Misfit::Version { theirs, ours: VERSION };
                Err(LibraryError::Misfit { path: path.to_owned(), misfit })
            }
            _ => Ok(library),
        }
    }
}

/// A file's bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LibraryError> {
    // Of what is no file there may be no end, or no beginning.
    let is_file = |metadata: fs::Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    };
    fs::metadata(path).and_then(is_file).and_then(|()| fs::read(path)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => LibraryError::Missing { path: path.to_owned() },
        _ => LibraryError::Unreadable { path: path.to_owned(), source },
    })
}

/// The section in which a file may keep its table, which begins with the version for which it was built.
const VERSION_SECTION: &str = ".blockcast";

/// How ELF files call this machine.
const MACHINE: u16 =
    if cfg!(target_arch = "x86_64") { object::elf::EM_X86_64 } else { object::elf::EM_AARCH64 };

/// Why the bytes are no library, or what they say.
fn parse(bytes: &[u8]) -> Result<LibraryFile, String> {
    match bytes {
        [] => return Err("it is empty".to_owned()),
        [0, b'a', b's', b'm', ..] => return Err("it is wasm, a guest".to_owned()),
        [0x7f, b'E', b'L', b'F', ..] => {}
        _ => return Err("it is not an ELF file".to_owned()),
    }
    let damaged = |error: object::Error| format!("it is damaged or cut off: {error}");
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    if endian != Endianness::default() || header.e_machine(endian) != MACHINE {
        return Err("it is for another kind of machine".to_owned());
    }
    if header.e_type(endian) != ET_DYN {
        return Err("it is an ELF file of another kind".to_owned());
    }
    let segments = header.program_headers(endian, bytes).map_err(damaged)?;
    // The system maps what the file says that it has; what it has not kills whoever looks there.
    if segments.iter().any(|segment| segment.data(endian, bytes).is_err()) {
        return Err("it is cut off".to_owned());
    }
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(damaged)?;
    let exports = file.dynamic_symbols().filter(|symbol| symbol.is_definition() && symbol.is_global());
    let exports = exports.filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect();
    let table = file.elf_dynamic_table().map_err(damaged)?;
    let needed = table.iter().filter(|entry| entry.tag == DT_NEEDED);
    let needed = needed.filter_map(|entry| table.string(entry).ok());
    let needs = needed.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let abi_version = file.section_by_name(VERSION_SECTION).and_then(|section| {
        let version = section.data().ok()?.first_chunk()?;
        Some(u32::from_ne_bytes(*version))
    });
    Ok(LibraryFile { bytes: bytes.len() as u64, needs, abi_version, exports })
}
