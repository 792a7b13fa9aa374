//! The resources that a process uses, as the system counts them.

use std::time::Duration;

use rustix::process::Pid;

/// Returns the bytes of its memory that no other process shares and that are not swapped out. `None` if it
/// has none, because it has ended.
pub(super) fn memory(pid: Pid) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let mut pages = pages.split_whitespace().map(str::parse::<u64>);
    let (_all, resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?, pages.next()?.ok()?);
    let own = resident.saturating_sub(shared) * blockcast_blocks::page_size() as u64;
    if resident == 0 { None } else { Some(own) }
}

/// Returns the processor time of all its threads. `None` if it has ended.
pub(super) fn computed(pid: Pid) -> Option<Duration> {
    let mut clock = 0;
    // SAFETY: `clock` is a valid place for the answer.
    if unsafe { libc::clock_getcpuclockid(pid.as_raw_nonzero().get(), &raw mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer. If the process has ended, its clock is invalid and the
    // call fails.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    Some(Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_until_it_has_ended() {
        let own = rustix::process::getpid();
        assert!(memory(own).is_some_and(|memory| memory > 0));
        let before = computed(own).expect("it runs");
        while computed(own) == Some(before) {
            std::hint::spin_loop();
        }
        let mut child = std::process::Command::new("true").spawn().expect("it is there");
        let pid = Pid::from_child(&child);
        child.wait().expect("it was started");
        assert_eq!((memory(pid), computed(pid)), (None, None));
    }
}
