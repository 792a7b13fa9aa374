//! Guests that publish.

use std::sync::Arc;

use super::KIND;
use crate::guest_support::Guest;
use crate::guest_support::bus::Bus;
use blockcast_blocks::Reader;
use blockcast_broker::{Broker, Grants};
use blockcast_broker::{ComponentReport, ExitReason, GuestEngine};

const QUESTION_MARKS: u16 = u16::from_le_bytes(*b"??");

/// Runs a guest with a publisher in `$p`. Calls `receive` with a subscriber that joins before anything is
/// published.
async fn publishing(
    blocks: u32,
    body: &str,
    mut receive: impl FnMut(&mut Reader),
) -> (ComponentReport, Guest) {
    let engine = GuestEngine::new().expect("an engine");
    let bus = Bus::new();
    let body = format!(
        r#"(func (export "run") (result i32) (local $p i32) (local $i i32)
          (local.set $p (call $open_publisher (i32.const 100) (i32.const {blocks})))
          (loop $alone
            (drop (call $wait (i64.const 1000000)))
            (br_if $alone (i32.eqz (call $publisher.subscriber-count (local.get $p)))))
          {body}
          (i32.const 0))"#
    );
    let guest = KIND.guest(&engine, Arc::new(bus.clone()), &body);
    let running = guest.spawn();
    while !bus.has_publisher("topic") {
        tokio::task::yield_now().await;
    }
    let mut reader = bus.reader("topic");
    while !running.is_finished() {
        receive(&mut reader);
        tokio::task::yield_now().await;
    }
    receive(&mut reader);
    (running.await.expect("no panic"), guest)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_guest_are_copied_once_and_arrive_in_order() {
    let body = r#"
      (loop $messages
        (i32.store (i32.const 4096) (local.get $i))
        (loop $again
          (if (i32.eq (call $publish (local.get $p) (i32.const 4096) (i32.const 100)) (i32.const -8)) (then
            (drop (call $wait (i64.const -1)))
            (br $again))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $messages (i32.lt_u (local.get $i) (i32.const 1000))))
    "#;
    let mut received = 0;
    let (report, _) = publishing(4, body, |reader| {
        while let Ok(message) = reader.receive() {
            assert_eq!(message.bytes().len(), 100);
            // The bus refuses messages whose first byte is `!`.
            assert_eq!(message.bytes()[..2], [(received % 256) as u8, (received / 256) as u8]);
            received += 1;
            if received % 256 == u64::from(b'!') {
                received += 1;
            }
        }
    })
    .await;
    assert_eq!(report.reason, ExitReason::Finished);
    assert_eq!(received, 1000);
    let valid = (0..1000).filter(|number| number % 256 != u64::from(b'!')).count() as u64;
    assert_eq!(report.stats.published, valid);
    assert!(report.stats.publish_copied_bytes >= 100 * valid, "{:?}", report.stats);
}

#[tokio::test]
async fn hostile_messages_are_refused_and_nobody_sees_them() {
    let body = r#"
      (call $expect (i32.const 1) (call $publish (local.get $p) (i32.const 4096) (i32.const 1000)) (i32.const -9))
      (call $expect (i32.const 2) (call $publish (local.get $p) (i32.const 0xffffffff) (i32.const 2)) (i32.const -12))
      (call $expect (i32.const 3) (call $publish (local.get $p) (i32.const 0x3ffff) (i32.const 2)) (i32.const -12))
      (i32.store8 (i32.const 4096) (i32.const 33))
      (call $expect (i32.const 4) (call $publish (local.get $p) (i32.const 4096) (i32.const 10)) (i32.const -10))
      (call $expect (i32.const 5) (call $publisher.block-size (local.get $p)) (i32.const 128))
      (call $expect (i32.const 6) (call $publisher.free-blocks (local.get $p)) (i32.const 3))
      ;; An empty message is valid at any address.
      (call $expect (i32.const 7) (call $publish (local.get $p) (i32.const 0x40000) (i32.const 0)) (i32.const 0))
    "#;
    let mut lengths = Vec::new();
    let (report, guest) = publishing(3, body, |reader| {
        while let Ok(message) = reader.receive() {
            lengths.push(message.bytes().len());
        }
    })
    .await;
    assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    assert_eq!(lengths, [0]);
}

#[tokio::test]
async fn hostile_publishers_beyond_the_limits_are_refused() {
    let body = r#"
      (call $expect (i32.const 1) (call $open_publisher (i32.const 0) (i32.const 4)) (i32.const -3))
      (call $expect (i32.const 2) (call $open_publisher (i32.const 64) (i32.const 0)) (i32.const -3))
      (call $expect (i32.const 3) (call $open_publisher (i32.const -1) (i32.const -1)) (i32.const -3))
      (call $expect (i32.const 4) (call $open_publisher (i32.const 0x20000000) (i32.const 4)) (i32.const -13))
      (loop $open (br_if $open (i32.ge_s (call $open_publisher (i32.const 64) (i32.const 2)) (i32.const 0))))
      (call $expect (i32.const 5) (call $result) (i32.const -13))
    "#;
    let (report, guest) = publishing(3, body, |_| ()).await;
    assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
}

#[tokio::test]
async fn hostile_bytes_that_make_a_validator_panic_end_only_the_guest() {
    let body = format!(
        r#"(drop (call $publish (local.get $p) (i32.const 4096) (i32.const 10)))
          (i32.store16 (i32.const 4096) (i32.const {QUESTION_MARKS}))
          (drop (call $publish (local.get $p) (i32.const 4096) (i32.const 10)))"#
    );
    let mut received = 0;
    let (report, _) = publishing(4, &body, |reader| {
        while reader.receive().is_ok() {
            received += 1;
        }
    })
    .await;
    assert!(
        matches!(&report.reason, ExitReason::HostPanicked(text) if text.contains("a faulty validator")),
        "{report:?}"
    );
    assert_eq!(received, 1);
}

#[tokio::test]
async fn hostile_publishers_share_one_budget_of_blocks() {
    let body = r#"
      ;; Takes 250 MiB of 256, and returns them.
      (local.set $i (call $open_publisher (i32.const 0x7d00000) (i32.const 2)))
      (call $expect (i32.const 1) (i32.ge_s (local.get $i) (i32.const 0)) (i32.const 1))
      (call $expect (i32.const 2) (call $open_publisher (i32.const 0x400000) (i32.const 2)) (i32.const -13))
      (call $publisher.drop (local.get $i))
      (call $expect (i32.const 3) (i32.ge_s (call $open_publisher (i32.const 0x400000) (i32.const 2)) (i32.const 0)) (i32.const 1))
    "#;
    let body = format!(r#"(func (export "run") (result i32) (local $i i32) {body} (i32.const 0))"#);
    let broker = Broker::on_runtime(tokio::runtime::Handle::current());
    let program = broker.load(&KIND.form.source("test", &body)).expect("loads");
    let guest = broker.spawn_guest(&program, Grants::all(), []).expect("starts");
    assert_eq!(guest.ended().await.reason, ExitReason::Finished);
}

#[tokio::test]
async fn dropping_a_publisher_ends_its_channel() {
    let mut ended = false;
    let body = "(call $publisher.drop (local.get $p)) (drop (call $wait (i64.const 20000000)))";
    let (report, _) = publishing(3, body, |reader| {
        ended |= reader.receive().is_err_and(|error| error == blockcast_blocks::ReceiveError::Ended);
    })
    .await;
    assert_eq!(report.reason, ExitReason::Finished);
    assert!(ended);
}
