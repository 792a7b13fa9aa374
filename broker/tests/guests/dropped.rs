//! A guest whose run is dropped leaves nothing behind.

use std::sync::Arc;

use crate::guest_support::bus::{Bus, publish, subscribed};
use crate::guest_support::child::in_child_async;
use crate::guest_support::{Guest, process};
use blockcast_broker::GuestEngine;

#[test]
fn hostile_guest_dropped_during_a_wait_leaves_nothing_behind() {
    in_child_async!("hostile_guest_dropped_during_a_wait_leaves_nothing_behind", async {
        let engine = GuestEngine::new().expect("an engine");
        let body = r#"(func (export "run") (result i32) (local $s i32)
          (local.set $s (call $subscribe))
          (drop (call $next (local.get $s)))
          (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
          (loop $again (drop (call $wait (i64.const -1))) (br $again)) unreachable)"#;
        let mut first = None;
        for round in 0..5 {
            let bus = Bus::new();
            let mut writer = bus.writer("topic", 4096, 4);
            let guest = Guest::new(&engine, Arc::new(bus.clone()), body);
            let running = guest.spawn();
            subscribed(&writer, 1).await;
            assert!(publish(&mut writer, b"block"));
            while writer.channel().stats().holds == 0 {
                tokio::task::yield_now().await;
            }
            assert!(process::arena_mappings().len() > 1, "the window is mapped");
            running.abort();
            assert!(running.await.expect_err("aborted").is_cancelled());
            assert_eq!(writer.reclaim(), 4, "all blocks have returned");
            drop((guest, writer, bus));
            let now = process::resources();
            assert_eq!(now.arenas, [], "mappings are gone");
            if round == 1 {
                first = Some(now);
            } else if let Some(first) = &first {
                assert_eq!(&now, first);
            }
        }
    });
}
