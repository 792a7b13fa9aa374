//! The common part of opening a subscription and opening a publisher.

use blockcast_blocks::Schema;
use blockcast_blocks::abi::Error;

use crate::host::wasm::abi::text::Text;
use crate::host::wasm::state::GuestState;
use crate::hosting::topic_access::Refusal;

/// Longest name of a topic or a schema, in bytes.
const MAX_NAME: usize = 255;

/// The topic and schema of an `open`, with their lengths checked.
pub(super) fn topic_and_schema(
    topic: Option<&Text>,
    schema: Option<&Text>,
    fingerprint: u64,
) -> Result<(String, Schema), Error> {
    let (Some(topic), Some(schema)) = (topic, schema) else { return Err(Error::OutOfBounds) };
    match (topic.whole(), schema.whole()) {
        (Some(topic), Some(schema))
            if !topic.is_empty() && topic.len() <= MAX_NAME && schema.len() <= MAX_NAME =>
        {
            Ok((topic.to_owned(), Schema::new(schema.to_owned().into(), fingerprint)))
        }
        _ => Err(Error::TooLarge),
    }
}

impl GuestState {
    /// The guest's error for a refusal.
    pub(super) fn refused(&self, refusal: Refusal) -> Error {
        refusal.limit().map_or_else(|| refusal.into(), |limit| self.refuse(limit))
    }
}
