//! This process seen from outside: its mappings and open files.

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

/// Mappings of arenas, and of whatever else lies in a file of the host's making.
pub fn arena_mappings() -> Vec<Mapping> {
    mappings().into_iter().filter(|mapping| mapping.name.contains("memfd:blockcast")).collect()
}

/// Bytes of address space set aside for linear memories: what is mapped without access, in pieces of a GiB or more.
pub fn reserved() -> u64 {
    let reserved = mappings().into_iter().filter(|mapping| mapping.access == "---p");
    reserved.map(|mapping| mapping.end - mapping.start).filter(|&len| len >= 1 << 30).sum()
}

/// Number of open files.
pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("a Linux process").count()
}
