//! Donations and windows in a memory without a guest.

use super::*;
use std::os::fd::{AsFd, OwnedFd};

const MIB: u32 = 1 << 20;
const ME: Owner = Owner(1);
const OTHER: Owner = Owner(2);

fn windows(budget: u64) -> Windows {
    let mut windows = Windows::new(Arc::new(WindowTable::new()), budget);
    windows.open(GuestMemory::for_test(4 << 20));
    windows
}

fn file(len: usize) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
    rustix::fs::ftruncate(&file, len as u64).expect("sized");
    rustix::io::pwrite(&file, b"block", 64).expect("written");
    file
}

fn area(address: u32, size: u32) -> Area {
    Area { address, size }
}

fn span(file: &OwnedFd) -> Span<'_> {
    Span { file: file.as_fd(), offset: 0, len: 65536 }
}

fn read(windows: &Windows, address: u32) -> [u8; 5] {
    let start = windows.locate(area(address, 5)).expect("inside");
    // SAFETY: five accessible bytes.
    unsafe { start.cast::<[u8; 5]>().read_volatile() }
}

#[test]
fn donations_are_checked_before_anything_is_mapped() {
    let mut windows = windows(u64::MAX);
    let cases = [
        (area(0, 0), "Unaligned"),
        (area(4096, 65536), "Unaligned"),
        (area(0, 65537), "Unaligned"),
        (area(4 * MIB, 65536), "OutOfBounds"),
        (area(0, 4 * MIB + 65536), "OutOfBounds"),
        (area(0xffff_0000, 0x0001_0000), "OutOfBounds"),
        (area(0xffff_0000, 0xffff_0000), "OutOfBounds"),
    ];
    for (area, expected) in cases {
        let error = windows.donate(ME, area).expect_err(expected);
        assert_eq!(format!("{error:?}"), expected, "{area:?}");
    }
    windows.donate(ME, area(MIB, MIB)).expect("accepted");
    for again in [area(MIB, MIB), area(2 * MIB - 65536, MIB), area(0, 4 * MIB), area(MIB + 65536, 65536)] {
        assert!(matches!(windows.donate(OTHER, again), Err(WindowError::Overlap)), "{again:?}");
    }
    windows.donate(OTHER, area(0, MIB)).expect("a neighbour is no overlap");
}

#[test]
fn nothing_can_be_donated_before_the_memory_is_open_or_beyond_the_budget() {
    let mut closed = Windows::new(Arc::new(WindowTable::new()), u64::MAX);
    assert!(matches!(closed.donate(ME, area(0, 65536)), Err(WindowError::OutOfBounds)));
    let mut small = windows(2 * 65536);
    assert!(matches!(small.donate(ME, area(0, 3 * 65536)), Err(WindowError::Budget)));
    small.donate(ME, area(0, 65536)).expect("within the budget");
    assert!(matches!(small.donate(ME, area(MIB, 2 * 65536)), Err(WindowError::Budget)));
    small.withdraw(ME);
    small.donate(ME, area(MIB, 2 * 65536)).expect("the budget is back");
}

#[test]
fn a_window_shows_the_file_and_turns_into_zeros_when_unmapped() {
    let mut windows = windows(u64::MAX);
    let file = file(65536);
    windows.donate(ME, area(MIB, MIB)).expect("accepted");
    // SAFETY: the file lives as long as the windows.
    let window = unsafe { windows.map(Place::own(ME), span(&file), 65536) }.expect("mapped");
    assert_eq!(window.address, MIB);
    assert_eq!(&read(&windows, MIB + 64), b"block");
    windows.unmap(window);
    assert_eq!(read(&windows, MIB + 64), [0; 5]);
    let start = windows.locate(area(MIB + 64, 1)).expect("inside");
    // SAFETY: ordinary memory again, so it is writable.
    unsafe { start.write_volatile(1) };
    windows.unmap(window);
}

#[test]
fn windows_lie_side_by_side_in_their_owners_donations_only() {
    let mut windows = windows(u64::MAX);
    let file = file(65536);
    windows.donate(ME, area(MIB, 3 * 65536)).expect("accepted");
    windows.donate(OTHER, area(2 * MIB, 65536)).expect("accepted");
    let mut map = |owner, reserved| {
        // SAFETY: the file lives as long as the windows.
        unsafe { windows.map(Place::own(owner), span(&file), reserved) }.map(|window| window.address)
    };
    assert_eq!(map(ME, 65536).expect("mapped"), MIB);
    assert!(matches!(map(ME, 3 * 65536), Err(WindowError::NoRoom)));
    assert_eq!(map(ME, 2 * 65536).expect("mapped"), MIB + 65536);
    assert!(matches!(map(ME, 65536), Err(WindowError::NoRoom)));
    assert_eq!(map(OTHER, 65536).expect("mapped"), 2 * MIB);
    windows.withdraw(ME);
    assert_eq!(read(&windows, MIB + 64), [0; 5]);
    assert_eq!(&read(&windows, 2 * MIB + 64), b"block");
    assert_eq!(windows.donated(), 65536);
}

#[test]
fn missing_space_counts_whole_pages_of_everything_that_does_not_fit() {
    let mut windows = windows(u64::MAX);
    assert_eq!(windows.missing(ME, [1, 65537].map(Extent::new).into_iter()), 3 * 65536);
    windows.donate(ME, area(0, 65536)).expect("accepted");
    assert_eq!(windows.missing(ME, [1].map(Extent::new).into_iter()), 0);
    assert_eq!(windows.missing(ME, [1, 1].map(Extent::new).into_iter()), 65536);
}

#[test]
fn a_window_starts_at_a_multiple_of_its_alignment_where_there_is_room() {
    let file = file(65536);
    let extent = Extent::new(65536).aligned(u64::from(MIB));
    let place = Place { alignment: u64::from(MIB), ..Place::own(ME) };
    // SAFETY: the file lives as long as the windows.
    let map =
        |windows: &mut Windows| unsafe { windows.map(place, span(&file), 65536) }.expect("mapped").address;
    let mut roomy = windows(u64::MAX);
    let asked = roomy.missing(ME, [extent].into_iter());
    assert_eq!(asked, u64::from(MIB), "wherever the donation begins");
    roomy.donate(ME, area(65536, MIB)).expect("accepted");
    assert_eq!(map(&mut roomy), MIB);
    assert_eq!(map(&mut roomy), 65536, "anywhere rather than not at all");
    let mut narrow = windows(2 * 65536);
    assert_eq!(narrow.missing(ME, [extent].into_iter()), 65536, "the budget has no more");
    narrow.donate(ME, area(65536, 65536)).expect("accepted");
    assert_eq!(map(&mut narrow), 65536);
}

#[test]
fn the_host_touches_ordinary_memory_only() {
    let mut windows = windows(u64::MAX);
    windows.donate(ME, area(MIB, MIB)).expect("accepted");
    assert!(windows.ordinary(area(0, MIB)).is_ok());
    assert!(windows.ordinary(area(4 * MIB, 0)).is_ok());
    assert!(matches!(windows.ordinary(area(0, MIB + 1)), Err(WindowError::Overlap)));
    assert!(matches!(windows.ordinary(area(2 * MIB - 1, 8)), Err(WindowError::Overlap)));
    assert!(matches!(windows.ordinary(area(4 * MIB - 4, 8)), Err(WindowError::OutOfBounds)));
    assert!(matches!(windows.ordinary(area(u32::MAX, u32::MAX)), Err(WindowError::OutOfBounds)));
}

#[test]
fn adjacent_donations_join_and_can_be_reclaimed_in_parts() {
    let mut windows = windows(u64::MAX);
    let file = file(65536);
    for address in [MIB, MIB + 2 * 65536, MIB + 65536] {
        windows.donate(ME, area(address, 65536)).expect("accepted");
    }
    windows.donate(OTHER, area(MIB + 3 * 65536, 65536)).expect("accepted");
    assert_eq!(windows.missing(ME, [3 * 65536].map(Extent::new).into_iter()), 0);
    assert_eq!(windows.missing_for(ME, 4, 65536), 65536, "the neighbour's does not count");
    // SAFETY: the file lives as long as the windows.
    let window = unsafe { windows.map(Place::own(ME), span(&file), 65536) }.expect("mapped");
    assert_eq!(window.address, MIB);
    assert!(matches!(windows.reclaim(ME, area(MIB, 2 * 65536)), Err(WindowError::InUse)));
    assert!(matches!(windows.reclaim(ME, area(MIB + 3 * 65536, 65536)), Err(WindowError::NotDonated)));
    windows.reclaim(ME, area(MIB + 65536, 65536)).expect("free");
    assert_eq!(windows.donated(), 3 * 65536);
    assert!(windows.ordinary(area(MIB + 65536, 65536)).is_ok());
    assert!(matches!(windows.ordinary(area(MIB + 2 * 65536, 1)), Err(WindowError::Overlap)));
    assert_eq!(windows.missing_for(ME, 2, 65536), 65536, "the parts are apart again");
}

#[test]
fn part_of_a_second_mapping_is_writable_only_while_allowed() {
    let mut windows = windows(u64::MAX);
    let page = sys::page_size();
    let shared = sys::SharedFile::new("test", 65536).expect("memory");
    windows.donate(ME, area(MIB, MIB)).expect("accepted");
    let span = Span { file: shared.as_fd(), offset: 0, len: 65536 };
    // SAFETY: file and mapping live as long as the windows.
    let window = unsafe { windows.map_again(Place::own(ME), span, shared.base()) }.expect("mapped");
    let access = |windows: &Windows, offset: usize| {
        let start = windows.locate(area(window.address, 65536)).expect("inside") as usize + offset;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("a Linux process");
        let of = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (from, to) = range.split_once('-')?;
            let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
            (from <= start && start < to).then(|| rest[..4].to_owned())
        };
        maps.lines().find_map(of).expect("mapped")
    };
    assert_eq!(access(&windows, 0), "r--s");
    // SAFETY: nobody has references to the bytes.
    unsafe { windows.allow_writing(window, page as u64, page) }.expect("allowed");
    assert_eq!((access(&windows, 0), access(&windows, page)), ("r--s".to_owned(), "rw-s".to_owned()));
    let start = windows.locate(area(window.address, 65536)).expect("inside");
    // SAFETY: a page that was just made writable.
    unsafe { start.add(page).write_volatile(7) };
    // SAFETY: inside of the file's own mapping.
    assert_eq!(unsafe { shared.base().add(page).read_volatile() }, 7, "the file has it");
    windows.forbid_writing(window, page as u64, page).expect("forbidden");
    assert_eq!(access(&windows, page), "r--s");
    // SAFETY: nobody has references to the bytes.
    let unaligned = unsafe { windows.allow_writing(window, 64, page) };
    assert!(matches!(unaligned, Err(WindowError::Unaligned)));
    // SAFETY: as above.
    let outside = unsafe { windows.allow_writing(window, 65536, page) };
    assert!(matches!(outside, Err(WindowError::OutOfBounds)));
    windows.unmap(window);
    assert_eq!(access(&windows, page), "rw-p", "zeroed memory");
}

#[test]
fn shown_parts_are_counted_until_hidden_or_unmapped() {
    let mut windows = windows(u64::MAX);
    windows.donate(ME, area(0, 2 * MIB)).expect("donated");
    let (own, other) = (file(65536), file(65536));
    // SAFETY: the files live as long as the windows.
    let one = unsafe { windows.map(Place::own(ME), span(&own), 65536) }.expect("mapped");
    // SAFETY: as above.
    let two = unsafe { windows.map(Place::own(ME), span(&own), 65536) }.expect("mapped");
    for window in [one, two] {
        // SAFETY: as above.
        unsafe { windows.show(window, 0, span(&other)) }.expect("shown");
    }
    assert_eq!(windows.shown(), 2);
    // SAFETY: as above.
    unsafe { windows.hide(one, 0, span(&own)) }.expect("hidden");
    assert_eq!(windows.shown(), 1);
    windows.unmap(two);
    assert_eq!(windows.shown(), 0);
}
