//! How restarts look to the other participants of a topic.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::guest_support::load;
use blockcast_blocks::{Bytes, Pod};
use blockcast_broker::{
    Broker, Component, ComponentOptions, ComponentState, ExitReason, Grants, RestartPolicy, Session,
};
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use futures::StreamExt;

/// Restarts of the publisher.
const RESTARTS: u32 = 2;

/// Starts an app that publishes the number of its run and fails, until the supervisor gives up. It is
/// restarted after `pause`.
fn flaky(broker: &Broker, subscribers: u32, pause: Duration) -> Component {
    let policy =
        RestartPolicy { limit: Some(RESTARTS), initial: pause, max: pause, ..RestartPolicy::on_failure() };
    let options = ComponentOptions::new().grants(Grants::all()).restart(policy);
    let run = AtomicU32::new(0);
    let app = move |session: Session| {
        let run = run.fetch_add(1, Ordering::Relaxed);
        async move {
            let open = session.publisher::<Pod<u32>>("topic", Default::default()).await;
            let mut publisher = open.map_err(|error| error.to_string())?;
            publisher.subscribers(subscribers).await;
            publisher
                .loan()
                .await
                .map_err(|error| error.to_string())?
                .send(&[run][..])
                .map_err(|e| e.to_string())?;
            Err::<(), _>("crashed".to_owned())
        }
    };
    broker.supervise(options, app).expect("starts")
}

async fn all_of(subscriber: Subscriber<Pod<u32>>) -> Vec<u32> {
    subscriber.map(|received| received.expect("no loss").view()[0]).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_survive_restarts_and_ends_when_they_are_given_up() {
    let broker = Broker::new();
    let options = SubscriberOptions::new().await_restarts(true);
    let streaming = broker.subscriber::<Pod<u32>>("topic", options).expect("opens");
    let mut each = broker.subscriber::<Pod<u32>>("topic", options).expect("opens");
    let publisher = flaky(&broker, 2, Duration::from_millis(50));
    let by_reference = async {
        let mut seen = Vec::new();
        each.for_each_ref(|received| seen.push(received.expect("no loss")[0]))
            .await
            .expect("it reaches the end");
        seen
    };
    let (streamed, seen) = tokio::join!(all_of(streaming), by_reference);
    assert_eq!((streamed, seen), (vec![0, 1, 2], vec![0, 1, 2]));
    publisher.ended().await;
    assert_eq!(publisher.state(), ComponentState::GivenUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_the_first_crash_by_default() {
    let broker = Broker::new();
    let streaming = broker.subscriber::<Pod<u32>>("topic", SubscriberOptions::new()).expect("opens");
    // Far longer than the stream takes to notice the end, however loaded the machine is.
    let publisher = flaky(&broker, 1, Duration::from_secs(3600));
    assert_eq!(all_of(streaming).await, [0]);
    publisher.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_awaiting_a_restart_sees_the_end_on_shutdown() {
    let broker = Broker::new();
    let options = SubscriberOptions::new().await_restarts(true);
    let mut subscriber = broker.subscriber::<Pod<u32>>("topic", options).expect("opens");
    let policy =
        RestartPolicy { initial: Duration::from_secs(3600), max: Duration::MAX, ..RestartPolicy::always() };
    let app = |session: Session| async move {
        drop(session.publisher::<Pod<u32>>("topic", Default::default()).await.map_err(|e| e.to_string())?);
        Ok::<(), String>(())
    };
    let options = ComponentOptions::new().grants(Grants::all()).restart(policy);
    let component = broker.supervise(options, app).expect("starts");
    component.exit_of(0).await.expect("a run");
    assert!(futures::FutureExt::now_or_never(subscriber.recv()).is_none(), "a restart is pending");
    component.request_shutdown();
    subscriber.recv().await.expect_err("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_subscription_awaits_restarts_if_its_component_asks_for_it() {
    let body = r#"(func (export "run") (result i32) (local $s i32) (local $n i32)
      (local.set $s (call $subscribe))
      (loop $next (if (call $next (local.get $s)) (then
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $next))))
      (call $report (i32.const 110) (i64.extend_i32_u (local.get $n)))
      (i32.const 0))"#;
    for (waits, expected) in [(false, "n:1"), (true, "n:3")] {
        let broker = Broker::new();
        let guest = load(&broker, body);
        let (tell, told) = std::sync::mpsc::channel();
        let options = ComponentOptions::new().grants(Grants::all()).await_restarts(waits).log(
            std::sync::Arc::new(move |_, line: &str| {
                let _ = tell.send(line.to_owned());
            }),
        );
        let guest = broker.supervise_guest(&guest, options).expect("starts");
        let policy = RestartPolicy {
            limit: Some(RESTARTS),
            initial: Duration::from_millis(50),
            ..RestartPolicy::on_failure()
        };
        let app = |session: Session| async move {
            let open = session.publisher::<Bytes>("topic", Default::default()).await;
            let mut publisher = open.map_err(|error| error.to_string())?;
            if !session.shutdown_requested() {
                publisher.subscribers(1).await;
            }
            publisher.loan().await.map_err(|e| e.to_string())?.send(&b"x"[..]).map_err(|e| e.to_string())?;
            Err::<(), _>("crashed".to_owned())
        };
        let options = ComponentOptions::new().grants(Grants::all()).restart(policy);
        let publisher = broker.supervise(options, app).expect("starts");
        assert_eq!(guest.ended().await.reason, ExitReason::Finished);
        let line = told.recv().expect("a line");
        assert!(line.starts_with("n:") && line.ends_with(&expected[2..]), "{line}");
        publisher.cancel();
        publisher.ended().await;
    }
}
