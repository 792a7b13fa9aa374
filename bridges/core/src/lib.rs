//! What a bridge between brokers needs besides the system that carries its messages: how topics, schemas and
//! message numbers travel, and what follows from the numbers.
//!
//! The file `bridges/SPEC.md` describes the bytes for other implementations. Nothing here does
//! input or output.
//!
//! ```
//! use blockcast_bridge_core::{Arrival, Attachment, Origin, Streams, key};
//!
//! assert_eq!(key::of_topic("robot", "camera/#1")?, "robot/camera/%231");
//!
//! let attachment = Attachment::message(Origin::new(1), 7, 40).fingerprint(0x1234);
//! let received = Attachment::decode(&attachment.encode())?;
//! assert_eq!(received, attachment);
//!
//! let mut streams = Streams::new(100);
//! assert_eq!(streams.arrive(&received), Arrival::Next { missing: 0, repeated: 0 });
//! let later = Attachment::message(Origin::new(1), 7, 43).fingerprint(0x1234);
//! assert_eq!(streams.arrive(&later), Arrival::Next { missing: 2, repeated: 0 });
//! assert_eq!(streams.arrive(&later), Arrival::Old);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod attachment;
pub mod batch;
pub mod echo;
pub mod key;
pub mod rules;
pub mod streams;
pub mod token;

pub use attachment::{Attachment, AttachmentError, Origin};
pub use batch::{BatchError, Packing, Unpacking};
pub use key::KeyError;
pub use rules::{Direction, Pattern, Rule, RuleError, Rules};
pub use streams::{Arrival, Streams};
pub use token::{Role, Token, TokenError};

/// The start of an encoding that names the schema of a message.
const ENCODING: &str = "application/vnd.blockcast;";
/// The same, for a batch.
const BATCH_ENCODING: &str = "application/vnd.blockcast.batch;";

/// The encoding of messages with this schema: `application/vnd.blockcast;` and the schema's name.
#[must_use]
pub fn encoding_of(schema: &str) -> String {
    format!("{ENCODING}{schema}")
}

/// The encoding of [batches](batch) of messages with this schema, which differs from that of single messages.
#[must_use]
pub fn encoding_of_batches(schema: &str) -> String {
    format!("{BATCH_ENCODING}{schema}")
}

/// The name of the schema that an encoding of single messages states, if it states one.
#[must_use]
pub fn schema_in(encoding: &str) -> Option<&str> {
    encoding.strip_prefix(ENCODING)
}
