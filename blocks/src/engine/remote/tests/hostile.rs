//! Annexes and rings with arbitrary contents.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};

use super::*;
use crate::engine::segment::files::{SegmentError, SegmentFile};
use crate::engine::segment::preamble::Preamble;
use crate::engine::segment::{SegmentFiles, files::ALL_SEALS};
use crate::engine::wake::armed::Wakers;
use crate::engine::wake::park;
use crate::engine::wake::rung::Rings as _;
use crate::primitive::AtomicU32;

fn bytes_of(file: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; fstat(file).unwrap().st_size as usize];
    assert_eq!(rustix::io::pread(file, &mut bytes[..], 0), Ok(bytes.len()));
    bytes
}

/// Creates a memfd with these bytes and seals.
fn memfd(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let file = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    std::fs::File::from(file.try_clone().unwrap()).write_all(bytes).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

/// Returns the error of attaching a changed annex.
fn refusal(seals: SealFlags, change: impl FnOnce(&mut Vec<u8>)) -> AnnexError {
    let pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
    let mut bytes = bytes_of(&annex_of(&pair));
    change(&mut bytes);
    let (terms, bell) = (AnnexTerms::default(), Bell::pair().unwrap().0);
    pair.writer.channel().attach(memfd(&bytes, seals), terms, bell).unwrap_err()
}

fn set(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
}

#[test]
fn an_annex_without_its_seals_is_refused_by_their_names() {
    let file = SegmentFile::Annex;
    for (seals, missing) in [
        (SealFlags::empty(), "F_SEAL_SHRINK and F_SEAL_GROW"),
        (SealFlags::GROW | SealFlags::FUTURE_WRITE, "F_SEAL_SHRINK"),
        (SealFlags::SHRINK | SealFlags::FUTURE_WRITE, "F_SEAL_GROW"),
        (SealFlags::SHRINK | SealFlags::GROW, "F_SEAL_FUTURE_WRITE"),
    ] {
        assert_eq!(refusal(seals, |_| {}), SegmentError::Unsealed { file, missing }.into());
    }
}

/// Needs no huge pages: the file has none.
#[test]
fn a_file_of_huge_pages_is_refused() {
    let file = memfd_create("annex", MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB);
    let Ok(file) = file else { return eprintln!("skipped: the system has no files of huge pages") };
    fcntl_add_seals(&file, ALL_SEALS).unwrap();
    let pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
    let refused = pair.writer.channel().attach(file, AnnexTerms::default(), Bell::pair().unwrap().0);
    assert_eq!(refused.unwrap_err(), SegmentError::HugePages(SegmentFile::Annex).into());
}

#[test]
fn what_is_not_an_annex_of_the_channel_is_refused() {
    let refusal = |change: fn(&mut Vec<u8>)| refusal(ALL_SEALS, change);
    assert_eq!(refusal(|bytes| bytes[0] ^= 1), AnnexError::Magic);
    let version = SegmentError::Version { found: 77, supported: Preamble::VERSION };
    assert_eq!(refusal(|bytes| set(bytes, 8, 77)), version.into());
    let geometry = |seats, blocks| {
        let (expected_seats, expected_blocks) = (AnnexTerms::default().seats, config().blocks);
        AnnexError::Geometry { seats, blocks, expected_seats, expected_blocks }
    };
    assert_eq!(refusal(|bytes| set(bytes, 12, 17)), geometry(17, u32::from(BLOCKS)));
    assert_eq!(refusal(|bytes| set(bytes, 16, u32::MAX)), geometry(16, u32::MAX));
    let short = refusal(|bytes| bytes.truncate(bytes.len() - 1));
    assert!(matches!(short, AnnexError::File(SegmentError::TooSmall { .. })), "{short}");
    let short = refusal(|bytes| bytes.truncate(9));
    assert!(matches!(short, AnnexError::File(SegmentError::TooSmall { .. })), "{short}");
    let other = refusal(|bytes| set(bytes, 24, 1));
    assert!(matches!(other, AnnexError::File(SegmentError::Geometry(_))), "{other}");
    let pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
    let (pipe, _other) = std::io::pipe().unwrap();
    let refused = pair.writer.channel().attach(pipe.into(), AnnexTerms::default(), Bell::pair().unwrap().0);
    assert_eq!(refused.unwrap_err(), SegmentError::NoMemfd(SegmentFile::Annex).into());
}

#[test]
fn a_ring_that_others_can_write_is_not_opened() {
    let pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
    let files = pair.writer.channel().share().unwrap();
    let control = memfd(&bytes_of(&files.control), SealFlags::SHRINK | SealFlags::GROW);
    let files = SegmentFiles { control, ..files };
    let (terms, bell) = (AnnexTerms::default(), Bell::pair().unwrap().0);
    // SAFETY: nothing is opened.
    let refused = unsafe { Channel::open_remote(files, config(), &terms, Trust::Checked, bell) };
    let missing = "F_SEAL_FUTURE_WRITE";
    assert_eq!(refused.unwrap_err(), SegmentError::Unsealed { file: SegmentFile::Control, missing });
}

#[test]
fn a_descriptor_that_names_no_block_is_an_error_once_and_then_the_end() {
    use crate::descriptor::{Validity, pack};

    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        for (unit, len) in [(u32::from(BLOCKS), 1), (0, 65), (u32::MAX >> 1, 0), (3, u32::MAX)] {
            let mut pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
            let (mut reader, mut other) = (pair.join(overflow), pair.join(overflow));
            for _ in 0..3 {
                pair.publish(b"right").unwrap();
            }
            let sample = reader.receive_owned().unwrap();
            let slot = pair.writer.channel().control().slot(1);
            slot.word.store(pack(unit, len, Validity::Valid), Ordering::Relaxed);
            assert_eq!(reader.receive().unwrap_err(), ReceiveError::Corrupt, "{unit} {len}");
            assert_eq!(reader.receive().unwrap_err(), ReceiveError::Ended);
            assert!(reader.has_ended() && !reader.has_message() && reader.backlog() == 0);
            assert_eq!(sample.bytes(), b"right");
            // A batch ends before it.
            assert_eq!(other.receive_batch(3).unwrap().len(), 1);
            assert_eq!(other.receive_batch(3).unwrap_err(), ReceiveError::Corrupt);
            assert_eq!(other.receive_owned().unwrap_err(), ReceiveError::Ended);
            drop(reader);
        }
    }
}

#[test]
fn a_head_that_makes_no_sense_is_an_error() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        for (head, watermark) in [(0, 0), (u64::MAX, 0), (u64::MAX, u64::MAX), (2, u64::MAX), (1 << 62, 5)] {
            let mut pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
            let mut reader = pair.join(overflow);
            for _ in 0..2 {
                pair.publish(b"right").unwrap();
                drop(reader.receive().unwrap());
            }
            let header = pair.writer.channel().control().header();
            header.head.next.store(head, Ordering::Relaxed);
            header.state.watermark.store(watermark, Ordering::Relaxed);
            let met: Vec<_> = std::iter::from_fn(|| reader.receive().map(|_| ()).err()).take(4).collect();
            let sense = |error: &ReceiveError| matches!(error, ReceiveError::Corrupt | ReceiveError::Lost(_));
            assert!(head == 2 || met.iter().any(sense), "{overflow:?} {head} {watermark}: {met:?}");
            let _ = (reader.backlog(), reader.has_message(), pair.remote.stats());
        }
    }
}

/// Calls `wait` with a deadline, while another thread changes words all the time.
fn until_a_deadline(change: impl Fn() + Sync, wait: impl FnOnce(Instant)) {
    let stops = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while stops.load(Ordering::Relaxed) == 0 {
                change();
            }
        });
        let deadline = Instant::now() + Duration::from_millis(20);
        wait(deadline);
        assert!(Instant::now() >= deadline);
        stops.store(1, Ordering::Relaxed);
    });
}

#[test]
fn words_that_always_change_keep_nobody_from_a_deadline() {
    let everyone = Wakers { threads: true, bell: true };
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
    let mut reader = pair.join(Overflow::Block);
    let (there, here) = (Arc::clone(&pair.remote), Arc::clone(pair.writer.channel()));
    until_a_deadline(
        || {
            here.rung().raise();
            here.rung().wake_threads();
            here.control().header().remote.space_armed.announce(everyone);
        },
        |deadline| assert_eq!(park::until(Some(deadline), |cx| reader.poll_ready(cx)), None),
    );
    pair.fill();
    let waiting = || &there.control().side().words().waiting;
    until_a_deadline(
        || {
            waiting().rung.raise();
            waiting().rung.wake_threads();
            waiting().armed.announce(everyone);
        },
        |deadline| assert_eq!(pair.writer.loan(1, Some(deadline)).err(), Some(LoanError::Deadline)),
    );
}

proptest! {
    /// Whatever a process writes into its annex, the publisher continues if the process may not block it,
    /// with the blocks beyond its quota, and gets all blocks back when it is detached.
    #[test]
    fn a_hostile_annex_pins_no_more_than_its_quota(
        words in proptest::collection::vec(prop_oneof![0..30_u64, any::<u64>(), Just(u64::MAX)], 1..200),
        quota in 0..5_u32,
        start in any::<prop::sample::Index>(),
    ) {
        let terms = AnnexTerms { may_block: false, quota, ..AnnexTerms::default() };
        let mut pair = Pair::new(&terms, Trust::Checked);
        let mut bytes = bytes_of(&annex_of(&pair));
        let start = Preamble::LEN + start.index((bytes.len() - Preamble::LEN) / 8) * 8;
        for (at, word) in (start..).step_by(8).zip(&words) {
            if let Some(place) = bytes.get_mut(at..at + 8) {
                place.copy_from_slice(&word.to_ne_bytes());
            }
        }
        // Many of its cursors are in use.
        set(&mut bytes, Preamble::LEN, u32::MAX);
        let annex = memfd(&bytes, ALL_SEALS);
        let annex = pair.writer.channel().attach(annex, terms.clone(), Bell::pair().unwrap().0).unwrap();
        for number in 0..100 {
            pair.publish(&[number]).unwrap();
            let _ = pair.writer.channel().stats();
        }
        prop_assert!(pair.writer.pool().limbo <= quota);
        pair.writer.channel().detach(annex);
        prop_assert_eq!(pair.writer.reclaim(), u32::from(BLOCKS));
    }

    /// Whatever a publisher writes into its ring, subscribers of another process return, and read no byte
    /// outside of the arena.
    #[test]
    fn a_hostile_ring_ends_or_delivers_bytes_of_the_arena(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0..3_u8), 1..8),
        overflow in prop_oneof![Just(Overflow::Block), Just(Overflow::DropOldest), Just(Overflow::DropNewest)],
        history in 0..9_u64,
        gone in any::<bool>(),
    ) {
        let mut pair = Pair::new(&AnnexTerms::default(), Trust::Checked);
        for _ in 0..20 {
            pair.publish(&[1; 64]).unwrap();
        }
        let files = pair.writer.channel().share().unwrap();
        let mut bytes = bytes_of(&files.control);
        for (index, value, kind) in changes {
            let value = match kind {
                0 => value % 64,
                1 => u64::MAX,
                _ => value,
            };
            let at = Preamble::LEN + index.index((bytes.len() - Preamble::LEN) / 8 - 2) * 8;
            bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        let files = SegmentFiles { control: memfd(&bytes, ALL_SEALS), ..files };
        let (terms, bell) = (AnnexTerms::default(), Bell::pair().unwrap().0);
        // SAFETY: the messages do not change.
        let opened = unsafe { Channel::open_remote(files, config(), &terms, Trust::Checked, bell) };
        let Ok((channel, _annex)) = opened else { return Ok(()) };
        if gone {
            channel.publisher_is_gone();
        }
        let options = ReaderOptions { overflow, history, ..ReaderOptions::default() };
        let Ok(mut reader) = channel.join(&Schema::named("test"), options, Signal::new()) else { return Ok(()) };
        let arena = channel.arena().base().addr().get();
        for turn in 0..40 {
            let received = match turn % 3 {
                0 => reader.receive().map(|message| message.bytes().as_ptr_range()),
                1 => reader.receive_owned().map(|sample| sample.bytes().as_ptr_range()),
                _ => reader.receive_batch(3).map(|batch| batch.iter().last().unwrap().1.as_ptr_range()),
            };
            if let Ok(range) = received {
                prop_assert!(range.start.addr() >= arena && range.end.addr() <= arena + usize::from(BLOCKS) * 64);
            }
            let _ = (reader.is_ready(), reader.backlog(), channel.stats());
        }
    }
}
