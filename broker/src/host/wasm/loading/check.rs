//! Checks a guest's code before it is compiled.
//!
//! One pass over the file finds everything that multiplies: nested components, whose content the compiler
//! copies for each instance; memories; and everything that [`LoadLimits`] bounds. All other mistakes are left
//! to the compiler.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    CompositeInnerType, Encoding, Instance, Parser, Payload, TypeRef,
};

use super::function::{Arity, Refused, Types, Walk, Work};
use super::limits::{LoadLimit, LoadLimits};

/// The objects that instantiating a module or component creates.
#[derive(Clone, Copy, Debug, Default)]
struct Content {
    /// Items that the compiler copies.
    items: u64,
    /// Linear memories that start with pages.
    memories: u64,
}

/// The unknown content of an item that is imported, or that an instance exports.
const UNKNOWN: Content = Content { items: u64::MAX, memories: 0 };

impl Content {
    fn add(&mut self, other: Self) {
        self.items = self.items.saturating_add(other.items);
        self.memories = self.memories.saturating_add(other.memories);
    }
}

/// A module or component that is open.
#[derive(Default)]
struct Scope {
    is_module: bool,
    content: Content,
    // For a component:
    modules: Vec<Content>,
    components: Vec<Content>,
    // For a module:
    types: Vec<Arity>,
    functions: Vec<u32>,
    /// The number of functions that were imported or whose code was read.
    coded: usize,
}

/// The result of checking code.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    /// Linear memories with pages right after the guest is instantiated.
    pub(crate) memories: u64,
}

/// Checks binary code, with or without the code of functions.
///
/// # Errors
/// [`Refused`].
pub(crate) fn check(binary: &[u8], limits: &LoadLimits, functions: bool) -> Result<Checked, Refused> {
    let mut check = Check {
        limits,
        scopes: Vec::new(),
        functions: 0,
        read: 0,
        items: 0,
        elements: 0,
        all: Work::default(),
        walk: Walk::default(),
        checked: Checked::default(),
    };
    for payload in Parser::new(0).parse_all(binary) {
        match payload? {
            Payload::CodeSectionEntry(_) if !functions => {}
            Payload::CodeSectionEntry(body) => check.code(&body)?,
            payload => check.payload(payload)?,
        }
    }
    Ok(check.checked)
}

struct Check<'a> {
    limits: &'a LoadLimits,
    scopes: Vec<Scope>,
    functions: u64,
    /// Functions whose code was read.
    read: u64,
    items: u64,
    elements: u64,
    all: Work,
    walk: Walk,
    checked: Checked,
}

impl Check<'_> {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), Refused> {
        let items = match &payload {
            Payload::TypeSection(section) => section.count(),
            Payload::ImportSection(section) => section.count(),
            Payload::TableSection(section) => section.count(),
            Payload::MemorySection(section) => section.count(),
            Payload::TagSection(section) => section.count(),
            Payload::GlobalSection(section) => section.count(),
            Payload::ExportSection(section) => section.count(),
            Payload::ElementSection(section) => section.count(),
            Payload::DataSection(section) => section.count(),
            Payload::InstanceSection(section) => section.count(),
            Payload::CoreTypeSection(section) => section.count(),
            Payload::ComponentInstanceSection(section) => section.count(),
            Payload::ComponentAliasSection(section) => section.count(),
            Payload::ComponentTypeSection(section) => section.count(),
            Payload::ComponentCanonicalSection(section) => section.count(),
            Payload::ComponentImportSection(section) => section.count(),
            Payload::ComponentExportSection(section) => section.count(),
            _ => 0,
        };
        self.items += u64::from(items);
        self.limits.check(LoadLimit::Items, self.items)?;
        match payload {
            Payload::Version { encoding, .. } => {
                self.scopes.push(Scope { is_module: encoding == Encoding::Module, ..Scope::default() });
                self.limits.check(LoadLimit::ComponentNesting, self.scopes.len() as u64 - 1)?;
            }
            Payload::End(_) => self.end(),
            _ => {
                let Some(mut scope) = self.scopes.pop() else { return Ok(()) };
                if !scope.is_module {
                    scope.content.items = scope.content.items.saturating_add(items.into());
                }
                let read = self.section(payload, &mut scope);
                self.scopes.push(scope);
                read?;
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        let Some(scope) = self.scopes.pop() else { return };
        match self.scopes.last_mut() {
            None => self.checked.memories = scope.content.memories,
            Some(outer) if scope.is_module => outer.modules.push(scope.content),
            Some(outer) => outer.components.push(scope.content),
        }
    }

    fn section(&mut self, payload: Payload<'_>, scope: &mut Scope) -> Result<(), Refused> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types {
                    for ty in group?.types() {
                        let arity = match &ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Arity {
                                parameters: u32::try_from(ty.params().len()).unwrap_or(u32::MAX),
                                results: u32::try_from(ty.results().len()).unwrap_or(u32::MAX),
                            },
                            _ => Arity::default(),
                        };
                        self.limits.check(LoadLimit::Signature, arity.sum())?;
                        scope.types.push(arity);
                        self.limits.check(LoadLimit::Items, scope.types.len() as u64)?;
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import?.ty {
                        scope.functions.push(ty);
                        scope.coded += 1;
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                self.functions += u64::from(functions.count());
                self.limits.check(LoadLimit::Functions, self.functions)?;
                for ty in functions {
                    scope.functions.push(ty?);
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    self.elements = self.elements.saturating_add(table?.ty.initial);
                    self.limits.check(LoadLimit::TableElements, self.elements)?;
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    scope.content.memories += u64::from(memory?.initial > 0);
                }
            }
            payload => self.component_section(payload, scope)?,
        }
        Ok(())
    }

    fn component_section(&mut self, payload: Payload<'_>, scope: &mut Scope) -> Result<(), Refused> {
        let of = |contents: &[Content], index: u32| contents.get(index as usize).copied().unwrap_or(UNKNOWN);
        match payload {
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        let module = of(&scope.modules, module_index);
                        scope.content.add(Content { items: 1, memories: module.memories });
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        scope.content.add(of(&scope.components, component_index));
                        self.limits.check(LoadLimit::Instances, scope.content.items)?;
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    match import?.ty {
                        ComponentTypeRef::Module(_) => scope.modules.push(UNKNOWN),
                        ComponentTypeRef::Component(_) => scope.components.push(UNKNOWN),
                        _ => {}
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    match alias? {
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                            scope.modules.push(UNKNOWN);
                        }
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                            scope.components.push(UNKNOWN);
                        }
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, index } => {
                            let outer = self.outer(scope, count).map(|outer| of(&outer.modules, index));
                            scope.modules.push(outer.unwrap_or(UNKNOWN));
                        }
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                            let outer = self.outer(scope, count).map(|outer| of(&outer.components, index));
                            scope.components.push(outer.unwrap_or(UNKNOWN));
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                // Exporting an item gives it another index in the same component.
                for export in exports {
                    let export = export?;
                    match export.kind {
                        ComponentExternalKind::Module => scope.modules.push(of(&scope.modules, export.index)),
                        ComponentExternalKind::Component => {
                            scope.components.push(of(&scope.components, export.index));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The component `count` levels outside of `scope`, which is open but not among the scopes now.
    fn outer<'s>(&'s self, scope: &'s Scope, count: u32) -> Option<&'s Scope> {
        match count {
            0 => Some(scope),
            count => self.scopes.len().checked_sub(count as usize).and_then(|index| self.scopes.get(index)),
        }
    }

    fn code(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(), Refused> {
        let number = self.read;
        self.read += 1;
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        let own = scope.functions.get(scope.coded).and_then(|&ty| scope.types.get(ty as usize)).copied();
        scope.coded += 1;
        let types = Types { types: &scope.types, functions: &scope.functions };
        let work = self.walk.function(body, own.unwrap_or_default(), &types, self.limits);
        let work = work.map_err(|refused| match refused {
            Refused::Exceeded(mut exceeded) => {
                exceeded.function = Some(number);
                Refused::Exceeded(exceeded)
            }
            invalid => invalid,
        })?;
        self.all.values += work.values;
        self.all.loop_locals += work.loop_locals;
        self.all.carried_locals += work.carried_locals;
        self.limits.check_all(LoadLimit::Values, self.all.values)?;
        self.limits.check_all(LoadLimit::LoopLocals, self.all.loop_locals)?;
        Ok(self.limits.check_all(LoadLimit::CarriedLocals, self.all.carried_locals)?)
    }
}
