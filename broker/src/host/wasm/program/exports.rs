//! Checks a guest's imports and exports, as far as the linker does not.

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::{Engine, ExternType, Module, ValType};

use super::entry::EntryName;
use crate::host::wasm::abi::interfaces::{BLOCKS, SESSION, TOPICS, TYPES};
use crate::host::wasm::loading::LoadError;
use crate::host::wasm::wasi::WasiNeeds;
use crate::hosting::log::line;

/// The parts of WASI that a component needs, if it has no other unknown import.
pub(super) fn check_imports(
    guest: &str,
    engine: &Engine,
    component: &Component,
) -> Result<WasiNeeds, LoadError> {
    let ty = component.component_type();
    let mut needs = WasiNeeds::default();
    let unknown = ty.imports(engine).find(|(name, import)| match import.ty {
        ComponentItem::Type(_) | ComponentItem::Resource(_) => false,
        _ => ![TYPES, BLOCKS, TOPICS, SESSION].contains(name) && !needs.add(name),
    });
    match unknown {
        None => Ok(needs),
        Some((import, _)) => {
            Err(LoadError::UnknownImport { guest: guest.to_owned(), import: line(import).into_owned() })
        }
    }
}

/// The entry point of `component`.
pub(super) fn entry_of(guest: &str, engine: &Engine, component: &Component) -> Result<EntryName, LoadError> {
    let wrong = |reason: &str| Err(LoadError::NoRun { guest: guest.to_owned(), reason: reason.to_owned() });
    let ty = component.component_type();
    match ty.get_export(engine, "run").map(|export| export.ty) {
        None => match ty.exports(engine).find(|(name, _)| name.starts_with("wasi:cli/run@0.2.")) {
            Some((name, _)) if cfg!(feature = "wasi") => Ok(EntryName::Command(name.to_owned())),
            _ => wrong("it has no export of that name"),
        },
        Some(ComponentItem::ComponentFunc(run)) => {
            let mut results = run.results();
            match (run.params().len(), results.next(), results.next(), run.async_()) {
                (0, Some(Type::U32), None, false) => Ok(EntryName::Run),
                (0, Some(_) | None, _, false) => wrong("its result has a different type"),
                (0, _, _, true) => wrong("it is an async function"),
                _ => wrong("it takes parameters"),
            }
        }
        Some(_) => wrong("the export of that name is not a function"),
    }
}

/// Checks that a core module can be a guest, as far as the linker does not.
pub(super) fn check_module(guest: &str, module: &Module) -> Result<(), LoadError> {
    check_module_imports(guest, module)?;
    check_memory(guest, module)?;
    check_run(guest, module)
}

fn check_module_imports(guest: &str, module: &Module) -> Result<(), LoadError> {
    match module.imports().find(|import| ![TYPES, BLOCKS, TOPICS, SESSION].contains(&import.module())) {
        None => Ok(()),
        Some(import) => Err(LoadError::UnknownImport {
            guest: guest.to_owned(),
            import: line(&format!("{}::{}", import.module(), import.name())).into_owned(),
        }),
    }
}

fn check_memory(guest: &str, module: &Module) -> Result<(), LoadError> {
    let wrong =
        |reason: &str| Err(LoadError::NoMemory { guest: guest.to_owned(), reason: reason.to_owned() });
    if module.resources_required().num_memories > 1 {
        return wrong("it has several memories");
    }
    match module.get_export("memory") {
        Some(ExternType::Memory(memory)) if memory.is_shared() => wrong("it is shared between threads"),
        Some(ExternType::Memory(memory)) if memory.is_64() => wrong("its addresses have 64 bits"),
        Some(ExternType::Memory(_)) => Ok(()),
        Some(_) => wrong("the export of that name is not a memory"),
        None => wrong("it has no export of that name"),
    }
}

fn check_run(guest: &str, module: &Module) -> Result<(), LoadError> {
    let wrong = |reason: &str| Err(LoadError::NoRun { guest: guest.to_owned(), reason: reason.to_owned() });
    match module.get_export("run") {
        None => wrong("it has no export of that name"),
        Some(ExternType::Func(run)) => {
            let mut results = run.results();
            match (run.params().len(), results.next(), results.next()) {
                (0, Some(ValType::I32), None) => Ok(()),
                (0, _, _) => wrong("its result has a different type"),
                _ => wrong("it takes parameters"),
            }
        }
        Some(_) => wrong("the export of that name is not a function"),
    }
}
