//! [`Outgoing`]: a topic whose messages leave this broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use blockcast_blocks::Overflow;
use blockcast_bridge_core::{Role, Token};
use blockcast_subscriber::SubscriberOptions;
use zenoh::liveliness::LivelinessToken;

use crate::bridge::Context;
use crate::error::BridgeError;
use crate::outlet::{Outlet, SendingThread};
use crate::packer::Packer;
use crate::seldom::Seldom;
use crate::sender::Sender;
use crate::sending::{FINISH, LEAVE, SEND, Sending};
use crate::source::LocalTopic;
use crate::spent::Spent;

/// A topic whose local publishers are announced to other bridges, and sent while zenoh has a subscriber.
pub(crate) struct Outgoing {
    topic: LocalTopic,
    sender: Arc<Sender>,
    _token: LivelinessToken,
    is_wanted: Arc<AtomicBool>,
    /// Since when zenoh has had no subscriber.
    unwanted: Option<Instant>,
    sending: Option<Sending>,
    /// Attempts to start it have failed.
    failures: Seldom,
    /// It has ended by itself.
    ends: Seldom,
}

impl Outgoing {
    /// Announces a topic.
    pub(crate) fn new(context: &Context, topic: &LocalTopic, key: &str) -> Result<Self, BridgeError> {
        let sender = Sender::declare(context, key, topic.schema.name())?;
        let is_wanted = Arc::new(AtomicBool::new(false));
        let (wanted, control) = (Arc::clone(&is_wanted), context.control.clone());
        let now = sender.watch(move |matching| {
            // Ordering: Relaxed; whoever reads it looks again.
            wanted.store(matching, Ordering::Relaxed);
            control.look();
        })?;
        is_wanted.fetch_or(now, Ordering::Relaxed);
        let token = context.declare_token(&Token {
            origin: context.origin,
            role: Role::Publisher,
            fingerprint: topic.schema.fingerprint(),
            key: key.to_owned(),
        })?;
        let sender = Arc::new(sender);
        Ok(Self {
            topic: topic.clone(),
            sender,
            _token: token,
            is_wanted,
            unwanted: None,
            sending: None,
            failures: Seldom::default(),
            ends: Seldom::default(),
        })
    }

    /// Whether it carries messages of this schema.
    pub(crate) fn is_of(&self, topic: &LocalTopic) -> bool {
        self.topic.schema == topic.schema
    }

    /// Whether a thread sends.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Starts to send, or ends. Returns `false` once there is nothing left to do.
    pub(crate) fn update(&mut self, context: &Context, has_publishers: bool) -> bool {
        if let Some(finished) = self.sending.take_if(|sending| sending.is_finished()) {
            report(finished, &self.topic.name, &mut self.ends);
        }
        let is_wanted = self.is_wanted.load(Ordering::Relaxed);
        self.unwanted = if is_wanted { None } else { self.unwanted.or_else(|| Some(Instant::now())) };
        let is_deserted = self.unwanted.is_some_and(|since| since.elapsed() >= context.options.linger);
        match &self.sending {
            None if is_wanted && has_publishers => self.start(context),
            None => {}
            Some(sending) => {
                let orders = match (is_deserted, has_publishers) {
                    (true, _) => LEAVE,
                    (false, false) => FINISH,
                    (false, true) => SEND,
                };
                sending.order(orders);
            }
        }
        has_publishers || self.sending.is_some()
    }

    /// The thread that sends, if there is one. Without it, nothing is sent.
    pub(crate) fn take_sending(&mut self) -> Option<Sending> {
        self.sending.take()
    }

    fn start(&mut self, context: &Context) {
        match self.try_start(context) {
            Ok(sending) => {
                tracing::debug!(topic = &*self.topic.name, "a topic is sent");
                self.sending = Some(sending);
            }
            Err(error) => self.failures.warn(&self.topic.name, "a topic cannot be sent", &error),
        }
    }

    fn try_start(&self, context: &Context) -> Result<Sending, String> {
        let options = &context.options;
        let overflow = if options.back_pressure { Overflow::Block } else { Overflow::DropOldest };
        let subscription =
            SubscriberOptions::new().overflow(overflow).history(u32::MAX).skip_relays(true).name("zenoh");
        let topic = &self.topic;
        let subscriber = context
            .source
            .subscriber(&topic.name, &topic.schema, subscription)
            .map_err(|error| error.to_string())?;
        let outlet = Outlet {
            sender: Arc::clone(&self.sender),
            copies: options.cache > 0,
            check: options.check,
            ends: options.ends,
            spent: Spent::new(options.back_pressure),
            origin: context.origin,
            fingerprint: topic.schema.fingerprint(),
            counters: Arc::clone(&context.counters),
            farewells: Arc::clone(&context.farewells),
            small: 0,
            known: BTreeMap::new(),
        };
        let packer = Packer::new(options.batch);
        let started = Sending::start("blockcast-out", |orders| {
            let thread = SendingThread { subscriber, orders, outlet, packer };
            move || thread.run()
        });
        started.map_err(|error| error.to_string())
    }
}

/// Tells why a thread has ended. It is started again, and may end again at once.
fn report(finished: Sending, topic: &str, ends: &mut Seldom) {
    if let Err(error) = finished.join() {
        ends.warn(topic, "a topic is not sent any more", &error);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use blockcast_subscriber::RecvError;

    use super::*;

    #[test]
    fn a_topic_that_fails_again_and_again_is_told_of_once() {
        let (mut reader, writer) = std::io::pipe().expect("descriptors are left");
        let output = tracing_subscriber::fmt().with_writer(Arc::new(writer)).finish();
        tracing::subscriber::with_default(output, || {
            let mut ends = Seldom::default();
            for _ in 0..3 {
                let sending = Sending::start("test", |_| || Err(RecvError::Refused("it is a test")));
                report(sending.expect("a thread"), "numbers", &mut ends);
            }
            // One that has ended as it was ordered to.
            report(Sending::start("test", |_| || Ok(())).expect("a thread"), "numbers", &mut ends);
        });
        let mut lines = String::new();
        reader.read_to_string(&mut lines).expect("it is text");
        assert_eq!(lines.matches("a topic is not sent any more").count(), 1, "{lines}");
        assert!(lines.contains("it is a test") && lines.contains("numbers"), "{lines}");
    }
}
