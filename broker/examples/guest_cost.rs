//! Measures what a guest pays for a call into the host, a message in a batch, reading in place, and
//! publishing.
//!
//! ```text
//! cargo run --release -p blockcast-broker --example guest_cost
//! ```

#[path = "../tests/guest_support/mod.rs"]
mod guest_support;

use std::sync::Arc;
use std::time::Duration;

use blockcast_broker::{ExitReason, GuestEngine};
use guest_support::bus::{Bus, publish};
use guest_support::{Form, Guest, runtime};

const CALLS: u64 = 2_000_000;
const ROUNDS: u64 = 5;
const MESSAGES: u64 = 4_000_000;
const BATCHES: u64 = 16;

/// A guest with `body` in its `run`. There, `$began` and `$took` measure with the host's clock, and `$took`
/// reports the time.
fn timed(body: &str) -> String {
    format!(
        r#"(global $start (mut i64) (i64.const 0))
        (func $began (global.set $start (call $now)))
        (func $took (param $tag i32) (call $report (local.get $tag) (i64.sub (call $now) (global.get $start))))
        (func (export "run") (result i32)
          (local $s i32) (local $i i64) (local $n i32) (local $a i32) (local $sum i64) {body} (i32.const 0))"#
    )
}

/// Code that runs `body` a number of times and reports how long that took.
fn counted(times: u64, body: &str) -> String {
    format!(
        r#"(local.set $i (i64.const {times})) (call $began)
        (loop $again {body} (local.set $i (i64.sub (local.get $i) (i64.const 1))) (br_if $again (i64.ne (local.get $i) (i64.const 0))))
        (call $took (i32.const 116))"#
    )
}

async fn run(form: Form, bus: &Bus, body: &str) -> Guest {
    let engine = GuestEngine::new().expect("an engine");
    let guest = Guest::of_form(form, &engine, Arc::new(bus.clone()), &timed(body));
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Finished);
    guest
}

async fn per_call(name: &str, before: &str, call: &str) {
    let body = before.to_owned() + &counted(CALLS, call);
    let mut best = [f64::INFINITY; 2];
    // Alternate, so that both are measured under the same load.
    for _ in 0..ROUNDS {
        for (form, best) in [Form::Component, Form::Module].into_iter().zip(&mut best) {
            let guest = run(form, &Bus::new(), &body).await;
            *best = best.min(guest.reported('t')[0] as f64 / CALLS as f64);
        }
    }
    let [component, module] = best;
    println!("{name:<52} {component:>8.1} ns {module:>8.1} ns {:>6.1} x", component / module);
}

/// Drains batches of `batch` messages of `len` bytes, and reads the first byte of each.
async fn drain(len: usize, batch: u64, overflow: u32) {
    let bus = Bus::new();
    let blocks = (2 * batch).clamp(64, 4096) as u32;
    let mut writer = bus.writer("topic", len, blocks);
    let engine = GuestEngine::new().expect("an engine");
    let size = batch * 32;
    let body = format!(
        r#"
        (local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const {overflow}) (i32.const 0)))
        (drop (call $donate (local.get $s)))
        (call $report (i32.const 114) (i64.const 0))
        (loop $messages
          (local.set $n (call $poll (local.get $s) (i32.const 8192) (i32.const {size}) (local.get $i)))
          (if (i32.eq (local.get $n) (i32.const -7)) (then (call $report (i32.const 115) (local.get $sum)) (return (i32.const 0))))
          (if (i32.lt_s (local.get $n) (i32.const 0)) (then unreachable))
          (if (i32.eqz (local.get $n)) (then (drop (call $wait (i64.const -1))) (br $messages)))
          (local.set $i (i64.add (local.get $i) (i64.extend_i32_u (local.get $n))))
          (local.set $a (i32.const 8192))
          (loop $records
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u (i32.load offset=16 (local.get $a)))))
            (local.set $a (i32.add (local.get $a) (i32.const 32)))
            (br_if $records (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
          (br $messages))
        "#
    );
    let guest = Guest::new(&engine, Arc::new(bus.clone()), &timed(&body));
    let running = guest.spawn();
    while guest.reported('r').is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = std::time::Instant::now();
    let messages = MESSAGES / (len as u64 / 64).clamp(1, 64);
    let publisher = tokio::task::spawn_blocking(move || {
        let text = vec![1; len.min(64)];
        for _ in 0..messages {
            while !publish(&mut writer, &text) {
                std::thread::yield_now();
            }
        }
    });
    publisher.await.expect("no panic");
    let report = running.await.expect("no panic");
    assert_eq!(report.reason, ExitReason::Finished);
    let took = began.elapsed().as_nanos() as f64 / messages as f64;
    println!("one message of {len} bytes in batches of up to {batch} (two threads){:>9.1} ns", took);
}

/// Does the same work on one thread: publishes a batch and lets the guest drain it.
async fn drain_alone(batch: u64, overflow: u32, name: &str) {
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 64, (2 * batch).max(64) as u32);
    let engine = GuestEngine::new().expect("an engine");
    let size = batch * 32;
    let body = format!(
        r#"
        (local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const {overflow}) (i32.const 0)))
        (drop (call $donate (local.get $s)))
        (loop $batches
          (loop $wait
            (drop (call $wait (i64.const -1)))
            (call $began)
            (local.set $n (call $poll (local.get $s) (i32.const 8192) (i32.const {size}) (local.get $i)))
            (br_if $wait (i32.eqz (local.get $n))))
          (if (i32.eq (local.get $n) (i32.const -7)) (then (call $report (i32.const 115) (local.get $sum)) (return (i32.const 0))))
          (call $took (i32.const 116))
          (call $report (i32.const 110) (i64.extend_i32_u (local.get $n)))
          (local.set $i (i64.add (local.get $i) (i64.extend_i32_u (local.get $n))))
          (drop (call $poll (local.get $s) (i32.const 0) (i32.const 0) (local.get $i)))
          (br $batches))
        "#
    );
    let guest = Guest::new(&engine, Arc::new(bus.clone()), &timed(&body));
    let running = guest.spawn();
    while writer.channel().stats().subscribers.is_empty() {
        tokio::task::yield_now().await;
    }
    for round in 0..BATCHES {
        for _ in 0..batch {
            assert!(publish(&mut writer, &[1; 64]));
        }
        while guest.reported('n').iter().sum::<u64>() < (round + 1) * batch {
            tokio::task::yield_now().await;
        }
    }
    drop(writer);
    running.await.expect("no panic");
    let per: Vec<f64> =
        guest.reported('t').iter().zip(guest.reported('n')).map(|(&t, n)| t as f64 / n as f64).collect();
    let best = per.iter().copied().fold(f64::INFINITY, f64::min);
    println!("poll, per message, {batch} at a time, {name:<25} {best:>8.1} ns");
}

fn main() {
    let one = runtime();
    one.block_on(async {
        println!("{:<52} {:>11} {:>11}", "best of 5 rounds", "component", "module");
        per_call("host call: now", "", "(drop (call $now))").await;
        per_call("host call: shutdown-requested", "", "(drop (call $shutdown-requested))").await;
        let subscribe = "(local.set $s (call $subscribe))";
        per_call(
            "poll without a publisher",
            subscribe,
            "(drop (call $poll (local.get $s) (i32.const 8192) (i32.const 32) (i64.const 0)))",
        )
        .await;
        per_call("wait with a timeout of zero", subscribe, "(drop (call $wait (i64.const 0)))").await;
        let publisher = "(local.set $s (call $open_publisher (i32.const 65536) (i32.const 64)))";
        for len in [64, 4096, 65536] {
            let call = format!("(drop (call $publish (local.get $s) (i32.const 65536) (i32.const {len})))");
            per_call(&format!("publish {len} bytes, no subscribers"), publisher, &call).await;
        }
        for batch in [64, 1024] {
            drain_alone(batch, 0, "reliable").await;
            drain_alone(batch, 1, "may lose").await;
        }
    });
    let two = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    two.block_on(async {
        for len in [64, 4096, 65536] {
            drain(len, 1024, 0).await;
        }
    });
}
