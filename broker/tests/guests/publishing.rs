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
    let (report, guest, mut reader) = publishing_to(blocks, body, &mut receive).await;
    receive(&mut reader);
    (report, guest)
}

/// Like [`publishing`], and returns the subscriber.
async fn publishing_to(
    blocks: u32,
    body: &str,
    mut receive: impl FnMut(&mut Reader),
) -> (ComponentReport, Guest, Reader) {
    let engine = GuestEngine::new().expect("an engine");
    let bus = Bus::new();
    let body = format!(
        r#"(func (export "run") (result i32) (local $p i32) (local $i i32) (local $k i32) (local $at i32)
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
    (running.await.expect("no panic"), guest, reader)
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

#[tokio::test(flavor = "multi_thread")]
async fn messages_published_by_key_are_the_same_as_those_by_handle() {
    // `$k` counts the messages that were published, in turn by the key and by the handle.
    let body = r#"
      (loop $messages
        (i32.store (i32.const 4096) (local.get $k))
        (loop $again
          (local.set $at (if (result i32) (i32.and (local.get $k) (i32.const 1))
            (then (call $publish (local.get $p) (i32.const 4096) (i32.const 100)))
            (else (call $publish_to (call $publisher.key (local.get $p)) (i32.const 4096) (i32.const 100)))))
          (if (i32.eq (local.get $at) (i32.const -8)) (then
            (drop (call $wait (i64.const -1)))
            (br $again))))
        ;; The bus refuses messages whose first byte is `!`.
        (local.set $i (i32.eq (i32.and (local.get $k) (i32.const 255)) (i32.const 32)))
        (call $expect (i32.const 1) (local.get $at) (i32.const 0))
        (if (i32.eqz (i32.and (local.get $k) (i32.const 1))) (then
          (call $expect (i32.const 2) (i32.wrap_i64 (global.get $sequence))
            (i32.sub (local.get $k) (i32.shr_u (i32.add (local.get $k) (i32.const 222)) (i32.const 8))))))
        (local.set $k (i32.add (local.get $k) (i32.add (i32.const 1) (local.get $i))))
        (br_if $messages (i32.lt_u (local.get $k) (i32.const 1000))))
    "#;
    let mut received = Vec::new();
    let (report, guest) = publishing(4, body, |reader| {
        while let Ok(message) = reader.receive() {
            assert_eq!(message.bytes().len(), 100);
            received.push(u16::from_le_bytes([message.bytes()[0], message.bytes()[1]]));
        }
    })
    .await;
    assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    let valid: Vec<u16> = (0..1000).filter(|number| number % 256 != u16::from(b'!')).collect();
    assert_eq!(received, valid);
    assert_eq!(report.stats.published, valid.len() as u64);
    assert_eq!(report.stats.publish_copied_bytes, 100 * valid.len() as u64);
}

#[tokio::test]
async fn hostile_messages_published_by_key_are_refused() {
    // The memory has 0x40000 bytes, a page of which the guest donates. A block has 128.
    const REFUSED: [(u32, u32, i32); 13] = [
        (4096, 129, -9),
        (4096, 1000, -9),
        (4096, u32::MAX, -12),
        (0, u32::MAX, -12),
        (u32::MAX, u32::MAX, -12),
        (u32::MAX, 1, -12),
        (u32::MAX, 2, -12),
        (0x3ffff, 2, -12),
        (0x40001, 0, -12),
        (0x30000, 1, -12), // donated
        (0x2ffff, 2, -12), // partly donated
        (0x3ffff, 1, -12), // its end
        (5000, 1, -10),    // invalid
    ];
    let mut body = String::from(
        r#"(i32.store8 (i32.const 5000) (i32.const 33))
          (call $expect (i32.const 99) (call $donate_blocks (i32.const 0x30000) (i32.const 0x10000)) (i32.const 0))
          (local.set $k (call $publisher.key (local.get $p)))"#,
    );
    for (check, (address, size, error)) in REFUSED.into_iter().enumerate() {
        body += &format!(
            r#"(call $expect (i32.const {check})
              (call $publish_to (local.get $k) (i32.const {address}) (i32.const {size})) (i32.const {error}))"#
        );
    }
    body += r#"
      (call $expect (i32.const 90) (call $publisher.free-blocks (local.get $p)) (i32.const 3))
      (call $expect (i32.const 91) (call $publish_to (local.get $k) (i32.const 0x40000) (i32.const 0)) (i32.const 0))
      (call $expect (i32.const 92) (call $publish_to (local.get $k) (i32.const 4096) (i32.const 128)) (i32.const 0))
      (call $expect (i32.const 93) (call $publish_to (local.get $k) (i32.const 4096) (i32.const 1)) (i32.const 0))
      (call $expect (i32.const 94) (i32.wrap_i64 (global.get $sequence)) (i32.const 2))
      (call $expect (i32.const 95) (call $publish_to (local.get $k) (i32.const 4096) (i32.const 1)) (i32.const -8))
    "#;
    let (report, guest, mut reader) = publishing_to(3, &body, |_| ()).await;
    let mut lengths = Vec::new();
    while let Ok(message) = reader.receive() {
        lengths.push(message.bytes().len());
    }
    assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    assert_eq!(lengths, [0, 128, 1]);
    assert_eq!((report.stats.published, report.stats.publish_copied_bytes), (3, 129));
}

#[tokio::test]
async fn hostile_keys_name_no_publisher() {
    // `$k` is the first publisher's key, `$at` the second one's.
    let body = r#"
      (local.set $k (call $publisher.key (local.get $p)))
      (call $expect (i32.const 1) (call $publisher.key (local.get $p)) (local.get $k))
      (loop $others
        (if (i32.ne (local.get $i) (local.get $k)) (then
          (call $expect (i32.const 2) (call $publish_to (local.get $i) (i32.const 4096) (i32.const 1)) (i32.const -11))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $others (i32.lt_u (local.get $i) (i32.const 1000))))
      (local.set $i (i32.const 1))
      (loop $bits
        (call $expect (i32.const 3) (call $publish_to (i32.xor (local.get $k) (local.get $i)) (i32.const 4096) (i32.const 1)) (i32.const -11))
        (br_if $bits (local.tee $i (i32.shl (local.get $i) (i32.const 1)))))
      (call $expect (i32.const 4) (call $publish_to (i32.const -1) (i32.const 4096) (i32.const 1)) (i32.const -11))
      ;; An address that is wrong changes nothing about that.
      (call $expect (i32.const 5) (call $publish_to (i32.const 0) (i32.const -1) (i32.const -1)) (i32.const -11))
      (call $expect (i32.const 6) (call $publish_to (local.get $k) (i32.const 4096) (i32.const 1)) (i32.const 0))

      ;; Another publisher takes the place of the first, with another key.
      (call $publisher.drop (local.get $p))
      (call $expect (i32.const 7) (call $publish_to (local.get $k) (i32.const 4096) (i32.const 2)) (i32.const -11))
      (local.set $p (call $open_publisher (i32.const 100) (i32.const 3)))
      (call $expect (i32.const 8) (call $publish_to (local.get $k) (i32.const 4096) (i32.const 2)) (i32.const -11))
      (local.set $at (call $publisher.key (local.get $p)))
      (call $expect (i32.const 9) (i32.eq (local.get $at) (local.get $k)) (i32.const 0))
      (call $expect (i32.const 10) (call $publish_to (local.get $at) (i32.const 4096) (i32.const 3)) (i32.const 0))
      (call $expect (i32.const 11) (i32.wrap_i64 (global.get $sequence)) (i32.const 0))
      (call $expect (i32.const 12) (call $publish_to (local.get $k) (i32.const 4096) (i32.const 2)) (i32.const -11))
    "#;
    let mut lengths = Vec::new();
    let (report, guest) = publishing(3, body, |reader| {
        while let Ok(message) = reader.receive() {
            lengths.push(message.bytes().len());
        }
    })
    .await;
    assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    // The reader is the first publisher's.
    assert_eq!(lengths, [1]);
    assert_eq!((report.stats.published, report.stats.publish_copied_bytes), (2, 4));
}

#[tokio::test]
async fn hostile_guest_that_publishes_by_key_before_it_runs_is_refused() {
    let body = r#"(func $begin (local $key i32)
        (loop $keys
          (call $expect (i32.const 1) (call $publish_to (local.get $key) (i32.const 4096) (i32.const 1)) (i32.const -11))
          (br_if $keys (i32.lt_u (local.tee $key (i32.add (local.get $key) (i32.const 1))) (i32.const 10)))))
      (start $begin)
      (func (export "run") (result i32) (i32.const 0))"#;
    let engine = GuestEngine::new().expect("an engine");
    let report = KIND.guest(&engine, Arc::new(Bus::new()), body).run().await;
    assert_eq!(report.reason, ExitReason::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_a_guest_arrive_completely_and_in_order() {
    // Each batch has twice as many messages as there are blocks. `$k` counts those that are done.
    let body = r#"
      (loop $batches
        (local.set $k (i32.const 0))
        (loop $fill
          (local.set $at (i32.add (i32.const 4096) (i32.shl (local.get $k) (i32.const 7))))
          (i32.store (local.get $at) (i32.add (local.get $i) (local.get $k)))
          (call $entry (i32.add (i32.const 8192) (i32.shl (local.get $k) (i32.const 3))) (local.get $at) (i32.const 100))
          (br_if $fill (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 1))) (i32.const 8))))
        (local.set $k (i32.const 0))
        (loop $rest
          (local.set $k (i32.add (local.get $k) (call $publish_batch (local.get $p)
            (i32.add (i32.const 8192) (i32.shl (local.get $k) (i32.const 3)))
            (i32.sub (i32.const 64) (i32.shl (local.get $k) (i32.const 3))))))
          (if (i32.eq (global.get $refused) (i32.const -8)) (then (drop (call $wait (i64.const -1)))))
          ;; Skips an invalid message.
          (if (i32.eq (global.get $refused) (i32.const -10)) (then
            (local.set $k (i32.add (local.get $k) (i32.const 1)))))
          (br_if $rest (i32.lt_u (local.get $k) (i32.const 8))))
        (local.set $i (i32.add (local.get $i) (i32.const 8)))
        (br_if $batches (i32.lt_u (local.get $i) (i32.const 1000))))
    "#;
    let mut received = Vec::new();
    let (report, guest) = publishing(4, body, |reader| {
        while let Ok(message) = reader.receive() {
            assert_eq!(message.bytes().len(), 100);
            received.push(u16::from_le_bytes([message.bytes()[0], message.bytes()[1]]));
        }
    })
    .await;
    assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    let valid: Vec<u16> = (0..1000).filter(|number| number % 256 != u16::from(b'!')).collect();
    assert_eq!(received, valid);
    assert_eq!(report.stats.published, valid.len() as u64);
    assert_eq!(report.stats.publish_copied_bytes, 100 * valid.len() as u64);
}

#[tokio::test]
async fn hostile_batches_are_refused_from_the_first_message_that_is_wrong() {
    /// Code that publishes `size` bytes of entries at `entries`: `published` messages, then this `error`.
    fn batch(check: u32, (entries, size): (u32, u32), published: u32, error: i32) -> String {
        let (count, reason) = (2 * check, 2 * check + 1);
        format!(
            r#"(call $expect (i32.const {count})
                (call $publish_batch (local.get $p) (i32.const {entries}) (i32.const {size})) (i32.const {published}))
              (call $expect (i32.const {reason}) (global.get $refused) (i32.const {error}))"#
        )
    }
    const WRONG_SIZE: i32 = -3;
    const EXHAUSTED: i32 = -8;
    const TOO_LARGE: i32 = -9;
    const INVALID_PAYLOAD: i32 = -10;
    const OUT_OF_BOUNDS: i32 = -12;
    // The memory has 0x40000 bytes, a page of which the guest donates. A block has 128.
    let entries = [
        (4096, 1),
        (8192, 16), // overlaps the entries
        (4096, 129),
        (0x3ffff, 2),
        (u32::MAX, 2),
        (0x30000, 1), // donated
        (0x2ffff, 2), // partly donated
        (5000, 1),    // invalid
        (0x40000, 0),
        (4096, u32::MAX),
    ];
    let mut body = String::from("(i32.store8 (i32.const 5000) (i32.const 33))");
    for (at, (address, size)) in (8192_u32..).step_by(8).zip(entries) {
        body += &format!("(call $entry (i32.const {at}) (i32.const {address}) (i32.const {size}))");
    }
    body += "(call $expect (i32.const 99) (call $donate_blocks (i32.const 0x30000) (i32.const 0x10000)) (i32.const 0))";
    let all = entries.len() as u32 * 8;
    let wrong = [
        // The entries themselves.
        ((8193, 8), 0, WRONG_SIZE),
        ((8194, 8), 0, WRONG_SIZE),
        ((8192, 7), 0, WRONG_SIZE),
        ((8192, 1), 0, WRONG_SIZE),
        ((0x40000, 8), 0, OUT_OF_BOUNDS),
        ((0x3fffc, 8), 0, OUT_OF_BOUNDS),
        ((u32::MAX - 3, 8), 0, OUT_OF_BOUNDS),
        ((8192, u32::MAX - 7), 0, OUT_OF_BOUNDS),
        ((0x30000, 8), 0, OUT_OF_BOUNDS),
        ((0x2fffc, 8), 0, OUT_OF_BOUNDS),
        // No entries, at any address inside of the memory.
        ((0x40000, 0), 0, 0),
        // The messages that they name.
        ((8192, all), 2, TOO_LARGE),
        ((8192 + 2 * 8, 8), 0, TOO_LARGE),
        ((8192 + 3 * 8, 8), 0, OUT_OF_BOUNDS),
        ((8192 + 4 * 8, 8), 0, OUT_OF_BOUNDS),
        ((8192 + 5 * 8, 8), 0, OUT_OF_BOUNDS),
        ((8192 + 6 * 8, 8), 0, OUT_OF_BOUNDS),
        ((8192 + 7 * 8, 8), 0, INVALID_PAYLOAD),
        ((8192 + 8 * 8, 16), 1, OUT_OF_BOUNDS),
        // 8192 empty messages, for which there are not enough blocks.
        ((0x10000, 0x10000), 1, EXHAUSTED),
    ];
    for (check, (entries, published, error)) in wrong.into_iter().enumerate() {
        body += &batch(check as u32, entries, published, error);
    }
    body += "(call $expect (i32.const 98) (call $publisher.free-blocks (local.get $p)) (i32.const 0))";
    let (report, guest, mut reader) = publishing_to(4, &body, |_| ()).await;
    let mut received = Vec::new();
    while let Ok(message) = reader.receive() {
        received.push(message.bytes().len());
    }
    assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    assert_eq!(received, [1, 16, 0, 0]);
    assert_eq!((report.stats.published, report.stats.publish_copied_bytes), (4, 17));
}

#[tokio::test]
async fn hostile_bytes_that_make_a_validator_panic_leave_the_batch_before_them() {
    let body = format!(
        r#"(i32.store16 (i32.const 5000) (i32.const {QUESTION_MARKS}))
          (call $entry (i32.const 8192) (i32.const 4096) (i32.const 7))
          (call $entry (i32.const 8200) (i32.const 5000) (i32.const 10))
          (call $entry (i32.const 8208) (i32.const 4096) (i32.const 8))
          (drop (call $publish_batch (local.get $p) (i32.const 8192) (i32.const 24)))"#
    );
    let mut received = Vec::new();
    let (report, _) = publishing(4, &body, |reader| {
        while let Ok(message) = reader.receive() {
            received.push(message.bytes().len());
        }
    })
    .await;
    assert!(
        matches!(&report.reason, ExitReason::HostPanicked(text) if text.contains("a faulty validator")),
        "{report:?}"
    );
    assert_eq!(received, [7]);
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
    for publish in ["call $publish (local.get $p)", "call $publish_to (call $publisher.key (local.get $p))"] {
        let body = format!(
            r#"(drop ({publish} (i32.const 4096) (i32.const 10)))
              (i32.store16 (i32.const 4096) (i32.const {QUESTION_MARKS}))
              (drop ({publish} (i32.const 4096) (i32.const 10)))"#
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
