//! Computing time, and time on the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{MS, guest};
use crate::guest_support::start;
use blockcast_blocks::{Bytes, InvalidPayload, Payload};
use blockcast_broker::{Broker, ExitReason, Limit, RestartPolicy, Validator};

#[tokio::test]
async fn a_guest_that_waits_does_not_use_up_its_computing_time() {
    let body = r#"(func (export "run") (result i32) (local $i i32)
      (loop $again
        (drop (call $wait (i64.const 6000000)))
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50))))
      (i32.const 0))"#;
    // It waits 50 times for longer than a tick, and hardly computes.
    let guest = guest(body).limits(|limits| limits.compute = Some(150 * MS));
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Finished);
    assert!(report.stats.computed < 150 * MS, "{:?}", report.stats);
}

#[tokio::test]
async fn hostile_huge_fills_end_with_the_computing_time() {
    let body = r#"(func (export "run") (result i32)
      (drop (memory.grow (i32.const 1000)))
      (loop $again
        (memory.fill (i32.const 0) (i32.const 0) (i32.shl (memory.size) (i32.const 16)))
        (br $again))
      unreachable)"#;
    let guest = guest(body).limits(|limits| limits.compute = Some(100 * MS));
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Killed(Limit::Compute));
    assert!(report.stats.computed >= 100 * MS && report.stats.memory > 60 << 20, "{:?}", report.stats);
}

/// How a guest publishes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Copied,
    Batch,
    InPlace,
}

/// Publishes large messages without a pause, regardless of the result.
fn large_messages(way: Way) -> String {
    const SIZE: u32 = 4 << 20;
    let publish = match way {
        Way::Copied => format!("(drop (call $publish (local.get $p) (i32.const 262144) (i32.const {SIZE})))"),
        // A hundred times the same message.
        Way::Batch => format!(
            "(local.set $b (i32.const 100))
            (loop $fill
              (local.set $b (i32.sub (local.get $b) (i32.const 1)))
              (call $entry (i32.add (i32.const 8192) (i32.shl (local.get $b) (i32.const 3)))
                (i32.const 262144) (i32.const {SIZE}))
              (br_if $fill (local.get $b)))
            (drop (call $publish_batch (local.get $p) (i32.const 8192) (i32.const 800)))"
        ),
        Way::InPlace => format!(
            "(local.set $b (call $filled_loan (local.get $p) (i32.const {SIZE}) (i32.const 7)))
            (drop (call $publish_block (local.get $p) (local.get $b) (i32.const {SIZE})))
            (call $block.drop (local.get $b))"
        ),
    };
    format!(
        r#"(func (export "run") (result i32) (local $p i32) (local $b i32)
          (local.set $p (call $open_publisher (i32.const {SIZE}) (i32.const 2)))
          (drop (call $grow (i32.const {SIZE})))
          (loop $again {publish} (br $again)) unreachable)"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_messages_that_take_long_to_validate_end_with_the_granted_time() {
    const VALIDATION: Duration = Duration::from_millis(20);
    const GRANTED: Duration = Duration::from_millis(100);
    let ways = [Way::Copied, Way::Batch, Way::InPlace];
    for (way, valid) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let case = format!("{way:?}, valid: {valid}");
        let broker = Broker::new();
        let validated = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&validated);
        let validator: Validator = Arc::new(move |bytes| {
            let began = Instant::now();
            while began.elapsed() < VALIDATION {
                std::hint::spin_loop();
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let invalid = || InvalidPayload::of::<Bytes>(format!("{} bytes", bytes.len()));
            if valid { Ok(()) } else { Err(invalid()) }
        });
        broker.declare("topic", &Bytes::schema(), Some(validator)).expect("declared");
        let body = large_messages(way);

        // It is ended between two calls. A call that has begun may finish.
        let guest = start(&broker, &body, RestartPolicy::never(), |limits| limits.compute = Some(GRANTED));
        let report = guest.ended().await;
        assert_eq!(report.reason, ExitReason::Killed(Limit::Compute), "{case}");
        let computed = report.stats.computed;
        assert!((GRANTED..GRANTED + 5 * VALIDATION).contains(&computed), "{case}: {computed:?}");

        let guest = start(&broker, &body, RestartPolicy::never(), |limits| limits.run_time = Some(GRANTED));
        assert_eq!(guest.ended().await.reason, ExitReason::Killed(Limit::RunTime), "{case}");

        let before = validated.load(Ordering::SeqCst);
        let guest = start(&broker, &body, RestartPolicy::never(), |_| ());
        while validated.load(Ordering::SeqCst) == before {
            assert!(guest.report().is_none(), "{case}: {:?}", guest.report());
            tokio::time::sleep(MS).await;
        }
        guest.cancel();
        assert_eq!(guest.ended().await.reason, ExitReason::Cancelled, "{case}");
        let published = guest.stats().await.published;
        assert!(if valid { published > 0 } else { published == 0 }, "{case}: {published}");
    }
}
