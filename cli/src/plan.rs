//! [`Plan`]: what to run, according to manifests and the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blockcast::flat::dynamic;
use blockcast::{
    ComponentLimits, ComponentOptions, Grants, LibraryFile, ProcessSource, RestartPolicy, Sandbox, Schema,
    Stall,
};

use crate::Refused;
use crate::args::{Granted, Run, Serve};
use crate::bridge::Planned;
use crate::log::Filter;
use crate::manifest::{self, Component, Kind, Manifest, Source, Topic};

/// Maximum number of instances of one component.
const MAX_INSTANCES: u32 = 1024;

/// Everything to run.
#[derive(Default)]
pub struct Plan {
    pub topics: Vec<Declared>,
    pub inputs: Vec<Input>,
    /// Guests, native libraries and processes.
    pub components: Vec<Instance>,
    pub stats: Option<Duration>,
    /// Folder for compiled guests.
    pub cache: Option<PathBuf>,
    /// How to host the topics, according to the manifests.
    pub serve: Hosting,
    /// How to carry them to other machines, one for each manifest that says so.
    pub bridges: Vec<Planned>,
}

/// How to host the machine's topics.
#[derive(Default)]
pub struct Hosting {
    pub socket: Option<PathBuf>,
    pub mode: Option<u32>,
    pub stall: Option<Stall>,
    pub users: Vec<(u32, Grants)>,
    pub groups: Vec<(u32, Grants)>,
}

/// A topic whose schema is declared in advance.
pub struct Declared {
    pub name: String,
    pub schema: Schema,
    /// The schema that messages are checked against, if it is a flat schema.
    pub flat: Option<dynamic::Schema>,
}

/// A file to publish.
pub struct Input {
    pub topic: String,
    /// `-` is the standard input.
    pub file: PathBuf,
    pub block_size: usize,
    pub blocks: u32,
    /// Number of subscribers that it waits for.
    pub subscribers: u32,
}

/// One instance of a guest, a native library or a process.
pub struct Instance {
    pub name: String,
    pub kind: Kind,
    pub file: PathBuf,
    /// The program that it runs in a process of its own, if it does.
    pub process: Option<ProcessSource>,
    /// The beginning of error messages about its file: the position in the manifest.
    pub error_prefix: Option<String>,
    pub log: Filter,
    pub options: ComponentOptions,
}

impl Plan {
    /// Makes the plan that the command line asks for.
    pub fn new(arguments: &Run) -> Result<Self, Refused> {
        let mut plan = Self::default();
        let is_manifest = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "toml");
        for manifest in arguments.manifest.iter().chain(arguments.files.iter().filter(is_manifest)) {
            let (source, manifest) = Source::read(manifest)?;
            if let Some(serve) = &manifest.serve {
                let message = "`blockcast run` does not host topics: use `blockcast serve`";
                return Err(source.error(serve.span().start, message));
            }
            if let Some(bridge) = &manifest.bridge {
                let message = "a bridge needs a host, which `blockcast run` is not: use `blockcast serve`";
                return Err(source.error(bridge.span().start, message));
            }
            if manifest.guest.is_empty() && manifest.library.is_empty() && manifest.process.is_empty() {
                let path = source.path.display();
                return Err(format!(
                    "{path}: neither a [[guest]] nor a [[library]] nor a [[process]] section"
                ));
            }
            plan.add_manifest(&source, &manifest, arguments.log)?;
        }
        plan.add_files(arguments.files.iter().filter(|file| !is_manifest(file)), arguments)?;
        for (topic, file) in &arguments.input {
            plan.inputs.push(Input {
                topic: topic.clone(),
                file: file.into(),
                block_size: 64 << 10,
                blocks: 16,
                subscribers: 1,
            });
        }
        plan.stats = arguments.stats.or(plan.stats);
        plan.cache = arguments.cache.clone().or(plan.cache);
        plan.check_names()?;
        Ok(plan)
    }

    /// Makes the plan of manifests for a host.
    pub fn of_host(arguments: &Serve) -> Result<Self, Refused> {
        let mut plan = Self::default();
        for manifest in &arguments.manifest {
            let (source, manifest) = Source::read(manifest)?;
            plan.add_manifest(&source, &manifest, arguments.log)?;
        }
        let granted = manifest::topics(&arguments.publish, &arguments.subscribe);
        let hosting = &mut plan.serve;
        hosting.socket = arguments.socket.clone().or(hosting.socket.take());
        hosting.mode = arguments.mode.or(hosting.mode);
        hosting.stall = arguments.stall.or(hosting.stall);
        // The first rule for a user or group counts.
        hosting.users.splice(0..0, arguments.allow_user.iter().map(|&id| (id, granted.clone())));
        hosting.groups.splice(0..0, arguments.allow_group.iter().map(|&id| (id, granted.clone())));
        plan.stats = arguments.stats.or(plan.stats);
        plan.cache = arguments.cache.clone().or(plan.cache);
        plan.check_names()?;
        Ok(plan)
    }

    fn check_names(&self) -> Result<(), Refused> {
        let mut names = BTreeSet::new();
        match self.components.iter().find(|component| !names.insert(&component.name)) {
            Some(twice) => Err(format!("two components are named {:?}", twice.name)),
            None => Ok(()),
        }
    }

    fn add_manifest(
        &mut self,
        source: &Source,
        manifest: &Manifest,
        only: Option<Filter>,
    ) -> Result<(), Refused> {
        self.stats = self.stats.or(manifest.broker.stats.map(|time| time.0));
        let cache = manifest.broker.cache.as_ref().map(|folder| source.resolve(folder));
        self.cache = self.cache.take().or(cache);
        for topic in &manifest.topic {
            self.add_topic(source, topic)?;
        }
        let log = manifest.broker.log.map_or(Filter::INFO, |filter| filter.0);
        for guest in &manifest.guest {
            let log = only.or(guest.log.map(|filter| filter.0)).unwrap_or(log);
            self.add_component(source, guest, Kind::Wasm, log)?;
        }
        for library in &manifest.library {
            let log = only.or(library.log.map(|filter| filter.0)).unwrap_or(log);
            self.add_component(source, library, Kind::Library, log)?;
        }
        for process in &manifest.process {
            let log = only.or(process.log.map(|filter| filter.0)).unwrap_or(log);
            self.add_process(source, process, log)?;
        }
        if let Some(serve) = &manifest.serve {
            self.add_hosting(source, serve.get_ref());
        }
        if let Some(bridge) = &manifest.bridge {
            self.bridges.push(Planned::new(source, bridge.get_ref(), bridge.span().start)?);
        }
        Ok(())
    }

    fn add_hosting(&mut self, source: &Source, serve: &manifest::Serve) {
        let hosting = &mut self.serve;
        let socket = serve.socket.as_ref().map(|path| source.resolve(path));
        hosting.socket = hosting.socket.take().or(socket);
        hosting.mode = hosting.mode.or(serve.mode.map(|mode| mode.0));
        hosting.stall = hosting.stall.or(serve.stall.map(|stall| stall.0));
        hosting.users.extend(serve.user.iter().map(|peers| (peers.id, peers.grants())));
        hosting.groups.extend(serve.group.iter().map(|peers| (peers.id, peers.grants())));
    }

    fn add_topic(&mut self, source: &Source, topic: &Topic) -> Result<(), Refused> {
        let name = topic.name.get_ref();
        if self.topics.iter().any(|other| other.name == *name)
            || self.inputs.iter().any(|other| other.topic == *name)
        {
            return Err(source.error(topic.name.span().start, &format!("topic {name:?} is listed twice")));
        }
        if let Some(text) = &topic.schema {
            let flat = match text.get_ref().starts_with("flat") {
                false => None,
                true => Some(dynamic::Schema::parse(text.get_ref()).map_err(|error| {
                    source.error(text.span().start, &format!("this is not a flat schema: {error}"))
                })?),
            };
            let schema = Schema::named(text.get_ref().clone());
            self.topics.push(Declared { name: name.clone(), schema, flat });
        }
        match &topic.input {
            Some(file) => self.inputs.push(Input {
                topic: name.clone(),
                file: if file == "-" { "-".into() } else { source.resolve(file) },
                block_size: usize::try_from(topic.block_size.0).unwrap_or(usize::MAX),
                blocks: topic.blocks,
                subscribers: topic.subscribers,
            }),
            None if topic.schema.is_none() => {
                let message = format!("topic {name:?} has neither a schema nor an input");
                return Err(source.error(topic.name.span().start, &message));
            }
            None => {}
        }
        Ok(())
    }

    /// Adds the instances of a component. `section` is the kind that its section is for.
    fn add_component(
        &mut self,
        source: &Source,
        component: &Component,
        section: Kind,
        log: Filter,
    ) -> Result<(), Refused> {
        let file = source.resolve(component.source.get_ref());
        let at_source = component.source.span().start;
        let kind = Kind::of(&file).map_err(|refused| source.error(at_source, &refused))?;
        if kind != section || component.kind.is_some_and(|wanted| wanted != kind) {
            let message = match kind {
                Kind::Library => {
                    "this is a native library, which runs without a sandbox: it belongs under [[library]]"
                }
                Kind::Wasm => "this is a wasm guest: it belongs under [[guest]]",
                Kind::Program => "this is a program: it belongs under [[process]]",
            };
            return Err(source.error(at_source, message));
        }
        if section == Kind::Library && !component.wasi.is_empty() {
            return Err(
                source.error(at_source, "WASI is only for guests: a native library uses the system directly")
            );
        }
        if let Some((key, at)) = component.process_key() {
            return Err(source.error(at, &format!("{key} is only for a [[process]]")));
        }
        let cannot = match kind {
            Kind::Wasm => "this guest cannot be run",
            Kind::Library | Kind::Program => "this library cannot be run",
        };
        let error_prefix = source.error(at_source, cannot);
        self.add_instances(source, component, (kind, file, None), error_prefix, log)
    }

    fn add_process(&mut self, source: &Source, component: &Component, log: Filter) -> Result<(), Refused> {
        let (named, at_source) = (component.source.get_ref(), component.source.span().start);
        let (file, kind) = process_file(Path::new(named), source.resolve(named))
            .map_err(|refused| source.error(at_source, &refused))?;
        if component.kind.is_some_and(|wanted| wanted != kind) {
            let found = if kind == Kind::Library { "a native library" } else { "a program" };
            return Err(source.error(at_source, &format!("this is {found}")));
        }
        if !component.wasi.is_empty() {
            let message = "WASI is only for guests: a process uses the system directly";
            return Err(source.error(at_source, message));
        }
        let mut process = process_source(kind, &file);
        match &component.arguments {
            Some(arguments) if kind == Kind::Library => {
                return Err(
                    source.error(arguments.span().start, "a library has no arguments: see parameters")
                );
            }
            Some(arguments) => process = process.arguments(arguments.get_ref()),
            None => {}
        }
        for (name, value) in component.environment.iter().flat_map(|variables| variables.get_ref()) {
            process = process.environment(name, value);
        }
        if let Some(inherit) = &component.inherit_environment {
            process = process.inherit_environment(*inherit.get_ref());
        }
        if let Some(folder) = &component.folder {
            process = process.folder(source.resolve(folder.get_ref()));
        }
        if let Some(allowed) = &component.sandbox {
            let allowed = allowed.get_ref();
            let sandbox = Sandbox::new().network(allowed.network).processes(allowed.processes);
            let resolve = |path: &String| source.resolve(path);
            let sandbox = allowed.read.iter().map(resolve).fold(sandbox, Sandbox::read);
            process = process.sandbox(allowed.write.iter().map(resolve).fold(sandbox, Sandbox::write));
        }
        let cannot = source.error(at_source, "this process cannot be run");
        process
            .check(&component.limits.component_limits())
            .map_err(|error| format!("{cannot}\n    {error}"))?;
        self.add_instances(source, component, (kind, file, Some(process)), cannot, log)
    }

    fn add_instances(
        &mut self,
        source: &Source,
        component: &Component,
        (kind, file, process): (Kind, PathBuf, Option<ProcessSource>),
        error_prefix: Refused,
        log: Filter,
    ) -> Result<(), Refused> {
        let (name, at) = match &component.name {
            Some(name) => (name.get_ref().clone(), name.span().start),
            None => (stem(&file), component.source.span().start),
        };
        let instances = *component.instances.get_ref();
        if !(1..=MAX_INSTANCES).contains(&instances) {
            let message = format!("instances is {instances}, but must be 1 to {MAX_INSTANCES}");
            return Err(source.error(component.instances.span().start, &message));
        }
        for instance in 1..=instances {
            let name = if instances == 1 { name.clone() } else { format!("{name}-{instance}") };
            if self.components.iter().any(|other| other.name == name) {
                return Err(source.error(at, &format!("two components are named {name:?}")));
            }
            let fill =
                |value: &String| value.replace("{name}", &name).replace("{instance}", &instance.to_string());
            let parameters = component.parameters.iter().map(|(key, value)| (key.clone(), fill(value)));
            let options = ComponentOptions::new()
                .name(&name)
                .grants(component.grants())
                .parameters(parameters)
                .restart(component.restart.0.clone());
            let (file, process, error_prefix) = (file.clone(), process.clone(), Some(error_prefix.clone()));
            self.components.push(Instance { name, kind, file, process, error_prefix, log, options });
        }
        Ok(())
    }

    fn add_files<'a>(
        &mut self,
        files: impl Iterator<Item = &'a PathBuf>,
        arguments: &Run,
    ) -> Result<(), Refused> {
        let mut names: Vec<String> = Vec::new();
        let mut found = Vec::new();
        for file in files {
            let kind = Kind::of(file)?;
            if kind == Kind::Library && !arguments.native {
                let file = file.display();
                return Err(format!(
                    "{file}: this is a native library, which runs without a sandbox; --native allows that"
                ));
            }
            found.push((file.clone(), kind, None));
        }
        for named in &arguments.process {
            let (file, kind) = process_file(named, named.clone())?;
            let mut process = process_source(kind, &file);
            if arguments.sandbox {
                process = process.sandbox(Sandbox::new());
            }
            let limits = limits(&arguments.grants);
            process.check(&limits).map_err(|error| error.to_string())?;
            found.push((file, kind, Some(process)));
        }
        for (file, ..) in &found {
            let name = stem(file);
            let same = names
                .iter()
                .filter(|other| **other == name || other.starts_with(&format!("{name}#")))
                .count();
            names.push(if same == 0 { name } else { format!("{name}#{}", same + 1) });
        }
        let granted = &arguments.grants;
        for ((file, kind, process), name) in found.into_iter().zip(&names) {
            let parameters = granted.parameter.iter().filter_map(|(key, value)| {
                for_component(key, name, &names).map(|key| (key.to_owned(), value.clone()))
            });
            let options = ComponentOptions::new()
                .name(name)
                .grants(grants(granted, name, &names))
                .parameters(parameters)
                .restart(RestartPolicy { restart: granted.restart, ..RestartPolicy::never() });
            self.components.push(Instance {
                name: name.clone(),
                kind,
                file,
                process,
                error_prefix: None,
                log: arguments.log.unwrap_or(Filter::INFO),
                options,
            });
        }
        Ok(())
    }
}

/// The command line's grants for component `name`.
fn grants(granted: &Granted, name: &str, names: &[String]) -> Grants {
    let for_it = |patterns: &[String]| -> Vec<String> {
        let patterns = patterns.iter().filter_map(|pattern| for_component(pattern, name, names));
        patterns.map(str::to_owned).collect()
    };
    let grants = Grants::new().limits(limits(granted)).wasi(granted.wasi.iter().copied());
    let grants = for_it(&granted.publish).into_iter().fold(grants, Grants::publish);
    for_it(&granted.subscribe).into_iter().fold(grants, Grants::subscribe)
}

/// The command line's limits for each component.
fn limits(granted: &Granted) -> ComponentLimits {
    let mut limits = ComponentLimits::default();
    limits.memory = granted.memory.unwrap_or(limits.memory);
    (limits.compute, limits.run_time) = (granted.compute, granted.run_time);
    limits
}

/// Resolves the file or program of a process: the program `named`, or the file at `path` if that exists. A
/// file that exports an app is a library, and any other is a program.
fn process_file(named: &Path, path: PathBuf) -> Result<(PathBuf, Kind), Refused> {
    if path.extension().is_some_and(|extension| extension == "so") {
        return Ok((path, Kind::Library));
    }
    if !path.exists() && !named.as_os_str().as_encoded_bytes().contains(&b'/') {
        return Ok((named.to_owned(), Kind::Program));
    }
    if path.is_file() && Kind::of(&path).is_ok_and(|kind| kind == Kind::Wasm) {
        return Err(format!(
            "{}: this is a wasm guest, which does not run in a process of its own",
            path.display()
        ));
    }
    let kind = if LibraryFile::read(&path).is_ok() { Kind::Library } else { Kind::Program };
    // A name without a slash would be looked up in `PATH`.
    Ok((if path.is_absolute() { path } else { Path::new(".").join(path) }, kind))
}

fn process_source(kind: Kind, file: &Path) -> ProcessSource {
    if kind == Kind::Library { ProcessSource::library(file) } else { ProcessSource::program(file) }
}

/// Returns the part of `text` that applies to component `name`: the rest after its name and a colon, or all
/// of `text` if it does not begin with the name of a component and a colon.
fn for_component<'a>(text: &'a str, name: &str, names: &[String]) -> Option<&'a str> {
    match text.split_once(':') {
        Some((component, rest)) if names.iter().any(|name| name == component) => {
            (component == name).then_some(rest)
        }
        _ => Some(text),
    }
}

/// A file's name without the folder, the extension and, for libraries, the prefix `lib`.
fn stem(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy();
    let is_library = file.extension().is_some_and(|extension| extension == "so");
    let short = stem.strip_prefix("lib").filter(|short| is_library && !short.is_empty());
    short.unwrap_or(&stem).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_for_one_component_reaches_no_other() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(for_component("topic", "a", &names), Some("topic"));
        assert_eq!(for_component("a:topic", "a", &names), Some("topic"));
        assert_eq!(for_component("a:topic", "b", &names), None);
        assert_eq!(for_component("c:topic", "b", &names), Some("c:topic"));
    }
}
