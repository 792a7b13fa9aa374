//! One definition of each host function, behind the imports of components and of core modules alike.
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
//! A function's parameters are a tuple of [`Argument`]s, what it returns is an [`Outcome`]. Each type of the interface says
//! once how it looks to a component and how to a core module; most of them in `values`.

use std::marker::PhantomData;

use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower, Resource};
use wasmtime::{ValRaw, ValType};

use super::canonical::{Flat, Layout, Place};
use super::handles::HostResource;
use super::store::{Host, StoreData};

/// Where host functions are defined.
pub(crate) trait Linkage {
    /// The data of the guests' stores.
    type Data: StoreData;

    /// Defines a resource type, and what happens when the guest drops one: `drop` is given its number in
    /// the state.
    fn resource<T: HostResource>(
        &mut self,
        interface: &'static str,
        drop: fn(&mut Self::Data, u32) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()>;

    /// Defines a function. It is not called for a guest that has written where it may only read.
    fn function<P: Parameters, R: Outcome>(
        &mut self,
        interface: &'static str,
        name: &'static str,
        call: impl Fn(&mut Self::Data, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>;
}

/// A handle of the guest on a `T`, checked: it was given out by the host and not dropped.
#[derive(Debug)]
pub(crate) struct Handle<T> {
    /// Number of the `T` in the guest's state.
    pub(crate) rep: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    /// To be given to the guest.
    pub(crate) const fn new(rep: u32) -> Self {
        Self { rep, kind: PhantomData }
    }
}

/// Something that a host function takes.
pub(crate) trait Argument: Sized + 'static {
    /// As the engine takes it from a component.
    type Lifted: ComponentType + Lift + 'static;

    /// The core values that stand for it.
    const FLAT: &'static [ValType];

    /// Of a component.
    fn lift<S: StoreData>(lifted: Self::Lifted, host: &Host<'_, S>) -> wasmtime::Result<Self>;

    /// Of a core module.
    fn read<S: StoreData>(flat: &mut Flat<'_>, state: &S) -> wasmtime::Result<Self>;
}

/// What a host function takes: a tuple of [`Argument`]s.
pub(crate) trait Parameters: Sized + 'static {
    /// As the engine takes them from a component.
    type Lifted: ComponentNamedList + Lift + 'static;

    /// The core values that stand for them.
    fn flat() -> Vec<ValType>;

    /// Of a component.
    fn lift<S: StoreData>(lifted: Self::Lifted, host: &Host<'_, S>) -> wasmtime::Result<Self>;

    /// Of a core module.
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

/// What a host function returns.
pub(crate) trait Outcome: 'static {
    /// As the engine gives it to a component.
    type Lowered: ComponentNamedList + Lower + 'static;

    /// The core value that stands for it, if it is one.
    const FLAT: &'static [ValType] = &[];

    /// The area in which the caller wants it otherwise.
    const AREA: Option<Layout> = None;

    /// For a component.
    fn lower(self) -> Self::Lowered;

    /// For a core module.
    fn give<S: StoreData>(self, place: Place<'_>, state: &mut S) -> wasmtime::Result<()>;
}

/// Something that can be a part of an [`Outcome`].
pub(crate) trait Value: 'static {
    /// As the engine gives it to a component.
    type Lowered: ComponentType + Lower + 'static;

    /// How it lies in the memory of a core module.
    const LAYOUT: Layout;

    /// For a component.
    fn lower(self) -> Self::Lowered;

    /// For a core module; `to` has the size of the layout and is zeroed.
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

/// For functions that cannot fail.
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
