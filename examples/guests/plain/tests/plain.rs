//! Runs the app that is a plain `fn`: linked in, as a native library, as a component, and as the core module
//! inside that component.

#[path = "../../library.rs"]
mod library;
#[path = "../../scenarios/tests/support/module.rs"]
mod module;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::{Duration, Instant};

use blockcast::{
    Broker, Component, ComponentLimits, ComponentOptions, ComponentState, ExitReason, Grants, GuestProgram,
    GuestSource, LibraryProgram, Publisher, PublisherOptions, RecvError, RestartPolicy, Session, Subscriber,
    SubscriberOptions,
};
use plain_app::Numbers;

/// Bounds the wait for one message, for a free block, or for an end. The app is compiled before the test
/// starts.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Deployment {
    Linked,
    Library,
    Component,
    Module,
}

const ALL: [Deployment; 4] =
    [Deployment::Linked, Deployment::Library, Deployment::Component, Deployment::Module];

static COMPONENT: LazyLock<GuestProgram> = LazyLock::new(|| {
    Broker::new().load(&GuestSource::File(plain_app::component_file())).expect("the guest loads")
});

static MODULE: LazyLock<GuestProgram> = LazyLock::new(|| {
    let file = std::fs::read(plain_app::component_file()).expect("the guest's file");
    let module = module::core_module(&file).expect("a component has a core module");
    Broker::new().load(&GuestSource::bytes("module", module)).expect("the guest loads")
});

static LIBRARY: LazyLock<LibraryProgram> = LazyLock::new(|| {
    let file = library::build("plain-app").unwrap_or_else(|why| panic!("the library does not build: {why}"));
    // SAFETY: just built from this crate's source, which is safe Rust with `blockcast::export!`.
    unsafe { Broker::new().load_library(file) }.expect("the library loads")
});

/// The running app and its log.
struct Running {
    app: Component,
    said: mpsc::Receiver<String>,
}

impl Running {
    fn start(broker: &Broker, deployment: Deployment, does: &str) -> Self {
        let (say, said) = mpsc::channel();
        let options = ComponentOptions::new()
            .name("plain")
            .grants(Grants::new().subscribe("in*").publish("out"))
            .parameter("does", does)
            .log(Arc::new(move |_, line| drop(say.send(line.to_owned()))));
        let app = match deployment {
            Deployment::Linked => broker.supervise(options, plain_app::run),
            Deployment::Library => broker.supervise_library(&LIBRARY, options),
            Deployment::Component => broker.supervise_guest(&COMPONENT, options),
            Deployment::Module => broker.supervise_guest(&MODULE, options),
        };
        Self { app: app.expect("starts"), said }
    }

    fn says(&self, line: &str) {
        assert_eq!(self.said.recv_timeout(PATIENCE).as_deref(), Ok(line), "{:?}", self.app);
    }

    fn ends(self) -> ExitReason {
        let deadline = Instant::now() + PATIENCE;
        while self.app.report().is_none() {
            assert!(Instant::now() < deadline, "it does not end: {:?}", self.app);
            std::thread::sleep(Duration::from_micros(200));
        }
        self.app.wait().reason
    }
}

fn publisher(broker: &Broker, topic: &str) -> Publisher<Numbers> {
    broker.publisher(topic, PublisherOptions::new().block_size(64).blocks(4)).expect("opens")
}

fn publish(publisher: &mut Publisher<Numbers>, number: u64) {
    let loan = publisher.blocking_loan(Some(Instant::now() + PATIENCE)).expect("a block");
    loan.send(&[number][..]).expect("fits");
}

fn joined(publisher: &mut Publisher<Numbers>) {
    assert!(publisher.blocking_subscribers(1, Some(Instant::now() + PATIENCE)), "nobody subscribes");
}

fn next(subscriber: &mut Subscriber<Numbers>) -> Result<u64, RecvError> {
    subscriber.blocking_recv_ref(Some(Instant::now() + PATIENCE)).map(|message| message.view()[0])
}

#[test]
fn a_plain_fn_receives_and_publishes_with_blocking_calls() {
    for deployment in ALL {
        let broker = Broker::new();
        let running = Running::start(&broker, deployment, "sums");
        let mut numbers = publisher(&broker, "in");
        joined(&mut numbers);
        let mut sums = broker.subscriber::<Numbers>("out", SubscriberOptions::new()).expect("opens");
        let sending = std::thread::spawn(move || (1..=100).for_each(|number| publish(&mut numbers, number)));
        for number in 1..=100 {
            assert_eq!(next(&mut sums), Ok(number * (number + 1) / 2), "{deployment:?}");
        }
        sending.join().expect("sends all");
        assert_eq!(next(&mut sums), Err(RecvError::Ended), "{deployment:?}");
        assert_eq!(running.ends(), ExitReason::Finished, "{deployment:?}");
    }
}

#[test]
fn a_plain_fn_waits_for_several_topics_at_once() {
    for deployment in ALL {
        let broker = Broker::new();
        let mut sums = broker.subscriber::<Numbers>("out", SubscriberOptions::new()).expect("opens");
        let running = Running::start(&broker, deployment, "several");
        let (mut one, mut other) = (publisher(&broker, "in"), publisher(&broker, "in too"));
        joined(&mut one);
        joined(&mut other);
        for number in 1..=50 {
            publish(if number % 3 == 0 { &mut one } else { &mut other }, number);
        }
        drop((one, other));
        assert_eq!(next(&mut sums), Ok(1275), "{deployment:?}");
        assert_eq!(running.ends(), ExitReason::Finished, "{deployment:?}");
    }
}

#[test]
fn a_plain_fn_sleeps_fails_and_panics_like_an_async_one() {
    for deployment in ALL {
        let broker = Broker::new();
        let ends = |does| Running::start(&broker, deployment, does).ends();
        assert_eq!(ends("sleeps"), ExitReason::Finished, "{deployment:?}");
        assert_eq!(ends("fails"), ExitReason::Failed("as asked".to_owned()), "{deployment:?}");
        let panicked = ends("panics");
        let ExitReason::Trapped { message, .. } = &panicked else { panic!("{deployment:?}: {panicked}") };
        assert!(message.contains("as asked"), "{deployment:?}: {message}");
    }
}

#[test]
fn a_plain_fn_that_waits_for_it_finishes_when_it_is_asked_to() {
    for deployment in ALL {
        let broker = Broker::new();
        let running = Running::start(&broker, deployment, "shutdown");
        running.says("running");
        running.app.request_shutdown();
        running.says("asked to finish: true");
        assert_eq!(running.ends(), ExitReason::Finished, "{deployment:?}");
    }
}

#[test]
fn a_plain_fn_is_cancelled_in_a_blocking_call_and_returns_what_it_held() {
    for deployment in ALL {
        let broker = Broker::new();
        let mut numbers = publisher(&broker, "in");
        let running = Running::start(&broker, deployment, "waits");
        joined(&mut numbers);
        publish(&mut numbers, 0);
        running.says("running");
        running.app.cancel();
        assert_eq!(running.ends(), ExitReason::Cancelled, "{deployment:?}");
        assert_eq!((numbers.subscriber_count(), numbers.reclaim()), (0, 4), "{deployment:?}");

        let mut taken = broker.subscriber::<Numbers>("out", SubscriberOptions::new()).expect("opens");
        let running = Running::start(&broker, deployment, "waits for blocks");
        running.says("running");
        running.app.cancel();
        assert_eq!(running.ends(), ExitReason::Cancelled, "{deployment:?}");
        let received = std::iter::from_fn(|| next(&mut taken).ok()).count();
        assert!((1..=4).contains(&received), "{deployment:?}: {received}");
    }
}

/// Libraries only: messages after `run` has returned.
mod library_that_outlives_its_run {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// How long the tests wait for the app before they consider it hung.
    const HANG: Duration = Duration::from_secs(300);

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = format!("outlives-{}-{name}", std::process::id());
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
            fs::create_dir_all(&folder).expect("a folder");
            Self(folder)
        }

        fn wait_for(&self, name: &str) -> String {
            let deadline = Instant::now() + HANG;
            loop {
                if let Ok(text) = fs::read_to_string(self.0.join(name)) {
                    return text;
                }
                assert!(Instant::now() < deadline, "no {name}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn starts(broker: &Broker, folder: &Folder, does: &str, grace: Duration) -> Component {
        let mut limits = ComponentLimits::default();
        limits.shutdown_grace = grace;
        let options = ComponentOptions::new()
            .grants(Grants::new().subscribe("in").limits(limits))
            .parameter("does", does)
            .parameter("folder", folder.0.to_str().expect("UTF-8"))
            .restart(RestartPolicy { initial: Duration::from_millis(1), ..RestartPolicy::always() });
        broker.supervise_library(&LIBRARY, options).expect("starts")
    }

    fn ended(app: &Component) -> ExitReason {
        let deadline = Instant::now() + HANG;
        while app.report().is_none() {
            assert!(Instant::now() < deadline, "it does not end: {app:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        app.wait().reason
    }

    fn held(broker: &Broker) -> u32 {
        broker.topic("in").expect("it is there").publishers[0].held
    }

    /// Publishes twice as many messages as there are blocks. Nobody waits for them, and one block is not
    /// reused.
    fn publish_on(broker: &Broker, numbers: &mut Publisher<Numbers>) {
        assert!(numbers.subscriber_count() == 0 && held(broker) == 1);
        (1..=8).for_each(|number| publish(numbers, number));
    }

    #[test]
    fn a_message_stays_readable_in_a_thread_local_destructor() {
        let (broker, folder) = (Broker::new(), Folder::new("destructor"));
        let mut numbers = publisher(&broker, "in");
        let app = starts(&broker, &folder, "reads in a destructor", HANG);
        joined(&mut numbers);
        publish(&mut numbers, 0);
        folder.wait_for("reads");
        publish_on(&broker, &mut numbers);
        assert_eq!(app.state(), ComponentState::Running, "its thread is not gone");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let stats = runtime.block_on(app.stats());
        assert_eq!((stats.attached + stats.held, stats.subscriptions), (1, 0), "{stats:?}");
        app.cancel(); // it is not restarted
        fs::write(folder.0.join("go on"), "").expect("written");
        assert_eq!(folder.wait_for("read"), "0 0", "the message has not changed");
        assert_eq!(ended(&app), ExitReason::Finished);
        assert_eq!(held(&broker), 0, "the block is back");
    }

    #[test]
    fn a_thread_that_waits_for_a_message_ends_with_the_run() {
        let (broker, folder) = (Broker::new(), Folder::new("call"));
        let app = starts(&broker, &folder, "waits in a thread", HANG);
        folder.wait_for("waits");
        app.cancel(); // it is not restarted
        let reason = ended(&app);
        assert!(matches!(reason, ExitReason::Finished | ExitReason::Cancelled), "{reason}");
        assert!(!folder.0.join("received").exists());
    }

    #[test]
    fn a_message_stays_readable_in_a_thread_that_outlives_run() {
        let (broker, folder) = (Broker::new(), Folder::new("thread"));
        let mut numbers = publisher(&broker, "in");
        let app = starts(&broker, &folder, "reads in a thread", Duration::from_millis(20));
        joined(&mut numbers);
        publish(&mut numbers, 0);
        let reason = ended(&app);
        let ExitReason::Abandoned(why) = &reason else { panic!("{reason}") };
        assert_eq!(why, "finished, but 1 of its threads is still running");
        assert_eq!((app.state(), app.restarts()), (ComponentState::Ended, 0), "not started beside itself");
        publish_on(&broker, &mut numbers);
        fs::write(folder.0.join("go on"), "").expect("written");
        assert_eq!(folder.wait_for("read"), "0 0", "the message has not changed");
        let deadline = Instant::now() + HANG;
        while held(&broker) > 0 {
            assert!(Instant::now() < deadline, "the block stays away");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Linked apps only: what is visible from within the program.
mod linked {
    use super::*;

    fn grants() -> Grants {
        Grants::new().subscribe("in").publish("out")
    }

    #[test]
    fn a_plain_fn_blocks_no_thread_of_the_runtime_and_is_unwound_when_it_is_cancelled() {
        struct Held(Arc<AtomicU32>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let runtime = runtime.expect("a runtime");
        let broker = Broker::on_runtime(runtime.handle().clone());
        let dropped = Arc::new(AtomicU32::new(0));
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let held = Held(Arc::clone(&dropped));
                let app = move |session: Session| {
                    let _held = held;
                    session.block_on(std::future::pending::<Result<(), String>>())
                };
                broker.run("waits", grants(), [], app).expect("starts")
            })
            .collect();
        // The runtime's only thread still runs other tasks.
        let task = async |session: Session| {
            session.sleep(Duration::from_millis(1)).await;
            Ok::<(), String>(())
        };
        let task = broker.run("task", grants(), [], task).expect("starts");
        assert_eq!(task.wait().reason, ExitReason::Finished);
        waiting.iter().for_each(Component::cancel);
        for app in &waiting {
            assert_eq!(app.wait().reason, ExitReason::Cancelled);
        }
        assert_eq!(dropped.load(Ordering::SeqCst), 8);
    }

    #[test]
    fn a_plain_fn_is_restarted_and_keeps_what_it_captured() {
        let broker = Broker::new();
        let mut runs = 0;
        let policy = RestartPolicy {
            initial: Duration::from_millis(1),
            limit: Some(5),
            ..RestartPolicy::on_failure()
        };
        let app = broker.supervise(ComponentOptions::new().name("app").restart(policy), move |_: Session| {
            runs += 1;
            assert!(runs != 2, "the second run");
            if runs < 4 { Err(format!("run {runs}")) } else { Ok(()) }
        });
        let app = app.expect("starts");
        assert_eq!(app.wait().reason, ExitReason::Finished);
        assert_eq!((app.restarts(), app.state()), (3, ComponentState::Ended));
        let failed = |number: usize| app.exits()[number].reason.to_string();
        assert_eq!(
            [failed(0), failed(1), failed(2)],
            ["failed: run 1", "trapped: panicked: the second run", "failed: run 3"]
        );
    }

    #[test]
    fn a_plain_fn_that_never_waits_is_abandoned_after_its_grace_period() {
        let broker = Broker::new();
        let mut limits = ComponentLimits::default();
        limits.shutdown_grace = Duration::from_millis(20);
        let (stop, stopped) = mpsc::channel::<()>();
        let (running, runs) = mpsc::channel();
        let app = broker.run("computes", grants().limits(limits), [], move |session: Session| {
            running.send(()).map_err(|error| error.to_string())?;
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                std::hint::spin_loop();
            }
            assert!(session.shutdown_requested());
            Ok::<(), String>(())
        });
        let app = app.expect("starts");
        runs.recv_timeout(PATIENCE).expect("it runs");
        app.cancel();
        assert_eq!(app.wait().reason, ExitReason::Abandoned("cancelled".to_owned()));
        drop(stop);
    }

    #[test]
    fn a_broker_that_is_gone_cancels_a_plain_fn() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let runtime = runtime.expect("a runtime");
        let broker = Broker::on_runtime(runtime.handle().clone());
        let (alive, gone) = mpsc::channel::<()>();
        let app = broker.run("waits", grants(), [], move |session: Session| {
            let _alive = alive;
            session.block_on(std::future::pending::<Result<(), String>>())
        });
        let app = app.expect("starts");
        drop(runtime);
        assert_eq!(gone.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
        assert_eq!(app.wait().reason, ExitReason::Cancelled);
    }
}
