//! Memory blocks, and how they travel from one publisher to many subscribers without a copy.
pub mod payload;
pub mod pod;
pub mod schema;
pub mod units;

pub use payload::{BLOCK_ALIGNMENT, BuildError, Bytes, InvalidPayload, Payload, WriteFrom};
pub use pod::{Pod, PodType};
pub use schema::{Schema, fingerprint_of};
pub use units::{PublisherId, Sequence, Timestamp};
