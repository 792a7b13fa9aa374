//! Components live no longer than their broker and its runtime.

use std::sync::mpsc;
use std::time::Duration;

use crate::guest_support::load;
use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, Component, ComponentState, ExitReason, Grants, Session, StartError};
use tokio::runtime::{Builder, Handle, Runtime};

/// How long a test waits before it reports a hang.
const PATIENCE: Duration = Duration::from_secs(120);

async fn waits(session: Session) -> Result<(), String> {
    session.shutdown().await;
    std::future::pending().await
}

fn blocks(session: Session) -> Result<(), String> {
    let mut subscriber =
        session.blocking_subscriber::<Bytes>("topic", Default::default()).map_err(|e| e.to_string())?;
    loop {
        subscriber.blocking_recv_ref(None).map(drop).map_err(|e| e.to_string())?;
    }
}

/// Awaits the end of a component on a runtime of the test's own.
fn end_of(component: &Component) -> ExitReason {
    let ended = async { tokio::time::timeout(PATIENCE, component.ended()).await };
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(ended)
        .expect("it ends")
        .reason
}

#[test]
fn dropping_the_last_broker_cancels_its_components_and_ends_its_threads() {
    let broker = Broker::new();
    let (tell, told) = mpsc::channel();
    let task = move |session: Session| {
        tell.send(Handle::current()).expect("the test listens");
        waits(session)
    };
    let guest = r#"(func (export "run") (result i32) (drop (call $subscribe))
      (loop $on (drop (call $wait (i64.const -1))) (br $on)) unreachable)"#;
    let guest = load(&broker, guest);
    let components = [
        broker.run("task", Grants::new(), [], task).expect("starts"),
        broker.run("thread", Grants::all(), [], blocks).expect("starts"),
        broker.spawn_guest(&guest, Grants::all(), []).expect("starts"),
    ];
    let runtime = told.recv_timeout(PATIENCE).expect("it runs");
    let clone = broker.clone();
    drop(broker);
    assert!(clone.topics().len() <= 1, "a clone keeps the broker alive");
    drop(clone);
    for component in &components {
        let reason = end_of(component);
        // The subscriptions may have seen the end of their topic first.
        let own = matches!(reason, ExitReason::Failed(_) | ExitReason::Trapped { .. });
        assert!(reason == ExitReason::Cancelled || own, "{reason}");
        assert!(component.state().is_over());
    }
    // A runtime that has shut down accepts no tasks.
    let gone = async {
        while runtime.spawn(async {}).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let gone = async { tokio::time::timeout(PATIENCE, gone).await };
    let own = Builder::new_current_thread().enable_all().build().expect("a runtime");
    own.block_on(gone).expect("the threads of the broker end");
}

#[tokio::test]
async fn waiting_for_a_component_on_the_thread_that_runs_it_does_not_hang() {
    let broker = Broker::on_runtime(Handle::current());
    let component = broker.run("app", Grants::new(), [], waits).expect("starts");
    assert_eq!(component.wait().reason, ExitReason::StillRunning);
    let waiting = tokio::spawn(async move {
        let reason = component.wait().reason;
        (component, reason)
    });
    let (component, reason) = waiting.await.expect("no panic");
    assert_eq!((reason, component.state()), (ExitReason::StillRunning, ComponentState::Running));
    component.cancel();
    assert_eq!(component.ended().await.reason, ExitReason::Cancelled);
    assert_eq!(
        component.wait().reason,
        ExitReason::Cancelled,
        "it has ended, so there is nothing to wait for"
    );
}

#[tokio::test]
async fn waiting_works_on_another_thread_and_for_an_app_of_another_runtime() {
    let broker = Broker::on_runtime(Handle::current());
    let app = |_: Session| async { Ok::<(), String>(()) };
    let component = broker.run("app", Grants::new(), [], app).expect("starts");
    let waiting = tokio::task::spawn_blocking(move || component.wait().reason);
    assert_eq!(waiting.await.expect("no panic"), ExitReason::Finished);
    let component = Broker::new();
    let elsewhere = component.run("app", Grants::new(), [], app).expect("starts");
    assert_eq!(elsewhere.wait().reason, ExitReason::Finished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn waiting_in_a_task_on_the_only_worker_works() {
    let waiting = tokio::spawn(async {
        let broker = Broker::on_runtime(Handle::current());
        let app = |_: Session| async { Ok::<(), String>(()) };
        broker.run("app", Grants::new(), [], app).expect("starts").wait().reason
    });
    assert_eq!(waiting.await.expect("no panic"), ExitReason::Finished);
}

fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"),
        Builder::new_current_thread().enable_all().build().expect("a runtime"),
    ]
}

#[test]
fn a_runtime_that_was_shut_down_starts_nothing() {
    for runtime in runtimes() {
        let broker = Broker::on_runtime(runtime.handle().clone());
        drop(runtime);
        let refused = broker.run("task", Grants::new(), [], waits).expect_err("refused");
        assert!(matches!(refused, StartError::RuntimeShutDown), "{refused}");
        let refused = broker.run("thread", Grants::new(), [], blocks).expect_err("refused");
        assert!(matches!(refused, StartError::RuntimeShutDown), "{refused}");
    }
}

#[test]
fn shutting_down_a_runtime_ends_its_components() {
    for runtime in runtimes() {
        let broker = Broker::on_runtime(runtime.handle().clone());
        let components = [
            broker.run("task", Grants::new(), [], waits).expect("starts"),
            broker.run("thread", Grants::all(), [], blocks).expect("starts"),
        ];
        // They may or may not have started.
        runtime.block_on(tokio::task::yield_now());
        runtime.shutdown_timeout(PATIENCE);
        for component in &components {
            assert_eq!(end_of(component), ExitReason::Cancelled);
            assert_eq!(component.state(), ComponentState::Ended);
            assert_eq!(component.exits().len(), 1);
            let stats = Builder::new_current_thread().enable_all().build().expect("a runtime");
            assert_eq!(stats.block_on(component.stats()).published, 0, "the counters remain available");
        }
    }
}

#[test]
fn an_app_on_a_thread_can_sleep_after_its_runtime_was_shut_down() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let broker = Broker::on_runtime(runtime.handle().clone());
    let (give, given) = mpsc::channel();
    let app = move |session: Session| give.send(session).map_err(|_| "the test has ended");
    let component = broker.run("app", Grants::new(), [], app).expect("starts");
    let session = given.recv_timeout(PATIENCE).expect("it runs");
    assert_eq!(component.wait().reason, ExitReason::Finished);
    let sleep = session.sleep(Duration::from_millis(20));
    runtime.shutdown_timeout(PATIENCE);
    let until = std::time::Instant::now() + Duration::from_millis(15);
    session.block_on(sleep);
    assert!(std::time::Instant::now() >= until);
}
