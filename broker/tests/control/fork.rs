//! A process that forks keeps its broker, topics and components. The child has none of them, but can make its
//! own.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::guest_support::Form;
use crate::guest_support::child::{in_child, in_forked_child};
use blockcast_blocks::{Bytes, LoanError, OpenError};
use blockcast_broker::{
    Broker, ComponentOptions, ComponentState, ExitReason, Grants, GuestSource, Session, StartError,
};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Latest, RecvError, Subscriber, SubscriberOptions};
use futures::StreamExt;

fn open(broker: &Broker) -> (Publisher<Bytes>, Subscriber<Bytes>) {
    let subscriber = broker.subscriber("topic", SubscriberOptions::default()).expect("opens");
    let publisher =
        broker.publisher("topic", PublisherOptions::new().block_size(64).blocks(8)).expect("opens");
    (publisher, subscriber)
}

fn publish(publisher: &mut Publisher<Bytes>, text: &[u8]) {
    publisher.try_loan().expect("a block").send(text).expect("fits");
}

/// Polls a future that must be ready at once.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it would wait forever"),
    }
}

/// Runs an app that waits until it is asked to shut down.
fn run_waiting(broker: &Broker) -> blockcast_broker::Component {
    let wait = |session: Session| async move {
        session.shutdown().await;
        Ok::<_, OpenError>(())
    };
    broker.run("waiting", Grants::new(), [], wait).expect("it starts")
}

const SUCCEEDS: &str = r#"(func (export "run") (result i32) (i32.const 0))"#;

fn guest() -> GuestSource {
    Form::Component.source("test", SUCCEEDS)
}

/// Uses a new broker in every way that a child may.
fn use_new_broker() {
    let broker = Broker::new();
    let (mut publisher, mut subscriber) = open(&broker);
    publish(&mut publisher, b"hello");
    assert_eq!(subscriber.blocking_recv(None).expect("it was published").view(), b"hello");
    let app = run_waiting(&broker);
    assert_eq!(app.state(), ComponentState::Running);
    let program = broker.load(&guest()).expect("loads");
    let guest = broker.spawn_guest(&program, Grants::new(), []).expect("it starts");
    assert_eq!(guest.wait().reason, ExitReason::Finished);
    app.request_shutdown();
    assert_eq!(app.wait().reason, ExitReason::Finished);
}

#[test]
fn a_child_that_drops_inherited_handles_ends_nothing_in_its_parent() {
    in_child!("a_child_that_drops_inherited_handles_ends_nothing_in_its_parent", || {
        let broker = Broker::new();
        let (publisher, mut subscriber) = open(&broker);
        let app = run_waiting(&broker);
        let program = broker.load(&guest()).expect("loads");
        let mut inherited = Some((broker, publisher, app, program));
        in_forked_child(|| {
            let (broker, publisher, app, program) = inherited.take().expect("a copy in the child");
            drop((publisher, app, program));
            drop(broker);
        });
        let (broker, mut publisher, app, program) = inherited.expect("the child took only its copy");
        publish(&mut publisher, b"still here");
        assert_eq!(subscriber.blocking_recv(None).expect("it was published").view(), b"still here");
        assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::Empty);
        assert_eq!(app.state(), ComponentState::Running);
        let guest = broker.spawn_guest(&program, Grants::new(), []).expect("it starts");
        assert_eq!(guest.wait().reason, ExitReason::Finished);
        app.request_shutdown();
        assert_eq!(app.wait().reason, ExitReason::Finished);
    });
}

#[test]
fn using_inherited_handles_in_a_child_fails_and_never_waits() {
    in_child!("using_inherited_handles_in_a_child_fails_and_never_waits", || {
        let broker = Broker::new();
        let (mut publisher, mut subscriber) = open(&broker);
        let mut others: Vec<Subscriber<Bytes>> = (0..6)
            .map(|_| broker.subscriber("topic", SubscriberOptions::default()).expect("opens"))
            .collect();
        let mut latest = Latest::new(others.pop().expect("six"));
        let app = run_waiting(&broker);
        let program = broker.load(&guest()).expect("loads");
        publish(&mut publisher, b"one");
        publish(&mut publisher, b"two");
        // It already knows of the second message.
        assert_eq!(subscriber.try_recv_ref().expect("it was published").view(), b"one");
        in_forked_child(|| {
            assert_eq!(publisher.try_loan().unwrap_err(), LoanError::Forked);
            assert_eq!(publisher.blocking_loan(None).unwrap_err(), LoanError::Forked);
            assert_eq!(at_once(publisher.loan()).unwrap_err(), LoanError::Forked);
            at_once(publisher.subscribers(100));
            assert!(!publisher.blocking_subscribers(100, None));
            assert_eq!(subscriber.try_recv_ref().unwrap_err(), RecvError::Forked);
            assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::Forked);
            assert_eq!(at_once(subscriber.recv()).unwrap_err(), RecvError::Forked);
            // Each is that subscriber's first call in the child.
            let mut other = others.pop().expect("five");
            assert_eq!(other.blocking_recv(None).unwrap_err(), RecvError::Forked);
            let mut other = others.pop().expect("five");
            assert_eq!(other.try_recv_batch(9).unwrap_err(), RecvError::Forked);
            let mut other = others.pop().expect("five");
            assert_eq!(at_once(other.for_each_ref(|_| panic!("no message"))), Err(RecvError::Forked));
            let mut other = others.pop().expect("five");
            assert_eq!(other.blocking_for_each_ref(None, |_| panic!("no message")), Err(RecvError::Forked));
            let mut other = others.pop().expect("five");
            assert!(matches!(at_once(other.next()), Some(Err(RecvError::Forked))));
            assert!(at_once(other.next()).is_none(), "a stream ends");
            assert_eq!(latest.get().unwrap_err(), RecvError::Forked);

            let refused = broker.publisher::<Bytes>("new", PublisherOptions::new()).unwrap_err();
            assert_eq!(refused, OpenError::Forked);
            let refused = broker.subscriber::<Bytes>("topic", SubscriberOptions::default()).unwrap_err();
            assert_eq!(refused, OpenError::Forked);
            assert_eq!((broker.topics(), broker.topic("topic")), (Vec::new(), None));
            assert!(matches!(broker.load(&guest()), Err(StartError::Forked)));
            let started = broker.spawn_guest(&program, Grants::new(), []);
            assert!(matches!(started, Err(StartError::Forked)));
            let started = broker.run("late", Grants::new(), [], |_: Session| Ok::<_, OpenError>(()));
            assert!(matches!(started, Err(StartError::Forked)));
            let options = ComponentOptions::new();
            let started = broker.supervise(options, |_: Session| async { Ok::<_, OpenError>(()) });
            assert!(matches!(started, Err(StartError::Forked)));
            broker.shut_down();

            assert_eq!(app.state(), ComponentState::Ended);
            app.cancel();
            app.request_shutdown();
            assert!(matches!(app.wait().reason, ExitReason::System(_)));
            assert!(app.report().is_some());
            let _ = (format!("{broker:?} {app:?} {publisher:?} {subscriber:?}"), at_once(app.stats()));
        });
        assert_eq!(subscriber.try_recv_ref().expect("it was published").view(), b"two");
        assert_eq!(subscriber.try_recv_ref().unwrap_err(), RecvError::Empty, "the child added none");
        publish(&mut publisher, b"three");
        assert_eq!(subscriber.try_recv_ref().expect("it was published").view(), b"three");
        assert_eq!(app.state(), ComponentState::Running);
        broker.publisher::<Bytes>("new", PublisherOptions::new()).expect("it was not shut down");
    });
}

#[test]
fn a_broker_created_in_a_child_works() {
    in_child!("a_broker_created_in_a_child_works", || {
        use_new_broker();
        in_forked_child(|| {
            use_new_broker();
            in_forked_child(use_new_broker);
            use_new_broker();
        });
        use_new_broker();
    });
}

#[test]
fn an_app_that_forks_continues_in_the_parent_and_is_over_in_the_child() {
    in_child!("an_app_that_forks_continues_in_the_parent_and_is_over_in_the_child", || {
        let broker = Broker::new();
        let app = broker.run("forks", Grants::all(), [], |session: Session| {
            in_forked_child(|| {
                assert!(session.shutdown_requested());
                session.block_on(session.shutdown());
                session.block_on(session.sleep(Duration::from_secs(3600)));
                session.blocking_sleep(Duration::from_millis(1));
                let refused = session.blocking_publisher::<Bytes>("topic", PublisherOptions::new());
                assert_eq!(refused.unwrap_err(), OpenError::Forked);
            });
            assert!(!session.shutdown_requested());
            session.blocking_sleep(Duration::from_millis(1));
            session.blocking_publisher::<Bytes>("topic", PublisherOptions::new()).map(drop)
        });
        assert_eq!(app.expect("it starts").wait().reason, ExitReason::Finished);
    });
}
