//! The state of this process as the system reports it: its mappings and open files.

use std::fs;

/// One line of `/proc/self/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub access: String,
    pub offset: u64,
    pub name: String,
}

/// All mappings of the process.
pub fn mappings() -> Vec<Mapping> {
    let maps = fs::read_to_string("/proc/self/maps").expect("a Linux process");
    maps.lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap_or_default().to_owned();
            let (range, access, offset, _device, _inode) = (word(), word(), word(), word(), word());
            let (start, end) = range.split_once('-').expect("a range");
            let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
            Mapping {
                start: hex(start),
                end: hex(end),
                access,
                offset: hex(&offset),
                name: words.collect::<Vec<_>>().join(" "),
            }
        })
        .collect()
}

/// Mappings of arenas and of other memory files that the host created.
pub fn arena_mappings() -> Vec<Mapping> {
    mappings().into_iter().filter(|mapping| mapping.name.contains("memfd:blockcast")).collect()
}

/// Bytes of address space reserved for linear memories: inaccessible mappings of a GiB or more.
pub fn reserved() -> u64 {
    let reserved = mappings().into_iter().filter(|mapping| mapping.access == "---p");
    reserved.map(|mapping| mapping.end - mapping.start).filter(|&len| len >= 1 << 30).sum()
}

/// Possible remains of a guest in the process: open files, reserved address space, mappings of arenas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    pub files: usize,
    pub reserved: u64,
    pub arenas: Vec<Mapping>,
}

/// The resources that the process has in use.
pub fn resources() -> Resources {
    Resources { files: open_files(), reserved: reserved(), arenas: arena_mappings() }
}

/// The number of open files.
pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("a Linux process").count()
}
