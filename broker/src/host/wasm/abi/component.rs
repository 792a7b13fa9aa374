//! Guests that are components. The engine lifts and lowers their values, and checks their handles.

use wasmtime::component::{Linker, ResourceType};

use super::handles::HostResource;
use super::link::{Linkage, Outcome, Parameters};
use super::store::{Host, StoreData};

/// Defines the host functions for components.
pub(crate) struct ComponentLinkage<'a, S: 'static>(pub(crate) &'a mut Linker<S>);

impl<S: StoreData> Linkage for ComponentLinkage<'_, S> {
    type Data = S;

    fn resource<T: HostResource>(
        &mut self,
        interface: &'static str,
        drop: fn(&mut S, u32) -> wasmtime::Result<()>,
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
        call: impl Fn(&mut S, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()> {
        let mut interface = self.0.instance(interface)?;
        interface.func_wrap(name, move |mut host: Host<'_, S>, lifted: P::Lifted| {
            host.data_mut().enter()?;
            let parameters = P::lift(lifted, &host)?;
            Ok(call(host.data_mut(), parameters)?.lower())
        })
    }
}
