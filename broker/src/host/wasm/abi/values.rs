//! The values of the WIT package (`wit/`) as they cross the boundary, to components and to core modules (see `link`).

use wasmtime::component::{ComponentType, Lift, Lower, flags};
use wasmtime::{ValRaw, ValType};

use super::canonical::{Flat, Layout, Place};
use super::link::{Argument, Host, Outcome, Value};
use crate::host::wasm::memory::window::{Area, WindowError};
use crate::host::wasm::state::GuestState;

/// Names under which guests import what the host provides.
pub(crate) const TYPES: &str = "blockcast:blocks/types@0.1.0";
pub(crate) const TOPICS: &str = "blockcast:blocks/topics@0.1.0";
pub(crate) const BLOCKS: &str = "blockcast:blocks/memory-blocks@0.1.0";
pub(crate) const SESSION: &str = "blockcast:blocks/session@0.1.0";

/// `types.memory-area`
#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
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

impl From<Area> for MemoryArea {
    fn from(area: Area) -> Self {
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
            WindowError::OutOfBounds | WindowError::Overlap | WindowError::NotDonated => Self::OutOfBounds,
            WindowError::Unaligned => Self::WrongSize,
            WindowError::Budget | WindowError::TooMany | WindowError::Mappings(_) => Self::Limit,
            WindowError::NoRoom => Self::NoStorage,
            WindowError::InUse => Self::Busy,
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

impl Overflow {
    fn of(flat: &mut Flat<'_>) -> wasmtime::Result<Self> {
        Ok(match flat.case(3)? {
            0 => Self::Block,
            1 => Self::DropOldest,
            _ => Self::DropNewest,
        })
    }
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
#[repr(C)]
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
#[repr(C)]
pub(crate) struct PublisherStats {
    pub(crate) published: u64,
    pub(crate) bytes: u64,
    pub(crate) copied: u64,
    pub(crate) exhausted: u64,
    #[component(name = "free-blocks")]
    pub(crate) free_blocks: u32,
}

flags! {
    Access {
        #[component(name = "write")]
        const WRITE;
        #[component(name = "shared")]
        const SHARED;
    }
}

impl Access {
    /// The flags of these bits; others are ignored, as the canonical ABI says.
    fn of(bits: u32) -> Self {
        let flag = |bit: u32, flag: Self| if bits & bit == 0 { Self::empty() } else { flag };
        flag(1, Self::WRITE) | flag(2, Self::SHARED)
    }
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

/// Says how an [`Argument`] is flattened that the engine lifts to the same type.
macro_rules! arguments {
    ($($type:ty, [$($core:ident),*], $flat:ident => $read:expr;)*) => {$(
        impl Argument for $type {
            type Lifted = Self;
            const FLAT: &'static [ValType] = &[$(ValType::$core),*];

            #[inline]
            fn lift(lifted: Self, _host: &Host<'_>) -> wasmtime::Result<Self> {
                Ok(lifted)
            }

            #[inline]
            fn read($flat: &mut Flat<'_>, _state: &GuestState) -> wasmtime::Result<Self> {
                Ok($read)
            }
        }
    )*};
}

arguments! {
    u32, [I32], flat => flat.u32();
    u64, [I64], flat => flat.u64();
    MemoryArea, [I32, I32], flat => flat.area().into();
    Overflow, [I32], flat => Self::of(flat)?;
    Access, [I32], flat => Self::of(flat.u32());
    Level, [I32], flat => match flat.case(5)? {
        0 => Self::Error,
        1 => Self::Warn,
        2 => Self::Info,
        3 => Self::Debug,
        _ => Self::Trace,
    };
    SubscriptionOptions, [I32, I32, I32], flat => Self {
        overflow: Overflow::of(flat)?,
        history: flat.u32(),
        depth: flat.u32(),
    };
    PublisherOptions, [I32, I32, I32], flat => Self {
        block_size: flat.u32(),
        blocks: flat.u32(),
        history: flat.u32(),
    };
}

/// Says which core value is a whole [`Outcome`].
macro_rules! scalars {
    ($($type:ty, $core:ident, $value:ident => $raw:expr;)*) => {$(
        impl Outcome for $type {
            type Lowered = (Self,);
            const FLAT: &'static [ValType] = &[ValType::$core];

            #[inline]
            fn lower(self) -> (Self,) {
                (self,)
            }

            #[inline]
            fn give(self, place: Place<'_>, _state: &mut GuestState) -> wasmtime::Result<()> {
                let $value = self;
                place.value($raw)
            }
        }
    )*};
}

scalars! {
    u32, I32, value => ValRaw::u32(value);
    u64, I64, value => ValRaw::u64(value);
    bool, I32, value => ValRaw::u32(value.into());
    WakeReasons, I32, value => ValRaw::u32(value.as_array()[0]);
}

impl Outcome for () {
    type Lowered = ();

    fn lower(self) {}

    fn give(self, _place: Place<'_>, _state: &mut GuestState) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// Says how a [`Value`] lies in memory that the engine lowers from the same type.
macro_rules! values {
    ($($type:ty, $layout:expr, $value:ident => $bytes:expr;)*) => {$(
        impl Value for $type {
            type Lowered = Self;
            const LAYOUT: Layout = $layout;

            fn lower(self) -> Self {
                self
            }

            #[inline]
            fn store(self, to: &mut [u8], _state: &mut GuestState) -> wasmtime::Result<()> {
                let $value = self;
                to.copy_from_slice(&$bytes);
                Ok(())
            }
        }
    )*};
}

values! {
    (), Layout::UNIT, _value => [];
    u32, Layout::of::<u32>(), value => value.to_le_bytes();
    u64, Layout::of::<u64>(), value => value.to_le_bytes();
    MemoryArea, Layout { size: 8, align: 4 }, area =>
        (u64::from(area.size) << 32 | u64::from(area.address)).to_le_bytes();
}

/// Says in which order the numbers of a record lie in memory, which is an [`Outcome`] of its own.
macro_rules! records {
    ($($type:ty { $($field:ident: $number:ty),* })*) => {$(
        impl Outcome for $type {
            type Lowered = (Self,);
            const AREA: Option<Layout> = Some(Layout::of::<Self>());

            fn lower(self) -> (Self,) {
                (self,)
            }

            fn give(self, place: Place<'_>, _state: &mut GuestState) -> wasmtime::Result<()> {
                place.fill(Layout::of::<Self>(), |to| {
                    $(
                        let at = std::mem::offset_of!(Self, $field);
                        to[at..at + size_of::<$number>()].copy_from_slice(&self.$field.to_le_bytes());
                    )*
                    Ok(())
                })
            }
        }
    )*};
}

records! {
    SubscriptionStats { received: u64, lost: u64, attached: u32, held: u32, publishers: u32 }
    PublisherStats { published: u64, bytes: u64, copied: u64, exhausted: u64, free_blocks: u32 }
}

const _: () = assert!(size_of::<Record>() == 32 && align_of::<Record>() == 8);
const _: () = assert!(cfg!(target_endian = "little"), "records are little-endian and written as they are");
