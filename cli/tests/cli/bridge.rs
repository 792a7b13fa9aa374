//! `bridge` and the section `[bridge]`, with a stand-in for the program `blockcast-bridge`. The bridge's own
//! tests run the real one with this tool.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::{Folder, PATIENCE, POLITE, Running, component, output, stderr, stdout};

/// Refuses `--connect=nobody`, and accepts everything else for `--check`.
const CHECKS: &str = r#"#!/bin/sh
for argument; do
    if [ "$argument" = "--connect=nobody" ]; then
        echo "blockcast-bridge: --connect nobody: this is nobody" >&2
        exit 2
    fi
done
[ "$1" != --check ] || exit 0
"#;

/// Prints its number and its arguments.
const SPEAKS: &str = r#"
echo "blockcast-bridge: running as $$" >&2
for argument; do printf '<%s>\n' "$argument" >&2; done
"#;

const GOES_ON: &str = "while :; do sleep 0.01; done\n";
/// Says so when it is asked to end.
const BIDS_FAREWELL: &str = "trap 'echo farewell >&2; exit 0' TERM\n";

/// A folder for one test, with a link to the tool in a second folder, where no bridge is beside it.
struct Place {
    files: Folder,
    tools: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&tools).expect("a folder");
        fs::hard_link(env!("CARGO_BIN_EXE_blockcast"), tools.join("blockcast")).expect("a link");
        Self { files: Folder::new(name), tools }
    }

    /// A program that the tool finds in `PATH`. It does `first` before it says anything, and `rest`
    /// afterwards.
    fn stand_in(&self, first: &str, rest: &str) {
        let text = self.files.file("text", &format!("{CHECKS}{first}{SPEAKS}{rest}"));
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).expect("it is executable");
        // If this process wrote the program, a child that another test forks meanwhile could hold it open,
        // and starting it would fail with ETXTBSY.
        let copied =
            Command::new("cp").args(["-p", &text]).arg(self.files.0.join("blockcast-bridge")).status();
        assert!(copied.expect("cp starts").success());
    }

    /// The tool, with the stand-in before all else in `PATH`.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut path = self.files.0.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").expect("a path"));
        self.command_in(&path, arguments)
    }

    /// The tool with this `PATH`.
    fn command_in(&self, path: &OsString, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.tools.join("blockcast"));
        command.args(arguments).env("PATH", path).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    fn serve(&self, manifest: &str) -> Running {
        let manifest = self.files.file("host.toml", manifest);
        Running::start(self.command(&["serve", &manifest]))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.tools);
    }
}

/// Waits for the program's first line. Returns its number.
fn pid(host: &mut Running) -> Pid {
    host.says("running as ");
    let line = host.said.last().expect("a line");
    assert!(line.starts_with("bridge INFO  running as "), "{line}");
    let number = line.rsplit(' ').next().and_then(|number| number.parse().ok());
    number.and_then(Pid::from_raw).expect("a number")
}

#[test]
fn bridge_runs_the_program_with_all_arguments_and_passes_its_exit_code_on() {
    let place = Place::new("bridge-runs");
    place.stand_in("", "echo to standard output; exit 7\n");
    let run =
        place.command(&["bridge", "--both", "a b", "--help", "-x", "--", "é"]).output().expect("starts");
    assert_eq!(run.status.code(), Some(7));
    assert_eq!(stdout(&run), "to standard output\n");
    let said: Vec<_> = stderr(&run).lines().skip(1).collect();
    assert_eq!(said, ["<--both>", "<a b>", "<--help>", "<-x>", "<-->", "<é>"]);
    place.stand_in("", "kill -9 $$\n");
    let run = place.command(&["bridge"]).output().expect("starts");
    assert_eq!(run.status.signal(), Some(9), "{run:?}");
}

#[test]
fn without_the_program_bridge_says_how_to_install_it() {
    let place = Place::new("bridge-none");
    let nowhere = place.files.0.clone().into_os_string();
    let run = place.command_in(&nowhere, &["bridge"]).output().expect("starts");
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("cargo install --path bridges/zenoh"), "{}", stderr(&run));
    let manifest = place.files.file("host.toml", "[serve]\nsocket = \"s\"\n[bridge]\nboth = [\"*\"]\n");
    let run = place.command_in(&nowhere, &["serve", &manifest]).output().expect("starts");
    assert_eq!(run.status.code(), Some(2));
    let said = stderr(&run);
    assert!(said.contains("host.toml:3:1: the program") && said.contains("cargo install"), "{said}");
}

#[test]
fn a_host_starts_the_program_with_the_manifests_settings_and_ends_it_last() {
    let place = Place::new("bridge-host");
    place.stand_in(BIDS_FAREWELL, GOES_ON);
    place.files.file("polite.wat", &component(POLITE));
    let mut host = place.serve(
        "[serve]\nsocket = \"here\"\n[[guest]]\nsource = \"polite.wat\"\n[bridge]\nzenoh = \"z.json5\"\nmode = \
         \"client\"\nconnect = [\"tcp/a:1\", \"tcp/b:2\"]\nlisten = [\"tcp/c:3\"]\nprefix = \"site\"\nboth = \
         [\"x/*\"]\nout = [\"y\"]\nin = [\"z\"]\ndeny = [\"-q\"]\nschema = { w = \"flat1/u32:string\" }\nkey = { \
         y = \"other/y\", 'a=b\\c' = \"d=e\" }\nback-pressure = true\ncache = 5\nbatch = \"32KiB\"\nunchecked = \
         true\nwithout-ends = true\nstats = \"10s\"\n",
    );
    pid(&mut host);
    let folder_of = |name: &str| place.files.0.join(name).display().to_string();
    let expected = [
        "<--mode=client>".to_owned(),
        "<--prefix=site>".to_owned(),
        "<--connect=tcp/a:1>".to_owned(),
        "<--connect=tcp/b:2>".to_owned(),
        "<--listen=tcp/c:3>".to_owned(),
        "<--both=x/*>".to_owned(),
        "<--out=y>".to_owned(),
        "<--in=z>".to_owned(),
        "<--deny=-q>".to_owned(),
        "<--schema=w=flat1/u32:string>".to_owned(),
        r"<--key=a\=b\\c=d=e>".to_owned(),
        "<--key=y=other/y>".to_owned(),
        "<--cache=5>".to_owned(),
        "<--batch=32768>".to_owned(),
        "<--stats=10>".to_owned(),
        format!("<--zenoh={}>", folder_of("z.json5")),
        "<--back-pressure>".to_owned(),
        "<--unchecked>".to_owned(),
        "<--without-ends>".to_owned(),
        format!("<--socket={}>", folder_of("here")),
    ];
    expected.iter().for_each(|argument| host.says(argument));
    let said: Vec<_> = host.said.iter().filter_map(|line| line.strip_prefix("bridge INFO  <")).collect();
    assert_eq!(said, expected.iter().map(|argument| &argument[1..]).collect::<Vec<_>>());
    host.interrupt();
    host.says("farewell");
    let is_ended = |line: &String| line.contains("polite") && line.contains("ENDED");
    assert!(host.said.iter().any(is_ended), "the guest ends first: {:?}", host.said);
    let (status, printed) = host.end();
    assert!(status.success(), "{status}: {printed}");
}

/// Waits until the stand-in has written this file.
fn wait_for(file: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !file.exists() {
        assert!(Instant::now() < deadline, "the program did not write {}", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The manifest's folder has a name that is not UTF-8, and the socket's starts with a dash.
#[test]
fn paths_reach_the_program_as_they_are() {
    let place = Place::new("bridge-paths");
    let says = "for argument; do printf %s \"$argument\" >>said; done; mv said done\n";
    place.stand_in("", &format!("{says}{GOES_ON}"));
    let folder = place.files.0.join(OsStr::from_bytes(b"folder \xff"));
    fs::create_dir(&folder).expect("a folder");
    let text = "[serve]\nsocket = \"-here\"\n[bridge]\nzenoh = \"z.json5\"\n";
    fs::write(folder.join("host.toml"), text).expect("it is written");
    // Relative to the manifest's folder, so the socket's path starts with a dash.
    let mut command = place.command(&["serve", "host.toml"]);
    command.current_dir(&folder);
    let host = Running::start(command);
    let said = folder.join("done");
    wait_for(&said);
    assert_eq!(fs::read(said).expect("it is there"), b"--zenoh=z.json5--socket=-here");
    drop(host);

    let mut manifest = folder.clone().into_os_string();
    manifest.push("/host.toml");
    let mut command = place.command(&["serve"]);
    command.arg(&manifest).current_dir(&place.files.0);
    let host = Running::start(command);
    let said = place.files.0.join("done");
    wait_for(&said);
    let of = |flag: &[u8], name: &[u8]| [flag, folder.as_os_str().as_bytes(), b"/", name].concat();
    let expected = [of(b"--zenoh=", b"z.json5"), of(b"--socket=", b"-here")].concat();
    assert_eq!(fs::read(said).expect("it is there"), expected);
    drop(host);
}

#[test]
fn a_host_starts_the_program_again_and_ends_it_even_when_killed() {
    let place = Place::new("bridge-again");
    place.stand_in(BIDS_FAREWELL, GOES_ON);
    let mut host = place.serve("[serve]\nsocket = \"here\"\n[bridge]\nout = [\"*\"]\n");
    let first = pid(&mut host);
    kill_process(first, Signal::KILL).expect("it runs");
    host.says("bridge ERROR signal: 9 (SIGKILL); starts again in 1s");
    let second = pid(&mut host);
    assert_ne!(first, second);
    host.signal(Signal::KILL);
    while test_kill_process(second).is_ok() && !is_zombie(second) {
        std::thread::yield_now();
    }
}

/// In a container, nobody may wait for processes whose parent is gone.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z')))
}

/// It does not end when asked to.
#[test]
fn a_host_kills_a_program_that_does_not_end() {
    let place = Place::new("bridge-stubborn");
    place.stand_in("trap '' TERM\n", GOES_ON);
    let mut host = place.serve("[serve]\nsocket = \"here\"\n[bridge]\nout = [\"*\"]\n");
    let program = pid(&mut host);
    host.interrupt();
    host.says("does not end when asked to, and is killed");
    assert!(host.end().0.success());
    assert!(test_kill_process(program).is_err());
}

#[test]
fn errors_of_a_bridge_include_the_manifests_line() {
    let place = Place::new("bridge-errors");
    place.stand_in("", "exit 0\n");
    let cases = [
        ("[bridge]\nconect = []\n", "host.toml:2:1: unknown field `conect`"),
        (
            "[bridge]\nboth = [\"a\"]\nconnect = [\"tcp/a:1\", \"nobody\"]\n",
            "host.toml:3:11: the bridge refuses this",
        ),
        ("\n[bridge]\nprogram = \"./none\"\n", "host.toml:3:11: the program"),
        ("[bridge]\nstats = 10\n", "host.toml:2:9: "),
        ("[bridge]\ncache = -1\n", "host.toml:2:9: "),
        ("[bridge]\n[bridge]\n", "host.toml:2:2: "),
    ];
    for (text, expected) in cases {
        let manifest = place.files.file("host.toml", text);
        let run = place.command(&["serve", &manifest]).output().expect("starts");
        assert_eq!(run.status.code(), Some(2), "{text}");
        assert!(stderr(&run).contains(expected), "{text}: {}", stderr(&run));
    }
    let manifest = place.files.file("run.toml", "[[guest]]\nsource = \"a.wat\"\n[bridge]\n");
    let run = output(&["run", &manifest]);
    assert_eq!(run.status.code(), Some(2));
    let said = stderr(&run);
    assert!(said.contains("run.toml:3:1: ") && said.contains("use `blockcast serve`"), "{said}");
}
