//! [`Board`]: memory that all ends of a candidate share.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::futex;

/// Maximum number of ends of one candidate.
pub const MAX_ENDS: usize = 16;

/// The words by which the ends start together and take turns.
#[repr(C, align(128))]
struct Words {
    arrivals: AtomicU32,
    ends: [EndWords; MAX_ENDS],
}

#[repr(C, align(128))]
struct EndWords {
    /// Number of turns given to the end.
    turns: AtomicU32,
    process: AtomicU32,
    thread: AtomicU32,
}

/// Memory that all ends share: words for all candidates, and an area for a candidate that needs one.
/// Initially zero.
#[derive(Debug)]
pub struct Board {
    file: File,
    memory: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the board, wherever that is. All ends may change it at any time, so it is
// only accessed through atomics and, in the area, as the candidate's protocol allows.
unsafe impl Send for Board {}
// SAFETY: as above.
unsafe impl Sync for Board {}

impl Board {
    /// Creates a board with `area` bytes for the candidate.
    ///
    /// # Errors
    /// The system refused.
    pub fn create(area: usize) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("blockcast-bench", MemfdFlags::CLOEXEC)?);
        file.set_len((size_of::<Words>() + area) as u64)?;
        Self::map(file)
    }

    /// Opens the board at this path.
    ///
    /// # Errors
    /// There is no board, or the system refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::map(File::options().read(true).write(true).open(path)?)
    }

    fn map(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len() as usize;
        if len < size_of::<Words>() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is not a board"));
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses the address of a new mapping.
        let memory = unsafe {
            rustix::mm::mmap(null_mut(), len, access, MapFlags::SHARED | MapFlags::POPULATE, &file, 0)?
        };
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { file, memory, len })
    }

    /// Returns the path by which other processes open it, as long as this process lives and keeps it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is at least that large, page-aligned, and lives as long as `self`. The words
        // are atomics, for which every value is valid, and which other processes may change.
        unsafe { self.memory.cast().as_ref() }
    }

    /// Returns the candidate's area, which begins at a cache line.
    #[must_use]
    pub fn area(&self) -> (NonNull<u8>, usize) {
        // SAFETY: the mapping is larger than the words.
        let start = unsafe { self.memory.add(size_of::<Words>()) };
        (start, self.len - size_of::<Words>())
    }

    /// Returns the counter of arrivals at the start of a round.
    #[must_use]
    pub fn arrivals(&self) -> &AtomicU32 {
        &self.words().arrivals
    }

    /// Tells the other ends which thread this end is.
    pub fn sign_in(&self, end: usize) {
        let words = &self.words().ends[end];
        // Ordering: Relaxed; the report that follows orders it before anything that reads it.
        words.process.store(std::process::id(), Ordering::Relaxed);
        words
            .thread
            .store(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned(), Ordering::Relaxed);
    }

    /// Returns the IDs of an end's process and thread.
    #[must_use]
    pub fn thread_of(&self, end: usize) -> (u32, u32) {
        let words = &self.words().ends[end];
        (words.process.load(Ordering::Relaxed), words.thread.load(Ordering::Relaxed))
    }

    /// Sleeps until the end has been given this many turns.
    pub fn wait_for_turn(&self, end: usize, turns: u32) {
        let given = &self.words().ends[end].turns;
        loop {
            // Ordering: pairs with the Release in `give_turn`.
            let seen = given.load(Ordering::Acquire);
            if seen == turns {
                return;
            }
            // This fails if the word has changed meanwhile, or if a signal arrives.
            let _ = futex::wait(given, futex::Flags::empty(), seen, None);
        }
    }

    /// Gives the end a turn.
    pub fn give_turn(&self, end: usize) {
        let given = &self.words().ends[end].turns;
        // Ordering: pairs with the Acquire in `wait_for_turn`.
        given.fetch_add(1, Ordering::Release);
        // This cannot fail: the word is mapped and aligned.
        let _ = futex::wake(given, futex::Flags::empty(), 1);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: the mapping is this board's own, and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.memory.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn ends_that_open_the_board_share_it_and_take_turns() {
        let board = Board::create(1000).unwrap();
        let other = Arc::new(Board::open(&board.path()).unwrap());
        assert_eq!(other.area().1, 1000);
        let same = Arc::clone(&other);
        let subscriber = thread::spawn(move || {
            same.sign_in(1);
            for turn in 1..=100 {
                same.wait_for_turn(1, turn);
                same.give_turn(0);
            }
        });
        for turn in 1..=100 {
            board.give_turn(1);
            board.wait_for_turn(0, turn);
        }
        assert_eq!(board.thread_of(1).0, std::process::id());
        subscriber.join().unwrap();
    }

    #[test]
    fn a_file_that_is_too_short_is_not_a_board() {
        let file = File::from(rustix::fs::memfd_create("short", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(10).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        assert_eq!(Board::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
