//! The state of a channel that a view shows, and the files that it refuses.

use std::io::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::io::pread;

use super::*;
use crate::descriptor::{Validity, pack};
use crate::engine::config::ChannelConfig;
use crate::engine::segment::SegmentFiles;
use crate::engine::segment::files::SegmentFile;
use crate::engine::segment::preamble::Preamble;
use crate::engine::wake::signal::Signal;
use crate::engine::writer::{Writer, channel_to_share};
use crate::options::SizeClass;
use crate::payload::schema::Schema;
use crate::units::PublisherId;

const SEALED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// A channel with blocks of two sizes.
fn shared() -> (Writer, SegmentFiles) {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
    (config.blocks, config.block_size, config.max_subscribers) = (4, 64, 3);
    config.larger = vec![SizeClass { block_size: 5000, blocks: 2, max_blocks: 3 }];
    // SAFETY: the tests write to copies of the files only.
    unsafe { channel_to_share(config, Signal::new()) }.expect("a small channel")
}

fn arena(files: &SegmentFiles) -> OwnedFd {
    files.arena.try_clone().expect("a descriptor is left")
}

fn open(files: &SegmentFiles) -> SegmentView {
    let control = files.control.try_clone().expect("a descriptor is left");
    SegmentView::open(control, arena(files)).expect("the files of a channel")
}

fn bytes_of(file: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; fstat(file).expect("a memfd").st_size as usize];
    assert_eq!(pread(file, &mut bytes[..], 0), Ok(bytes.len()));
    bytes
}

/// A memfd with these bytes and seals.
fn memfd(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let file =
        memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a descriptor is left");
    std::fs::File::from(file.try_clone().expect("a descriptor is left"))
        .write_all(bytes)
        .expect("there is memory");
    fcntl_add_seals(&file, seals).expect("it is not sealed yet");
    file
}

/// Returns the error of opening a changed control segment.
fn refusal(change: impl FnOnce(&mut Vec<u8>)) -> SegmentError {
    let (_writer, files) = shared();
    let mut bytes = bytes_of(&files.control);
    change(&mut bytes);
    SegmentView::open(memfd(&bytes, SEALED), arena(&files)).expect_err("it was changed")
}

fn set(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
}

#[test]
fn a_view_shows_what_was_published_before_and_after_it_was_opened() {
    let (mut writer, files) = shared();
    let mut publish = |text: &[u8]| {
        let mut loan = writer.try_loan(text.len()).expect("a block is free");
        loan[..text.len()].copy_from_slice(text);
        loan.publish(text.len()).expect("it fits")
    };
    let texts = [b"early".to_vec(), vec![7; 4000], b"late".to_vec()];
    publish(&texts[0]);
    let view = open(&files);
    assert_eq!((view.published(), view.blocks(), view.max_subscribers()), (1, 7, 3));
    texts[1..].iter().for_each(|text| {
        publish(text);
    });
    assert_eq!(view.published(), 3);
    for (sequence, text) in texts.iter().enumerate() {
        let descriptor = view.descriptor(Sequence::new(sequence as u64)).expect("it is there");
        assert_eq!(descriptor.validity, Validity::Unchecked);
        // SAFETY: the publisher is idle.
        assert_eq!(unsafe { view.bytes(&descriptor) }, Some(&text[..]));
    }
    assert_eq!(view.descriptor(Sequence::new(3)), Err(ViewError::Unpublished));
}

#[test]
fn a_view_has_the_layout_of_the_channel_and_outlives_it() {
    let (writer, files) = shared();
    let view = open(&files);
    let channel = Arc::clone(writer.channel());
    assert_eq!(view.layout, *channel.layout());
    assert_eq!(view.geometry, channel.control().geometry());
    drop((writer, channel, files));
    assert_eq!(view.published(), 0);
}

#[test]
fn a_message_that_its_publisher_gave_up_is_not_shown() {
    let (mut writer, files) = shared();
    let view = open(&files);
    for _ in 0..4 {
        writer.try_loan(1).expect("a block is free").publish(1).expect("it fits");
    }
    assert!(view.descriptor(Sequence::new(0)).is_ok());
    assert!(writer.reclaim() > 0, "nobody reads them");
    assert_eq!(view.descriptor(Sequence::new(0)), Err(ViewError::Overwritten));
}

#[test]
fn a_file_without_its_seals_is_refused_by_their_names() {
    let (_writer, files) = shared();
    let bytes = bytes_of(&files.control);
    for (seals, missing) in [
        (SealFlags::empty(), "F_SEAL_SHRINK and F_SEAL_GROW"),
        (SealFlags::GROW, "F_SEAL_SHRINK"),
        (SealFlags::SHRINK | SealFlags::WRITE, "F_SEAL_GROW"),
    ] {
        let refused = SegmentView::open(memfd(&bytes, seals), arena(&files)).expect_err("a seal is missing");
        assert_eq!(refused, SegmentError::Unsealed { file: SegmentFile::Control, missing });
        let control = files.control.try_clone().expect("a descriptor is left");
        let refused = SegmentView::open(control, memfd(&[0; 1 << 16], seals)).expect_err("a seal is missing");
        assert_eq!(refused, SegmentError::Unsealed { file: SegmentFile::Arena, missing });
    }
}

#[test]
fn what_is_not_a_memfd_is_refused() {
    let (_writer, files) = shared();
    let (pipe, _other) = std::io::pipe().expect("a descriptor is left");
    let refused = SegmentView::open(pipe.into(), arena(&files)).expect_err("a pipe");
    assert_eq!(refused, SegmentError::NoMemfd(SegmentFile::Control));
}

#[test]
fn another_magic_number_or_version_is_refused() {
    assert_eq!(refusal(|bytes| bytes[0] ^= 1), SegmentError::Magic);
    assert_eq!(refusal(|bytes| bytes.fill(0)), SegmentError::Magic);
    let version = refusal(|bytes| set(bytes, 8, 7));
    assert_eq!(version, SegmentError::Version { found: 7, supported: Preamble::VERSION });
}

#[test]
fn a_file_that_is_too_small_is_refused_with_both_sizes() {
    for len in [0, 1, Preamble::USED - 1] {
        let short = refusal(|bytes| bytes.truncate(len));
        let needed = Preamble::USED as u64;
        assert_eq!(short, SegmentError::TooSmall { file: SegmentFile::Control, needed, bytes: len as u64 });
    }
    let (_writer, files) = shared();
    let whole = bytes_of(&files.control);
    let short = refusal(|bytes| bytes.truncate(whole.len() - 1));
    let (needed, bytes) = (whole.len() as u64, whole.len() as u64 - 1);
    assert_eq!(short, SegmentError::TooSmall { file: SegmentFile::Control, needed, bytes });

    let needed = fstat(&files.arena).expect("a memfd").st_size as u64;
    let arena = memfd(&vec![0; needed as usize - 1], SEALED);
    let short = SegmentView::open(files.control, arena).expect_err("a byte is missing");
    assert_eq!(short, SegmentError::TooSmall { file: SegmentFile::Arena, needed, bytes: needed - 1 });
}

#[test]
fn a_geometry_that_does_not_fit_is_refused() {
    let (_writer, files) = shared();
    let classes = open(&files).offsets.classes;
    // Slots, cursors, blocks, classes; the lengths of both files; block size, blocks and most blocks of the
    // first class.
    let places = [12, 16, 20, 24, 32, 36, 40, 44, classes, classes + 4, classes + 8, classes + 12];
    for at in places {
        for number in [0, 1, 5, 6, 0xFFFF, 1 << 20, 1 << 31, u32::MAX - 1, u32::MAX] {
            let genuine = bytes_of(&files.control)[at..at + 4] == number.to_ne_bytes();
            // Block sizes that round up to the same capacity are the same layout.
            let same = genuine || at == classes && (1..=64).contains(&number);
            if !same {
                let refused = refusal(|bytes| set(bytes, at, number));
                let expected = matches!(refused, SegmentError::Geometry(_) | SegmentError::TooSmall { .. });
                assert!(expected, "{number} at {at}: {refused:?}");
            }
        }
    }
}

#[test]
fn a_descriptor_that_names_no_block_or_too_many_bytes_is_refused() {
    let (mut writer, files) = shared();
    writer.try_loan(1).expect("a block is free").publish(1).expect("it fits");
    let slots = open(&files).offsets.slots;
    let genuine = bytes_of(&files.control);
    for (unit, len) in [(0, 65), (0, u32::MAX), (5, 1), (1 << 30, 1), (u32::MAX >> 1, 0), (4 + 2 * 79, 5057)]
    {
        let mut bytes = genuine.clone();
        bytes[slots..slots + 8].copy_from_slice(&pack(unit, len, Validity::Valid).to_ne_bytes());
        let view = SegmentView::open(memfd(&bytes, SEALED), arena(&files)).expect("its layout is right");
        assert_eq!(view.descriptor(Sequence::new(0)), Err(ViewError::Corrupt), "{unit} {len}");
    }
    let view = open(&files);
    let mut outside = view.descriptor(Sequence::new(0)).expect("it is there");
    for (offset, len) in [(u64::MAX, 1), (u64::MAX - 1, u32::MAX), (4 * 64 + 3 * 5056, 1)] {
        (outside.offset, outside.len) = (offset, len);
        // SAFETY: the publisher is idle.
        assert_eq!(unsafe { view.bytes(&outside) }, None);
    }
}

proptest! {
    /// With any contents of the file, opening returns, and so does reading the messages that it claims to
    /// hold.
    #[test]
    fn hostile_bytes_are_an_error_or_a_view_that_stays_within_the_arena(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), anywhere in any::<bool>()
    ) {
        let (mut writer, files) = shared();
        for _ in 0..3 {
            writer.try_loan(64).expect("a block is free").publish(64).expect("it fits");
        }
        let mut bytes = bytes_of(&files.control);
        let within = if anywhere { bytes.len() } else { Preamble::USED };
        for (index, byte) in changes {
            bytes[index.index(within)] = byte;
        }
        if let Ok(view) = SegmentView::open(memfd(&bytes, SEALED), arena(&files)) {
            for sequence in (0..8).chain([u64::MAX - 1]) {
                if let Ok(descriptor) = view.descriptor(Sequence::new(sequence)) {
                    // SAFETY: the publisher is idle.
                    let bytes = unsafe { view.bytes(&descriptor) }.expect("a descriptor that was checked");
                    prop_assert_eq!(bytes.len(), descriptor.len as usize);
                    let _ = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
            }
        }
    }
}
