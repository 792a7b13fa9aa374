//! [`Sender`]: zenoh's end of an outgoing topic.

use std::time::Duration;

use blockcast_bridge_core::{Attachment, encoding_of, encoding_of_batches};
use zenoh::Wait;
use zenoh::bytes::{Encoding, ZBytes};
use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::sample::Locality;
use zenoh_ext::{AdvancedPublisher, AdvancedPublisherBuilderExt as _, CacheConfig, MissDetectionConfig};

use crate::bridge::Context;
use crate::error::BridgeError;

/// How often the cache tells what it has sent last.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Sends the messages of a topic.
pub(crate) struct Sender {
    pub(crate) key: String,
    pub(crate) encoding: Encoding,
    /// Of several messages in one sample.
    batches: Encoding,
    messages: Messages,
    /// Tells of publishers that have left, without a cache. Waits for zenoh, since nothing that comes later
    /// would show that an end was lost.
    ends: Publisher<'static>,
}

enum Messages {
    Plain(Publisher<'static>),
    /// Keeps messages for those who missed some.
    Caching(AdvancedPublisher<'static>),
}

impl Sender {
    /// `key`: of the topic, whose schema has this name.
    pub(crate) fn declare(context: &Context, key: &str, schema: &str) -> Result<Self, BridgeError> {
        let failed = |error: zenoh::Error| BridgeError::zenoh(format!("declare a publisher of {key}"), error);
        let congestion = match context.options.back_pressure {
            true => CongestionControl::Block,
            false => CongestionControl::Drop,
        };
        let (encoding, batches) =
            (Encoding::from(encoding_of(schema)), Encoding::from(encoding_of_batches(schema)));
        let builder = context
            .session
            .declare_publisher(key.to_owned())
            .encoding(encoding.clone())
            .allowed_destination(Locality::Remote)
            .congestion_control(congestion);
        let ends = context
            .session
            .declare_publisher(key.to_owned())
            .encoding(encoding.clone())
            .allowed_destination(Locality::Remote)
            .congestion_control(CongestionControl::Block);
        let (key, ends) = (key.to_owned(), ends.wait().map_err(failed)?);
        if context.options.cache == 0 {
            let messages = builder.wait().map(Messages::Plain).map_err(failed)?;
            return Ok(Self { key, encoding, batches, messages, ends });
        }
        let builder = builder
            .cache(CacheConfig::default().max_samples(context.options.cache))
            .sample_miss_detection(MissDetectionConfig::default().sporadic_heartbeat(HEARTBEAT))
            .publisher_detection();
        let messages = builder.wait().map(Messages::Caching).map_err(failed)?;
        Ok(Self { key, encoding, batches, messages, ends })
    }

    /// Calls `tell` whenever zenoh's first subscriber comes, and when the last one leaves.
    pub(crate) fn watch(&self, tell: impl Fn(bool) + Send + Sync + 'static) -> Result<bool, BridgeError> {
        let failed = |error: zenoh::Error| BridgeError::zenoh("look for subscribers", error);
        let tell = move |status: zenoh::matching::MatchingStatus| tell(status.matching());
        let (listening, status) = match &self.messages {
            Messages::Plain(publisher) => (
                publisher.matching_listener().callback(tell).background().wait(),
                publisher.matching_status().wait(),
            ),
            Messages::Caching(publisher) => (
                publisher.matching_listener().callback(tell).background().wait(),
                publisher.matching_status().wait(),
            ),
        };
        listening.map_err(failed)?;
        status.map(|status| status.matching()).map_err(failed)
    }

    /// Tells of the end of a publisher.
    pub(crate) fn end(&self, attachment: &Attachment) -> zenoh::Result<()> {
        match &self.messages {
            // Both go through one queue of zenoh.
            Messages::Plain(_) => self.ends.put(ZBytes::new()).attachment(attachment.encode()).wait(),
            // Otherwise it would overtake messages that other bridges are still asking for.
            Messages::Caching(_) => self.put(ZBytes::new(), attachment),
        }
    }

    /// Sends a message, or a batch of them.
    pub(crate) fn put(&self, payload: ZBytes, attachment: &Attachment) -> zenoh::Result<()> {
        // Of several messages. That of one is the publisher's.
        let batches = (attachment.messages > 1).then(|| self.batches.clone());
        let attachment = attachment.encode();
        match &self.messages {
            Messages::Plain(publisher) => {
                let put = publisher.put(payload).attachment(attachment);
                batches.into_iter().fold(put, |put, batches| put.encoding(batches)).wait()
            }
            Messages::Caching(publisher) => {
                let put = publisher.put(payload).attachment(attachment);
                batches.into_iter().fold(put, |put, batches| put.encoding(batches)).wait()
            }
        }
    }
}
