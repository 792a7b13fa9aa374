//! Callbacks of the program (wakers, tracing layers, log sinks, validators) may panic and may call the
//! broker.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::guest_support::load;
use blockcast_blocks::{Bytes, Payload};
use blockcast_broker::{Broker, ComponentOptions, ExitReason, Grants, RestartPolicy};

/// How long a test waits before it reports a deadlock.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `work` on its own thread, and fails if it does not return.
fn returns(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match is_done.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it deadlocked"),
        _ => thread.join().expect("no panic"),
    }
}

/// A waker that calls the broker and counts how often it is woken.
struct CallingWaker {
    broker: Broker,
    woken: AtomicU32,
}

impl CallingWaker {
    fn new(broker: &Broker) -> Arc<Self> {
        Arc::new(Self { broker: broker.clone(), woken: AtomicU32::new(0) })
    }

    fn woken(&self) -> u32 {
        self.woken.load(Ordering::Relaxed)
    }
}

impl Wake for CallingWaker {
    fn wake(self: Arc<Self>) {
        let _ = self.broker.topics();
        self.broker.subscriber::<Bytes>("another", Default::default()).map(drop).unwrap_or_default();
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_waker_may_call_the_broker_when_publishers_join_and_on_shutdown() {
    returns(|| {
        let broker = Broker::new();
        let calling = CallingWaker::new(&broker);
        let waker = Waker::from(Arc::clone(&calling));
        let mut context = Context::from_waker(&waker);
        let mut subscriber = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
        assert!(subscriber.poll_ready(&mut context).is_pending());
        let publisher = broker.publisher::<Bytes>("topic", Default::default()).expect("opens");
        assert_eq!(calling.woken(), 1);
        assert!(subscriber.poll_ready(&mut context).is_pending());
        drop(publisher);
        assert_eq!(calling.woken(), 2);
        let mut subscriber = broker.subscriber::<Bytes>("other", Default::default()).expect("opens");
        assert!(subscriber.poll_ready(&mut context).is_pending());
        broker.shut_down();
        assert_eq!(calling.woken(), 3);
    });
}

#[test]
fn a_waker_may_call_the_broker_when_a_subscriber_joins_or_leaves() {
    returns(|| {
        let broker = Broker::new();
        let calling = CallingWaker::new(&broker);
        let waker = Waker::from(Arc::clone(&calling));
        let mut context = Context::from_waker(&waker);
        let mut publisher = broker.publisher::<Bytes>("topic", Default::default()).expect("opens");
        let mut joined = Box::pin(publisher.subscribers(2));
        assert!(joined.as_mut().poll(&mut context).is_pending());
        let first = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
        assert_eq!(calling.woken(), 1);
        assert!(joined.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert_eq!(calling.woken(), 2);
    });
}

/// A tracing layer that calls the broker at every event, and then panics if `panics` is set.
struct Layer {
    broker: Broker,
    seen: Arc<AtomicU32>,
    panics: bool,
}

impl tracing::Subscriber for Layer {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        let _ = self.broker.topics();
        self.seen.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "a faulty layer");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_tracing_layer_may_call_the_broker_and_its_panics_are_contained() {
    for panics in [false, true] {
        returns(move || {
            let broker = Broker::new();
            let seen = Arc::new(AtomicU32::new(0));
            let layer = Layer { broker: broker.clone(), seen: Arc::clone(&seen), panics };
            // With a single dispatcher, `tracing` asks the default one of the thread that is first to emit an
            // event whether anybody wants it, and remembers the answer: other tests' threads have none.
            let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
            tracing::subscriber::with_default(layer, || {
                let mut publisher = broker.publisher::<Bytes>("topic", Default::default()).expect("opens");
                let mut subscriber = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
                let late = broker.publisher::<Bytes>("topic", Default::default()).expect("opens");
                publisher.try_loan().expect("a block").send(&b"x"[..]).expect("fits");
                assert_eq!(subscriber.try_recv_ref().expect("a message").view(), b"x");
                drop(late);
                // Dropping a subscription emits an event, too.
                drop(subscriber);
                assert_eq!(publisher.subscriber_count(), 0);
            });
            assert!(seen.load(Ordering::Relaxed) >= 5, "{seen:?}");
        });
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a faulty waker");
    }
}

#[test]
fn a_panicking_waker_does_not_stop_others_from_being_woken() {
    let broker = Broker::new();
    let mut publisher = broker.publisher::<Bytes>("topic", Default::default()).expect("opens");
    let mut bad = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    let mut good = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    let calling = CallingWaker::new(&broker);
    assert!(bad.poll_ready(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    assert!(good.poll_ready(&mut Context::from_waker(&Waker::from(Arc::clone(&calling)))).is_pending());
    publisher.try_loan().expect("a block").send(&b"x"[..]).expect("fits");
    assert_eq!(calling.woken(), 1);
    assert_eq!(bad.try_recv_ref().expect("a message").view(), b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_waker_that_awaits_an_exit_does_not_stop_the_restarts() {
    let broker = Broker::new();
    let policy =
        RestartPolicy { limit: Some(1), initial: Duration::from_millis(1), ..RestartPolicy::on_failure() };
    let (go, gate) = tokio::sync::watch::channel(false);
    let app = move |_: blockcast_broker::Session| {
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|open| *open).await;
            Err::<(), _>("as intended".to_owned())
        }
    };
    let component = broker.supervise(ComponentOptions::new().restart(policy), app).expect("starts");
    let mut bad = Box::pin(component.exit_of(0));
    assert!(bad.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    go.send(true).expect("it waits");
    let ended = tokio::time::timeout(PATIENCE, component.ended()).await.expect("restarts continue");
    assert_eq!(ended.reason, ExitReason::Failed("as intended".to_owned()));
    assert_eq!((component.restarts(), component.exits().len()), (1, 2));
}

/// A writer that calls the broker on every write.
struct Writes(Broker);

impl Write for Writes {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        let _ = self.0.topic("topic");
        Ok(())
    }
}

#[test]
fn a_formatter_may_call_the_broker() {
    returns(|| {
        let broker = Broker::new();
        broker.declare("topic", &Bytes::schema(), None).expect("a new topic");
        write!(Writes(broker.clone()), "{broker:?}").expect("written");
    });
}

const LOGS: &str =
    r#"(func (export "run") (result i32) (call $report (i32.const 65) (i64.const 1)) (i32.const 0))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_log_sink_ends_its_guest_and_counts_as_a_failure() {
    let broker = Broker::new();
    let guest = load(&broker, LOGS);
    let policy =
        RestartPolicy { limit: Some(2), initial: Duration::from_millis(1), ..RestartPolicy::on_failure() };
    let options = ComponentOptions::new().restart(policy).log(Arc::new(|_, _| panic!("a faulty log sink")));
    let guest = broker.supervise_guest(&guest, options).expect("starts");
    let expected = ExitReason::HostPanicked("panicked: a faulty log sink".to_owned());
    assert_eq!(guest.ended().await.reason, expected);
    assert_eq!((guest.exits().len(), guest.state().is_over()), (3, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_validator_ends_its_guest_and_returns_the_block() {
    let broker = Broker::new();
    let rule = |_: &[u8]| -> Result<(), blockcast_blocks::InvalidPayload> { panic!("a faulty rule") };
    broker.declare("topic", &Bytes::schema(), Some(Arc::new(rule))).expect("a new topic");
    let body = r#"(func (export "run") (result i32) (local $p i32)
      (local.set $p (call $open_publisher (i32.const 64) (i32.const 2)))
      (drop (call $publish (local.get $p) (i32.const 16) (i32.const 5)))
      (i32.const 0))"#;
    let guest = load(&broker, body);
    let mut subscriber = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    let guest = broker.spawn_guest(&guest, Grants::all(), []).expect("starts");
    let expected = ExitReason::HostPanicked("panicked: a faulty rule".to_owned());
    assert_eq!(guest.ended().await.reason, expected);
    assert!(subscriber.recv().await.is_err(), "nothing was published, and the topic has ended");
}
