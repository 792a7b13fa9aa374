//! The values of the WIT package (`wit/`) as they cross the boundary.

use wasmtime::component::{ComponentType, Lift, Lower, flags};

use super::window::{Area, WindowError};

/// Names under which guests import what the host provides.
pub(crate) const TYPES: &str = "blockcast:blocks/types@0.1.0";
pub(crate) const TOPICS: &str = "blockcast:blocks/topics@0.1.0";
pub(crate) const SESSION: &str = "blockcast:blocks/session@0.1.0";

/// `types.memory-area`
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct MemoryArea {
    address: u32,
    size: u32,
}

impl From<MemoryArea> for Area {
    fn from(area: MemoryArea) -> Self {
        Self { address: area.address, size: area.size }
    }
}

/// `types.error`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Error {
    #[component(name = "no-storage")]
    NoStorage,
    #[component(name = "busy")]
    #[expect(dead_code, reason = "reserved for the memory-block interface")]
    Busy,
    #[component(name = "wrong-size")]
    WrongSize,
    #[component(name = "internal")]
    Internal,
    #[component(name = "denied")]
    Denied,
    #[component(name = "schema-mismatch")]
    SchemaMismatch,
    #[component(name = "closed")]
    Closed,
    #[component(name = "exhausted")]
    Exhausted,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "invalid-payload")]
    InvalidPayload,
    #[component(name = "invalid-handle")]
    InvalidHandle,
    #[component(name = "out-of-bounds")]
    OutOfBounds,
    #[component(name = "limit")]
    Limit,
}

impl From<WindowError> for Error {
    fn from(error: WindowError) -> Self {
        match error {
            WindowError::OutOfBounds | WindowError::Overlap => Self::OutOfBounds,
            WindowError::Unaligned => Self::WrongSize,
            WindowError::Budget | WindowError::TooMany => Self::Limit,
            WindowError::NoRoom => Self::NoStorage,
            WindowError::System(_) => Self::Internal,
        }
    }
}

/// `types.overflow`
#[allow(dead_code, reason = "guests construct the variants")]
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Overflow {
    #[component(name = "block")]
    Block,
    #[component(name = "drop-oldest")]
    DropOldest,
    #[component(name = "drop-newest")]
    DropNewest,
}

/// `types.subscription-options`
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct SubscriptionOptions {
    pub(crate) overflow: Overflow,
    pub(crate) history: u32,
    pub(crate) depth: u32,
}

/// `types.publisher-options`
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct PublisherOptions {
    #[component(name = "block-size")]
    pub(crate) block_size: u32,
    pub(crate) blocks: u32,
    pub(crate) history: u32,
}

/// `types.subscription-stats`
#[derive(Clone, Copy, Debug, Default, ComponentType, Lower)]
#[component(record)]
pub(crate) struct SubscriptionStats {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) attached: u32,
    pub(crate) held: u32,
    pub(crate) publishers: u32,
}

/// `types.publisher-stats`
#[derive(Clone, Copy, Debug, Default, ComponentType, Lower)]
#[component(record)]
pub(crate) struct PublisherStats {
    pub(crate) published: u64,
    pub(crate) bytes: u64,
    pub(crate) copied: u64,
    pub(crate) exhausted: u64,
    #[component(name = "free-blocks")]
    pub(crate) free_blocks: u32,
}

flags! {
    WakeReasons {
        #[component(name = "progress")]
        const PROGRESS;
        #[component(name = "timeout")]
        const TIMEOUT;
        #[component(name = "shutdown")]
        const SHUTDOWN;
    }
}

/// `session.level`: how important a line of a guest's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum Level {
    /// Something failed.
    #[component(name = "error")]
    Error,
    /// Something is suspicious.
    #[component(name = "warn")]
    Warn,
    /// Progress that a user wants to see.
    #[component(name = "info")]
    Info,
    /// For developers.
    #[component(name = "debug")]
    Debug,
    /// For developers, in great detail.
    #[component(name = "trace")]
    Trace,
}

/// One message as `subscription.poll` writes it into the guest's batch: 32 bytes, little-endian.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    pub(crate) address: u32,
    pub(crate) length: u32,
    pub(crate) publisher: u32,
    pub(crate) lost: u32,
}

const _: () = assert!(size_of::<Record>() == 32 && align_of::<Record>() == 8);
const _: () = assert!(cfg!(target_endian = "little"), "records are little-endian and written as they are");
