//! Guests that exhaust a resource of the process: mappings, open files, tables. They get an error or end, and
//! the process continues.

use std::sync::Arc;

use crate::guest_support::bus::{Bus, publish, subscribed};
use crate::guest_support::child::{in_child, in_child_async};
use crate::guest_support::codes::{INTERNAL, NO_STORAGE};
use crate::guest_support::runtime;
use crate::guest_support::wat::expect;
use crate::guest_support::{Form, Guest, assert_violation, process};
use blockcast_broker::{ComponentLimits, ComponentReport, ExitReason, GuestEngine, Isolation};

/// Takes all mappings that the process may still create, until this value is dropped.
struct Mappings {
    start: *mut libc::c_void,
    len: usize,
    /// Pages that are mapped one by one.
    pages: Vec<*mut libc::c_void>,
}

impl Mappings {
    fn take() -> Self {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("a Linux system");
        let page = blockcast_blocks::page_size();
        let len = 2 * page * limit.trim().parse::<usize>().expect("a number");
        // SAFETY: a new mapping replaces nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        // Gives every other page a different protection, until the system refuses.
        let mut taken = 0;
        // SAFETY: the page is part of the mapping that was just created.
        while unsafe { libc::mprotect(start.byte_add((2 * taken + 1) * page), page, libc::PROT_READ) } == 0 {
            taken += 1;
        }
        assert!(taken > 0 && 2 * taken * page < len, "the system refused further mappings");
        // Splitting does not reach the last few. Shared mappings are never merged with their neighbours.
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let mut pages = Vec::with_capacity(64);
        loop {
            // SAFETY: a new mapping replaces nothing.
            let page = unsafe { libc::mmap(std::ptr::null_mut(), page, libc::PROT_NONE, flags, -1, 0) };
            if page == libc::MAP_FAILED {
                return Self { start, len, pages };
            }
            pages.push(page);
        }
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        // SAFETY: unmaps the mapping from `take`, which nothing refers to.
        unsafe { libc::munmap(self.start, self.len) };
        for &page in &self.pages {
            // SAFETY: as above.
            unsafe { libc::munmap(page, blockcast_blocks::page_size()) };
        }
    }
}

/// Runs `body` once the process has no mappings left, with a reliable subscription in `$s`, the address of
/// the first message in `$a`, donated address space in `$n` and a block in `$b`.
async fn without_mappings(body: &str) -> (ComponentReport, Guest) {
    let engine = GuestEngine::new().expect("an engine");
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 4096, 64);
    let body = format!(
        r#"(func (export "run") (result i32) (local $s i32) (local $a i32) (local $b i32) (local $n i32)
          (local.set $s (call $subscribe))
          (local.set $a (i32.load offset=16 (call $next (local.get $s))))
          (local.set $n (call $grow (i32.const 0x40000)))
          {}
          (local.set $b (call $block.new (i32.const 0x1000)))
          (call $report (i32.const 114) (i64.const 0))
          (drop (call $next (local.get $s)))
          {body}
          (i32.const 0))"#,
        expect(9, "(call $donate_blocks (local.get $n) (i32.const 0x40000))", 0),
    );
    let mut guest = Guest::new(&engine, Arc::new(bus.clone()), &body);
    guest.setup.parameters.insert("topic".to_owned(), "a value of some length".to_owned());
    let mut own = bus.reader("topic");
    let running = guest.spawn();
    subscribed(&writer, 2).await;
    assert!(publish(&mut writer, &[7; 4096]));
    while guest.reported('r').is_empty() {
        assert!(!running.is_finished());
        tokio::task::yield_now().await;
    }
    let taken = Mappings::take();
    assert!(publish(&mut writer, &[8; 4096]));
    let report = running.await.expect("no panic");
    drop(taken);
    for byte in [7, 8] {
        let message = own.receive().expect("a message");
        assert!(message.bytes().iter().all(|&seen| seen == byte), "the message is unchanged");
    }
    assert_eq!(writer.reclaim(), 64, "all blocks have returned");
    (report, guest)
}

#[test]
fn hostile_writes_to_blocks_are_violations_even_without_a_spare_mapping() {
    in_child_async!("hostile_writes_to_blocks_are_violations_even_without_a_spare_mapping", async {
        for violation in [
            "(i32.store8 (local.get $a) (i32.const 88))",
            "(memory.fill (local.get $a) (i32.const 88) (i32.const 0x30000))",
            "(memory.copy (local.get $a) (i32.const 16) (i32.const 0x20000))",
            "(call $subscription.poll (local.get $s) (i32.const 2048) (i32.const 32) (i64.const 0) (local.get $a))",
            "(global.set $next_allocation (local.get $a)) (call $parameter (i32.const 16) (i32.const 5) (i32.const 1088))",
        ] {
            let (report, _) = without_mappings(&format!("{violation} (loop $forever (br $forever))")).await;
            assert_violation(&report.reason, "topic", 0..0x30000, violation);
            assert_eq!(process::arena_mappings(), []);
        }
    });
}

#[test]
fn attaching_a_block_without_a_spare_mapping_is_an_error() {
    in_child!("attaching_a_block_without_a_spare_mapping_is_an_error", || {
        let body = [
            "(i32.store (i32.add (local.get $n) (i32.const 8)) (i32.const 5))".to_owned(),
            expect(10, "(call $attach (local.get $b) (i32.const 1))", INTERNAL),
            // Nothing has changed, and address space can be removed without a mapping.
            expect(11, "(call $block.minimum-size (local.get $b))", 0),
            expect(12, "(call $take_blocks_back (local.get $n) (i32.const 0x40000))", 0),
            expect(13, "(i32.load (i32.add (local.get $n) (i32.const 8)))", 0),
            expect(14, "(call $attach (local.get $b) (i32.const 1))", NO_STORAGE),
        ];
        // With one thread only: setting up another one would use the guest's spare mappings.
        let runtime = runtime();
        let (report, guest) = runtime.block_on(without_mappings(&body.concat()));
        assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    });
}

#[test]
fn a_guest_on_a_thread_that_cannot_be_set_up_waits_until_it_can() {
    in_child!("a_guest_on_a_thread_that_cannot_be_set_up_waits_until_it_can", || {
        // Without this, the guest would be refused before it reaches a thread.
        blockcast_blocks::reserve_mappings(0);
        let engine = GuestEngine::new().expect("an engine");
        let guest =
            Guest::new(&engine, Arc::new(Bus::new()), r#"(func (export "run") (result i32) (i32.const 0))"#);
        let (go, started) = std::sync::mpsc::channel::<()>();
        // No guest has run on this thread.
        let thread = std::thread::spawn(move || {
            let runtime = runtime();
            let local = async {
                let run = guest.run();
                started.recv().expect("the test continues");
                run.await.reason
            };
            runtime.block_on(local)
        });
        let taken = Mappings::take();
        go.send(()).expect("it waits");
        // Long enough for the guest to reach the thread, most likely. A guest that is late just finishes.
        std::thread::sleep(std::time::Duration::from_millis(150));
        drop(taken);
        assert_eq!(thread.join().expect("no panic"), ExitReason::Finished);
    });
}

#[test]
fn hostile_hoarder_of_open_files_is_refused_and_others_go_on() {
    in_child_async!("hostile_hoarder_of_open_files_is_refused_and_others_go_on", async {
        let engine = GuestEngine::new().expect("an engine");
        let bus = Bus::new();
        let mut writer = bus.writer("topic", 4096, 8);
        let body = [
            r#"(func (export "run") (result i32) (local $n i32) (local $b i32) (local $i i32) (local $last i32)"#.to_owned(),
            expect(1, "(call $donate_blocks (call $grow (i32.const 0x400000)) (i32.const 0x400000))", 0),
            // Each attached block has an open file.
            "(loop $blocks
               (local.set $last (local.get $b))
               (local.set $b (call $block.new (i32.const 100)))
               (local.set $n (call $attach (local.get $b) (i32.const 1)))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $blocks (i32.ge_s (local.get $n) (i32.const 0))))"
                .to_owned(),
            expect(2, "(local.get $n)", INTERNAL),
            expect(3, "(i32.gt_s (local.get $i) (i32.const 3))", 1),
            expect(4, "(call $open_publisher (i32.const 64) (i32.const 2))", INTERNAL),
            // Dropping one makes room for one.
            "(call $block.drop (local.get $last))".to_owned(),
            expect(5, "(i32.ge_s (call $attach (local.get $b) (i32.const 1)) (i32.const 0))", 1),
            // Existing participants continue.
            expect(6, "(i32.load8_u (i32.load offset=16 (call $next (call $subscribe))))", 7),
            "(i32.const 0))".to_owned(),
        ]
        .concat();
        let guest = Guest::new(&engine, Arc::new(bus.clone()), &body);
        // Includes one for the listing itself, which is closed again.
        let open = process::open_files() as u64;
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is valid for the write.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        limit.rlim_cur = open + 8;
        // SAFETY: `limit` is a valid value that lives until the call returns.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let running = guest.spawn();
        while writer.channel().stats().subscribers.is_empty() && !running.is_finished() {
            tokio::task::yield_now().await;
        }
        assert!(publish(&mut writer, &[7; 4096]));
        let report = running.await.expect("no panic");
        assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
        drop(guest);
        assert_eq!(process::open_files() as u64, open);
    });
}

#[test]
fn hostile_tables_are_limited_by_a_budget() {
    in_child_async!("hostile_tables_are_limited_by_a_budget", async {
        let engine = GuestEngine::new().expect("an engine");
        // The guest grows each of sixteen tables as far as it can.
        let tables: String = (0..16).map(|number| format!("(table $t{number} 0 funcref)\n")).collect();
        let grow: String = (0..16)
            .map(|number| {
                format!(
                    "(loop $more (br_if $more (i32.ne (table.grow $t{number} (ref.null func) (i32.const 1024)) (i32.const -1))))
                     (local.set $n (i32.add (local.get $n) (table.size $t{number})))\n"
                )
            })
            .collect();
        let body = format!(
            r#"{tables} (func (export "run") (result i32) (local $n i32) {grow}
              (call $report (i32.const 110) (i64.extend_i32_u (local.get $n))) (i32.const 0))"#
        );
        for form in [Form::Component, Form::Module] {
            let guest = Guest::of_form(form, &engine, Arc::new(Bus::new()), &body);
            assert_eq!(guest.run().await.reason, ExitReason::Finished, "{:?}", guest.log.lock());
            assert_eq!(guest.reported('n'), [1 << 18], "{form:?}");
        }
    });
}

/// The most messages that are mapped into a strictly isolated guest at a time.
const MAPPED: usize = 256;

#[test]
fn hostile_hoarder_of_long_messages_uses_a_bounded_number_of_mappings() {
    in_child_async!("hostile_hoarder_of_long_messages_uses_a_bounded_number_of_mappings", async {
        const WRITERS: usize = 6;
        const MESSAGES: usize = 64;
        let engine = GuestEngine::new().expect("an engine");
        let bus = Bus::new();
        let len = Isolation::STRICT_MAPPED as usize;
        let mut writers: Vec<_> = (0..WRITERS).map(|_| bus.writer("topic", len, MESSAGES as u32)).collect();
        let body = format!(
            r#"(func (export "run") (result i32) (local $s i32) (local $n i32) (local $count i32) (local $at i32)
              (local.set $s (call $subscribe))
              (drop (call $donate (local.get $s)))
              (local.set $at (call $grow (i32.const 0x10000)))
              (call $report (i32.const 114) (i64.const 0))
              (loop $more
                (local.set $n (call $poll (local.get $s) (local.get $at) (i32.const 0x8000) (i64.const 0)))
                (if (i32.gt_s (local.get $n) (i32.const 0)) (then
                  (local.set $count (i32.add (local.get $count) (local.get $n)))
                  ;; Checks the last byte of the last message.
                  (local.set $n (i32.add (local.get $at) (i32.shl (i32.sub (local.get $n) (i32.const 1)) (i32.const 5))))
                  (call $expect (i32.const 10) (i32.load8_u offset={} (i32.load offset=16 (local.get $n))) (i32.const 7)))
                (else (drop (call $wait (i64.const 1000000)))))
                (br_if $more (i32.lt_u (local.get $count) (i32.const {}))))
              (call $report (i32.const 99) (i64.extend_i32_u (local.get $count)))
              (drop (call $wait (i64.const -1)))
              (i32.const 0))"#,
            len - 1,
            WRITERS * MESSAGES,
        );
        let guest = Guest::new(&engine, Arc::new(bus.clone()), &body)
            .limits(|limits| (limits.isolation, limits.memory) = (Isolation::Strict, 1 << 20));
        let running = guest.spawn();
        while guest.reported('r').is_empty() {
            assert!(!running.is_finished(), "{:?}", guest.log.lock());
            tokio::task::yield_now().await;
        }
        let before = process::arena_mappings().len();
        for writer in &mut writers {
            for _ in 0..MESSAGES {
                assert!(publish(writer, &vec![7; len]));
            }
        }
        while guest.reported('c').is_empty() {
            assert!(!running.is_finished(), "{:?}", guest.log.lock());
            tokio::task::yield_now().await;
        }
        let more = process::arena_mappings().len() - before;
        assert!(more <= 2 * MAPPED, "{more} more for {} messages", WRITERS * MESSAGES);
        guest.setup.control.cancel();
        assert_eq!(running.await.expect("no panic").reason, ExitReason::Cancelled);
        drop((writers, guest, bus));
        assert_eq!(process::arena_mappings(), []);
    });
}

#[test]
fn hostile_attachments_beyond_the_windows_of_a_guest_are_refused() {
    in_child_async!("hostile_attachments_beyond_the_windows_of_a_guest_are_refused", async {
        let engine = GuestEngine::new().expect("an engine");
        // Attaches one handle after another for reading until no window is left.
        let body = [
            r#"(func (export "run") (result i32) (local $n i32) (local $b i32) (local $i i32)"#.to_owned(),
            expect(1, "(call $donate_blocks (call $grow (i32.const 0x1000000)) (i32.const 0x1000000))", 0),
            "(local.set $b (call $block.new (i32.const 100))) (drop (call $attach (local.get $b) (i32.const 3)))".to_owned(),
            expect(2, "(call $detach (local.get $b) (i32.const 100))", 0),
            "(loop $more
               (local.set $n (call $attach (call $block.clone (local.get $b)) (i32.const 2)))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $more (i32.ge_s (local.get $n) (i32.const 0))))"
                .to_owned(),
            expect(3, "(local.get $n)", -13),
            expect(4, "(i32.ge_s (local.get $i) (i32.const 128))", 1),
            "(i32.const 0))".to_owned(),
        ]
        .concat();
        let limits = |limits: &mut ComponentLimits| limits.memory_blocks = 1000;
        let guest = Guest::new(&engine, Arc::new(Bus::new()), &body).limits(limits);
        assert_eq!(guest.run().await.reason, ExitReason::Finished, "{:?}", guest.log.lock());
        assert_eq!(process::arena_mappings(), []);
    });
}
