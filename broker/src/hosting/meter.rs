//! How much a component has done, and whether it may do more: rates as token buckets, and counters of calls.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blockcast_blocks::abi::Level;

use crate::component::limit_policy::{Limit, LimitExceeded, LimitPolicy};
use crate::component::limits::{ComponentLimits, Rate};
use crate::hosting::log::{LogSink, line};

/// A token bucket: starts full, is drained by events and filled by time.
///
/// An event may overdraw a bucket that is not empty, so that an event larger than the bucket is possible.
/// Over any time `t`, the bucket admits at most `burst + per_second * t` and one more event. It reads the
/// clock only when it is empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    level: i128,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: i128::from(rate.burst), filled: now }
    }

    /// Whether an event may happen now.
    pub(crate) fn is_open(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.level <= 0 {
            self.fill(now());
        }
        self.level > 0
    }

    /// Counts an event of this size.
    pub(crate) fn take(&mut self, amount: u64) {
        self.level -= i128::from(amount);
    }

    /// The number of events of size 1 that may happen now.
    fn left(&self) -> u32 {
        u32::try_from(self.level.max(0)).unwrap_or(u32::MAX)
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled);
        let more = i128::from(self.rate.per_second) * elapsed.as_nanos() as i128 / 1_000_000_000;
        // Time worth less than a whole token is not used up, so that frequent calls lose nothing.
        if more > 0 {
            self.level = (self.level + more).min(i128::from(self.rate.burst));
            self.filled = now;
        }
    }

    /// The time until an event may happen, or `None` if it never may.
    fn opens_in(&self, now: Instant) -> Option<Duration> {
        if self.rate.per_second == 0 || self.rate.burst == 0 {
            return None;
        }
        let missing = u128::try_from(1 - self.level).unwrap_or(0);
        let nanos = (missing * 1_000_000_000).div_ceil(u128::from(self.rate.per_second));
        let opens = self.filled.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?))?;
        Some(opens.saturating_duration_since(now))
    }
}

/// Bounds the rate of a component's log lines on all paths: clones share one rate.
#[derive(Clone, Debug)]
pub(crate) struct LineRate(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    bucket: Bucket,
    written: u64,
    dropped: u64,
    /// Lines dropped since the last one that was passed on, not reported yet.
    unreported: u64,
}

impl LineRate {
    pub(crate) fn new(rate: Rate) -> Self {
        let bucket = Bucket::new(rate, Instant::now());
        Self(Arc::new(Mutex::new(Lines { bucket, written: 0, dropped: 0, unreported: 0 })))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // A panic while it is locked leaves valid numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits one line, or drops it.
    pub(crate) fn admit(&self) -> Admission {
        let mut lines = self.lines();
        if !lines.bucket.is_open(Instant::now) {
            lines.dropped += 1;
            lines.unreported += 1;
            return Admission::Dropped;
        }
        lines.bucket.take(1);
        lines.written += 1;
        match std::mem::take(&mut lines.unreported) {
            0 => Admission::Line,
            dropped => {
                lines.bucket.take(1); // the report is a line too
                Admission::LineAfter(dropped)
            }
        }
    }

    /// Counts lines that were dropped before they could be admitted.
    pub(crate) fn count_dropped(&self, count: u32) {
        let mut lines = self.lines();
        lines.dropped += u64::from(count);
        lines.unreported += u64::from(count);
    }

    /// Lines passed on, and lines dropped.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let lines = self.lines();
        (lines.written, lines.dropped)
    }
}

/// The counters of one component, and the rest of its budgets.
#[derive(Debug)]
pub(crate) struct Meter {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    lines: LineRate,
    /// The component was refused publishing, and its `wait` reports when it can publish again.
    throttled: bool,
    calls: Cell<u64>,
    /// The number of calls at which their rate is checked again.
    calls_until: Cell<u64>,
    call_rate: Option<Rate>,
    /// When the rate was last checked.
    calls_checked: Cell<Instant>,
}

/// The decision about a log line.
pub(crate) enum Admission {
    Line,
    /// The first line after this many were dropped.
    LineAfter(u64),
    Dropped,
}

impl Admission {
    /// Writes an admitted line to `sink`, after a report of the lines dropped before it. Returns `false` if
    /// this line is dropped.
    pub(crate) fn write(self, sink: &LogSink, level: Level, text: &str) -> bool {
        match self {
            Self::Line => {}
            Self::LineAfter(dropped) => {
                sink(Level::Warn, &format!("{dropped} lines were dropped: too many in a second"));
            }
            Self::Dropped => return false,
        }
        sink(level, &line(text));
        true
    }
}

impl Meter {
    pub(crate) fn new(limits: &ComponentLimits) -> Self {
        let now = Instant::now();
        Self {
            messages: limits.publish_messages.map(|rate| Bucket::new(rate, now)),
            bytes: limits.publish_bytes.map(|rate| Bucket::new(rate, now)),
            lines: LineRate::new(limits.log_lines),
            throttled: false,
            calls: Cell::new(0),
            calls_until: Cell::new(limits.host_calls.map_or(u64::MAX, |rate| rate.burst)),
            call_rate: limits.host_calls,
            calls_checked: Cell::new(now),
        }
    }

    /// Counts a call into the host.
    ///
    /// # Errors
    /// Ends the component if there were too many.
    #[inline]
    pub(crate) fn call(&self, policy: &LimitPolicy) -> Result<(), LimitExceeded> {
        let calls = self.calls.get() + 1;
        self.calls.set(calls);
        if calls <= self.calls_until.get() { Ok(()) } else { self.check_calls(policy) }
    }

    #[cold]
    fn check_calls(&self, policy: &LimitPolicy) -> Result<(), LimitExceeded> {
        let Some(rate) = self.call_rate else { return Ok(()) };
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.calls_checked.get()).as_nanos();
        let more = u64::try_from(u128::from(rate.per_second) * elapsed / 1_000_000_000).unwrap_or(u64::MAX);
        // Everything allowed so far is used up, so time can have added at most a full bucket.
        let more = more.min(rate.burst);
        if more == 0 {
            policy.note(Limit::HostCalls);
            return policy.settle();
        }
        self.calls_checked.set(now);
        self.calls_until.set(self.calls_until.get().saturating_add(more));
        Ok(())
    }

    /// The number of calls into the host so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Whether a message may be published now, or the limit that refuses it.
    pub(crate) fn may_publish(&mut self) -> Result<(), Limit> {
        let refused = if self.messages.as_mut().is_some_and(|messages| !messages.is_open(Instant::now)) {
            Limit::PublishMessages
        } else if self.bytes.as_mut().is_some_and(|bytes| !bytes.is_open(Instant::now)) {
            Limit::PublishBytes
        } else {
            return Ok(());
        };
        self.throttled = true;
        Err(refused)
    }

    /// Counts a published message of this size.
    pub(crate) fn published(&mut self, bytes: u64) {
        if let Some(messages) = &mut self.messages {
            messages.take(1);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes);
        }
    }

    /// The number of messages that may be published now, given this many free blocks.
    pub(crate) fn publishable(&mut self, free: u32) -> u32 {
        match self.may_publish() {
            Ok(()) => free.min(self.messages.map_or(u32::MAX, |messages| messages.left())),
            Err(_) => 0,
        }
    }

    /// How long a component that was refused publishing has to wait. `None` if it was not refused, or if it
    /// waits forever.
    pub(crate) fn publishable_in(&self) -> Option<Duration> {
        if !self.throttled {
            return None;
        }
        let now = Instant::now();
        let closed = [self.messages, self.bytes].into_iter().flatten().filter(|bucket| bucket.level <= 0);
        closed.map(|bucket| bucket.opens_in(now)).try_fold(Duration::ZERO, |most, wait| Some(most.max(wait?)))
    }

    /// The component has learned that it can publish again.
    pub(crate) fn unthrottle(&mut self) {
        self.throttled = false;
    }

    /// The rate of the component's log lines.
    pub(crate) fn lines(&self) -> &LineRate {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_admits_its_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 10, burst: 3 }, start);
        let mut admitted = |at: Duration| {
            let open = bucket.is_open(|| start + at);
            if open {
                bucket.take(1);
            }
            open
        };
        let ms = Duration::from_millis;
        assert_eq!([0, 0, 0, 0].map(|at| admitted(ms(at))), [true, true, true, false]);
        assert_eq!([99, 100, 150, 200].map(|at| admitted(ms(at))), [false, true, false, true]);
        let after_a_rest = (0..9).filter(|_| admitted(ms(100_000))).count();
        assert_eq!(after_a_rest, 3, "no more than the burst is saved up");
    }

    #[test]
    fn a_bucket_is_overdrawn_once_and_says_when_it_opens() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate::per_second(1000), start);
        assert!(bucket.is_open(|| start));
        bucket.take(3000);
        assert_eq!(bucket.opens_in(start), Some(Duration::from_millis(2001)));
        assert!(!bucket.is_open(|| start + Duration::from_millis(2000)));
        assert!(bucket.is_open(|| start + Duration::from_millis(2001)));
        let mut closed = Bucket::new(Rate::per_second(0), start);
        assert!(!closed.is_open(|| start + Duration::from_secs(1000)));
        assert_eq!(closed.opens_in(start), None);
    }
}
