//! [`ProcessSource`]: the program of a process, and [`ProcessProgram`], the same once the broker has checked
//! it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};

use super::child::LIBRARY_ARGUMENT;
use super::error::ProcessError;
use super::sandbox::Sandbox;
use super::walls::Walls;
use crate::component::limit_policy::Limit;
use crate::component::limits::ComponentLimits;
use crate::host::library::LibraryFile;

/// Variables of the host's environment that each process gets: where programs and libraries are found, and
/// the user's language and time.
const INHERITED: [&str; 9] =
    ["PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "RUST_BACKTRACE"];

/// The program of a process of its own: an ordinary program, or a native library.
///
/// ```no_run
/// use blockcast_broker::{Broker, Grants, ProcessSource};
///
/// let broker = Broker::new();
/// let source = ProcessSource::program("target/release/words").argument("--fast");
/// let component = broker.spawn_process(&source, Grants::new().publish("lines"), [])?;
/// assert!(component.wait().reason.is_success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProcessSource {
    kind: Kind,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    inherits: bool,
    folder: Option<PathBuf>,
    sandbox: Option<Sandbox>,
}

#[derive(Clone, Debug)]
enum Kind {
    Program(PathBuf),
    Library {
        library: PathBuf,
        /// The program that loads it. `None` for this program.
        loader: Option<PathBuf>,
    },
}

impl ProcessSource {
    /// An ordinary program, such as one that `blockcast::main!` makes of an app. A name without a slash is
    /// looked up in the folders of `PATH`.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self::new(Kind::Program(program.into()))
    }

    /// A native library, which this program loads in the process: its `main` has to call
    /// [`library_child_main`](crate::library_child_main) first of all, like that of the tool `blockcast`.
    pub fn library(library: impl Into<PathBuf>) -> Self {
        Self::new(Kind::Library { library: library.into(), loader: None })
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            arguments: Vec::new(),
            environment: Vec::new(),
            inherits: false,
            folder: None,
            sandbox: None,
        }
    }

    /// Sets the program that loads a library, instead of this one. Does nothing for a program.
    #[must_use]
    pub fn loader(mut self, program: impl Into<PathBuf>) -> Self {
        if let Kind::Library { loader, .. } = &mut self.kind {
            *loader = Some(program.into());
        }
        self
    }

    /// Adds an argument of the program. A library does not see arguments.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several [arguments](Self::argument).
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the process's environment.
    ///
    /// Of this program's environment, the process gets only `PATH`, `LD_LIBRARY_PATH`, `HOME`, `TMPDIR`,
    /// `TZ`, `LANG`, `LC_ALL`, `LC_CTYPE` and `RUST_BACKTRACE`. `BLOCKCAST_SOCKET_FD` is the broker's.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets whether the process gets this program's whole environment, including any secrets that it
    /// contains.
    #[must_use]
    pub fn inherit_environment(mut self, inherit: bool) -> Self {
        self.inherits = inherit;
        self
    }

    /// Sets the folder in which the process starts: this program's by default.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Runs the process in a sandbox, for code that you do not trust.
    ///
    /// ```no_run
    /// use blockcast_broker::{Broker, Grants, ProcessSource, Sandbox};
    ///
    /// let source = ProcessSource::program("./words").sandbox(Sandbox::new().read("dictionary.txt"));
    /// Broker::new().spawn_process(&source, Grants::new().publish("words"), [])?.wait();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// Checks the source as far as that is possible without running it, for a component with these limits.
    ///
    /// # Errors
    /// Those with which [`Broker::spawn_process`](crate::Broker::spawn_process) would refuse it.
    pub fn check(&self, limits: &ComponentLimits) -> Result<(), ProcessError> {
        self.checked(limits).map(drop)
    }

    pub(crate) fn checked(&self, limits: &ComponentLimits) -> Result<ProcessProgram, ProcessError> {
        let (file, library, name, arguments) = match &self.kind {
            Kind::Program(program) => {
                refuse_unenforced(limits)?;
                let file = executable(program)?;
                (file, None, stem(program), self.arguments.clone())
            }
            Kind::Library { library, loader } => {
                LibraryFile::read(library)?;
                let loader = match loader {
                    Some(loader) => loader.clone(),
                    None => env::current_exe()
                        .map_err(|error| ProcessError::system("name this program", error))?,
                };
                let path = absolute(library)?;
                let arguments = vec![LIBRARY_ARGUMENT.into(), path.clone().into_os_string()];
                (executable(&loader)?, Some(path), stem(library), arguments)
            }
        };
        let program = ProcessProgram(Arc::new(Checked {
            name,
            file,
            library,
            arguments,
            environment: self.environment.clone(),
            inherits: self.inherits,
            folder: self.folder.clone(),
            sandbox: self.sandbox.clone().map(Sandbox::absolute).transpose()?,
        }));
        program.walls()?;
        Ok(program)
    }
}

/// A program that can be started any number of times. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct ProcessProgram(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    name: String,
    file: PathBuf,
    library: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    inherits: bool,
    folder: Option<PathBuf>,
    sandbox: Option<Sandbox>,
}

impl ProcessProgram {
    /// The name of the component, unless its options set one.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// The path of the file to run: absolute.
    pub(crate) fn file(&self) -> &Path {
        &self.0.file
    }

    pub(crate) fn arguments(&self) -> &[OsString] {
        &self.0.arguments
    }

    pub(crate) fn folder(&self) -> Option<&Path> {
        self.0.folder.as_deref()
    }

    /// Whether it runs in a sandbox.
    pub(crate) fn is_sandboxed(&self) -> bool {
        self.0.sandbox.is_some()
    }

    /// The walls around the next run, if it has a sandbox.
    pub(super) fn walls(&self) -> Result<Option<Walls>, ProcessError> {
        let files: Vec<&Path> =
            [Some(&self.0.file), self.0.library.as_ref()].into_iter().flatten().map(|file| &**file).collect();
        self.0.sandbox.as_ref().map(|sandbox| sandbox.build(&files)).transpose()
    }

    /// The environment of the next run.
    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        let inherited = env::vars_os().filter(|(name, _)| {
            self.0.inherits || INHERITED.iter().any(|inherited| OsStr::new(inherited) == name)
        });
        inherited.chain(self.0.environment.iter().cloned()).collect()
    }
}

impl fmt::Debug for ProcessProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Refuses limits that cannot be enforced: a program publishes without a call for each message, so the host
/// cannot refuse any.
fn refuse_unenforced(limits: &ComponentLimits) -> Result<(), ProcessError> {
    let set = [
        (Limit::PublishMessages, limits.publish_messages.is_some()),
        (Limit::PublishBytes, limits.publish_bytes.is_some()),
        (Limit::HostCalls, limits.host_calls.is_some()),
    ];
    match set.into_iter().find(|(_, is_set)| *is_set) {
        Some((limit, _)) => Err(ProcessError::Unenforced { limit }),
        None => Ok(()),
    }
}

/// Finds a program, and checks that this process may run it.
fn executable(program: &Path) -> Result<PathBuf, ProcessError> {
    let is_path = program.as_os_str().as_encoded_bytes().contains(&b'/');
    let path = if is_path { absolute(program)? } else { in_search_path(program)? };
    let refused = |reason: String| ProcessError::NotExecutable { program: program.to_owned(), reason };
    let metadata = std::fs::metadata(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ProcessError::Missing { program: program.to_owned() },
        _ => refused(error.to_string()),
    })?;
    if !metadata.is_file() {
        return Err(refused("it is not a regular file".to_owned()));
    }
    match access(&path, Access::EXEC_OK) {
        Ok(()) => Ok(path),
        Err(error) => Err(refused(format!("{error}; see its permissions"))),
    }
}

fn in_search_path(program: &Path) -> Result<PathBuf, ProcessError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = env::split_paths(&path).map(|folder| folder.join(program));
    let found =
        candidates.find(|candidate| candidate.is_file() && access(candidate, Access::EXEC_OK).is_ok());
    absolute(&found.ok_or_else(|| ProcessError::Missing { program: program.to_owned() })?)
}

/// Makes a path absolute for a process whose folder may differ.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, ProcessError> {
    std::path::absolute(path).map_err(|error| ProcessError::system("find the current folder", error))
}

/// Returns a file's name without `lib` and everything from the first dot on.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let stem = name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(&name);
    stem.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(stem).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::limits::Rate;

    fn check(source: &ProcessSource) -> Result<ProcessProgram, ProcessError> {
        source.checked(&ComponentLimits::default())
    }

    #[test]
    fn programs_are_found_by_path_or_name_and_refused_with_a_reason() {
        assert_eq!(check(&ProcessSource::program("/bin/true")).unwrap().file(), Path::new("/bin/true"));
        let found = check(&ProcessSource::program("true")).unwrap();
        assert!(found.file().is_absolute() && found.file().ends_with("true"), "{found:?}");
        assert_eq!(found.name(), "true");
        for missing in ["no-such-program", "/no/such/program", ""] {
            let error = check(&ProcessSource::program(missing)).unwrap_err();
            assert!(
                matches!(&error, ProcessError::Missing { program } if program == Path::new(missing)),
                "{error}"
            );
        }
        let error = check(&ProcessSource::program("/tmp")).unwrap_err();
        assert!(error.to_string().ends_with("it is not a regular file"), "{error}");
        let file = env::temp_dir().join(format!("blockcast-text-{}", std::process::id()));
        std::fs::write(&file, "text").unwrap();
        let error = check(&ProcessSource::program(&file)).unwrap_err();
        assert!(error.to_string().ends_with("see its permissions"), "{error}");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_library_is_examined_before_any_process_starts() {
        let error = check(&ProcessSource::library("/no/such/lib.so")).unwrap_err();
        assert!(matches!(error, ProcessError::Library(_)), "{error}");
    }

    #[test]
    fn limits_that_nobody_would_enforce_are_refused() {
        let limits =
            ComponentLimits { publish_bytes: Some(Rate::per_second(1)), ..ComponentLimits::default() };
        let error = ProcessSource::program("true").checked(&limits).unwrap_err();
        assert!(error.to_string().contains("publish-bytes"), "{error}");
    }

    #[test]
    fn the_environment_is_what_was_chosen() {
        let names = |source: &ProcessSource| {
            let environment = check(source).unwrap().environment();
            environment.into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let source = ProcessSource::program("true").environment("ADDED", "1");
        let few = names(&source);
        assert!(few.contains(&"ADDED".to_owned()) && few.contains(&"PATH".to_owned()), "{few:?}");
        assert!(!few.iter().any(|name| name.starts_with("CARGO")), "{few:?}");
        let all = names(&source.inherit_environment(true));
        assert!(
            all.contains(&"ADDED".to_owned()) && all.iter().any(|name| name.starts_with("CARGO")),
            "{all:?}"
        );
    }
}
