//! What processes in a sandbox cannot do, while they take part in topics like others.

mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use blockcast::{Broker, ComponentLimits, ExitReason, Grants, ProcessError, Sandbox, StartError};

use support::{Process, deadline, options, program, publish, publisher, receive, subscriber};

/// A folder that is removed with this.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("blockcast-sandbox-{}-{name}", std::process::id()));
        for part in ["readable", "writable", "secret"] {
            fs::create_dir_all(folder.join(part)).expect("a folder can be created");
            fs::write(folder.join(part).join("text"), "text").expect("a file can be written");
        }
        Self(folder)
    }

    fn path(&self, part: &str) -> String {
        self.0.join(part).to_str().expect("the name has only ASCII").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `task` in `sandbox`, if there is one, with the folder's parts as parameters.
fn run(task: &str, sandbox: impl Into<Option<Sandbox>>, folder: &Folder) -> (ExitReason, Vec<String>) {
    let (with, said) = options(task, |_| {});
    let target = 0_u8;
    let socket = UnixDatagram::bind(folder.0.join("socket")).expect("a socket can be bound");
    let with = with
        .parameter("host", std::process::id().to_string())
        .parameter("address", (&raw const target).addr().to_string())
        .parameter("socket", folder.path("socket"))
        .parameter("readable", folder.path("readable"))
        .parameter("writable", folder.path("writable"))
        .parameter("secret", folder.path("secret"));
    let source = sandbox.into().map_or_else(program, |sandbox| program().sandbox(sandbox));
    let broker = Broker::new();
    let component = broker.supervise_process(&source, with).expect("it starts");
    let reason = component.wait().reason;
    drop(socket);
    fs::remove_file(folder.0.join("socket")).expect("it was bound");
    (reason, said.lines())
}

/// Whether the system offers what a sandbox needs. Says so if it does not.
fn offered() -> bool {
    match program().sandbox(Sandbox::new()).check(&ComponentLimits::default()) {
        Err(error @ ProcessError::Sandbox { .. }) => eprintln!("skipped: {error}"),
        checked => {
            checked.expect("the program can be run");
            return true;
        }
    }
    false
}

/// The lines of `said` that do not end in one of `refusals`.
fn not_refused<'a>(said: &'a [String], refusals: &[&str]) -> Vec<&'a str> {
    let is_refused = |line: &str| refusals.iter().any(|refusal| line.ends_with(refusal));
    said.iter().map(|line| &**line).filter(|line| !is_refused(line)).collect()
}

/// What `escape` says if all that a sandbox refuses is refused.
const ALLOWED: [&str; 7] = [
    "a call of the future: ENOSYS",
    "end with the host: done",
    "files as a record asks: ENOSYS",
    "streams: done",
    "packets between threads: done",
    "readable bytes: done",
    "thread: 2",
];

#[test]
fn a_process_in_a_sandbox_reaches_neither_other_processes_nor_the_network() {
    if !offered() {
        return;
    }
    let folder = Folder::new("escape");
    let (reason, said) = run("escape", Sandbox::new(), &folder);
    assert_eq!(reason, ExitReason::Finished, "{said:?}");
    assert_eq!(not_refused(&said, &["EPERM", "EACCES"]), ALLOWED);
    assert_eq!(said.len(), 38, "{said:?}");
    // The same calls without a sandbox, except for those that the system itself may refuse.
    let (reason, said) = run("escape", None, &folder);
    assert_eq!(reason, ExitReason::Finished);
    let calls = [
        "signal",
        "limits",
        "permissions",
        "times",
        "list attributes",
        "listen for changes",
        "survive the host",
        "datagram",
        "raw datagram",
        "fork",
        "command",
        "network",
        "packets",
    ];
    for call in calls {
        assert!(said.contains(&format!("{call}: done")), "{call}: {said:?}");
    }
    assert!(!said.contains(&"shared memory: EPERM".to_owned()), "{said:?}");
}

#[test]
fn a_network_is_a_matter_of_permission() {
    if !offered() {
        return;
    }
    let folder = Folder::new("network");
    let (_, said) = run("escape", Sandbox::new().network(true), &folder);
    let also = not_refused(&said, &["EPERM", "EACCES"]).into_iter().filter(|line| !ALLOWED.contains(line));
    assert!(also.eq(["network: done", "packets: done"]), "{said:?}");
}

#[test]
fn files_are_used_as_the_sandbox_allows() {
    if !offered() {
        return;
    }
    let folder = Folder::new("files");
    let sandbox = Sandbox::new().read(folder.path("readable")).write(folder.path("writable"));
    let (reason, said) = run("files", sandbox, &folder);
    assert_eq!(reason, ExitReason::Finished, "{said:?}");
    let done: Vec<_> = said.iter().filter_map(|line| line.strip_suffix(": done")).collect();
    assert_eq!(
        done,
        [
            "readable: list",
            "readable: read",
            "writable: list",
            "writable: read",
            "writable: change",
            "writable: truncate",
            "writable: create",
            "writable: create folder",
            "writable: rename",
            "writable: link",
            "writable: remove",
            "writable: create for all",
        ],
        "{said:?}"
    );
    // Without a sandbox, all of them work: a file that lends its owner's rights as well.
    let (_, said) = run("files", None, &Folder::new("all-files"));
    assert_eq!(not_refused(&said, &["done"]), [""; 0]);
    assert_eq!(not_refused(&said, &["EPERM", "EACCES", "done"]), [""; 0]);
    assert!(folder.0.join("secret/text").exists() && folder.0.join("readable/text").exists());
}

/// Such a process would stay behind as a zombie, because the host does not know of it.
#[test]
fn a_sandboxed_process_starts_no_processes_in_the_name_of_its_host() {
    if !offered() {
        return;
    }
    let folder = Folder::new("sibling");
    let (reason, said) = run("sibling", Sandbox::new().processes(true), &folder);
    assert_eq!((reason, said), (ExitReason::Finished, vec!["sibling: EPERM".to_owned()]));
}

#[test]
fn processes_that_a_sandboxed_process_starts_end_with_it() {
    if !offered() {
        return;
    }
    for (sandbox, is_allowed) in [(Sandbox::new().processes(true), true), (Sandbox::new(), false)] {
        let (with, said) = options("start", |_| {});
        let broker = Broker::new();
        let component = broker.supervise_process(&program().sandbox(sandbox), with).expect("it starts");
        let answer = said.await_line("start: ");
        // Opened while its parent still runs.
        let child = answer.parse().ok().map(Process::new);
        component.request_shutdown();
        assert_eq!(component.wait().reason, ExitReason::Finished);
        assert_eq!(child.is_some(), is_allowed, "{answer}");
        match child {
            Some(child) => child.await_end(),
            None => assert_eq!(answer, "EPERM"),
        }
    }
}

/// The process changes a message that this one holds. Without a sandbox, that works.
#[test]
fn a_message_from_a_sandbox_cannot_change() {
    if !offered() {
        return;
    }
    for (source, expected) in [(program().sandbox(Sandbox::new()), 1), (program(), 2)] {
        let broker = Broker::new();
        let (mut numbers, mut changes) = (subscriber(&broker), publisher(&broker));
        let (with, said) = options("change", |_| {});
        let with = with.grants(Grants::new().publish("out").subscribe("out").subscribe("in"));
        let component = broker.supervise_process(&source, with).expect("it starts");
        let message = numbers.blocking_recv(deadline()).expect("it was published");
        publish(&mut changes, 0);
        said.await_line("changed");
        // The reads must not be merged with earlier ones.
        assert_eq!(std::hint::black_box(message.view())[0], expected);
        component.request_shutdown();
        assert_eq!(component.wait().reason, ExitReason::Finished);
    }
}

#[test]
fn a_process_in_a_sandbox_takes_part_like_others() {
    if !offered() {
        return;
    }
    let broker = Broker::new();
    let (mut answers, mut numbers) = (subscriber(&broker), publisher(&broker));
    let (with, said) = options("echo", |_| {});
    let component = broker.supervise_process(&program().sandbox(Sandbox::new()), with).expect("it starts");
    said.await_running();
    for number in 0..100 {
        publish(&mut numbers, number);
        assert_eq!(receive(&mut answers), number + 1);
    }
    drop(numbers);
    assert_eq!(component.wait().reason, ExitReason::Finished);
}

#[test]
fn a_sandbox_that_names_a_missing_file_is_refused() {
    if !offered() {
        return;
    }
    let source = program().sandbox(Sandbox::new().read("/no/such/file"));
    let error = Broker::new().spawn_process(&source, Default::default(), []).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StartError::Process(ProcessError::SandboxPath { .. })), "{error:?}");
    assert!(text.contains("/no/such/file") && text.contains("No such file"), "{text}");
}

/// Otherwise a process could replace a file that its rules name by a link to any file, for its next run.
#[test]
fn rules_do_not_follow_links_out_of_a_folder_in_which_the_process_may_write() {
    if !offered() {
        return;
    }
    let folder = Folder::new("links");
    for (name, target) in [("outside", "../secret"), ("inside", "text")] {
        std::os::unix::fs::symlink(target, folder.0.join("writable").join(name)).expect("it is new");
    }
    let check = |name: &str| {
        let sandbox = Sandbox::new().write(folder.path("writable")).read(folder.path(name));
        program().sandbox(sandbox).check(&ComponentLimits::default())
    };
    check("writable/inside").expect("it stays in the folder");
    check("secret").expect("no process may change where that leads");
    let error = check("writable/outside").unwrap_err();
    assert!(matches!(error, ProcessError::SandboxPath { .. }), "{error:?}");
    assert!(error.to_string().contains("leads out of"), "{error}");
}
