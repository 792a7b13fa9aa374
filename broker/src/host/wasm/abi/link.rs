//! Defines each host function once, for components and core modules alike.
//!
//! ```text
//!                         host: fn(&mut data, parameters) -> outcome
//!                                 │ defined once, through Linkage
//!              ┌──────────────────┴──────────────────┐
//!   ComponentLinkage (`component`)          ModuleLinkage (`module`)
//!   the engine lifts and lowers,            we do, by the canonical ABI, from
//!   and checks handles                      core values, with handles of our own
//! ```
//!
//! A function takes a tuple of [`Argument`]s and returns an [`Outcome`]. Each type of the interface defines
//! its form for components and its form for core modules in one place, most of them in `values`.

use std::marker::PhantomData;

use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower, Resource};
use wasmtime::{ValRaw, ValType};

use super::canonical::{Flat, Layout, Place};
use super::handles::HostResource;
use super::store::{Host, StoreData};

/// Receives the definitions of host functions.
pub(crate) trait Linkage {
    /// The data of the guests' stores.
    type Data: StoreData;

    /// Defines a resource type. `drop` is called with the number of a value whose handle the guest drops.
    fn resource<T: HostResource>(
        &mut self,
        interface: &'static str,
        drop: fn(&mut Self::Data, u32) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()>;

    /// Defines a function. It is not called for a guest that has written to read-only memory.
    fn function<P: Parameters, R: Outcome>(
        &mut self,
        interface: &'static str,
        name: &'static str,
        call: impl Fn(&mut Self::Data, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>;
}

/// A guest's handle on a `T`, checked: the host gave it out, and the guest has not dropped it.
#[derive(Debug)]
pub(crate) struct Handle<T> {
    /// The number of the `T` in the guest's state.
    pub(crate) rep: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    /// A handle to give to the guest.
    pub(crate) const fn new(rep: u32) -> Self {
        Self { rep, kind: PhantomData }
    }
}

/// A parameter of a host function.
pub(crate) trait Argument: Sized + 'static {
    /// The form in which the engine lifts it from a component.
    type Lifted: ComponentType + Lift + 'static;

    /// Its core values.
    const FLAT: &'static [ValType];

    /// Converts a value that a component passed.
    fn lift<S: StoreData>(lifted: Self::Lifted, host: &Host<'_, S>) -> wasmtime::Result<Self>;

    /// Reads a value that a core module passed.
    fn read<S: StoreData>(flat: &mut Flat<'_>, state: &S) -> wasmtime::Result<Self>;
}

/// The parameters of a host function: a tuple of [`Argument`]s.
pub(crate) trait Parameters: Sized + 'static {
    /// The form in which the engine lifts them from a component.
    type Lifted: ComponentNamedList + Lift + 'static;

    /// Their core values.
    fn flat() -> Vec<ValType>;

    /// Converts a value that a component passed.
    fn lift<S: StoreData>(lifted: Self::Lifted, host: &Host<'_, S>) -> wasmtime::Result<Self>;

    /// Reads a value that a core module passed.
    fn read<S: StoreData>(flat: &mut Flat<'_>, state: &S) -> wasmtime::Result<Self>;
}

macro_rules! parameters {
    ($($argument:ident $lifted:ident),*) => {
        impl<$($argument: Argument),*> Parameters for ($($argument,)*) {
            type Lifted = ($($argument::Lifted,)*);

            fn flat() -> Vec<ValType> {
                [$($argument::FLAT),*].concat()
            }

            #[inline]
            fn lift<S: StoreData>(($($lifted,)*): Self::Lifted, _host: &Host<'_, S>) -> wasmtime::Result<Self> {
                Ok(($($argument::lift($lifted, _host)?,)*))
            }

            #[inline]
            fn read<S: StoreData>(_flat: &mut Flat<'_>, _state: &S) -> wasmtime::Result<Self> {
                Ok(($($argument::read(_flat, _state)?,)*))
            }
        }
    };
}

parameters!(A a);
parameters!(A a, B b);
parameters!(A a, B b, C c);
parameters!(A a, B b, C c, D d);

impl Parameters for () {
    type Lifted = ();

    fn flat() -> Vec<ValType> {
        Vec::new()
    }

    fn lift<S: StoreData>((): (), _host: &Host<'_, S>) -> wasmtime::Result<Self> {
        Ok(())
    }

    fn read<S: StoreData>(_flat: &mut Flat<'_>, _state: &S) -> wasmtime::Result<Self> {
        Ok(())
    }
}

/// The result of a host function.
pub(crate) trait Outcome: 'static {
    /// The form in which the engine lowers it to a component.
    type Lowered: ComponentNamedList + Lower + 'static;

    /// Its core value, if it is a single one.
    const FLAT: &'static [ValType] = &[];

    /// The layout of its return area, if it needs one.
    const AREA: Option<Layout> = None;

    /// Converts it for a component.
    fn lower(self) -> Self::Lowered;

    /// Passes it to a core module.
    fn give<S: StoreData>(self, place: Place<'_>, state: &mut S) -> wasmtime::Result<()>;
}

/// A value that can be part of an [`Outcome`].
pub(crate) trait Value: 'static {
    /// The form in which the engine lowers it to a component.
    type Lowered: ComponentType + Lower + 'static;

    /// Its layout in the memory of a core module.
    const LAYOUT: Layout;

    /// Converts it for a component.
    fn lower(self) -> Self::Lowered;

    /// Writes it for a core module. `to` has the size of the layout and is zeroed.
    fn store<S: StoreData>(self, to: &mut [u8], state: &mut S) -> wasmtime::Result<()>;
}

impl<T: HostResource> Argument for Handle<T> {
    type Lifted = Resource<T>;
    const FLAT: &'static [ValType] = &[ValType::I32];

    #[inline]
    fn lift<S: StoreData>(lifted: Resource<T>, _host: &Host<'_, S>) -> wasmtime::Result<Self> {
        Ok(Self::new(lifted.rep()))
    }

    #[inline]
    fn read<S: StoreData>(flat: &mut Flat<'_>, state: &S) -> wasmtime::Result<Self> {
        Ok(Self::new(state.core().handles.rep::<T>(flat.u32())?))
    }
}

impl<T: HostResource> Value for Handle<T> {
    type Lowered = Resource<T>;
    const LAYOUT: Layout = Layout::of::<u32>();

    fn lower(self) -> Resource<T> {
        Resource::new_own(self.rep)
    }

    fn store<S: StoreData>(self, to: &mut [u8], state: &mut S) -> wasmtime::Result<()> {
        to.copy_from_slice(&state.core_mut().handles.insert::<T>(self.rep)?.to_le_bytes());
        Ok(())
    }
}

/// The result of functions that cannot fail.
impl<T: HostResource> Outcome for Handle<T> {
    type Lowered = (Resource<T>,);
    const FLAT: &'static [ValType] = &[ValType::I32];

    fn lower(self) -> (Resource<T>,) {
        (Resource::new_own(self.rep),)
    }

    fn give<S: StoreData>(self, place: Place<'_>, state: &mut S) -> wasmtime::Result<()> {
        place.value(ValRaw::u32(state.core_mut().handles.insert::<T>(self.rep)?))
    }
}
