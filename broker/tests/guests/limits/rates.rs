//! Rates of messages, bytes, log lines and host calls.

use std::time::Instant;

use super::{MS, guest};
use blockcast_broker::{ExitReason, Limit, Rate};

/// Publishes 4 bytes 2000 times, regardless of the result, and reports how often that succeeded, was refused
/// by a limit, and failed otherwise.
const FLOOD: &str = r#"(func (export "run") (result i32)
  (local $p i32) (local $i i32) (local $code i32) (local $sent i32) (local $refused i32) (local $else i32)
  (local.set $p (call $open_publisher (i32.const 64) (i32.const 8)))
  (loop $again
    (local.set $code (call $publish (local.get $p) (i32.const 4096) (i32.const 4)))
    (if (i32.eqz (local.get $code))
      (then (local.set $sent (i32.add (local.get $sent) (i32.const 1))))
      (else (if (i32.eq (local.get $code) (i32.const -13))
        (then (local.set $refused (i32.add (local.get $refused) (i32.const 1))))
        (else (local.set $else (i32.add (local.get $else) (i32.const 1)))))))
    (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2000))))
  (call $report (i32.const 115) (i64.extend_i32_u (local.get $sent)))
  (call $report (i32.const 114) (i64.extend_i32_u (local.get $refused)))
  (call $report (i32.const 101) (i64.extend_i32_u (local.get $else)))
  (i32.const 0))"#;

/// [`FLOOD`], and the same by the publisher's key.
fn floods() -> [String; 2] {
    let by_key = "call $publish_to (call $publisher.key (local.get $p))";
    [FLOOD.to_owned(), FLOOD.replace("call $publish (local.get $p)", by_key)]
}

#[tokio::test]
async fn hostile_flood_of_messages_is_refused_beyond_its_rate() {
    for flood in floods() {
        let limit = Some(Rate::per_second(100).burst(10));
        let guest = guest(&flood).limits(|limits| limits.publish_messages = limit);
        let began = Instant::now();
        let report = guest.run().await;
        assert_eq!(report.reason, ExitReason::Finished);
        let sent = guest.reported('s')[0];
        let allowed = 10 + began.elapsed().as_millis() as u64 / 10 + 1;
        assert!((10..=allowed).contains(&sent), "{sent} of {allowed}");
        assert_eq!((guest.reported('r')[0], guest.reported('e')[0]), (2000 - sent, 0));
        assert_eq!((report.stats.published, report.stats.refusals), (sent, 2000 - sent));
    }
}

#[tokio::test]
async fn hostile_flood_of_bytes_is_refused_beyond_its_rate() {
    for flood in floods() {
        let limit = Some(Rate::per_second(400).burst(40));
        let guest = guest(&flood).limits(|limits| limits.publish_bytes = limit);
        let began = Instant::now();
        assert_eq!(guest.run().await.reason, ExitReason::Finished);
        let bytes = guest.reported('s')[0] * 4;
        let allowed = 40 + began.elapsed().as_millis() as u64 * 400 / 1000 + 4;
        assert!((40..=allowed).contains(&bytes), "{bytes} of {allowed}");
    }
}

/// Like [`FLOOD`], but in batches of 50 messages, until a batch is refused for something other than a limit.
const FLOOD_OF_BATCHES: &str = r#"(func (export "run") (result i32)
  (local $p i32) (local $i i32) (local $sent i32) (local $refused i32)
  (local.set $p (call $open_publisher (i32.const 64) (i32.const 8)))
  (loop $fill
    (call $entry (i32.add (i32.const 8192) (i32.shl (local.get $i) (i32.const 3))) (i32.const 4096) (i32.const 4))
    (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50))))
  (loop $again
    (local.set $sent (i32.add (local.get $sent)
      (call $publish_batch (local.get $p) (i32.const 8192) (i32.const 400))))
    (if (i32.eq (global.get $refused) (i32.const -13))
      (then (local.set $refused (i32.add (local.get $refused) (i32.const 1))))
      (else (call $expect (i32.const 1) (global.get $refused) (i32.const 0))))
    (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2000))))
  (call $report (i32.const 115) (i64.extend_i32_u (local.get $sent)))
  (call $report (i32.const 114) (i64.extend_i32_u (local.get $refused)))
  (i32.const 0))"#;

#[tokio::test]
async fn hostile_flood_of_batches_is_refused_beyond_its_rates() {
    for (messages, bytes) in
        [(Some(Rate::per_second(100).burst(10)), None), (None, Some(Rate::per_second(400).burst(40)))]
    {
        let guest = guest(FLOOD_OF_BATCHES).limits(|limits| {
            (limits.publish_messages, limits.publish_bytes) = (messages, bytes);
        });
        let began = Instant::now();
        let report = guest.run().await;
        assert_eq!(report.reason, ExitReason::Finished);
        let sent = guest.reported('s')[0];
        let allowed = 10 + began.elapsed().as_millis() as u64 / 10 + 1;
        assert!((10..=allowed).contains(&sent), "{sent} of {allowed}");
        assert_eq!((report.stats.published, report.stats.refusals), (sent, guest.reported('r')[0]));
        assert!(report.stats.refusals > 0);
    }
}

#[tokio::test]
async fn hostile_flood_of_messages_ends_the_guest_if_its_grant_says_so() {
    let rate = |burst| Rate::per_second(0).burst(burst);
    let limits = [(Limit::PublishMessages, rate(5)), (Limit::PublishBytes, rate(20))];
    for (flood, (limit, rate)) in floods().iter().flat_map(|flood| limits.map(|limit| (flood, limit))) {
        let guest = guest(flood).limits(|limits| {
            if limit == Limit::PublishBytes {
                limits.publish_bytes = Some(rate);
            } else {
                limits.publish_messages = Some(rate);
            }
            limits.end_at.push(limit);
        });
        let report = guest.run().await;
        assert_eq!(report.reason, ExitReason::Killed(limit));
        assert_eq!(report.stats.published, 5);
    }
}

#[tokio::test]
async fn a_guest_that_asks_and_waits_publishes_at_its_rate_without_refusals() {
    let body = r#"(func (export "run") (result i32) (local $p i32) (local $i i32)
      (local.set $p (call $open_publisher (i32.const 64) (i32.const 8)))
      (loop $again
        (if (call $publisher.free-blocks (local.get $p))
          (then
            (call $expect (i32.const 1) (call $publish (local.get $p) (i32.const 4096) (i32.const 4)) (i32.const 0))
            (local.set $i (i32.add (local.get $i) (i32.const 1))))
          (else (drop (call $wait (i64.const -1)))))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 30))))
      (i32.const 0))"#;
    let guest = guest(body).limits(|limits| limits.publish_messages = Some(Rate::per_second(200).burst(5)));
    let began = Instant::now();
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Finished);
    assert_eq!((report.stats.published, report.stats.refusals), (30, 0));
    assert!(began.elapsed() >= 120 * MS, "25 messages at 200 per second: {:?}", began.elapsed());
}

#[tokio::test]
async fn hostile_flood_of_log_lines_ends_the_guest_if_its_grant_says_so() {
    let body = r#"(func (export "run") (result i32)
      (loop $again (call $log (i32.const 2) (i32.const 16) (i32.const 5)) (br $again)) unreachable)"#;
    let guest = guest(body).limits(|limits| {
        limits.log_lines = Rate::per_second(0).burst(20);
        limits.end_at.push(Limit::LogLines);
    });
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Killed(Limit::LogLines));
    assert!((20..40).contains(&guest.log.lock().unwrap().len()));
    assert_eq!(report.stats.log_lines_dropped, 1);
}

#[tokio::test]
async fn hostile_flood_of_host_calls_ends_the_guest() {
    let body =
        r#"(func (export "run") (result i32) (loop $again (drop (call $now)) (br $again)) unreachable)"#;
    let guest = guest(body).limits(|limits| limits.host_calls = Some(Rate::per_second(0).burst(1000)));
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Killed(Limit::HostCalls));
    assert!((1000..100_000).contains(&report.stats.host_calls), "{:?}", report.stats);
}

#[tokio::test]
async fn a_guest_that_calls_the_host_within_its_rate_is_not_ended() {
    let body = r#"(func (export "run") (result i32) (local $i i32)
      (loop $again
        (drop (call $wait (i64.const 1000000)))
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))
      (i32.const 0))"#;
    // It makes at most one call per millisecond.
    let guest = guest(body).limits(|limits| limits.host_calls = Some(Rate::per_second(2000).burst(20)));
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
}
