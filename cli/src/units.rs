//! Parses and formats sizes, times and rates.

use std::ops::RangeInclusive;
use std::time::Duration;

use blockcast::{Rate, Restart, Stall};

/// Which exits lead to a restart.
pub type When = Restart;

/// Parses a number of bytes: `4096`, `64KiB`, `16MiB`, `1GiB`, or powers of ten such as `64KB`, `16MB`,
/// `1GB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(format!("{text:?} is not a size: write 4096, \"64KiB\", \"16MiB\" or \"1GiB\"")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is not a size: {number:?} is not a whole number"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// Parses a time: `500us`, `100ms`, `5s`, `2m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let nanos = match unit {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return Err(format!("{text:?} is not a time: write \"100ms\", \"5s\", \"2m\" or \"1h\"")),
    };
    let number: f64 =
        number.parse().map_err(|_| format!("{text:?} is not a time: {number:?} is not a number"))?;
    Duration::try_from_secs_f64(number * nanos / 1e9).map_err(|_| format!("{text:?} is out of range"))
}

/// Parses a rate: `1000/s` (with a burst of the same number), or `1000/s burst 50`. The numbers may be
/// [sizes](bytes).
pub fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is not a rate: write \"1000/s\" or \"10MiB/s burst 1MiB\"");
    let (rate, burst) = match text.split_once("burst") {
        Some((rate, burst)) => (rate.trim(), Some(burst.trim())),
        None => (text.trim(), None),
    };
    let rate =
        Rate::per_second(bytes(rate.strip_suffix("/s").ok_or_else(wrong)?.trim()).map_err(|_| wrong())?);
    Ok(match burst {
        Some(burst) => rate.burst(bytes(burst).map_err(|_| wrong())?),
        None => rate,
    })
}

/// Parses a restart condition: `never`, `on-failure`, `always`.
pub fn restart(text: &str) -> Result<When, String> {
    match text {
        "never" => Ok(Restart::Never),
        "on-failure" => Ok(Restart::OnFailure),
        "always" => Ok(Restart::Always),
        _ => Err(format!("{text:?} is not a restart condition: use \"never\", \"on-failure\" or \"always\"")),
    }
}

/// Times that a subscriber may hold a publisher back before its process is killed.
const STALLS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 60 * 60);

/// Parses the policy for processes that stall publishers: `wait`, or `kill:` and a time.
pub fn stall(text: &str) -> Result<Stall, String> {
    match text.split_once(':') {
        None if text == "wait" => Ok(Stall::Wait),
        Some(("kill", time)) => {
            let time = duration(time)?;
            if STALLS.contains(&time) {
                Ok(Stall::Kill(time))
            } else {
                Err(format!("{text:?} is out of range: the shortest time is \"10ms\", the longest \"24h\""))
            }
        }
        _ => Err(format!("{text:?} is not a policy for stalls: use \"wait\" or \"kill:30s\"")),
    }
}

/// Parses the permissions of a file: three octal digits, such as `0660`.
pub fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("{text:?} are not permissions: write \"0600\" or \"0660\"")),
    }
}

/// Splits a text into the number at its start and the unit that follows.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..at], text[at..].trim())
}

/// Formats a number of bytes.
pub fn of_bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_rates_are_read_as_written() {
        assert_eq!(
            ["4096", "64KiB", "2 MiB", "1GB"].map(|text| bytes(text).ok()),
            [Some(4096), Some(65536), Some(2 << 20), Some(1_000_000_000)]
        );
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(rate("100/s"), Ok(Rate::per_second(100)));
        assert_eq!(rate("1MiB/s burst 4KiB"), Ok(Rate::per_second(1 << 20).burst(4096)));
        assert_eq!(stall("wait"), Ok(Stall::Wait));
        for (text, millis) in [("kill:10ms", 10), ("kill:1.5s", 1500), ("kill:24h", 24 * 60 * 60 * 1000)] {
            assert_eq!(stall(text), Ok(Stall::Kill(Duration::from_millis(millis))));
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for text in ["", "5", "5 weeks", "-1s", "s", "1e400s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "KiB", "1.5MiB", "-1", "5 stones", "99999999999999999999", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(mode("0660"), Ok(0o660));
        for text in ["", "rw", "888", "1777", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
        for text in ["", "kill", "wait:5s", "never", "Kill:5s"] {
            assert!(stall(text).is_err_and(|error| error.contains("kill:30s")), "{text}");
        }
        for text in ["kill:", "kill:5", "kill:9ms", "kill:25h"] {
            assert!(stall(text).is_err(), "{text}");
        }
        for text in ["5", "5/m", "/s", "5/s burst", "5/s burst x"] {
            assert!(rate(text).is_err_and(|error| error.contains("burst 1MiB")), "{text}");
        }
    }
}
