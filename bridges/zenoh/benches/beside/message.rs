//! What every message carries.

/// Bytes of the smallest message: its number, the time at which it was published, and a check of both in the
/// last word.
pub(crate) const MIN: usize = 24;

/// Before anything is measured.
pub(crate) const WARM_UP: u64 = 0;
/// Measured.
pub(crate) const MEASURED: u64 = 1;
/// After that. Repeated until it has arrived.
pub(crate) const END: u64 = 2;

/// A message's phase is in the upper bits of its number.
const PHASE: u32 = 56;

/// The first words of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) phase: u64,
    /// The numbers of all phases together ascend by one.
    pub(crate) number: u64,
    /// Nanoseconds of the machine's monotonic clock, which all processes share.
    pub(crate) time: u64,
}

impl Head {
    pub(crate) fn words(self) -> [u64; 2] {
        [self.phase << PHASE | self.number, self.time]
    }

    /// The last word of the message, which shows whether its ends belong together.
    pub(crate) fn check(self) -> u64 {
        let [first, time] = self.words();
        !first ^ time.rotate_left(32)
    }

    pub(crate) fn of([first, time]: [u64; 2]) -> Self {
        Self { phase: first >> PHASE, number: first & ((1 << PHASE) - 1), time }
    }
}
