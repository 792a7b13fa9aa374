//! How native components start and end, and that they leave nothing behind.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{build, library, load, options, start};
use blockcast_blocks::Bytes;
use blockcast_blocks::abi::Misfit;
use blockcast_broker::{
    Broker, Component, ComponentState, ExitReason, LibraryError, LibraryFile, Limit, Restart, RestartPolicy,
    StartError,
};

const MS: Duration = Duration::from_millis(1);
/// Bounds the wait for a message, or for the end of a component that never ends by itself.
const PATIENCE: Duration = Duration::from_secs(600);

fn refused(path: &Path) -> LibraryError {
    // SAFETY: files that are not built from `component.c` are refused before any of their code runs.
    match unsafe { Broker::new().load_library(path) } {
        Err(StartError::Library(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Counts this process's mappings and open files of the library.
fn traces(library: &Path) -> usize {
    let name = library.file_name().expect("a name").to_string_lossy().into_owned();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
    let files = std::fs::read_dir("/proc/self/fd").expect("readable").filter_map(Result::ok);
    // Another test may close a file meanwhile.
    let files = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    let open = files.filter(|file| file.to_string_lossy().contains(&name)).count();
    maps.lines().filter(|line| line.contains(&name)).count() + open
}

/// Receives a hundred messages from "out".
fn receive_messages(broker: &Broker) {
    let mut subscriber = broker.subscriber::<Bytes>("out", Default::default()).expect("plain bytes");
    for _ in 0..100 {
        subscriber.blocking_recv_ref(Some(Instant::now() + PATIENCE)).expect("a message");
    }
}

fn assert_runs(component: &Component) {
    std::thread::sleep(100 * MS);
    assert_eq!(component.state(), ComponentState::Running, "{component:?}");
}

#[test]
fn a_file_that_is_not_an_app_is_refused_with_a_reason() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let nowhere = refused(&folder.join("libnowhere.so"));
    assert!(matches!(nowhere, LibraryError::Missing { .. }), "{nowhere}");
    for path in [folder, Path::new("/dev/zero")] {
        let error = refused(path);
        assert!(matches!(error, LibraryError::Unreadable { .. }), "{path:?}");
        assert!(error.to_string().ends_with("cannot be read: not a regular file"), "{error}");
    }
    let whole = std::fs::read(library()).expect("readable");
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty.so", b"", "it is empty"),
        ("text.so", b"#!/bin/sh\n", "it is not an ELF file"),
        ("guest.so", b"\0asm\x0d\0\x01\0", "it is a wasm guest"),
        ("third.so", &whole[..whole.len() / 3], "it is cut off"),
    ];
    for (name, content, reason) in cases {
        let path = folder.join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("written");
        let error = refused(&path);
        assert!(
            matches!(&error, LibraryError::NotALibrary { reason: found, .. } if found == reason),
            "{error}"
        );
        std::fs::remove_file(&path).expect("it exists");
    }
    for len in (0..whole.len()).step_by(64) {
        let path = folder.join(format!("{}-cut.so", std::process::id()));
        std::fs::write(&path, &whole[..len]).expect("written");
        let error = refused(&path);
        assert!(matches!(error, LibraryError::NotALibrary { .. }), "{len} of {} bytes: {error}", whole.len());
    }
    let program = refused(&std::env::current_exe().expect("a path"));
    assert!(matches!(program, LibraryError::NoEntry { .. }), "{program}");
}

#[test]
fn a_library_with_a_missing_function_is_refused_under_its_own_name() {
    let library = build(&["CONSTRUCTOR=not_there()", "DECLARATIONS=void not_there(void);"]);
    let error = refused(&library);
    assert!(matches!(&error, LibraryError::Refused { path, .. } if *path == library), "{error}");
    assert!(error.to_string().contains("not_there") && !error.to_string().contains("/proc/self"), "{error}");
}

#[test]
fn a_file_is_inspected_without_running_it() {
    let marked = build(&["CONSTRUCTOR=puts(\"it runs\")"]);
    let file = LibraryFile::read(&marked).expect("an app");
    assert_eq!(file.abi_version, Some(1));
    assert_eq!(
        (file.exports.as_slice(), file.needs.is_empty()),
        (["blockcast_app".to_owned()].as_slice(), false)
    );
}

#[test]
fn an_incompatible_library_is_refused_with_both_versions_or_sizes() {
    let error = refused(&build(&["NO_ENTRY"]));
    assert!(matches!(error, LibraryError::NoEntry { .. }), "{error}");
    let error = refused(&build(&["TABLE={2,4096,run,{0,0}}", "SECTION=\".data.rel.ro\""]));
    assert!(
        matches!(error, LibraryError::Misfit { misfit: Misfit::Version { theirs: 2, ours: 1 }, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("version 2") && error.to_string().contains("version 1"), "{error}");
    // The versions in the file are checked before any of its code runs.
    let error = refused(&build(&["TABLE={3,4096,run,{0,0}}", "CONSTRUCTOR=_exit(3)"]));
    assert!(
        matches!(error, LibraryError::Misfit { misfit: Misfit::Version { theirs: 3, ours: 1 }, .. }),
        "{error}"
    );
    let error = refused(&build(&["NO_ENTRY", "CONSTRUCTOR=_exit(3)"]));
    assert!(matches!(error, LibraryError::NoEntry { .. }), "{error}");
    let error = refused(&build(&["TABLE={1,8,run,{0,0}}"]));
    assert!(matches!(error, LibraryError::Misfit { misfit: Misfit::Size { theirs: 8, .. }, .. }), "{error}");
    let error = refused(&build(&["TABLE={1,sizeof(app),0,{0,0}}"]));
    assert!(matches!(error, LibraryError::Misfit { misfit: Misfit::Null(_), .. }), "{error}");
}

#[test]
fn a_program_has_the_name_it_states_or_that_of_its_file() {
    let broker = Broker::new();
    let program = load(&broker, library());
    assert_eq!((program.name(), program.abi_version()), ("tests-component", 1));
    let nameless = build(&["TABLE={1,sizeof(app),run,{0,0}}"]);
    let name = load(&broker, &nameless).name().to_owned();
    assert!(name.starts_with("component-"), "{name}");
}

#[test]
fn an_exit_reports_what_the_app_returned_and_why_it_failed() {
    let broker = Broker::new();
    let reason = |task: &str| start(&broker, task, |_| {}).wait().reason;
    assert_eq!(reason("fails"), ExitReason::Failed("as intended".to_owned()));
    assert_eq!(reason("returns-nonsense"), ExitReason::Failed("it returned 77".to_owned()));
}

#[test]
fn a_library_is_closed_at_its_end_and_leaves_no_block_behind() {
    let broker = Broker::new();
    broker.keep_topics();
    let library = build(&[]);
    let program = load(&broker, &library);
    assert_eq!(traces(&library), 0, "it was inspected and closed again");
    let component = broker.supervise_library(&program, options("publishes", |_| {})).expect("it starts");
    receive_messages(&broker);
    assert!(traces(&library) > 0);
    component.request_shutdown();
    assert_eq!(component.wait().reason, ExitReason::Finished);
    assert_eq!(traces(&library), 0);
    let topic = broker.topic("out").expect("it exists");
    assert_eq!((topic.publishers.len(), topic.departed.attached), (0, 0), "{topic}");
    std::fs::remove_file(&library).expect("it exists");
    let report = broker.supervise_library(&program, options("works", |_| {})).expect("it starts").wait();
    assert_eq!(report.reason, ExitReason::Finished, "the program keeps its bytes");
}

#[test]
fn a_kept_message_outlives_the_library_that_published_it() {
    let broker = Broker::new();
    broker.keep_topics();
    let mut subscriber = broker.subscriber::<Bytes>("out", Default::default()).expect("a new topic");
    let component = start(&broker, "publishes", |_| {});
    let sample = subscriber.blocking_recv(Some(Instant::now() + PATIENCE)).expect("a message");
    component.request_shutdown();
    drop(subscriber);
    assert_eq!(component.wait().reason, ExitReason::Finished);
    assert_eq!(sample.view(), 0u64.to_le_bytes());
    let attached = || broker.topic("out").expect("it exists").departed.attached;
    assert_eq!(attached(), 1);
    drop(sample);
    assert_eq!(attached(), 0);
}

#[test]
fn components_and_runs_of_one_library_share_no_static_variables() {
    let broker = Broker::new();
    let program = load(&broker, library());
    let components: Vec<Component> = (0..4)
        .map(|_| broker.supervise_library(&program, options("works", |_| {})).expect("starts"))
        .collect();
    for component in components {
        // The component fails if it has run before. It may also fail because of another one's messages, since
        // they share the topic.
        let reason = component.wait().reason;
        assert!(!reason.to_string().contains("runs_before"), "{reason}");
    }
    let policy =
        RestartPolicy { limit: Some(2), initial: MS, restart: Restart::Always, ..RestartPolicy::never() };
    let component =
        broker.supervise_library(&program, options("works", |_| {}).restart(policy)).expect("it starts");
    assert_eq!(component.wait().reason, ExitReason::Finished);
    assert_eq!(component.state(), ComponentState::GivenUp);
    let reasons: Vec<ExitReason> = component.exits().into_iter().map(|exit| exit.reason).collect();
    assert_eq!(reasons, [ExitReason::Finished, ExitReason::Finished, ExitReason::Finished]);
}

#[test]
fn a_component_that_sleeps_finishes_on_shutdown() {
    let broker = Broker::new();
    let component = start(&broker, "sleeps", |_| {});
    assert_runs(&component);
    broker.shut_down();
    assert_eq!(component.wait().reason, ExitReason::Finished);
}

#[test]
fn a_component_that_sleeps_or_publishes_is_cancelled_at_once() {
    for task in ["sleeps", "publishes", "nags"] {
        let broker = Broker::new();
        let component = start(&broker, task, |_| {});
        assert_runs(&component);
        let asked = Instant::now();
        component.cancel();
        assert_eq!(component.wait().reason, ExitReason::Cancelled, "{task}");
        assert!(asked.elapsed() < PATIENCE, "{task}: {:?}", asked.elapsed());
    }
}

#[test]
fn hostile_components_end_with_their_granted_time() {
    let broker = Broker::new();
    let reason = |task: &str, limit: fn(&mut blockcast_broker::ComponentLimits)| {
        start(&broker, task, limit).wait().reason
    };
    assert_eq!(
        reason("sleeps", |limits| limits.run_time = Some(50 * MS)),
        ExitReason::Killed(Limit::RunTime)
    );
    assert_eq!(
        reason("publishes", |limits| limits.run_time = Some(50 * MS)),
        ExitReason::Killed(Limit::RunTime)
    );
    assert_eq!(reason("nags", |limits| limits.compute = Some(20 * MS)), ExitReason::Killed(Limit::Compute));
    let component = start(&broker, "tarries", |limits| limits.shutdown_grace = 1500 * MS);
    assert_runs(&component);
    component.request_shutdown();
    assert_eq!(component.wait().reason, ExitReason::Killed(Limit::ShutdownGrace));
}

#[test]
fn hostile_slow_constructor_counts_as_start_up() {
    let slow = build(&["CONSTRUCTOR=usleep(300000)"]);
    let broker = Broker::new();
    let program = load(&broker, &slow);
    let component = broker
        .supervise_library(&program, options("sleeps", |limits| limits.start_up = 20 * MS))
        .expect("it starts");
    assert_eq!(component.wait().reason, ExitReason::Killed(Limit::StartUp));
}

#[test]
fn hostile_component_that_never_returns_is_abandoned() {
    let broker = Broker::new();
    let policy = RestartPolicy { initial: MS, ..RestartPolicy::always() };
    let program = load(&broker, library());
    let stuck = options("spins", |limits| {
        limits.run_time = Some(50 * MS);
        limits.shutdown_grace = 100 * MS;
    });
    let stuck = broker.supervise_library(&program, stuck.restart(policy)).expect("it starts");
    let ExitReason::Abandoned(why) = stuck.wait().reason else { panic!("{stuck:?}") };
    assert_eq!(why, "ended: its run time is over");
    assert_eq!(
        (stuck.state(), stuck.restarts()),
        (ComponentState::Ended, 0),
        "it is not restarted while it still runs"
    );
    let other = start(&broker, "publishes", |_| {});
    receive_messages(&broker);
    other.request_shutdown();
    assert_eq!(other.wait().reason, ExitReason::Finished);
}

#[test]
fn an_abandoned_library_that_returns_after_all_is_closed() {
    let broker = Broker::new();
    let library = build(&[]);
    let program = load(&broker, &library);
    let component = broker
        .supervise_library(&program, options("tarries", |limits| limits.shutdown_grace = 50 * MS))
        .expect("it starts");
    assert_runs(&component);
    component.request_shutdown();
    assert!(matches!(component.wait().reason, ExitReason::Abandoned(_)), "{component:?}");
    assert!(traces(&library) > 0);
    let deadline = Instant::now() + PATIENCE;
    while traces(&library) > 0 {
        assert!(Instant::now() < deadline, "the library was not closed");
        std::thread::sleep(10 * MS);
    }
}

#[test]
fn counters_can_be_read_while_a_component_runs() {
    let broker = Broker::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for task in ["publishes", "spins"] {
        let component = start(&broker, task, |limits| limits.shutdown_grace = 50 * MS);
        assert_runs(&component);
        // On a busy machine it may take a while to do anything.
        let publishes = task == "publishes";
        let deadline = Instant::now() + PATIENCE;
        let stats = loop {
            let stats = runtime.block_on(component.stats());
            if stats.computed > Duration::ZERO && (stats.published > 0 || !publishes) {
                break stats;
            }
            assert!(Instant::now() < deadline, "{task}: {stats:?}");
            std::thread::sleep(MS);
        };
        if publishes {
            assert!(stats.publishers == 1 && stats.publish_copied_bytes == 0, "{stats:?}");
        }
        component.cancel();
        assert_ne!(component.wait().reason, ExitReason::Finished);
    }
}

#[test]
fn a_log_goes_where_the_options_say() {
    let broker = Broker::new();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let options = options("chats", |_| {})
        .log(Arc::new(move |level, text| kept.lock().expect("no panic").push((level, text.to_owned()))));
    let component = broker.supervise_library(&load(&broker, library()), options).expect("it starts");
    assert_eq!(component.wait().reason, ExitReason::Finished);
    let lines = lines.lock().expect("no panic");
    assert!(lines.len() >= 1000 && lines[0] == (blockcast_broker::Level::Error, "a line".to_owned()));
}

#[test]
fn a_component_ends_with_its_runtime() {
    let library = build(&[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let broker = Broker::on_runtime(runtime.handle().clone());
    let component =
        broker.supervise_library(&load(&broker, &library), options("publishes", |_| {})).expect("it starts");
    receive_messages(&broker);
    runtime.shutdown_background();
    assert_eq!(component.wait().reason, ExitReason::Cancelled);
    let deadline = Instant::now() + PATIENCE;
    while broker.topic("out").is_some_and(|topic| !topic.publishers.is_empty()) {
        assert!(Instant::now() < deadline, "the publisher still exists");
        std::thread::sleep(10 * MS);
    }
}
