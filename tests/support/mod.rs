//! Runs the built example `complex` as a separate program and reads its output.

#[path = "../../examples/guests/library.rs"]
mod library;
mod program;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bounds one run of the example, which takes seconds: whatever takes longer hangs. Only wasmtime compiles
/// during a run, namely the example's guests. Its libraries are built beforehand (see [`libraries`]).
const PATIENCE: Duration = Duration::from_secs(600);

/// A finished run of the example.
#[derive(Debug)]
pub struct Run {
    /// `None` if a signal killed it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub kind: String,
    pub messages: u64,
    pub strings: u64,
    pub bytes: u64,
    /// `None` for a subscriber.
    pub copied: Option<u64>,
    /// `None` for a publisher.
    pub lost: Option<u64>,
}

impl Run {
    /// Returns the row of `name` in the table.
    #[track_caller]
    pub fn row(&self, name: &str) -> Row {
        let row = self.line(name);
        let fields: Vec<&str> = row.split_whitespace().collect();
        let [kind, messages, strings, bytes, _rate, copied, lost] = fields[..] else {
            panic!("{name}: {row:?} in {self:#?}")
        };
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} in {self:#?}"));
        Row {
            kind: kind.to_owned(),
            messages: number(messages),
            strings: number(strings),
            bytes: number(bytes),
            copied: (copied != "-").then(|| number(copied)),
            lost: (lost != "-").then(|| number(lost)),
        }
    }

    /// Returns the text after `name` in the output.
    #[track_caller]
    pub fn line(&self, name: &str) -> &str {
        let line = self.out.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name:?} in {self:#?}")).trim()
    }

    /// Returns the counts of the text, `(lines, words, longest line)`, and its hash.
    #[track_caller]
    pub fn text(&self) -> (u64, u64, u64, String) {
        let fields: Vec<&str> = self.line("text").split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let [lines, "lines", words, "words", "longest", "line", longest, "bytes", "hash", hash] = fields[..]
        else {
            panic!("{fields:?}")
        };
        let number = |text: &str| text.parse().expect("a number");
        (number(lines), number(words), number(longest), hash.to_owned())
    }

    /// Checks that both subscribers received all messages and `strings` without a copy or a loss, and that
    /// every block has returned.
    #[track_caller]
    pub fn received(&self, strings: u64) {
        let published = self.row("publisher");
        assert_eq!(published.strings, strings, "{self:#?}");
        for name in ["subscriber 1", "subscriber 2"] {
            let row = self.row(name);
            assert_eq!((row.messages, row.strings), (published.messages, strings), "{name}: {self:#?}");
            assert_eq!((row.copied, row.lost), (None, Some(0)), "{name}: {self:#?}");
        }
        assert_eq!(self.line("blocks"), "all back in their pools", "{self:#?}");
    }

    /// Checks that the run succeeded and printed nothing but its table.
    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!((self.code, &*self.said()), (Some(0), ""), "{self:#?}");
    }

    /// Checks that the run failed with this one line of explanation.
    #[track_caller]
    pub fn failed(&self, message: &str) {
        assert_eq!((self.code, &*self.said()), (Some(1), &*format!("complex: {message}\n")), "{self:#?}");
    }

    /// Returns its standard error, except for lines about what it waits for. On a busy machine it may wait
    /// long for anything.
    pub fn said(&self) -> String {
        self.err.split_inclusive('\n').filter(|line| !line.starts_with("complex: waiting for ")).collect()
    }
}

/// A run of the example in progress.
pub struct Running {
    child: Child,
    started: Instant,
}

/// Returns the folder with the example's libraries. The first call builds them with cargo.
pub fn libraries() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let files = ["complex-publisher", "complex-subscriber"].map(|package| {
            library::build(package)
                .unwrap_or_else(|why| panic!("{package} cannot be built as a library: {why}"))
        });
        files[0].parent().expect("a library is in a folder").to_owned()
    });
    &FOLDER
}

/// Starts the example in the deployment `library`, with libraries that are already built.
pub fn start_library(arguments: &[&str], input: Stdio) -> Running {
    let arguments = [&["--deployment", "library"][..], arguments].concat();
    let folder = libraries();
    start_with(&arguments, |command| command.stdin(input).env("BLOCKCAST_LIBRARIES", folder))
}

/// Starts the example with an empty standard input.
pub fn start(arguments: &[&str]) -> Running {
    start_with(arguments, |command| command.stdin(Stdio::null()))
}

/// Starts the example after `set` has completed the command. Its output goes into pipes.
pub fn start_with(arguments: &[&str], set: impl FnOnce(&mut Command) -> &mut Command) -> Running {
    let mut command = Command::new(program::of("complex"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    let child = set(&mut command).spawn().expect("the example starts");
    Running { child, started: Instant::now() }
}

/// Runs the example with these bytes in a pipe as its standard input.
pub fn feed(arguments: &[&str], input: &[u8]) -> Run {
    start_with(arguments, |command| command.stdin(Stdio::piped())).feed(input)
}

impl Running {
    /// Returns the writing end of its standard input.
    pub fn input(&mut self) -> impl Write + Send + use<> {
        self.child.stdin.take().expect("standard input is a pipe")
    }

    /// Writes these bytes to its standard input, which is a pipe, and waits until it ends.
    #[track_caller]
    pub fn feed(mut self, input: &[u8]) -> Run {
        let mut pipe = self.input();
        let input = input.to_vec();
        // It may end before it has read everything.
        let feeding = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let run = self.end();
        feeding.join().expect("no panic");
        run
    }

    /// Returns the reading end of its standard output.
    pub fn output(&mut self) -> impl Read + Send + use<> {
        self.child.stdout.take().expect("standard output is a pipe")
    }

    /// Waits until its signal mask shows that it listens for Ctrl-C, which it does once text flows.
    pub fn flows(&mut self) {
        const INTERRUPT: u64 = 1 << (2 - 1);
        let file = format!("/proc/{}/status", self.child.id());
        loop {
            let status = std::fs::read_to_string(&file).expect("it runs");
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = u64::from_str_radix(caught.expect("it has a mask").trim(), 16).expect("a mask");
            if caught & INTERRUPT != 0 {
                return;
            }
            let ended = self.child.try_wait().expect("it can be waited for");
            assert!(ended.is_none() && self.started.elapsed() < PATIENCE, "no text flows: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the signal of Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.expect("there is a shell").success());
    }

    /// Waits until it reports on standard error that it waits for `what`.
    #[track_caller]
    pub fn waits_for(&mut self, what: &str) {
        let (wanted, mut said) = (format!("complex: waiting for {what}\n"), String::new());
        while !said.ends_with(&wanted) {
            let pipe = self.child.stderr.as_mut().expect("a pipe");
            let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&limit)).expect("can be polled");
            let mut byte = [0];
            assert!(ready > 0 && pipe.read(&mut byte).expect("readable") > 0, "it only said {said:?}");
            said.push(byte[0].into());
        }
    }

    /// Waits until it ends.
    #[track_caller]
    pub fn end(self) -> Run {
        self.end_within(Some(PATIENCE))
    }

    /// Waits until it ends, without a limit. It builds its libraries first, which may take any time.
    #[track_caller]
    pub fn end_after_compiling(self) -> Run {
        self.end_within(None)
    }

    #[track_caller]
    fn end_within(mut self, limit: Option<Duration>) -> Run {
        // Read while it runs, so that it need not wait for this test.
        let out = self.child.stdout.take().map(read);
        let err = self.child.stderr.take().map(read);
        while self.child.try_wait().expect("it can be waited for").is_none() {
            if limit.is_some_and(|limit| self.started.elapsed() > limit) {
                self.child.kill().expect("it can be killed");
                let text = |reader: Option<Reader>| reader.map(|reader| reader.join().expect("no panic"));
                panic!("it hangs; it said {:?} and {:?}", text(out), text(err));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = self.started.elapsed();
        let status = self.child.wait().expect("it has ended");
        let text = |reader: Option<Reader>| {
            reader.map_or_else(String::new, |reader| reader.join().expect("no panic"))
        };
        let run = Run { code: status.code(), out: text(out), err: text(err), took };
        assert!(!run.err.contains("panicked"), "{run:#?}");
        run
    }
}

type Reader = std::thread::JoinHandle<String>;

fn read(mut pipe: impl Read + Send + 'static) -> Reader {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).expect("a pipe can be read");
        String::from_utf8(text).expect("the example prints UTF-8")
    })
}

/// A file or a folder that is deleted at the end of the test.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates an empty folder.
    pub fn folder() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("complex-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir(&path).expect("the folder can be made");
        Self(path)
    }

    /// Returns the path of the file `name` in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes the file `name` and returns its path.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        File::create(&path).and_then(|mut file| file.write_all(content)).expect("the file can be written");
        path
    }

    /// Returns the folder's own path.
    pub fn name(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
