//! `blockcast topic echo`: prints a topic's messages.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use blockcast::{Bytes, Message, Overflow, RecvError, SubscriberOptions, Timestamp};
use serde_json::json;

use crate::Refused;
use crate::args::Echo;
use crate::log::{self, printable_json};
use crate::topic::{MISSING, find, print};
use crate::value::Decoder;

/// Prints messages until the publishers have left, the count is reached, or standard output is closed.
pub fn echo(arguments: &Echo) -> Result<ExitCode, Refused> {
    let connection = arguments.host.connect()?;
    let Some(topic) = find(&connection, &arguments.topic)? else { return Ok(ExitCode::from(MISSING)) };
    let schema = topic.schema();
    // Publishers do not wait for a subscriber that drops its oldest messages.
    let options =
        SubscriberOptions::new().overflow(Overflow::DropOldest).history(arguments.history).name("echo");
    let subscriber = connection.subscriber_of_any(&arguments.topic, &schema, options);
    let mut subscriber = subscriber.map_err(|error| error.to_string())?;
    log::say(&format!("subscribed to {}", arguments.topic));
    let decoder = Decoder::new(schema.name());
    let clock = Clock::new();
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let (mut left, mut lost) = (arguments.count, 0_u64);
    while left != Some(0) {
        let line = match subscriber.blocking_recv_ref(None) {
            Ok(message) if arguments.json => as_json(&arguments.topic, &message, &decoder, &clock),
            Ok(message) => as_text(&message, &decoder, &clock, limit),
            Err(RecvError::Lost(count)) => {
                lost = lost.saturating_add(count);
                log::say(&format!("lost {count} messages, {lost} in total"));
                continue;
            }
            Err(RecvError::Ended) => {
                log::say("the publishers have left");
                return Ok(ExitCode::SUCCESS);
            }
            Err(RecvError::Corrupt) => {
                log::say(&RecvError::Corrupt.to_string());
                continue;
            }
            Err(error) => return Err(error.to_string()),
        };
        if !print(&line)? {
            return Ok(ExitCode::SUCCESS);
        }
        left = left.map(|left| left - 1);
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(message: &Message<'_, Bytes>, decoder: &Decoder, clock: &Clock, limit: usize) -> String {
    let bytes = message.view();
    format!(
        "{} publisher {} #{}, {} bytes: {}\n",
        clock.text(message.time()),
        message.publisher(),
        message.sequence(),
        bytes.len(),
        decoder.text(bytes, limit)
    )
}

fn as_json(topic: &str, message: &Message<'_, Bytes>, decoder: &Decoder, clock: &Clock) -> String {
    let bytes = message.view();
    let line = json!({
        "topic": topic,
        "publisher": message.publisher().get(),
        "sequence": message.sequence().get(),
        "time": clock.nanos(message.time()),
        "length": bytes.len(),
        "value": decoder.json(bytes),
    });
    printable_json(&line.to_string()) + "\n"
}

/// Converts the time of messages, which is the system's monotonic clock, to the time of day.
struct Clock {
    /// Nanoseconds from the start of the monotonic clock to that of the UNIX epoch, reversed.
    offset: u64,
}

impl Clock {
    fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_epoch = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Self { offset: since_epoch.saturating_sub(Timestamp::now().as_nanos()) }
    }

    /// Nanoseconds since the UNIX epoch, if the message has a time.
    fn nanos(&self, time: Timestamp) -> Option<u64> {
        (time != Timestamp::NONE).then(|| self.offset.saturating_add(time.as_nanos()))
    }

    /// Time of day in UTC.
    fn text(&self, time: Timestamp) -> String {
        let Some(nanos) = self.nanos(time) else { return "-".to_owned() };
        let (seconds, micros) = (nanos / 1_000_000_000, nanos % 1_000_000_000 / 1_000);
        let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
        format!("{hours:02}:{minutes:02}:{:02}.{micros:06}Z", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_time_of_day_and_messages_without_one_as_a_dash() {
        let clock = Clock { offset: 86_400_000_000_000 };
        let time = Timestamp::from_nanos(((13 * 60 + 5) * 60 + 7) * 1_000_000_000 + 1_500);
        assert_eq!(clock.text(time), "13:05:07.000001Z");
        assert_eq!(clock.nanos(time), Some(86_400_000_000_000 + time.as_nanos()));
        assert_eq!((clock.text(Timestamp::NONE), clock.nanos(Timestamp::NONE)), ("-".to_owned(), None));
    }
}
