//! How many memory mappings this process may still make, and how many of them are kept for the program itself.
//!
//! A process has a limited number of mappings (`vm.max_map_count`, 65,530 by default). When it has none left, `mmap` fails for
//! everybody: an allocation of the program's own aborts it. So whatever takes mappings on behalf of a publisher or a component
//! is refused while a reserve is still there.
//!
//! Counting the mappings means reading `/proc/self/maps`, which takes milliseconds in a process that has many. So they are
//! counted rarely: in between, what was charged since the last count is taken from what was left then.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};

use super::clock;

/// Mappings charged after which they are counted again: so many, or this part of those that there are. So a count, which takes the
/// longer the more there are, is rare.
const STEP: usize = 64;

/// How long a count holds that found too few mappings: so many times as long as it took, and at least 100 ms. A component that
/// asks again and again does not keep the host counting.
const PAUSE: u64 = 20;
const LEAST_PAUSE: u64 = 100_000_000;

/// The default of the reserve: this part of all mappings.
const RESERVED_PART: usize = 16;

/// What `RESERVE` holds until it is set.
const UNSET: usize = usize::MAX;

// Ordering: Relaxed throughout: each is a number of its own, and an estimate that is slightly old does no harm.
static RESERVE: AtomicUsize = AtomicUsize::new(UNSET);
/// There at the last count.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Left at the last count.
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// Charged since. Large at first: count before the first charge.
static CHARGED: AtomicUsize = AtomicUsize::new(usize::MAX / 2);
/// Until when the last count holds, if it found too few; in nanoseconds of the clock.
static REFUSED_UNTIL: AtomicU64 = AtomicU64::new(0);

/// This process has too few memory mappings left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process has {left} memory mappings left, of which {reserve} are kept for the program itself: \
     close publishers or end components, or raise vm.max_map_count"
)]
pub struct NoMappings {
    /// Mappings that the process can still make.
    pub left: usize,
    /// How many of them are kept in [reserve](reserve_mappings).
    pub reserve: usize,
}

/// Sets how many memory mappings are kept for the program itself, in this process. By default a sixteenth of
/// `vm.max_map_count`, which is 4,095 of 65,530.
///
/// Publishers, guests, native components and windows are refused when they would leave fewer: the program could not
/// allocate memory any more when it has no mapping left, and would abort.
pub fn reserve_mappings(count: usize) {
    RESERVE.store(count.min(UNSET - 1), Ordering::Relaxed);
}

/// Takes `count` mappings, which the caller is about to make.
///
/// # Errors
/// [`NoMappings`] if that would touch the reserve. Reads a file of the system at times, which takes a few milliseconds where
/// there are many mappings.
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
    // Where it cannot be counted, the system alone decides.
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

/// Gives back what was charged, as nothing is mapped.
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
