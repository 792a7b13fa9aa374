//! Inspecting a library takes time and memory in proportion to its file's size, no matter what it contains.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use blockcast_blocks::abi::ENTRY;
use blockcast_broker::{LibraryError, LibraryFile};

/// The smallest file that is accepted as an app: headers, names, symbols and dependencies.
#[derive(Clone, Copy, Default)]
struct Library {
    /// Bytes of the name that all items below share.
    name: usize,
    exports: usize,
    needs: usize,
    sections: usize,
    /// Whether the last name is unterminated.
    unterminated: bool,
}

const HEADER: usize = 64;
const SHARED: u32 = 1 + ENTRY.len() as u32 + 1;

impl Library {
    fn bytes(self) -> Vec<u8> {
        let mut names = [&[0], ENTRY.as_bytes(), &[0], &vec![b'x'; self.name][..]].concat();
        if !self.unterminated {
            names.push(0);
        }
        let symbol = |name: u32| {
            let (global_function, in_section_1) = (0x12, 1_u16);
            [&name.to_le_bytes()[..], &[global_function, 0], &in_section_1.to_le_bytes(), &[0; 16]].concat()
        };
        let symbols: Vec<u32> = [0, 1].into_iter().chain([SHARED].repeat(self.exports)).collect();
        let symbols: Vec<u8> = symbols.into_iter().flat_map(symbol).collect();
        let needed = [1_u64.to_le_bytes(), u64::from(SHARED).to_le_bytes()].concat();
        let dynamic = [needed.repeat(self.needs), vec![0; 16]].concat();

        let (at_symbols, at_dynamic) = (HEADER + names.len(), HEADER + names.len() + symbols.len());
        let at_sections = at_dynamic + dynamic.len();
        let section = |name: u32, kind: u32, offset: usize, size: usize, info: u32, entry: u64| {
            let (number, link) = (|number: usize| (number as u64).to_le_bytes(), 1_u32);
            let name_and_kind = [name.to_le_bytes(), kind.to_le_bytes()].concat();
            let place = [number(0), number(0), number(offset), number(size)].concat();
            let links = [link.to_le_bytes(), info.to_le_bytes()].concat();
            [name_and_kind, place, links, number(1).to_vec(), entry.to_le_bytes().to_vec()].concat()
        };
        let (strings, dynamics, symbol_table) = (3, 6, 11);
        let sections = [
            vec![0; 64],
            section(0, strings, HEADER, names.len(), 0, 0),
            section(0, symbol_table, at_symbols, symbols.len(), 1, 24),
            section(0, dynamics, at_dynamic, dynamic.len(), 0, 16),
            section(SHARED, 1, 0, 0, 0, 0).repeat(self.sections),
        ]
        .concat();

        let machine = if cfg!(target_arch = "x86_64") { 62_u16 } else { 183 };
        let (shared_object, version, count) = (3_u16, 1_u32, (sections.len() / 64) as u16);
        let header = [
            &b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"[..],
            &shared_object.to_le_bytes(),
            &machine.to_le_bytes(),
            &version.to_le_bytes(),
            &[0; 16],
            &(at_sections as u64).to_le_bytes(),
            &[0; 4],
            &64_u16.to_le_bytes(),
            &56_u16.to_le_bytes(),
            &0_u16.to_le_bytes(),
            &64_u16.to_le_bytes(),
            &count.to_le_bytes(),
            &1_u16.to_le_bytes(),
        ]
        .concat();
        assert_eq!(header.len(), HEADER);
        [header, names, symbols, dynamic, sections].concat()
    }

    fn read(self) -> Result<LibraryFile, LibraryError> {
        let path = path();
        std::fs::write(&path, self.bytes()).expect("written");
        let read = LibraryFile::read(&path);
        std::fs::remove_file(&path).expect("it exists");
        read
    }
}

fn path() -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{}-{number}.so", std::process::id()))
}

#[test]
fn hostile_file_whose_names_share_one_long_string_is_refused() {
    let library = Library { name: 1 << 20, ..Library::default() };
    let plain = Library { name: 10, exports: 2, needs: 2, sections: 2, ..library }.read().expect("an app");
    let name = "x".repeat(10);
    assert_eq!(plain.exports, [ENTRY, &name, &name]);
    assert_eq!((plain.needs, plain.omitted), (vec![name.clone(), name], 0));
    for hostile in [
        Library { exports: 50, ..library },
        Library { needs: 50, ..library },
        Library { sections: 50, ..library },
        Library { exports: 1, needs: 1, sections: 1, ..library },
    ] {
        let error = hostile.read().expect_err("too much");
        let shared = matches!(&error, LibraryError::NotALibrary { reason, .. } if reason.contains("share"));
        assert!(shared, "{error}");
    }
    let error = Library { exports: 1, unterminated: true, ..library }.read().expect_err("damaged");
    assert!(matches!(error, LibraryError::NotALibrary { .. }), "{error}");
}

#[test]
fn a_list_of_names_is_limited_and_omitted_names_are_counted() {
    let library = Library { name: 4096, exports: 1, needs: 1, ..Library::default() };
    let file = library.read().expect("an app");
    assert_eq!((file.exports.len(), file.needs.len(), file.omitted), (2, 1, 0));
    let file = Library { name: 4097, exports: 1, needs: 0, ..library }.read().expect("an app");
    assert_eq!((&*file.exports, file.omitted), (&[ENTRY.to_owned()][..], 1));
    let file = Library { name: 1, exports: 12_000, needs: 12_000, ..library }.read().expect("an app");
    assert_eq!((file.exports.len(), file.needs.len(), file.omitted), (10_000, 10_000, 4_001));
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let path = path();
    let mut file = File::create(&path).expect("created");
    file.write_all(&Library::default().bytes()).expect("written");
    // The file is sparse, and larger than memory.
    file.set_len(1 << 50)
        .or_else(|_| file.set_len(1 << 40))
        .or_else(|_| file.set_len(1 << 30))
        .expect("sparse");
    let size = file.metadata().expect("a size").len();
    let error = LibraryFile::read(&path).expect_err("too large");
    std::fs::remove_file(&path).expect("it exists");
    assert!(matches!(error, LibraryError::TooLarge { bytes, .. } if bytes == size), "{error}");
}
