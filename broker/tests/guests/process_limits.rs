//! Reaching a limit of the process (file size, mappings) is an error, and the program continues.

use std::sync::Arc;

use crate::guest_support::bus::Bus;
use crate::guest_support::child::{in_child, in_child_async};
use crate::guest_support::codes::LIMIT;
use crate::guest_support::runtime;
use crate::guest_support::{Form, Guest, wat};
use blockcast_blocks::{
    Bytes, ChannelConfig, ChannelError, OpenError, Payload, PublisherId, channel, reserve_mappings,
};
use blockcast_broker::{Broker, Grants, StartError};
use blockcast_broker::{
    CacheError, ExitReason, GuestCache, GuestEngine, GuestProgram, GuestSource, PrecompiledError,
};
use blockcast_publisher::PublisherOptions;

/// Forbids this process to create files larger than `bytes`. An attempt would kill it.
fn limit_files(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a valid value that lives until the call returns.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

#[test]
fn an_arena_beyond_the_file_size_limit_is_refused_with_both_sizes() {
    in_child!("an_arena_beyond_the_file_size_limit_is_refused_with_both_sizes", || {
        let limit = 1 << 20;
        limit_files(limit);
        let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
        (config.block_size, config.blocks) = (1 << 20, 2);
        let refused = channel(config.clone()).expect_err("too large");
        assert_eq!(refused, ChannelError::FileSize { bytes: 2 << 20, limit });
        // The control segment alone is too large.
        (config.block_size, config.blocks, config.max_subscribers) = (64, 4, 65_536);
        assert!(matches!(channel(config.clone()), Err(ChannelError::FileSize { .. })));
        config.max_subscribers = 8;
        channel(config).expect("small enough");
        let options = PublisherOptions::new().block_size(1 << 20).blocks(64);
        let refused = Broker::new().publisher::<Bytes>("topic", options).expect_err("too large");
        assert!(
            matches!(refused, OpenError::Channel { reason: ChannelError::FileSize { .. }, .. }),
            "{refused}"
        );
    });
}

#[test]
fn a_guest_that_exceeds_the_file_size_limit_gets_an_error() {
    in_child!("a_guest_that_exceeds_the_file_size_limit_gets_an_error", || {
        let broker = Broker::new();
        let body = format!(
            r#"(func (export "run") (result i32) (local $n i32) (local $b i32)
              (call $expect (i32.const 1) (call $open_publisher (i32.const 0x100000) (i32.const 8)) (i32.const {LIMIT}))
              (local.set $n (call $grow (i32.const 0x200000)))
              (call $expect (i32.const 2) (call $donate_blocks (local.get $n) (i32.const 0x200000)) (i32.const 0))
              (local.set $b (call $block.new (i32.const 0x180000)))
              (call $expect (i32.const 3) (i32.lt_s (call $attach (local.get $b) (i32.const 3)) (i32.const 0)) (i32.const 1))
              (i32.const 0))"#
        );
        let program = broker.load(&Form::Component.source("test", &body)).expect("loads");
        limit_files(1 << 20);
        let guest = broker.spawn_guest(&program, Grants::new().publish("*"), []).expect("it starts");
        assert_eq!(guest.wait().reason, ExitReason::Finished);
    });
}

#[test]
fn compiled_guests_beyond_the_file_size_limit_are_not_cached() {
    in_child!("compiled_guests_beyond_the_file_size_limit_are_not_cached", || {
        let name = format!("file-size-{}", std::process::id());
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let cache = GuestCache::open(&folder).expect("a cache");
        let engine = GuestEngine::with_cache(cache).expect("an engine");
        limit_files(64);
        let source = GuestSource::bytes(
            "test",
            wat::component(r#"(func (export "run") (result i32) (i32.const 0))"#).into_bytes(),
        );
        GuestProgram::load(&engine, &source).expect("loads, without the cache");
        let refused = GuestProgram::precompile(&engine, &source, &folder.join("test.guest"));
        let refused = refused.expect_err("too large");
        assert!(matches!(refused, PrecompiledError::File { .. }), "{refused}");
        limit_files(8);
        // Not even a key fits.
        let refused = GuestCache::open(folder.join("another")).expect_err("too large");
        assert!(!refused.to_string().is_empty(), "{refused}");
        std::fs::remove_dir_all(folder).expect("it exists");
        let _: CacheError = refused;
    });
}

/// The number of mappings of this process.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").expect("a Linux system").lines().count()
}

/// The most mappings that a process may have.
fn most() -> usize {
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("a Linux system");
    most.trim().parse().expect("a number")
}

#[test]
fn guests_and_publishers_that_need_reserved_mappings_are_refused() {
    in_child_async!("guests_and_publishers_that_need_reserved_mappings_are_refused", async {
        let body = format!(
            r#"(func (export "run") (result i32) (local $s i32)
              (local.set $s (call $subscribe))
              (drop (call $next (local.get $s)))
              ;; By then, the host has raised the reserve.
              (drop (call $next (local.get $s)))
              (call $expect (i32.const 1) (call $open_publisher (i32.const 64) (i32.const 2)) (i32.const {LIMIT}))
              (i32.const 0))"#
        );
        let broker = Broker::new();
        let program = broker.load(&Form::Component.source("test", &body)).expect("loads");
        let grants = Grants::new().publish("*").subscribe("*");
        let mut host = broker.publisher::<Bytes>("topic", PublisherOptions::new()).expect("opens");
        reserve_mappings(most() - mappings() - 400);
        let running = broker.spawn_guest(&program, grants.clone(), []).expect("there are more than enough");
        host.subscribers(1).await;
        host.loan().await.expect("a block").send(&[1][..]).expect("it fits");
        while broker.topic("topic").expect("it exists").publishers[0].subscribers[0].received == 0 {
            tokio::task::yield_now().await;
        }
        // From now on, all remaining mappings are reserved for the program.
        reserve_mappings(most());
        let refused = broker.spawn_guest(&program, grants.clone(), []).expect_err("refused");
        assert!(matches!(refused, StartError::Mappings(_)), "{refused}");
        let refused = broker.publisher::<Bytes>("topic", PublisherOptions::new()).expect_err("refused");
        assert!(
            matches!(refused, OpenError::Channel { reason: ChannelError::Mappings { .. }, .. }),
            "{refused}"
        );
        host.loan().await.expect("a block").send(&[2][..]).expect("it fits");
        assert_eq!(running.ended().await.reason, ExitReason::Finished);

        reserve_mappings(1000);
        // The broker counts mappings only now and then, so it notices after a while.
        while broker.publisher::<Bytes>("topic", PublisherOptions::new()).is_err() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_process_with_only_reserved_mappings_refuses_guests_and_still_allocates() {
    in_child!("a_process_with_only_reserved_mappings_refuses_guests_and_still_allocates", || {
        let engine = GuestEngine::new().expect("an engine");
        let body = r#"(func (export "run") (result i32) (i32.const 0))"#;
        let guest = Guest::new(&engine, Arc::new(Bus::new()), body);
        let runtime = runtime();
        assert_eq!(runtime.block_on(guest.run()).reason, ExitReason::Finished);
        const RESERVE: usize = 500;
        reserve_mappings(RESERVE);
        let page = blockcast_blocks::page_size();
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let mut taken = Vec::with_capacity(most());
        // Shared mappings are never merged with their neighbours.
        for _ in mappings()..most() - RESERVE {
            // SAFETY: a new mapping replaces nothing.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), page, libc::PROT_NONE, flags, -1, 0) };
            assert_ne!(at, libc::MAP_FAILED);
            taken.push(at);
        }
        let mut refused = 0;
        // The broker counts again only after a while.
        for _ in 0..50 {
            let reason = runtime.block_on(guest.run()).reason;
            match &reason {
                ExitReason::NotStarted(text) if text.contains("mappings") => refused += 1,
                ExitReason::Finished => assert_eq!(refused, 0, "once it refuses, it keeps refusing"),
                _ => panic!("{reason:?}"),
            }
        }
        assert!(refused >= 3, "refused {refused} times");
        // Each allocation is a mapping of its own.
        let own: Vec<Vec<u8>> = (0..RESERVE / 2).map(|_| vec![7; 1 << 20]).collect();
        assert!(own.iter().all(|bytes| bytes[1 << 19] == 7));
        for at in taken {
            // SAFETY: unmaps a mapping that was created above.
            unsafe { libc::munmap(at, page) };
        }
    });
}
