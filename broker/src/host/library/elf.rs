//! Reads a library's file without running any of its code: [`LibraryFile`].

use std::io;
use std::path::Path;

use blockcast_blocks::abi::{ENTRY, Misfit, VERSION};
use object::elf::{DT_NEEDED, ET_DYN, FileHeader64};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

use super::error::LibraryError;
use crate::file::{self, FileError};

/// The contents of a shared library's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryFile {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Names of the libraries that it needs: the first 10,000 with up to 4,096 bytes each.
    pub needs: Vec<String>,
    /// Version of the interface that it was built for, if the file contains it.
    pub abi_version: Option<u32>,
    /// Exported functions and variables: the first 10,000 with names of up to 4,096 bytes. An app exports
    /// `blockcast_app`.
    pub exports: Vec<String>,
    /// Number of names that `needs` and `exports` omit because there are too many or they are too long.
    pub omitted: u64,
}

/// Largest library file that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Maximum number of names in a list.
const MAX_LIST: usize = 10_000;

/// Longest name in a list, in bytes.
const MAX_NAME: usize = 4096;

impl LibraryFile {
    /// Reads a file without running any of it, and checks as far as possible that it is an app for this
    /// machine.
    ///
    /// The file need not be trusted: time and memory are proportional to its size, which is limited to 256
    /// MiB.
    ///
    /// # Errors
    /// [`LibraryError::Missing`], [`LibraryError::Unreadable`], [`LibraryError::TooLarge`],
    /// [`LibraryError::NotALibrary`], [`LibraryError::NoEntry`] and [`LibraryError::Misfit`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, LibraryError> {
        let path = path.as_ref();
        let bytes = read(path)?;
        Self::examine(path, &bytes)
    }

    pub(crate) fn examine(path: &Path, bytes: &[u8]) -> Result<Self, LibraryError> {
        let parsed = parse(bytes);
        let (library, has_entry) =
            parsed.map_err(|reason| LibraryError::NotALibrary { path: path.to_owned(), reason })?;
        if !has_entry {
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

/// Reads a file's bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LibraryError> {
    let path = path.to_owned();
    file::read(&path, MAX_FILE).map_err(|error| match error {
        FileError::TooLarge(bytes) => LibraryError::TooLarge { path, bytes, most: MAX_FILE },
        FileError::Io(source) if source.kind() == io::ErrorKind::NotFound => LibraryError::Missing { path },
        FileError::Io(source) => LibraryError::Unreadable { path, source },
    })
}

/// The section in which a file may keep its table. The table begins with the interface version it was built
/// for.
const VERSION_SECTION: &str = ".blockcast";

/// This machine's number in ELF files.
const MACHINE: u16 =
    if cfg!(target_arch = "x86_64") { object::elf::EM_X86_64 } else { object::elf::EM_AARCH64 };

/// Bounds the time spent on names, since looking up a name takes time proportional to its length.
///
/// In a hostile file, many symbols can share one long name. In any other file, all names together are shorter
/// than the file, or hardly longer.
struct Names {
    left: usize,
    omitted: u64,
}

impl Names {
    fn new(bytes: &[u8]) -> Self {
        Self { left: bytes.len().saturating_mul(2), omitted: 0 }
    }

    /// Charges a name that was looked up.
    fn seen<'n>(&mut self, name: &'n [u8]) -> Result<&'n [u8], String> {
        let left = self.left.checked_sub(name.len());
        self.left = left.ok_or("its names are longer than the file, because many share the same text")?;
        Ok(name)
    }

    fn list(&mut self, list: &mut Vec<String>, name: &[u8]) {
        if list.len() < MAX_LIST && name.len() <= MAX_NAME {
            list.push(String::from_utf8_lossy(name).into_owned());
        } else {
            self.omitted += 1;
        }
    }
}

/// Parses a library and says whether it exports the entry. Otherwise says why the bytes are not a library.
fn parse(bytes: &[u8]) -> Result<(LibraryFile, bool), String> {
    match bytes {
        [] => return Err("it is empty".to_owned()),
        [0, b'a', b's', b'm', ..] => return Err("it is a wasm guest".to_owned()),
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
    // The system maps the parts that the program headers list. Accessing a part that the file lacks would
    // kill the process.
    if segments.iter().any(|segment| segment.data(endian, bytes).is_err()) {
        return Err("it is cut off".to_owned());
    }
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(damaged)?;
    let mut names = Names::new(bytes);
    let (mut exports, mut has_entry) = (Vec::new(), false);
    for symbol in file.dynamic_symbols() {
        let name = names.seen(symbol.name_bytes().map_err(damaged)?)?;
        if symbol.is_definition() && symbol.is_global() {
            has_entry |= name == ENTRY.as_bytes();
            names.list(&mut exports, name);
        }
    }
    let mut needs = Vec::new();
    let table = file.elf_dynamic_table().map_err(damaged)?;
    for entry in table.iter().filter(|entry| entry.tag == DT_NEEDED) {
        let name = names.seen(table.string(entry).map_err(damaged)?)?;
        names.list(&mut needs, name);
    }
    let mut abi_version = None;
    for section in file.sections() {
        // A file without section names can run, too.
        let Ok(name) = section.name_bytes() else { break };
        if names.seen(name)? == VERSION_SECTION.as_bytes() {
            let version = section.data().ok().and_then(|data| data.first_chunk().copied());
            abi_version = abi_version.or(version.map(u32::from_ne_bytes));
        }
    }
    let omitted = names.omitted;
    Ok((LibraryFile { bytes: bytes.len() as u64, needs, abi_version, exports, omitted }, has_entry))
}
