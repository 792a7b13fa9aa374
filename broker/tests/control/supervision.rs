//! Components that are restarted after they have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::guest_support::load;
use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, ComponentOptions, ComponentState, ExitReason, Grants, RestartPolicy};
use blockcast_publisher::{Publisher, PublisherOptions};

const MS: Duration = Duration::from_millis(1);

fn quickly(policy: RestartPolicy) -> ComponentOptions {
    let policy = RestartPolicy { initial: MS, ..policy };
    ComponentOptions::new().grants(Grants::all()).restart(policy)
}

fn publish(publisher: &mut Publisher<Bytes>, text: &[u8]) {
    publisher.try_loan().expect("a block").send(text).expect("fits");
}

/// Receives one message, holds it, and traps.
const TRAPS: &str = r#"(func $trap unreachable)
  (func (export "run") (result i32) (local $s i32)
    (local.set $s (call $subscribe))
    (drop (call $next (local.get $s)))
    (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
    (call $expect (i32.const 1) (call $result) (i32.const 0))
    (call $trap)
    (i32.const 0))"#;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_guest_that_traps_while_holding_returns_everything_and_restarts() {
    let broker = Broker::new();
    let options = PublisherOptions::new().block_size(64).blocks(4);
    let mut publisher = broker.publisher::<Bytes>("topic", options).expect("opens");
    let policy = RestartPolicy { limit: Some(3), ..RestartPolicy::on_failure() };
    let guest = broker.supervise_guest(&load(&broker, TRAPS), quickly(policy)).expect("starts");
    for run in 0..4 {
        while guest.restarts() < run || publisher.subscriber_count() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(publisher.reclaim(), 4, "the former run's blocks have returned");
        publish(&mut publisher, b"block");
        while guest.exits().len() as u64 <= run {
            tokio::task::yield_now().await;
        }
    }
    let report = guest.ended().await;
    assert_eq!((guest.state(), guest.restarts()), (ComponentState::GivenUp, 3));
    assert_eq!(guest.exit_of(2).await.map(|exit| exit.run), Some(2));
    assert_eq!(guest.exit_of(4).await, None, "there is no fifth run");
    let exits = guest.exits();
    assert_eq!(exits.iter().map(|exit| exit.run).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for exit in &exits {
        let ExitReason::Trapped { message, backtrace } = &exit.reason else { panic!("{exit:?}") };
        assert!(message.contains("unreachable") && backtrace.contains("trap"), "{exit:?}");
        assert_eq!((exit.stats.received, exit.stats.held), (1, 1));
    }
    assert_eq!(report.reason, exits[3].reason);
    assert_eq!(guest.stats().await.received, 4, "counted over all runs");
    assert_eq!(publisher.reclaim(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_finishes_is_restarted_only_by_the_policy_always() {
    let broker = Broker::new();
    let program = load(&broker, r#"(func (export "run") (result i32) (i32.const 0))"#);
    let guest = broker.supervise_guest(&program, quickly(RestartPolicy::on_failure())).expect("starts");
    assert_eq!((guest.ended().await.reason, guest.restarts()), (ExitReason::Finished, 0));
    assert_eq!(guest.state(), ComponentState::Ended);
    let guest = broker.supervise_guest(&program, quickly(RestartPolicy::always())).expect("starts");
    assert_eq!((guest.ended().await.reason, guest.restarts()), (ExitReason::Finished, 5));
    assert_eq!(guest.state(), ComponentState::GivenUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_before_a_restart_ends_at_once_on_shutdown_and_on_cancellation() {
    let broker = Broker::new();
    let fails = load(&broker, r#"(func (export "run") (result i32) (i32.const 1))"#);
    let policy = RestartPolicy {
        initial: Duration::from_secs(1000),
        max: Duration::from_secs(1000),
        ..RestartPolicy::always()
    };
    for cancel in [false, true] {
        let options = ComponentOptions::new().restart(policy.clone());
        let guest = broker.supervise_guest(&fails, options).expect("starts");
        while guest.state() != ComponentState::Pausing {
            tokio::task::yield_now().await;
        }
        assert!(guest.report().is_none(), "it has not ended for good yet");
        let asked = Instant::now();
        if cancel {
            guest.cancel()
        } else {
            guest.request_shutdown()
        }
        assert!(matches!(guest.ended().await.reason, ExitReason::Failed(_)), "the outcome of its only run");
        // Well within the pause, and longer than any machine needs.
        assert!(asked.elapsed() < Duration::from_secs(500));
        assert_eq!((guest.restarts(), guest.state()), (0, ComponentState::Ended));
    }
    let guest = broker.supervise_guest(&fails, ComponentOptions::new().restart(policy)).expect("starts");
    while guest.state() != ComponentState::Pausing {
        tokio::task::yield_now().await;
    }
    broker.shut_down();
    guest.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_app_is_restarted_like_a_guest_even_after_a_panic() {
    let broker = Broker::new();
    broker.keep_topics();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let options = quickly(RestartPolicy::on_failure()).name("app").parameter("n", "7");
    let app = broker
        .supervise(options, move |session| {
            let run = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                let _subscriber = session
                    .subscriber::<Bytes>("topic", Default::default())
                    .await
                    .map_err(|error| error.to_string())?;
                assert_eq!(session.parameter("n").as_deref(), Some("7"));
                match run {
                    0 => panic!("the first run"),
                    1 => Err("the second run".to_owned()),
                    _ => Ok(()),
                }
            }
        })
        .expect("starts");
    assert_eq!(app.ended().await.reason, ExitReason::Finished);
    let reasons: Vec<_> = app.exits().into_iter().map(|exit| exit.reason.to_string()).collect();
    assert_eq!(reasons, ["trapped: panicked: the first run", "failed: the second run", "finished"]);
    assert_eq!(broker.topic("topic").map(|topic| topic.subscriptions), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_cannot_start_is_given_up_with_a_reason() {
    let broker = Broker::new();
    let program = load(&broker, r#"(func (export "run") (result i32) (i32.const 0))"#);
    let mut limits = blockcast_broker::ComponentLimits::default();
    limits.memory = 65536;
    let policy = RestartPolicy { limit: Some(2), ..RestartPolicy::on_failure() };
    let options = quickly(policy).grants(Grants::new().limits(limits));
    let guest = broker.supervise_guest(&program, options).expect("starts");
    assert!(matches!(guest.ended().await.reason, ExitReason::NotStarted(_)));
    assert_eq!((guest.exits().len(), guest.state()), (3, ComponentState::GivenUp));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_of_a_guest_can_be_read_while_it_waits_or_computes() {
    let broker = Broker::new();
    let computes =
        r#"(func (export "run") (result i32) (drop (call $subscribe)) (loop $on (br $on)) unreachable)"#;
    let waits = r#"(func (export "run") (result i32) (drop (call $subscribe))
      (loop $on (drop (call $wait (i64.const -1))) (br $on)) unreachable)"#;
    for body in [computes, waits] {
        let guest = broker
            .supervise_guest(&load(&broker, body), ComponentOptions::new().grants(Grants::all()))
            .expect("starts");
        let mut stats = guest.stats().await;
        while stats.subscriptions == 0 {
            stats = guest.stats().await;
        }
        assert!(stats.host_calls > 0 && stats.memory >= 65536, "{stats:?}");
        guest.cancel();
        assert_eq!(guest.ended().await.reason, ExitReason::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_topic_keeps_its_schema_and_checks_what_guests_publish() {
    use blockcast_blocks::{InvalidPayload, Payload, Schema};
    let broker = Broker::new();
    let validator = |bytes: &[u8]| {
        if bytes == b"good" { Ok(()) } else { Err(InvalidPayload::of::<Bytes>("not good")) }
    };
    broker.declare("topic", &Bytes::schema(), Some(Arc::new(validator))).expect("declared");
    assert!(broker.declare("topic", &Schema::named("other"), None).is_err());
    let body = r#"(func (export "run") (result i32) (local $p i32)
      (local.set $p (call $open_publisher (i32.const 64) (i32.const 2)))
      (call $expect (i32.const 1) (call $publish (local.get $p) (i32.const 16) (i32.const 5)) (i32.const -10))
      (i32.store (i32.const 4096) (i32.const 0x646f6f67))
      (call $expect (i32.const 2) (call $publish (local.get $p) (i32.const 4096) (i32.const 4)) (i32.const 0))
      (i32.const 0))"#;
    let mut limits = blockcast_broker::ComponentLimits::default();
    limits.topics = 0; // the topic exists already
    let grants = Grants::new().publish("topic").limits(limits);
    let guest = broker.spawn_guest(&load(&broker, body), grants, []).expect("starts");
    assert_eq!(guest.ended().await.reason, ExitReason::Finished);
}
