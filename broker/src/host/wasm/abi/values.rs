//! The values of the WIT package (`wit/`) as they cross the boundary, to components and to core modules (see
//! `link`).
//!
//! wasmtime lifts and lowers only types that derive its traits. So each value that all hosts share has a twin
//! here with the same cases or fields, which exists only while it crosses.

use blockcast_blocks::{ReaderOptions, abi};
use wasmtime::component::{ComponentType, Lift, Lower, flags};
use wasmtime::{ValRaw, ValType};

use super::canonical::{Flat, Layout, Place};
use super::link::{Argument, Outcome, Value};
use super::store::{Host, StoreData};
use crate::host::wasm::memory::area::Area;
use crate::hosting::storage;

/// Defines the twin of an enum of the WIT package, and the conversion between them.
macro_rules! twins {
    ($($(#[$meta:meta])* $name:ident from $shared:path { $($case:ident = $text:tt,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, ComponentType, Lower)]
        #[component(enum)]
        #[repr(u8)]
        pub(crate) enum $name {
            $(#[component(name = $text)] $case,)*
        }

        impl From<$shared> for $name {
            #[inline]
            fn from(shared: $shared) -> Self {
                match shared {
                    $(<$shared>::$case => Self::$case,)*
                }
            }
        }
    )*};
    ($($(#[$meta:meta])* $name:ident into $shared:path { $($case:ident = $text:tt,)* })*) => {$(
        $(#[$meta])*
        #[allow(dead_code, reason = "guests construct the variants")]
        #[derive(Clone, Copy, Debug, ComponentType, Lift)]
        #[component(enum)]
        #[repr(u8)]
        pub(crate) enum $name {
            $(#[component(name = $text)] $case,)*
        }

        impl $name {
            const CASES: &[$shared] = &[$(<$shared>::$case,)*];

            /// Reads the value that a core module passes as the number of its case.
            #[inline]
            fn read(flat: &mut Flat<'_>) -> wasmtime::Result<$shared> {
                Ok(Self::CASES[flat.case(Self::CASES.len() as u32)? as usize])
            }
        }

        impl From<$name> for $shared {
            #[inline]
            fn from(twin: $name) -> Self {
                match twin {
                    $($name::$case => Self::$case,)*
                }
            }
        }
    )*};
}

twins! {
    /// `types.error`
    Error from abi::Error {
        NoStorage = "no-storage",
        Busy = "busy",
        WrongSize = "wrong-size",
        Internal = "internal",
        Denied = "denied",
        SchemaMismatch = "schema-mismatch",
        Closed = "closed",
        Exhausted = "exhausted",
        TooLarge = "too-large",
        InvalidPayload = "invalid-payload",
        InvalidHandle = "invalid-handle",
        OutOfBounds = "out-of-bounds",
        Limit = "limit",
    }
}

twins! {
    /// `types.overflow`
    Overflow into blockcast_blocks::Overflow {
        Block = "block",
        DropOldest = "drop-oldest",
        DropNewest = "drop-newest",
    }

    /// `session.level`
    Level into abi::Level {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

/// `types.subscription-options`
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct SubscriptionOptions {
    overflow: Overflow,
    history: u32,
    depth: u32,
}

/// `types.publisher-options`
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct PublisherOptions {
    #[component(name = "block-size")]
    block_size: u32,
    blocks: u32,
    history: u32,
}

flags! {
    Access {
        #[component(name = "write")]
        const WRITE;
        #[component(name = "shared")]
        const SHARED;
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

/// Defines the core values of an [`Argument`] that the engine lifts to the same type.
macro_rules! arguments {
    ($($type:ty, [$($core:ident),*], $flat:ident => $read:expr;)*) => {$(
        impl Argument for $type {
            type Lifted = Self;
            const FLAT: &'static [ValType] = &[$(ValType::$core),*];

            #[inline]
            fn lift<S: StoreData>(lifted: Self, _host: &Host<'_, S>) -> wasmtime::Result<Self> {
                Ok(lifted)
            }

            #[inline]
            fn read<S: StoreData>($flat: &mut Flat<'_>, _state: &S) -> wasmtime::Result<Self> {
                Ok($read)
            }
        }
    )*};
}

arguments! {
    u32, [I32], flat => flat.u32();
    u64, [I64], flat => flat.u64();
    Area, [I32, I32], flat => flat.area();
}

impl Argument for ReaderOptions {
    type Lifted = SubscriptionOptions;
    const FLAT: &'static [ValType] = &[ValType::I32, ValType::I32, ValType::I32];

    fn lift<S: StoreData>(lifted: SubscriptionOptions, _host: &Host<'_, S>) -> wasmtime::Result<Self> {
        let SubscriptionOptions { overflow, history, depth } = lifted;
        Ok(reader_options(overflow.into(), history, depth))
    }

    fn read<S: StoreData>(flat: &mut Flat<'_>, _state: &S) -> wasmtime::Result<Self> {
        Ok(reader_options(Overflow::read(flat)?, flat.u32(), flat.u32()))
    }
}

fn reader_options(overflow: blockcast_blocks::Overflow, history: u32, depth: u32) -> ReaderOptions {
    let depth = (depth != 0).then_some(depth);
    // A guest's share of the publisher's blocks limits what it keeps, instead of a number of samples.
    ReaderOptions {
        overflow,
        depth,
        history: u64::from(history),
        samples: Some(u32::MAX),
        maps: true,
        skip_relays: false,
    }
}

impl Argument for blockcast_publisher::PublisherOptions {
    type Lifted = PublisherOptions;
    const FLAT: &'static [ValType] = &[ValType::I32, ValType::I32, ValType::I32];

    fn lift<S: StoreData>(lifted: PublisherOptions, _host: &Host<'_, S>) -> wasmtime::Result<Self> {
        let PublisherOptions { block_size, blocks, history } = lifted;
        Ok(Self::new().block_size(block_size as usize).blocks(blocks).history(history))
    }

    fn read<S: StoreData>(flat: &mut Flat<'_>, _state: &S) -> wasmtime::Result<Self> {
        let (block_size, blocks, history) = (flat.u32(), flat.u32(), flat.u32());
        Ok(Self::new().block_size(block_size as usize).blocks(blocks).history(history))
    }
}

impl Argument for abi::Level {
    type Lifted = Level;
    const FLAT: &'static [ValType] = &[ValType::I32];

    fn lift<S: StoreData>(lifted: Level, _host: &Host<'_, S>) -> wasmtime::Result<Self> {
        Ok(lifted.into())
    }

    fn read<S: StoreData>(flat: &mut Flat<'_>, _state: &S) -> wasmtime::Result<Self> {
        Level::read(flat)
    }
}

impl Argument for storage::Access {
    type Lifted = Access;
    const FLAT: &'static [ValType] = &[ValType::I32];

    fn lift<S: StoreData>(lifted: Access, _host: &Host<'_, S>) -> wasmtime::Result<Self> {
        Ok(Self::from_bits(lifted.as_array()[0]))
    }

    fn read<S: StoreData>(flat: &mut Flat<'_>, _state: &S) -> wasmtime::Result<Self> {
        Ok(Self::from_bits(flat.u32()))
    }
}

/// Defines the core value of an [`Outcome`] that consists of a single one.
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
            fn give<S: StoreData>(self, place: Place<'_>, _state: &mut S) -> wasmtime::Result<()> {
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
}

impl Outcome for () {
    type Lowered = ();

    fn lower(self) {}

    fn give<S: StoreData>(self, _place: Place<'_>, _state: &mut S) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// Defines the layout in memory of a [`Value`] that the engine lowers from the same type.
macro_rules! values {
    ($($type:ty, $layout:expr, $value:ident => $bytes:expr;)*) => {$(
        impl Value for $type {
            type Lowered = Self;
            const LAYOUT: Layout = $layout;

            fn lower(self) -> Self {
                self
            }

            #[inline]
            fn store<S: StoreData>(self, to: &mut [u8], _state: &mut S) -> wasmtime::Result<()> {
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
    Area, Layout { size: 8, align: 4 }, area =>
        (u64::from(area.size) << 32 | u64::from(area.address)).to_le_bytes();
}

/// Defines the twin of a record of numbers. In the memory of a core module, it has the layout of the shared
/// type, which is `repr(C)`.
macro_rules! records {
    ($($(#[$meta:meta])* $name:ident { $($field:ident = $text:tt: $number:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, ComponentType, Lower)]
        #[component(record)]
        pub(crate) struct $name {
            $(#[component(name = $text)] $field: $number,)*
        }

        impl Outcome for abi::$name {
            type Lowered = ($name,);
            const AREA: Option<Layout> = Some(Layout::of::<Self>());

            fn lower(self) -> ($name,) {
                let Self { $($field,)* } = self;
                ($name { $($field,)* },)
            }

            fn give<S: StoreData>(self, place: Place<'_>, _state: &mut S) -> wasmtime::Result<()> {
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
    /// `types.subscription-stats`
    SubscriptionStats {
        received = "received": u64,
        lost = "lost": u64,
        attached = "attached": u32,
        held = "held": u32,
        publishers = "publishers": u32,
    }

    /// `types.publisher-stats`
    PublisherStats {
        published = "published": u64,
        bytes = "bytes": u64,
        copied = "copied": u64,
        exhausted = "exhausted": u64,
        free_blocks = "free-blocks": u32,
    }
}

impl<T: Value> Outcome for Result<T, abi::Error> {
    type Lowered = (Result<T::Lowered, Error>,);
    const AREA: Option<Layout> = Some(Layout::result(T::LAYOUT));

    fn lower(self) -> Self::Lowered {
        (self.map(T::lower).map_err(Error::from),)
    }

    #[inline]
    fn give<S: StoreData>(self, place: Place<'_>, state: &mut S) -> wasmtime::Result<()> {
        place.fill(Layout::result(T::LAYOUT), |to| {
            let (case, payload) = to.split_at_mut(T::LAYOUT.align);
            match self {
                Ok(value) => value.store(&mut payload[..T::LAYOUT.size], state),
                Err(error) => {
                    (case[0], payload[0]) = (1, error as u8);
                    Ok(())
                }
            }
        })
    }
}
