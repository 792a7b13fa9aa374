//! Finds where a library keeps the address of a function that it imports: [`slots`].

use std::collections::HashSet;

use object::elf::{FileHeader64, PT_GNU_RELRO};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, ObjectSymbolTable, RelocationTarget, SymbolIndex};

/// Eight bytes of a loaded library that hold a function's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Offset from the start of the image in bytes.
    pub(super) offset: u64,
    /// Whether the loader makes it read-only.
    pub(super) is_sealed: bool,
}

/// Returns the slots in which the loader puts the address of `function`. Empty if the library does not import
/// it.
pub(super) fn slots(bytes: &[u8], function: &str) -> Result<Vec<Slot>, object::Error> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, bytes)?;
    let range = |segment: &object::elf::ProgramHeader64<Endianness>| {
        let start = segment.p_vaddr(endian);
        start..start.saturating_add(segment.p_memsz(endian))
    };
    let writable = |segment: &&object::elf::ProgramHeader64<Endianness>| {
        segment.p_type(endian) == object::elf::PT_LOAD && segment.p_flags(endian) & object::elf::PF_W != 0
    };
    // The loader leaves a page writable if only a part of it is to be read-only.
    let page = blockcast_blocks::page_size() as u64;
    let last_of_page = |offset: u64| offset | (page - 1);
    let sealed = |segment: &&object::elf::ProgramHeader64<Endianness>| segment.p_type(endian) == PT_GNU_RELRO;
    let file = ElfFile64::<Endianness>::parse(bytes)?;
    let (Some(symbols), Some(relocations)) = (file.dynamic_symbol_table(), file.dynamic_relocations()) else {
        return Ok(Vec::new());
    };
    // Names are compared once per symbol, since there may be many relocations and long names.
    let wanted = symbols.symbols().filter(|symbol| symbol.is_undefined() && symbol.name() == Ok(function));
    let wanted: HashSet<SymbolIndex> = wanted.map(|symbol| symbol.index()).collect();
    let imports = |target| match target {
        RelocationTarget::Symbol(symbol) => wanted.contains(&symbol),
        _ => false,
    };
    let found = relocations.filter(|(_, relocation)| imports(relocation.target()));
    let slots = found.map(|(offset, _)| Slot {
        offset,
        is_sealed: segments.iter().filter(sealed).any(|segment| {
            range(segment).contains(&offset) && range(segment).contains(&last_of_page(offset))
        }),
    });
    // Ignore slots outside of the library's own data.
    let is_data = |slot: &Slot| {
        let last = slot.offset.saturating_add(7);
        slot.offset.is_multiple_of(8)
            && segments.iter().filter(writable).any(|segment| range(segment).contains(&last))
    };
    Ok(slots.filter(is_data).collect())
}
