//! `blockcast inspect`: shows what the file of a guest or a library contains, without running it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use blockcast::{Broker, GuestSource, LibraryFile, LoadLimits, text};
use serde::Serialize;
use wasmparser::{ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, TypeRef};

use crate::args::Inspect;
use crate::log::{printable, printable_json};
use crate::{Refused, units};

/// Size of a wasm page in bytes.
const PAGE: u64 = 1 << 16;

/// The contents of a file.
#[derive(Debug, Default, Serialize)]
struct Inspection {
    file: String,
    /// `component`, `core module` or `native library`. Empty if it is none of them.
    kind: &'static str,
    bytes: u64,
    imports: Vec<Named>,
    exports: Vec<Named>,
    /// Linear memories that the file defines.
    memories: Vec<Memory>,
    /// Number of core modules in a component.
    modules: u32,
    functions: u32,
    /// Parts of WASI that must be granted to it.
    wasi: Vec<String>,
    /// Shared libraries that a native library needs.
    needs: Vec<String>,
    /// Number of a native library's exports and needed libraries that are not listed because there are too
    /// many or their names are too long.
    omitted: u64,
    /// Version of the C interface that a native library was built for, if the file says so.
    abi_version: Option<u32>,
    runs_here: bool,
    /// Why the file does not run here.
    refused: Option<String>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct Memory {
    minimum_bytes: u64,
    maximum_bytes: Option<u64>,
}

/// Inspects files. The exit code is 1 if one of them does not run here. Stops quietly once standard output is
/// closed.
pub fn inspect(arguments: &Inspect) -> Result<ExitCode, Refused> {
    let broker = Broker::new();
    broker.load_with(arguments.loading.options()).map_err(|error| error.to_string())?;
    let limits = arguments.loading.limits();
    let mut all_run = true;
    for (number, file) in arguments.files.iter().enumerate() {
        let inspection = Inspection::of(&broker, file, &limits)?;
        all_run &= inspection.runs_here;
        let mut shown = String::new();
        if arguments.json {
            let json = serde_json::to_string(&inspection).map_err(|error| error.to_string())?;
            shown.push_str(&printable_json(&json));
            shown.push('\n');
        } else {
            if number > 0 {
                shown.push('\n');
            }
            shown.push_str(&inspection.text());
        }
        match std::io::stdout().write_all(shown.as_bytes()) {
            Ok(()) => {}
            // The reader, for example `head`, has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => return Err(format!("cannot write to standard output: {error}")),
        }
    }
    Ok(if all_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Inspection {
    fn of(broker: &Broker, file: &Path, limits: &LoadLimits) -> Result<Self, Refused> {
        let failed = |error| format!("{}: {error}", file.display());
        let metadata = std::fs::metadata(file).map_err(failed)?;
        if !metadata.is_file() {
            return Err(format!("{}: not a regular file", file.display()));
        }
        let mut head = Vec::new();
        File::open(file).and_then(|file| file.take(4).read_to_end(&mut head)).map_err(failed)?;
        let bytes = metadata.len();
        let mut inspection = Self { file: file.display().to_string(), bytes, ..Self::default() };
        if head == b"\x7fELF" {
            inspection.read_library(file);
            return Ok(inspection);
        }
        let binary = match GuestSource::File(file.to_owned()).binary(limits) {
            Ok(binary) => binary,
            Err(error) => {
                inspection.refused = Some(error.to_string());
                return Ok(inspection);
            }
        };
        // If the file is damaged, show what comes before the damage.
        let _ = inspection.read(&binary);
        match broker.load(&GuestSource::bytes(inspection.file.clone(), binary)) {
            Ok(program) => {
                inspection.runs_here = true;
                inspection.wasi = program.wasi().map(|part| part.to_string()).collect();
            }
            Err(error) => inspection.refused = Some(error.to_string()),
        }
        Ok(inspection)
    }

    /// Reads a library. Reports that it runs here unless the file shows a reason against it.
    fn read_library(&mut self, file: &Path) {
        self.kind = "native library";
        match LibraryFile::read(file) {
            Ok(library) => {
                let exports = library.exports.into_iter();
                self.exports = exports.map(|name| Named { name, kind: "symbol" }).collect();
                (self.needs, self.abi_version) = (library.needs, library.abi_version);
                self.omitted = library.omitted;
                self.runs_here = true;
            }
            Err(error) => self.refused = Some(error.to_string()),
        }
    }

    fn read(&mut self, binary: &[u8]) -> wasmparser::Result<()> {
        // Nesting depth of modules and components. The outermost is 1.
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(binary) {
            match payload? {
                Payload::Version { encoding, .. } => {
                    depth += 1;
                    match encoding {
                        Encoding::Component if depth == 1 => self.kind = "component",
                        Encoding::Module if depth == 1 => self.kind = "core module",
                        Encoding::Module => self.modules += 1,
                        Encoding::Component => {}
                    }
                }
                Payload::End(_) => depth -= 1,
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        let memory = memory?;
                        let bytes = |pages: u64| pages.saturating_mul(PAGE);
                        self.memories.push(Memory {
                            minimum_bytes: bytes(memory.initial),
                            maximum_bytes: memory.maximum.map(bytes),
                        });
                    }
                }
                Payload::FunctionSection(functions) => {
                    self.functions = self.functions.saturating_add(functions.count());
                }
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        let import = import?;
                        self.imports
                            .push(Named { name: import.name.name.to_owned(), kind: of_component(import.ty) });
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        let export = export?;
                        let kind = of_export(export.kind);
                        self.exports.push(Named { name: export.name.name.to_owned(), kind });
                    }
                }
                Payload::ImportSection(imports) if depth == 1 => {
                    for import in imports.into_imports() {
                        let import = import?;
                        let name = format!("{} {}", import.module, import.name);
                        self.imports.push(Named { name, kind: of_module(import.ty) });
                    }
                }
                Payload::ExportSection(exports) if depth == 1 => {
                    for export in exports {
                        let export = export?;
                        let kind = match export.kind {
                            wasmparser::ExternalKind::Func | wasmparser::ExternalKind::FuncExact => {
                                "function"
                            }
                            wasmparser::ExternalKind::Table => "table",
                            wasmparser::ExternalKind::Memory => "memory",
                            wasmparser::ExternalKind::Global => "global",
                            wasmparser::ExternalKind::Tag => "tag",
                        };
                        self.exports.push(Named { name: export.name.to_owned(), kind });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut shown = format!("{}\n", text::line(&self.file));
        let mut line = |what: &str, value: &str| {
            let _ = writeln!(shown, "  {what:<9}  {}", printable(&value.replace('\n', "\n             ")));
        };
        let kind = if self.kind.is_empty() { "neither a component nor a core module" } else { self.kind };
        line("kind", kind);
        let native = self.kind == "native library";
        let size = units::of_bytes(self.bytes);
        match native {
            true => line("size", &size),
            false => line(
                "size",
                &format!("{size} ({} functions, {} core modules inside)", self.functions, self.modules),
            ),
        }
        if let Some(version) = self.abi_version {
            line("interface", &format!("version {version}"));
        }
        for memory in &self.memories {
            let most = memory.maximum_bytes.map_or_else(
                || "unlimited".to_owned(),
                |bytes| format!("at most {}", units::of_bytes(bytes)),
            );
            line("memory", &format!("{} initially, {most}", units::of_bytes(memory.minimum_bytes)));
        }
        for import in &self.imports {
            line("imports", &format!("{} ({})", text::line(&import.name), import.kind));
        }
        for export in &self.exports {
            line("exports", &format!("{} ({})", text::line(&export.name), export.kind));
        }
        if !self.wasi.is_empty() {
            line("needs", &format!("WASI: {} (must be granted)", self.wasi.join(", ")));
        }
        for needed in &self.needs {
            line("needs", &text::line(needed));
        }
        if self.omitted > 0 {
            line("omitted", &format!("{} more exports and needed libraries", self.omitted));
        }
        if native {
            line(
                "sandbox",
                "none: runs with all rights of the program that loads it (--native or [[library]])",
            );
        }
        match &self.refused {
            None => line("runs here", "yes"),
            Some(reason) => line("runs here", &format!("no: {reason}")),
        }
        shown
    }
}

fn of_component(import: ComponentTypeRef) -> &'static str {
    match import {
        ComponentTypeRef::Module(_) => "core module",
        ComponentTypeRef::Func(_) => "function",
        ComponentTypeRef::Value(_) => "value",
        ComponentTypeRef::Type(_) => "type",
        ComponentTypeRef::Instance(_) => "interface",
        ComponentTypeRef::Component(_) => "component",
    }
}

fn of_export(kind: ComponentExternalKind) -> &'static str {
    match kind {
        ComponentExternalKind::Module => "core module",
        ComponentExternalKind::Func => "function",
        ComponentExternalKind::Value => "value",
        ComponentExternalKind::Type => "type",
        ComponentExternalKind::Instance => "interface",
        ComponentExternalKind::Component => "component",
    }
}

fn of_module(import: TypeRef) -> &'static str {
    match import {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "function",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    }
}
