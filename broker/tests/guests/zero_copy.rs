//! A guest reads the block itself, without a copy.

use super::KIND;
use crate::guest_support::bus::{Bus, publish};
use crate::guest_support::child::in_child_async;
use crate::guest_support::process;
use blockcast_broker::{ExitReason, GuestEngine};
use std::sync::Arc;

/// Reports address, length and first byte of every message until the topic ends.
const READER: &str = r#"
  (func (export "run") (result i32)
    (local $subscription i32) (local $record i32)
    (local.set $subscription (call $subscribe))
    (loop $messages
      (local.set $record (call $next (local.get $subscription)))
      (if (i32.eqz (local.get $record)) (then (return (i32.const 0))))
      (call $report (i32.const 97) (i64.load32_u offset=16 (local.get $record)))
      (call $report (i32.const 108) (i64.load32_u offset=20 (local.get $record)))
      (call $report (i32.const 98) (i64.load8_u (i32.load offset=16 (local.get $record))))
      (br $messages))
    unreachable)
"#;

#[test]
fn a_guest_reads_a_block_at_its_offset_in_the_arena() {
    in_child_async!("a_guest_reads_a_block_at_its_offset_in_the_arena", async {
        let engine = GuestEngine::new().expect("an engine");
        let bus = Bus::new();
        let mut writer = bus.writer("topic", 4096, 16);
        let guest = KIND.guest(&engine, Arc::new(bus.clone()), READER);
        let running = guest.spawn();
        let mut own = bus.reader("topic");
        let mut offsets = Vec::new();
        while guest.reported('a').is_empty() {
            if publish(&mut writer, b"first") {
                offsets.push(own.receive_descriptor().expect("published").offset);
                own.release_before(own.next_sequence());
            }
            tokio::task::yield_now().await;
        }
        let in_guest = process::arena_mappings();
        drop(writer);
        let report = running.await.expect("no panic");
        assert_eq!(report.reason, ExitReason::Finished);
        let (addresses, bytes) = (guest.reported('a'), guest.reported('b'));
        let window = addresses[0] - offsets[offsets.len() - addresses.len()];
        assert_eq!(window % 65536, 0);
        for (address, offset) in addresses.iter().rev().zip(offsets.iter().rev()) {
            assert_eq!(*address, window + offset);
        }
        assert!(bytes.iter().all(|&byte| byte == u64::from(b'f')));
        assert_eq!(report.stats.received, addresses.len() as u64);
        let views = views(&in_guest, 16 * 4096);
        assert_eq!(views.len(), 1, "{in_guest:?}");
        assert_eq!(views[0].offset, 0);
    });
}

/// The read-only mappings of an arena of `len` bytes. Each arena of a test has its own length.
fn views(mappings: &[process::Mapping], len: u64) -> Vec<&process::Mapping> {
    mappings.iter().filter(|mapping| mapping.access == "r--s" && mapping.end - mapping.start == len).collect()
}

#[test]
fn an_arena_with_large_pages_is_mapped_into_a_guest_with_large_pages() {
    in_child_async!("an_arena_with_large_pages_is_mapped_into_a_guest_with_large_pages", async {
        let engine = GuestEngine::new().expect("an engine");
        let bus = Bus::new();
        let mut writer = bus.writer_with("topic", 64 << 10, 64, |config| config.prefault = true);
        let alignment = writer.channel().arena().alignment() as u64;
        let guest = KIND.guest(&engine, Arc::new(bus.clone()), READER);
        let running = guest.spawn();
        let mut own = bus.reader("topic");
        while guest.reported('a').is_empty() {
            if publish(&mut writer, b"first") {
                own.receive_descriptor().expect("published");
                own.release_before(own.next_sequence());
            }
            tokio::task::yield_now().await;
        }
        let in_guest = process::arena_mappings();
        drop(writer);
        assert_eq!(running.await.expect("no panic").reason, ExitReason::Finished);
        let views = views(&in_guest, 64 * (64 << 10));
        assert_eq!(views.len(), 1, "{in_guest:?}");
        // Without large pages, the alignment is the page size and this holds anyway.
        assert_eq!(views[0].start % alignment, 0);
    });
}
