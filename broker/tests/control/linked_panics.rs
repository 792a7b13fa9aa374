//! A linked app that panics when the broker calls its code ends with a reason, and its component is over.

use std::fmt;
use std::panic::panic_any;
use std::time::Duration;

use blockcast_broker::{
    Broker, Component, ComponentOptions, ComponentState, ExitReason, Grants, RestartPolicy, Session,
};

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a faulty destructor");
    }
}

/// An error that cannot be displayed.
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a faulty error")
    }
}

fn panicked(message: &str) -> ExitReason {
    ExitReason::Trapped { message: format!("panicked: {message}"), backtrace: String::new() }
}

fn check(component: &Component, expected: &ExitReason) {
    let report = component.wait();
    assert_eq!(&report.reason, expected);
    assert_eq!(component.state(), ComponentState::Ended);
    assert_eq!(component.report(), Some(report));
    assert_eq!(component.exits().len(), 1);
}

#[test]
fn an_app_whose_panic_payload_panics_on_drop_has_ended() {
    let broker = Broker::new();
    let task = |_: Session| async { if true { panic_any(Bomb) } else { Ok::<(), String>(()) } };
    check(&broker.run("task", Grants::new(), [], task).expect("starts"), &panicked("without a message"));
    let thread = |_: Session| if true { panic_any(Bomb) } else { Ok::<(), String>(()) };
    check(&broker.run("thread", Grants::new(), [], thread).expect("starts"), &panicked("without a message"));
}

#[test]
fn an_app_whose_error_panics_on_display_has_ended() {
    let broker = Broker::new();
    let task = |_: Session| async { Err::<(), _>(Unspeakable) };
    check(&broker.run("task", Grants::new(), [], task).expect("starts"), &panicked("a faulty error"));
    let thread = |_: Session| Err::<(), _>(Unspeakable);
    check(&broker.run("thread", Grants::new(), [], thread).expect("starts"), &panicked("a faulty error"));
}

#[test]
fn an_app_that_panics_before_it_returns_a_future_is_restarted() {
    let broker = Broker::new();
    let app = |_: Session| {
        if std::hint::black_box(true) {
            panic!("at once");
        }
        async { Ok::<(), String>(()) }
    };
    check(&broker.run("app", Grants::new(), [], app).expect("starts"), &panicked("at once"));
    let policy =
        RestartPolicy { limit: Some(2), initial: Duration::from_millis(1), ..RestartPolicy::on_failure() };
    let component = broker.supervise(ComponentOptions::new().restart(policy), app).expect("starts");
    assert_eq!(component.wait().reason, panicked("at once"));
    assert_eq!((component.state(), component.exits().len()), (ComponentState::GivenUp, 3));
}

#[test]
fn an_app_that_panics_on_cancellation_has_ended() {
    let broker = Broker::new();
    let (tell, told) = std::sync::mpsc::channel();
    let app = move |_: Session| async move {
        let _bomb = Bomb;
        tell.send(()).expect("the test listens");
        std::future::pending::<Result<(), String>>().await
    };
    let component = broker.run("app", Grants::new(), [], app).expect("starts");
    told.recv().expect("it runs");
    component.cancel();
    check(&component, &panicked("a faulty destructor"));
}

#[test]
fn the_captures_of_a_supervised_app_may_panic_on_drop() {
    let broker = Broker::new();
    let bomb = Bomb;
    let app = move |_: Session| {
        let _ = &bomb;
        async { Ok::<(), String>(()) }
    };
    let component = broker.supervise(ComponentOptions::new(), app).expect("starts");
    check(&component, &ExitReason::Finished);
}
