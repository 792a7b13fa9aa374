//! [`HostileFile`]: a file of another process with arbitrary contents, which change at any time.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::Arbitrary;
use blockcast_blocks::{
    BLOCK_ALIGNMENT, ChannelConfig, Overflow, PublisherId, RawSample, Reader, ReaderOptions, ReceiveError,
    Schema, Sequence, Writer,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Number of blocks of a channel.
pub const BLOCKS: u32 = 16;

/// Returns the configuration of a small channel.
pub fn config() -> ChannelConfig {
    let mut config = ChannelConfig::new(PublisherId::new(1), schema());
    (config.blocks, config.block_size, config.max_subscribers) = (BLOCKS, BLOCK_ALIGNMENT, 4);
    config.history = 2;
    config
}

/// Returns its schema. Any bytes are a message of it.
pub fn schema() -> Schema {
    Schema::named("fuzz")
}

/// Publishes a message that consists of `byte` only, if a block is free.
pub fn publish(writer: &mut Writer, byte: u8) -> bool {
    let Ok(mut loan) = writer.try_loan(BLOCK_ALIGNMENT) else { return false };
    loan.fill(byte);
    loan.publish(BLOCK_ALIGNMENT).expect("it fits");
    true
}

/// A sealed file that this process can still write, like a hostile process that has created it.
pub struct HostileFile {
    file: OwnedFd,
    words: NonNull<AtomicU64>,
    count: usize,
}

impl HostileFile {
    /// Copies a file.
    pub fn copy_of(original: &OwnedFd) -> Self {
        let len = usize::try_from(fstat(original).expect("an open file").st_size).expect("it was mapped");
        let mut bytes = vec![0; len];
        assert_eq!(rustix::io::pread(original, &mut bytes[..], 0), Ok(len));
        let file =
            memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory is left");
        File::from(file.try_clone().expect("a descriptor is left"))
            .write_all(&bytes)
            .expect("memory is left");
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, wherever the system places it.
        let mapped = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, &file, 0) };
        let words = NonNull::new(mapped.expect("memory is left").cast()).expect("not at 0");
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE;
        fcntl_add_seals(&file, seals).expect("sealing is allowed");
        Self { file, words, count: len / 8 }
    }

    /// Returns a descriptor of the file.
    pub fn descriptor(&self) -> OwnedFd {
        self.file.try_clone().expect("a descriptor is left")
    }

    /// Changes a word.
    pub fn change(&self, Change { at, to }: Change) {
        // The most important words come first.
        let index = usize::from(at) % self.count;
        // SAFETY: less than `count`, which all fit into the mapping. Atomics have no other accesses.
        let word = unsafe { self.words.add(index).as_ref() };
        let value = match to {
            Value::Small(value) => value.into(),
            Value::Large(value) => value,
            Value::Less(by) => word.load(Ordering::Relaxed).wrapping_sub(by.into()),
            Value::More(by) => word.load(Ordering::Relaxed).wrapping_add(by.into()),
            Value::Lower(half) => word.load(Ordering::Relaxed) & !0xffff_ffff | u64::from(half),
            Value::Upper(half) => word.load(Ordering::Relaxed) & 0xffff_ffff | u64::from(half) << 32,
            Value::All => u64::MAX,
        };
        word.store(value, Ordering::Relaxed);
    }
}

impl Drop for HostileFile {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and nobody has a reference any more.
        let unmapped = unsafe { munmap(self.words.as_ptr().cast(), self.count * 8) };
        unmapped.expect("a mapping");
    }
}

/// A change of one word.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Change {
    at: u16,
    to: Value,
}

/// The new value of a word.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Value {
    Small(u8),
    Large(u64),
    Less(u8),
    More(u8),
    Lower(u32),
    Upper(u32),
    All,
}

/// How a subscriber relates to its publisher.
#[derive(Arbitrary, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Reliable,
    Overtakable,
    Keeping,
}

impl Pace {
    pub fn options(self, history: u8) -> ReaderOptions {
        let overflow = match self {
            Self::Reliable => Overflow::Block,
            Self::Overtakable => Overflow::DropOldest,
            Self::Keeping => Overflow::DropNewest,
        };
        ReaderOptions { overflow, history: history.into(), ..ReaderOptions::default() }
    }
}

/// An action of a subscriber.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Act {
    Receive,
    Keep,
    Batch(u8),
    Take,
    Hold(u8),
    Release(u8),
    Drop(u8),
    Arm,
    Look,
}

/// A subscriber, and the samples that it keeps.
pub struct Subscriber {
    reader: Reader,
    samples: Vec<RawSample>,
    taken: Vec<Sequence>,
    arena: std::ops::Range<usize>,
}

impl Subscriber {
    pub fn new(reader: Reader) -> Self {
        let arena = reader.channel().arena();
        let base = arena.base().addr().get();
        let arena = base..base + arena.len();
        Self { reader, samples: Vec::new(), taken: Vec::new(), arena }
    }

    /// Checks that bytes lie in the arena, and reads them.
    fn check(arena: &std::ops::Range<usize>, bytes: &[u8]) {
        let range = bytes.as_ptr_range();
        assert!(arena.start <= range.start.addr() && range.end.addr() <= arena.end, "outside of the arena");
        assert!(bytes.len() <= BLOCK_ALIGNMENT, "longer than a block");
        std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
    }

    /// Performs the action. Returns `false` if the subscriber has seen the end, or that its publisher is
    /// broken.
    pub fn act(&mut self, act: Act) -> bool {
        let arena = self.arena.clone();
        let done = match act {
            Act::Receive => self.reader.receive().map(|message| Self::check(&arena, message.bytes())),
            Act::Keep => self.reader.receive_owned().map(|sample| {
                Self::check(&arena, sample.bytes());
                self.samples.push(sample);
            }),
            Act::Batch(limit) => self.reader.receive_batch(limit.into()).map(|batch| {
                batch.iter().for_each(|(_, bytes)| Self::check(&arena, bytes));
            }),
            Act::Take => self.reader.receive_descriptor().map(|descriptor| {
                assert!(descriptor.len as usize <= BLOCK_ALIGNMENT);
                self.taken.push(descriptor.sequence);
            }),
            Act::Hold(which) => {
                if let Some(&sequence) = pick(&self.taken, which) {
                    self.samples.extend(self.reader.hold(sequence));
                }
                Ok(())
            }
            Act::Release(which) => {
                if let Some(&sequence) = pick(&self.taken, which) {
                    self.reader.release_before(sequence);
                    self.taken.retain(|&taken| taken >= sequence);
                }
                Ok(())
            }
            Act::Drop(which) => {
                if !self.samples.is_empty() {
                    let sample = self.samples.swap_remove(usize::from(which) % self.samples.len());
                    Self::check(&arena, sample.bytes());
                }
                Ok(())
            }
            Act::Arm => {
                self.reader.arm(std::task::Waker::noop());
                Ok(())
            }
            Act::Look => {
                let looked = (self.reader.is_ready(), self.reader.backlog(), self.reader.has_ended());
                std::hint::black_box((looked, self.reader.channel().stats()));
                Ok(())
            }
        };
        !matches!(done, Err(ReceiveError::Ended | ReceiveError::Corrupt))
    }
}

fn pick<T>(list: &[T], which: u8) -> Option<&T> {
    list.get(usize::from(which) % list.len().max(1))
}

/// Returns the files of a channel, for another process.
pub fn files_of(writer: &Writer) -> (OwnedFd, Arc<OwnedFd>) {
    let files = writer.channel().share().expect("it can be shared");
    (files.control, files.arena)
}
