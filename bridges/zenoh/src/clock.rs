//! [`WallClock`]: the times of messages, in nanoseconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

use blockcast_blocks::Timestamp;

/// Converts the monotonic times of messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    /// Both clocks at one moment.
    monotonic: u64,
    wall: u64,
}

impl WallClock {
    /// Reads both clocks.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { monotonic: Timestamp::now().as_nanos(), wall }
    }

    /// When something happened, or 0 if that is not known.
    pub(crate) fn at(self, time: Timestamp) -> u64 {
        if time == Timestamp::NONE {
            return 0;
        }
        match time.as_nanos().checked_sub(self.monotonic) {
            Some(after) => self.wall.saturating_add(after),
            None => self.wall.saturating_sub(self.monotonic - time.as_nanos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_the_reading_are_converted() {
        let clock = WallClock { monotonic: 100, wall: 5000 };
        let at = |nanos| clock.at(Timestamp::from_nanos(nanos));
        assert_eq!([at(100), at(150), at(40)], [5000, 5050, 4940]);
        assert_eq!(clock.at(Timestamp::NONE), 0);
    }
}
