//! The number of memory mappings that this process may still create, and the reserve for the program itself.
//!
//! A process has a limited number of mappings (`vm.max_map_count`, 65,530 by default). Without any left,
//! `mmap` fails for everybody, and an ordinary allocation aborts the program. So mappings for publishers and
//! components are refused before they would touch a reserve.
//!
//! Counting mappings means reading `/proc/self/maps`, which takes milliseconds if there are many. So they are
//! counted rarely. In between, what was charged since the last count is subtracted from what was left then.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};

use super::clock;

/// Mappings are counted again after this many were charged, or this fraction of the existing ones. Counting
/// takes longer the more there are, so it becomes rarer.
const STEP: usize = 64;

/// How long a count that found too few mappings stays valid: this many times as long as it took, and at least
/// 100 ms. So a component that keeps asking does not keep the host counting.
const PAUSE: u64 = 20;
const LEAST_PAUSE: u64 = 100_000_000;

/// The default reserve: this fraction of all mappings.
const RESERVED_PART: usize = 16;

/// The value of `RESERVE` until it is set.
const UNSET: usize = usize::MAX;

// Ordering: Relaxed throughout: each is a number of its own, and an estimate that is slightly old does no
// harm.
static RESERVE: AtomicUsize = AtomicUsize::new(UNSET);
/// Existing mappings at the last count.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Mappings left at the last count.
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// Mappings charged since. Large at first, so that the first charge counts.
static CHARGED: AtomicUsize = AtomicUsize::new(usize::MAX / 2);
/// Until when the last count stays valid, if it found too few. In nanoseconds of the clock.
static REFUSED_UNTIL: AtomicU64 = AtomicU64::new(0);

/// This process has too few memory mappings left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process has {left} memory mappings left, of which {reserve} are kept for the program itself: \
     close publishers or end components, or raise vm.max_map_count"
)]
pub struct NoMappings {
    /// Mappings that the process can still create.
    pub left: usize,
    /// How many of them are [reserved](reserve_mappings).
    pub reserve: usize,
}

/// Sets how many memory mappings of this process are reserved for the program itself. The default is a
/// sixteenth of `vm.max_map_count`: 4,095 of 65,530.
///
/// Publishers, guests, native components and windows are refused if they would leave fewer. A program without
/// any mapping left cannot allocate memory, and aborts.
pub fn reserve_mappings(count: usize) {
    RESERVE.store(count.min(UNSET - 1), Ordering::Relaxed);
}

/// Charges `count` mappings, which the caller is about to create.
///
/// # Errors
/// [`NoMappings`] if that would touch the reserve. Sometimes reads a file of the system, which takes a few
/// milliseconds if there are many mappings.
pub fn charge_mappings(count: usize) -> Result<(), NoMappings> {
    let charged = CHARGED.fetch_add(count, Ordering::Relaxed).saturating_add(count);
    let left = LEFT.load(Ordering::Relaxed).saturating_sub(charged);
    let reserve = reserve();
    let enough = left >= reserve;
    if enough && charged < STEP.max(USED.load(Ordering::Relaxed) / STEP) {
        return Ok(());
    }
    let began = clock::coarse().as_nanos();
    if !enough && began < REFUSED_UNTIL.load(Ordering::Relaxed) {
        return refuse(count, left, reserve);
    }
    // If mappings cannot be counted, only the system decides.
    let Some((used, left)) = look() else { return Ok(()) };
    USED.store(used, Ordering::Relaxed);
    LEFT.store(left, Ordering::Relaxed);
    CHARGED.store(count, Ordering::Relaxed);
    if left.saturating_sub(count) < reserve {
        let now = clock::coarse().as_nanos();
        let pause = (now.saturating_sub(began) * PAUSE).max(LEAST_PAUSE);
        REFUSED_UNTIL.store(now + pause, Ordering::Relaxed);
        return refuse(count, left, reserve);
    }
    REFUSED_UNTIL.store(0, Ordering::Relaxed);
    Ok(())
}

/// Returns what was charged, as nothing was mapped.
fn refuse(count: usize, left: usize, reserve: usize) -> Result<(), NoMappings> {
    CHARGED.fetch_sub(count, Ordering::Relaxed);
    Err(NoMappings { left, reserve })
}

fn reserve() -> usize {
    match RESERVE.load(Ordering::Relaxed) {
        UNSET => {
            let reserve = most().map_or(0, |most| most / RESERVED_PART);
            // Unless it was set meanwhile.
            let _ = RESERVE.compare_exchange(UNSET, reserve, Ordering::Relaxed, Ordering::Relaxed);
            reserve
        }
        set => set,
    }
}

/// Mappings that a process may have.
fn most() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// Mappings that this process has, one for each line of `/proc/self/maps`, and those that it can still make.
fn look() -> Option<(usize, usize)> {
    let most = most()?;
    let file = rustix::fs::open("/proc/self/maps", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut buffer = [0; 8 << 10];
    let mut lines = 0;
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => return Some((lines, most.saturating_sub(lines))),
            Ok(len) => lines += buffer[..len].iter().filter(|&&byte| byte == b'\n').count(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_counted() {
        let Some((used, left)) = look() else { return };
        assert!(used > 0 && used + left == most().expect("it was read just before"));
    }
}
