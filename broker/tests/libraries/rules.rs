//! Validation rules and wakers run while a component publishes, and may ask for its counters.

use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use blockcast_blocks::{Bytes, InvalidPayload, Payload};
use blockcast_broker::{Broker, Component, ExitReason};

use crate::support::start;

/// How long the component may take before it counts as hung.
const HANG: Duration = Duration::from_secs(300);

fn ask(component: &Component) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _ = runtime.block_on(component.stats());
}

/// Asks in this thread, and in another one while this one waits.
fn ask_twice(component: &Component) {
    ask(component);
    std::thread::scope(|scope| scope.spawn(|| ask(component)).join()).expect("no panic");
}

/// A waker that asks for the counters.
struct AskingWaker {
    component: Arc<OnceLock<Component>>,
    woken: mpsc::SyncSender<()>,
}

impl Wake for AskingWaker {
    fn wake(self: Arc<Self>) {
        ask_twice(self.component.wait());
        // If this is full, a wake-up is pending already.
        let _ = self.woken.try_send(());
    }
}

#[test]
fn a_rule_may_ask_for_the_counters_of_the_component_from_any_thread() {
    let (done, ends) = mpsc::channel();
    std::thread::spawn(move || {
        let broker = Broker::new();
        let component = Arc::new(OnceLock::<Component>::new());
        let asked = Arc::clone(&component);
        let rule = move |_: &[u8]| -> Result<(), InvalidPayload> {
            ask_twice(asked.wait());
            Ok(())
        };
        broker.declare("out", &Bytes::schema(), Some(Arc::new(rule))).expect("a new topic");
        let component = component.get_or_init(|| start(&broker, "is-checked", |_| {}));
        let _ = done.send(component.wait());
    });
    let report = ends.recv_timeout(HANG).expect("it does not hang");
    assert_eq!(report.reason, ExitReason::Finished, "{report:?}");
    assert_eq!(report.stats.published, 20, "{report:?}");
}

#[test]
fn a_waker_may_ask_for_the_counters_of_the_component_from_any_thread() {
    let (done, ends) = mpsc::channel();
    std::thread::spawn(move || {
        let broker = Broker::new();
        let mut subscriber = broker.subscriber::<Bytes>("out", Default::default()).expect("a new topic");
        let (woken, wakes) = mpsc::sync_channel(1);
        let component = Arc::new(OnceLock::<Component>::new());
        let waker = Waker::from(Arc::new(AskingWaker { component: Arc::clone(&component), woken }));
        let component = component.get_or_init(|| start(&broker, "publishes", |_| {}));
        for _ in 0..5 {
            // Receives everything until it has to wait, so that the component wakes it.
            while let Poll::Ready(()) = subscriber.poll_ready(&mut Context::from_waker(&waker)) {
                let _ = subscriber.try_recv_ref();
            }
            wakes.recv().expect("it is woken");
        }
        component.request_shutdown();
        drop(subscriber);
        let _ = done.send(component.wait());
    });
    let report = ends.recv_timeout(HANG).expect("it does not hang");
    assert_eq!(report.reason, ExitReason::Finished, "{report:?}");
}
