//! Losses and changes in the control plane are `tracing` events.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use blockcast_blocks::{
    Bytes, ChannelConfig, Overflow, Payload, PublisherId, ReaderOptions, ReceiveError, Signal, channel,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Records events as `level message field=value ...`.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("writing to a string cannot fail");
    }
}

impl Subscriber for Notes {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().expect("no panic inside").push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn joins_leaves_losses_and_growth_are_events() {
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let mut config = ChannelConfig::new(PublisherId::new(7), Bytes::schema());
        (config.blocks, config.max_blocks, config.block_size) = (2, Some(4), 64);
        let mut writer = channel(config).expect("a channel");
        let options =
            ReaderOptions { overflow: Overflow::DropOldest, depth: Some(1), ..ReaderOptions::default() };
        let join = |options, name| {
            writer.channel().join(&Bytes::schema(), options, Signal::named(name)).expect("joins")
        };
        let mut slow = join(options, "slow");
        let patient = join(ReaderOptions::default(), "patient");
        for _ in 0..3 {
            writer.try_loan(1).expect("the pool grows").publish(1).expect("fits");
        }
        assert_eq!(slow.receive().expect_err("two were lost"), ReceiveError::Lost(2));
        drop((slow, patient));
    });
    let notes = notes.0.lock().expect("no panic inside");
    let expected = [
        "DEBUG subscriber joined publisher=p7 subscriber=\"slow\"",
        "DEBUG subscriber joined publisher=p7 subscriber=\"patient\"",
        "DEBUG pool grown publisher=p7 blocks=4",
        "DEBUG messages lost publisher=p7 subscriber=\"slow\" lost=2",
        "DEBUG subscriber left publisher=p7 subscriber=\"slow\" lost=2",
        "DEBUG subscriber left publisher=p7 subscriber=\"patient\" lost=0",
    ];
    assert_eq!(*notes, expected);
}
