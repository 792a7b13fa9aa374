//! One definition of each host function, behind the imports of components and of core modules alike.
//!
//! ```text
//!                         host: fn(&mut GuestState, parameters) -> outcome
//!                                 │ defined once, through Linkage
//!              ┌──────────────────┴──────────────────┐
//!   ComponentLinkage (here)                 ModuleLinkage (`module`)
//!   the engine lifts and lowers,            we do, by the canonical ABI, from
//!   and checks handles                      core values, with handles of our own
//! ```
//!
//! A function's parameters are a tuple of [`Argument`]s, what it returns is an [`Outcome`]. Each type of the interface says
//! once how it looks to a component and how to a core module; most of them in `abi`.

use std::marker::PhantomData;

use blockcast_blocks::abi::Error;
use wasmtime::component::{
    ComponentNamedList, ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmStr,
};
use wasmtime::{StoreContextMut, ValRaw, ValType};

use super::canonical::{Flat, Layout, Place};
use crate::host::wasm::abi::functions;
use crate::host::wasm::abi::values::{self, SESSION, TOPICS, TYPES};
use crate::host::wasm::state::GuestState;
use crate::hosting::log::shorten;

/// A host function's view of a guest that is a component.
pub(crate) type Host<'a> = StoreContextMut<'a, GuestState>;

/// Where host functions are defined.
pub(crate) trait Linkage {
    /// Defines a resource type, and what happens when the guest drops one: `drop` is given its number in
    /// the state.
    fn resource<T: HostResource>(
        &mut self,
        interface: &'static str,
        drop: fn(&mut GuestState, u32) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()>;

    /// Defines a function. It is not called for a guest that has written where it may only read.
    fn function<P: Parameters, R: Outcome>(
        &mut self,
        interface: &'static str,
        name: &'static str,
        call: impl Fn(&mut GuestState, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>;
}

/// A type of which guests have handles.
pub(crate) trait HostResource: 'static {
    /// Its name in the interface.
    const NAME: &'static str;
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

/// A string of the guest: a copy of its beginning, as far as anyone wants to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    start: String,
    len: usize,
}

impl Text {
    pub(crate) fn new(text: &str) -> Self {
        Self { start: shorten(text).to_owned(), len: text.len() }
    }

    /// All of it, if it is not longer than [`MAX_TEXT`](crate::hosting::log::MAX_TEXT).
    pub(crate) fn whole(&self) -> Option<&str> {
        (self.start.len() == self.len).then_some(self.start.as_str())
    }

    /// The first [`MAX_TEXT`](crate::hosting::log::MAX_TEXT) bytes.
    pub(crate) fn start(&self) -> &str {
        &self.start
    }
}

/// Something that a host function takes.
pub(crate) trait Argument: Sized + 'static {
    /// As the engine takes it from a component.
    type Lifted: ComponentType + Lift + 'static;

    /// The core values that stand for it.
    const FLAT: &'static [ValType];

    /// Of a component.
    fn lift(lifted: Self::Lifted, host: &Host<'_>) -> wasmtime::Result<Self>;

    /// Of a core module.
    fn read(flat: &mut Flat<'_>, state: &GuestState) -> wasmtime::Result<Self>;
}

/// What a host function takes: a tuple of [`Argument`]s.
pub(crate) trait Parameters: Sized + 'static {
    /// As the engine takes them from a component.
    type Lifted: ComponentNamedList + Lift + 'static;

    /// The core values that stand for them.
    fn flat() -> Vec<ValType>;

    /// Of a component.
    fn lift(lifted: Self::Lifted, host: &Host<'_>) -> wasmtime::Result<Self>;

    /// Of a core module.
    fn read(flat: &mut Flat<'_>, state: &GuestState) -> wasmtime::Result<Self>;
}

macro_rules! parameters {
    ($($argument:ident $lifted:ident),*) => {
        impl<$($argument: Argument),*> Parameters for ($($argument,)*) {
            type Lifted = ($($argument::Lifted,)*);

            fn flat() -> Vec<ValType> {
                [$($argument::FLAT),*].concat()
            }

            #[inline]
            fn lift(($($lifted,)*): Self::Lifted, _host: &Host<'_>) -> wasmtime::Result<Self> {
                Ok(($($argument::lift($lifted, _host)?,)*))
            }

            #[inline]
            fn read(_flat: &mut Flat<'_>, _state: &GuestState) -> wasmtime::Result<Self> {
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

    fn lift((): (), _host: &Host<'_>) -> wasmtime::Result<Self> {
        Ok(())
    }

    fn read(_flat: &mut Flat<'_>, _state: &GuestState) -> wasmtime::Result<Self> {
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
    fn give(self, place: Place<'_>, state: &mut GuestState) -> wasmtime::Result<()>;
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
    fn store(self, to: &mut [u8], state: &mut GuestState) -> wasmtime::Result<()>;
}

impl<T: HostResource> Argument for Handle<T> {
    type Lifted = Resource<T>;
    const FLAT: &'static [ValType] = &[ValType::I32];

    #[inline]
    fn lift(lifted: Resource<T>, _host: &Host<'_>) -> wasmtime::Result<Self> {
        Ok(Self::new(lifted.rep()))
    }

    #[inline]
    fn read(flat: &mut Flat<'_>, state: &GuestState) -> wasmtime::Result<Self> {
        Ok(Self::new(state.handles.rep::<T>(flat.u32())?))
    }
}

impl<T: HostResource> Value for Handle<T> {
    type Lowered = Resource<T>;
    const LAYOUT: Layout = Layout::of::<u32>();

    fn lower(self) -> Resource<T> {
        Resource::new_own(self.rep)
    }

    fn store(self, to: &mut [u8], state: &mut GuestState) -> wasmtime::Result<()> {
        to.copy_from_slice(&state.handles.insert::<T>(self.rep)?.to_le_bytes());
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

    fn give(self, place: Place<'_>, state: &mut GuestState) -> wasmtime::Result<()> {
        place.value(ValRaw::u32(state.handles.insert::<T>(self.rep)?))
    }
}

/// `None` if it lies in donated address space, where its bytes might change while they are read, or is not encoded in UTF-8. A guest
/// has no reason for either.
///
/// wasmtime 48 tells where a string lies only by decoding it. So bytes in a window are decoded before they are refused, perhaps
/// while a publisher writes them; what comes of it is dropped unread. Core modules are asked first.
impl Argument for Option<Text> {
    type Lifted = WasmStr;
    const FLAT: &'static [ValType] = &[ValType::I32, ValType::I32];

    fn lift(lifted: WasmStr, host: &Host<'_>) -> wasmtime::Result<Self> {
        Ok(match lifted.to_str(host)? {
            std::borrow::Cow::Borrowed(text) => {
                host.data().windows.is_ordinary(text.as_ptr(), text.len()).then(|| Text::new(text))
            }
            std::borrow::Cow::Owned(_) => None,
        })
    }

    fn read(flat: &mut Flat<'_>, state: &GuestState) -> wasmtime::Result<Self> {
        Text::read(state, flat.area())
    }
}

/// Defines the host functions for components.
pub(crate) struct ComponentLinkage<'a>(&'a mut Linker<GuestState>);

impl<'a> ComponentLinkage<'a> {
    /// Defines everything that a component may import.
    pub(crate) fn define(linker: &'a mut Linker<GuestState>) -> wasmtime::Result<()> {
        linker.instance(TYPES)?;
        linker.instance(TOPICS)?.func_wrap_async("wait", |mut host: Host<'_>, (timeout,): (u64,)| {
            Box::new(async move { Ok((functions::wait(host.data_mut(), timeout).await?,)) })
        })?;
        linker.instance(SESSION)?.func_wrap("parameter", |mut host: Host<'_>, (name,): (WasmStr,)| {
            host.data_mut().enter()?;
            let name = Option::<Text>::lift(name, &host)?;
            Ok((functions::parameter(host.data(), name.as_ref()),))
        })?;
        functions::define(&mut Self(linker))
    }
}

impl Linkage for ComponentLinkage<'_> {
    fn resource<T: HostResource>(
        &mut self,
        interface: &'static str,
        drop: fn(&mut GuestState, u32) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let mut interface = self.0.instance(interface)?;
        interface.resource(T::NAME, ResourceType::host::<T>(), move |mut host, rep| {
            host.data_mut().enter()?;
            drop(host.data_mut(), rep)
        })
    }

    fn function<P: Parameters, R: Outcome>(
        &mut self,
        interface: &'static str,
        name: &'static str,
        call: impl Fn(&mut GuestState, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()> {
        let mut interface = self.0.instance(interface)?;
        interface.func_wrap(name, move |mut host: Host<'_>, lifted: P::Lifted| {
            host.data_mut().enter()?;
            let parameters = P::lift(lifted, &host)?;
            Ok(call(host.data_mut(), parameters)?.lower())
        })
    }
}

impl<T: Value> Outcome for Result<T, Error> {
    type Lowered = (Result<T::Lowered, values::Error>,);
    const AREA: Option<Layout> = Some(Layout::result(T::LAYOUT));

    fn lower(self) -> Self::Lowered {
        (self.map(T::lower).map_err(values::Error::from),)
    }

    #[inline]
    fn give(self, place: Place<'_>, state: &mut GuestState) -> wasmtime::Result<()> {
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
