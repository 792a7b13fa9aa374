//! Rules for what components publish are code of the program: they may ask the broker, and about the component too.

use std::sync::{Arc, OnceLock, mpsc};
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

#[test]
fn a_rule_may_ask_for_the_counters_of_the_component_from_any_thread() {
    let (done, ends) = mpsc::channel();
    std::thread::spawn(move || {
        let broker = Broker::new();
        let component = Arc::new(OnceLock::<Component>::new());
        let asked = Arc::clone(&component);
        let rule = move |_: &[u8]| -> Result<(), InvalidPayload> {
            let component = asked.wait();
            ask(component);
            // This thread waits for another one that asks.
            std::thread::scope(|scope| scope.spawn(|| ask(component)).join()).expect("no panic");
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
