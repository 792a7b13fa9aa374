//! How guests receive messages: batches, releases, holds, losses, several publishers, the end.

use std::sync::Arc;

use super::KIND;
use crate::guest_support::Guest;
use crate::guest_support::bus::{Bus, publish};
use blockcast_blocks::Writer;
use blockcast_broker::{ComponentLimits, ExitReason, GuestEngine};
use tokio::task::JoinHandle;

struct Scene {
    bus: Bus,
    guest: Guest,
    running: JoinHandle<blockcast_broker::ComponentReport>,
}

/// Starts a guest with `body` as its `run`, and waits until it has subscribed if there is a `writer`.
async fn scene(
    writer: Option<&Writer>,
    bus: Bus,
    limits: impl FnOnce(&mut ComponentLimits),
    body: &str,
) -> Scene {
    let engine = GuestEngine::new().expect("an engine");
    let body = format!(
        r#"(func (export "run") (result i32) (local $s i32) (local $r i32) (local $a i32) (local $n i32) {body} (i32.const 0))"#
    );
    let guest = KIND.guest(&engine, Arc::new(bus.clone()), &body).limits(limits);
    let running = guest.spawn();
    if let Some(writer) = writer {
        while writer.channel().stats().subscribers.is_empty() && !running.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    Scene { bus, guest, running }
}

impl Scene {
    async fn finishes(self) -> Guest {
        let report = self.running.await.expect("no panic");
        assert_eq!(report.reason, ExitReason::Finished, "{:?}", self.guest.log.lock());
        self.guest
    }
}

const SUBSCRIBE: &str = "(local.set $s (call $subscribe)) (drop (call $donate (local.get $s)))";

/// Waits until `tag` was reported `times` times.
async fn until(guest: &Guest, tag: char, times: usize) {
    // Bounds the wait for one report.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(600);
    while guest.reported(tag).len() < times {
        assert!(std::time::Instant::now() < deadline, "there is no report {tag:?}");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_delivers_many_messages_and_the_next_poll_releases_them() {
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 64, 8);
    let body = format!(
        r#"{SUBSCRIBE}
        (call $report (i32.const 97) (i64.const 1))
        ;; They may arrive in several batches.
        (loop $wait
          (local.set $n (i32.add (local.get $n) (call $poll (local.get $s)
            (i32.add (i32.const 8192) (i32.shl (local.get $n) (i32.const 5)))
            (i32.sub (i32.const 256) (i32.shl (local.get $n) (i32.const 5)))
            (i64.const 0))))
          (br_if $wait (i32.lt_u (local.get $n) (i32.const 8))))
        (call $report (i32.const 110) (i64.extend_i32_u (local.get $n)))
        (call $expect (i32.const 1) (local.get $n) (i32.const 8))
        ;; Indices count from 0, lengths and order are right, validity is known.
        (call $expect (i32.const 2) (i32.load (i32.const 8192)) (i32.const 0))
        (call $expect (i32.const 3) (i32.load (i32.const 8416)) (i32.const 7))
        (call $expect (i32.const 4) (i32.load offset=20 (i32.const 8416)) (i32.const 0x80000003))
        (call $expect (i32.const 5) (i32.load8_u (i32.load offset=16 (i32.const 8416))) (i32.const 7))
        ;; There is no other message, and none was released.
        (call $expect (i32.const 6) (call $poll (local.get $s) (i32.const 8192) (i32.const 256) (i64.const 0)) (i32.const 0))
        (call $report (i32.const 98) (i64.const 1))
        (drop (call $wait (i64.const 50000000)))
        ;; An empty batch only releases.
        (call $expect (i32.const 7) (call $poll (local.get $s) (i32.const 0) (i32.const 0) (i64.const 8)) (i32.const 0))
        (call $report (i32.const 99) (i64.const 1))
        (drop (call $wait (i64.const -1)))
        (call $expect (i32.const 8) (i32.load8_u (i32.load offset=16 (call $next (local.get $s)))) (i32.const 9))
        "#
    );
    let scene = scene(Some(&writer), bus, |_| (), &body).await;
    until(&scene.guest, 'a', 1).await;
    for byte in 0..8 {
        assert!(publish(&mut writer, &[byte; 3]));
    }
    until(&scene.guest, 'b', 1).await;
    assert!(!publish(&mut writer, &[9; 3]), "the guest is attached to all blocks");
    until(&scene.guest, 'c', 1).await;
    assert!(publish(&mut writer, &[9; 3]));
    scene.finishes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misuse_of_poll_is_an_error_and_changes_nothing() {
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 64, 8);
    let body = format!(
        r#"{SUBSCRIBE}
        (drop (call $next (local.get $s)))
        ;; wrong-size: not aligned, too small
        (call $expect (i32.const 1) (call $poll (local.get $s) (i32.const 8196) (i32.const 32) (i64.const 0)) (i32.const -3))
        (call $expect (i32.const 2) (call $poll (local.get $s) (i32.const 8192) (i32.const 31) (i64.const 0)) (i32.const -3))
        ;; invalid-handle: never delivered
        (call $expect (i32.const 3) (call $poll (local.get $s) (i32.const 8192) (i32.const 32) (i64.const 2)) (i32.const -11))
        (call $expect (i32.const 4) (call $poll (local.get $s) (i32.const 8192) (i32.const 32) (i64.const -1)) (i32.const -11))
        ;; out-of-bounds
        (call $expect (i32.const 5) (call $poll (local.get $s) (i32.const 0xfffffff0) (i32.const 32) (i64.const 0)) (i32.const -12))
        (call $expect (i32.const 6) (call $poll (local.get $s) (i32.const 8192) (i32.const 0xffffffe0) (i64.const 0)) (i32.const -12))
        ;; holds that do not exist
        (call $subscription.hold (local.get $s) (i64.const 5) (i32.const 1088))
        (call $expect (i32.const 7) (call $result) (i32.const -11))
        (call $subscription.unhold (local.get $s) (i32.const 0) (i32.const 1088))
        (call $expect (i32.const 8) (call $unit) (i32.const -11))
        "#
    );
    let scene = scene(Some(&writer), bus, |_| (), &body).await;
    assert!(publish(&mut writer, b"one"));
    scene.finishes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_message_outlives_its_release_the_publisher_and_leaving() {
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 64, 4);
    let body = format!(
        r#"{SUBSCRIBE}
        (local.set $a (i32.load offset=16 (call $next (local.get $s))))
        (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
        (local.set $n (call $result))
        (call $report (i32.const 97) (i64.const 1))
        (loop $drain (br_if $drain (call $next (local.get $s))))
        ;; The topic has ended, and the message is still readable.
        (call $expect (i32.const 1) (i32.load8_u (local.get $a)) (i32.const 1))
        (call $subscription.leave (local.get $s))
        (call $subscription.leave (local.get $s))
        (call $expect (i32.const 2) (i32.load8_u (local.get $a)) (i32.const 1))
        (call $expect (i32.const 3) (call $poll (local.get $s) (i32.const 8192) (i32.const 32) (i64.const 0)) (i32.const -7))
        ;; Once it is released, its window is ordinary memory again.
        (call $subscription.unhold (local.get $s) (local.get $n) (i32.const 1088))
        (call $expect (i32.const 4) (call $unit) (i32.const 0))
        (call $expect (i32.const 5) (i32.load8_u (local.get $a)) (i32.const 0))
        (call $subscription.unhold (local.get $s) (local.get $n) (i32.const 1088))
        (call $expect (i32.const 6) (call $unit) (i32.const -11))
        "#
    );
    let scene = scene(Some(&writer), bus, |_| (), &body).await;
    assert!(publish(&mut writer, &[1; 64]));
    until(&scene.guest, 'a', 1).await;
    for byte in 2..100 {
        while !publish(&mut writer, &[byte; 64]) {
            tokio::task::yield_now().await;
        }
    }
    drop(writer);
    scene.finishes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_messages_do_not_change_while_newer_ones_are_lost() {
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 64, 16);
    let body = r#"
        (local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const 1) (i32.const 0)))
        (drop (call $donate (local.get $s)))
        (call $report (i32.const 97) (i64.const 1))
        ;; Takes two messages and keeps them.
        (loop $wait (br_if $wait (i32.ne (i32.const 2)
          (local.tee $n (i32.add (local.get $n) (call $poll (local.get $s)
            (i32.add (i32.const 8192) (i32.mul (local.get $n) (i32.const 32))) (i32.const 32) (i64.const 0)))))))
        (call $report (i32.const 98) (i64.const 1))
        (loop $wait (br_if $wait (i32.eqz (call $shutdown-requested))))
        ;; The next one reports how many were lost.
        (call $expect (i32.const 1) (call $poll (local.get $s) (i32.const 8256) (i32.const 32) (i64.const 0)) (i32.const 1))
        (call $report (i32.const 108) (i64.load32_u offset=28 (i32.const 8256)))
        (call $report (i32.const 118) (i64.load8_u (i32.load offset=16 (i32.const 8256))))
        (call $expect (i32.const 2) (i32.load8_u (i32.load offset=16 (i32.const 8192))) (i32.const 1))
        (call $expect (i32.const 3) (i32.load8_u offset=63 (i32.load offset=16 (i32.const 8192))) (i32.const 1))
        (call $expect (i32.const 4) (i32.load8_u (i32.load offset=16 (i32.const 8224))) (i32.const 2))
        (call $subscription.stats (local.get $s) (i32.const 8448))
        (call $report (i32.const 116) (i64.load offset=8 (i32.const 8448)))
        "#;
    let scene = scene(Some(&writer), bus, |_| (), body).await;
    until(&scene.guest, 'a', 1).await;
    for byte in 1..=2 {
        assert!(publish(&mut writer, &[byte; 64]));
    }
    until(&scene.guest, 'b', 1).await;
    for byte in 3..=200 {
        assert!(publish(&mut writer, &[byte; 64]), "a slow guest that may lose messages holds nobody back");
    }
    scene.guest.setup.control.request_shutdown();
    let guest = scene.finishes().await;
    let (lost, value) = (guest.reported('l')[0], guest.reported('v')[0]);
    assert!(lost > 150, "{lost}");
    assert_eq!(lost + 3, value, "messages are numbered by their bytes");
    assert_eq!(guest.reported('t'), [lost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_that_join_later_are_mapped_and_all_of_them_are_received() {
    let bus = Bus::new();
    let mut first = bus.writer("topic", 64, 4);
    let body = format!(
        r#"{SUBSCRIBE}
        (loop $messages
          (if (local.tee $r (call $next (local.get $s))) (then
            (call $report (i32.const 112) (i64.load32_u offset=24 (local.get $r)))
            (call $report (i32.const 118) (i64.load8_u (i32.load offset=16 (local.get $r))))
            (br $messages))))
        "#
    );
    let scene = scene(Some(&first), bus.clone(), |_| (), &body).await;
    assert!(publish(&mut first, &[1]));
    until(&scene.guest, 'v', 1).await;
    let mut second = bus.writer("topic", 128, 4);
    while second.channel().stats().subscribers.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(publish(&mut second, &[2]));
    until(&scene.guest, 'v', 2).await;
    drop(first);
    assert!(publish(&mut second, &[3]));
    drop(second);
    let guest = scene.finishes().await;
    assert_eq!(guest.reported('v'), [1, 2, 3]);
    let publishers = guest.reported('p');
    assert_ne!(publishers[0], publishers[1]);
    assert_eq!(publishers[1], publishers[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_guest_does_not_poll_wakes_it_only_once() {
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 64, 8);
    let body = format!(
        r#"{SUBSCRIBE}
        (call $report (i32.const 97) (i64.const 1))
        (call $expect (i32.const 1) (call $wait (i64.const -1)) (i32.const 1))
        (call $expect (i32.const 2) (call $wait (i64.const 5000000)) (i32.const 2))
        ;; After a poll it is woken again, for the remaining message and for new ones.
        (call $expect (i32.const 3) (call $poll (local.get $s) (i32.const 8192) (i32.const 32) (i64.const 0)) (i32.const 1))
        (call $expect (i32.const 4) (call $wait (i64.const -1)) (i32.const 1))
        (call $expect (i32.const 5) (call $poll (local.get $s) (i32.const 8192) (i32.const 32) (i64.const 0)) (i32.const 1))
        (call $expect (i32.const 6) (call $wait (i64.const 5000000)) (i32.const 2))
        (call $report (i32.const 98) (i64.const 1))
        (call $expect (i32.const 7) (call $wait (i64.const -1)) (i32.const 1))
        "#
    );
    let scene = scene(Some(&writer), bus, |_| (), &body).await;
    until(&scene.guest, 'a', 1).await;
    // The guest sees both at once, because it sleeps until the first one wakes it.
    assert!(publish(&mut writer, b"one"));
    assert!(publish(&mut writer, b"two"));
    until(&scene.guest, 'b', 1).await;
    assert!(publish(&mut writer, b"three"));
    scene.finishes().await;
}

#[tokio::test]
async fn limits_of_attached_and_held_messages_are_errors() {
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 64, 8);
    let body = format!(
        r#"{SUBSCRIBE}
        (drop (call $wait (i64.const -1)))
        (call $expect (i32.const 1) (call $poll (local.get $s) (i32.const 8192) (i32.const 256) (i64.const 0)) (i32.const 2))
        (call $expect (i32.const 2) (call $poll (local.get $s) (i32.const 8192) (i32.const 256) (i64.const 0)) (i32.const -13))
        (call $expect (i32.const 3) (call $poll (local.get $s) (i32.const 8192) (i32.const 256) (i64.const 1)) (i32.const 1))
        (call $subscription.hold (local.get $s) (i64.const 1) (i32.const 1088))
        (call $expect (i32.const 4) (call $result) (i32.const 0))
        (call $subscription.hold (local.get $s) (i64.const 2) (i32.const 1088))
        (call $expect (i32.const 5) (call $result) (i32.const -13))
        "#
    );
    let limit = |limits: &mut ComponentLimits| (limits.attached, limits.held) = (2, 1);
    let scene = scene(Some(&writer), bus, limit, &body).await;
    for byte in 0..8 {
        assert!(publish(&mut writer, &[byte]));
    }
    scene.finishes().await;
}

#[tokio::test]
async fn refused_topics_are_errors() {
    let body = r#"
        ;; "forbidden"
        (i64.store (i32.const 8192) (i64.const 0x65_64_64_69_62_72_6f_66))
        (i32.store8 (i32.const 8200) (i32.const 110))
        (call $expect (i32.const 1) (call $open_with (i32.const 8192) (i32.const 9) (i32.const 0) (i32.const 0)) (i32.const -5))
        ;; Another schema: the name "topic" in place of "bytes".
        (call $subscription.open (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5)
          (i64.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1088))
        (call $expect (i32.const 2) (call $result) (i32.const -6))
        ;; A name that is empty or too long.
        (call $expect (i32.const 3) (call $open_with (i32.const 16) (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const -9))
        (call $expect (i32.const 4) (call $open_with (i32.const 4096) (i32.const 256) (i32.const 0) (i32.const 0)) (i32.const -9))
        "#;
    let scene = scene(None, Bus::new(), |_| (), body).await;
    drop(scene.bus.clone());
    scene.finishes().await;
}
