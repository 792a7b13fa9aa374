//! Exceeding any limit of a grant is refused, or ends the guest if the grant says so.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::guest_support::codes::LIMIT;
use crate::guest_support::{channel_memory, load};
use blockcast_blocks::{Bytes, Payload};
use blockcast_broker::{Broker, Component, Grants};
use blockcast_broker::{ComponentLimits, ExitReason, Limit, Rate};
use blockcast_publisher::PublisherOptions;

const MS: Duration = Duration::from_millis(1);

/// How a guest exceeds a limit.
struct Case {
    limit: Limit,
    set: fn(&mut ComponentLimits),
    /// Code that reaches the limit.
    before: &'static str,
    /// Code that exceeds it.
    excess: &'static str,
    /// The result of `excess` if it is refused.
    refused: i32,
}

const fn case(
    limit: Limit,
    set: fn(&mut ComponentLimits),
    before: &'static str,
    excess: &'static str,
) -> Case {
    Case { limit, set, before, excess, refused: LIMIT }
}

/// Opens a reliable subscription with the four earlier messages.
const RELIABLE: &str =
    "(local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))
    (drop (call $donate (local.get $s)))";
/// Opens a subscription that publishers may overtake, with the four earlier messages.
const LATEST: &str =
    "(local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const 1) (i32.const 4)))
    (drop (call $donate (local.get $s)))";
const ONE: &str = "(call $poll (local.get $s) (i32.const 4096) (i32.const 32) (i64.const 0))";
const PUBLISHER: &str = "(local.set $p (call $open_publisher (i32.const 64) (i32.const 4)))";
const PUBLISH: &str = "(call $publish (local.get $p) (i32.const 16) (i32.const 5))";

/// Limits that refuse something.
fn refusing() -> Vec<Case> {
    vec![
        Case {
            refused: -1,
            ..case(Limit::Memory, |limits| limits.memory = 4 << 16, "", "(memory.grow (i32.const 1))")
        },
        case(
            Limit::Windows,
            |limits| limits.windows = 1 << 16,
            "",
            "(call $donate_blocks (i32.const 0) (i32.const 0x20000))",
        ),
        case(
            Limit::Subscriptions,
            |limits| limits.subscriptions = 1,
            RELIABLE,
            "(call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0))",
        ),
        case(
            Limit::SubscriptionsPerTopic,
            |limits| limits.subscriptions_per_topic = 1,
            RELIABLE,
            "(call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0))",
        ),
        case(
            Limit::Publishers,
            |limits| limits.publishers = 1,
            PUBLISHER,
            "(call $open_publisher (i32.const 64) (i32.const 2))",
        ),
        case(
            Limit::PublisherBytes,
            |limits| limits.publisher_bytes = channel_memory(64, 4) + 1000,
            PUBLISHER,
            "(call $open_publisher (i32.const 64) (i32.const 2))",
        ),
        case(
            Limit::DepartedPublishers,
            |limits| limits.departed_publishers = 1,
            closed(),
            "(call $open_publisher (i32.const 64) (i32.const 2))",
        ),
        case(
            Limit::Loans,
            |limits| limits.loans = 1,
            "(local.set $p (call $open_publisher (i32.const 64) (i32.const 4)))
             (drop (call $loan (local.get $p) (i32.const 8)))",
            "(call $loan (local.get $p) (i32.const 8))",
        ),
        case(
            Limit::MemoryBlocks,
            |limits| limits.memory_blocks = 1,
            "(drop (call $block.new (i32.const 8)))",
            "(call $local (i32.const 0) (i32.const 8))",
        ),
        case(
            Limit::MemoryBlockBytes,
            |limits| limits.memory_block_bytes = 4096,
            "(local.set $s (call $block.new (i32.const 70000)))
             (drop (call $donate_blocks (call $grow (i32.const 0x20000)) (i32.const 0x20000)))",
            "(call $attach (local.get $s) (i32.const 1))",
        ),
        case(
            Limit::Topics,
            |limits| limits.topics = 0,
            "",
            // "opic"
            "(call $open_with (i32.const 17) (i32.const 4) (i32.const 0) (i32.const 0))",
        ),
        case(Limit::Attached, |limits| limits.attached = 1, received(RELIABLE), ONE),
        case(
            Limit::Held,
            |limits| limits.held = 0,
            received(RELIABLE),
            "(block (result i32) (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088)) (call $result))",
        ),
        case(Limit::PoolShare, |limits| limits.pool_share = 1, received(LATEST), ONE),
        case(
            Limit::PublishMessages,
            |limits| limits.publish_messages = Some(Rate::per_second(0).burst(1)),
            published(),
            PUBLISH,
        ),
        case(
            Limit::PublishBytes,
            |limits| limits.publish_bytes = Some(Rate::per_second(0).burst(5)),
            published(),
            PUBLISH,
        ),
        Case {
            // Dropping a line is not an error.
            refused: 0,
            ..case(
                Limit::LogLines,
                |limits| limits.log_lines = Rate::per_second(0).burst(1),
                "(call $log (i32.const 2) (i32.const 16) (i32.const 5))",
                "(block (result i32) (call $log (i32.const 2) (i32.const 16) (i32.const 5)) (i32.const 0))",
            )
        },
    ]
}

/// Opens a subscription and receives a message.
fn received(subscription: &str) -> &'static str {
    format!("{subscription} (call $expect (i32.const 9) {ONE} (i32.const 1))").leak()
}

/// Opens a publisher and closes it while the guest's own subscription still has its message.
fn closed() -> &'static str {
    format!("{RELIABLE} {} (call $publisher.drop (local.get $p))", published()).leak()
}

/// Opens a publisher and publishes a message.
fn published() -> &'static str {
    format!("{PUBLISHER} (call $expect (i32.const 9) {PUBLISH} (i32.const 0))").leak()
}

/// Limits that always end the guest.
fn ending() -> Vec<Case> {
    let forever = "(loop (result i32) (drop (call $wait (i64.const -1))) (br 0))";
    vec![
        case(
            Limit::HostCalls,
            |limits| limits.host_calls = Some(Rate::per_second(0).burst(10)),
            "",
            "(loop (result i32) (drop (call $now)) (br 0))",
        ),
        case(
            Limit::DepartedPerSubscription,
            |limits| limits.departed_per_subscription = 0,
            closed(),
            // The host counts when a publisher joins. The first one may have joined before it was closed.
            format!("(block (result i32) {PUBLISHER} {ONE})").leak(),
        ),
        case(Limit::Compute, |limits| limits.compute = Some(20 * MS), "", "(loop (result i32) (br 0))"),
        case(Limit::RunTime, |limits| limits.run_time = Some(20 * MS), "", forever),
        case(Limit::ShutdownGrace, |limits| limits.shutdown_grace = 20 * MS, "", forever),
        case(Limit::StartUp, |limits| limits.start_up = 50 * MS, "", "(i32.const 0)"),
    ]
}

/// Runs a guest on a topic with four messages. It must end with the expected reason and leave nothing behind.
async fn run(case: &Case, limits: ComponentLimits, expected: ExitReason) {
    let broker = Broker::on_runtime(tokio::runtime::Handle::current());
    broker.declare("topic", &Bytes::schema(), None).expect("declared");
    let options = PublisherOptions::new().block_size(64).blocks(8).history(4);
    let mut publisher = broker.publisher::<Bytes>("topic", options).expect("opens");
    for _ in 0..4 {
        publisher.try_loan().expect("a block").send(b"block").expect("fits");
    }
    let begin = if case.limit == Limit::StartUp {
        "(func $begin (drop (call $wait (i64.const -1)))) (start $begin)"
    } else {
        ""
    };
    let body = format!(
        r#"{begin} (func (export "run") (result i32) (local $s i32) (local $p i32)
          {} (call $expect (i32.const 10) {} (i32.const {})) (i32.const 0))"#,
        case.before, case.excess, case.refused
    );
    let program = load(&broker, &body);
    let component: Component =
        broker.spawn_guest(&program, Grants::all().limits(limits), []).expect("starts");
    if case.limit == Limit::ShutdownGrace {
        component.request_shutdown();
    }
    let report = component.ended().await;
    assert_eq!(report.reason, expected, "{:?}", case.limit);
    assert!(case.limit.always_ends() || report.stats.refusals > 0, "{:?}", case.limit);
    assert_eq!(publisher.reclaim(), 4, "the other four are the history: {:?}", case.limit);
    assert_eq!(broker.topic("topic").expect("declared").subscriptions, 0);
}

#[tokio::test]
async fn hostile_excess_of_every_limit_is_refused_if_it_can_be() {
    for case in refusing() {
        assert!(!case.limit.always_ends());
        let mut limits = ComponentLimits::default();
        (case.set)(&mut limits);
        run(&case, limits, ExitReason::Finished).await;
    }
}

#[tokio::test]
async fn hostile_excess_of_every_limit_ends_the_guest_if_its_grant_says_so() {
    let cases: Vec<Case> = refusing().into_iter().chain(ending()).collect();
    let tried: BTreeSet<Limit> = cases.iter().map(|case| case.limit).collect();
    assert_eq!(tried, Limit::ALL.iter().copied().collect(), "every limit is tested");
    for case in cases {
        let mut limits = ComponentLimits::default();
        limits.end_at = if case.limit.always_ends() { Vec::new() } else { vec![case.limit] };
        (case.set)(&mut limits);
        run(&case, limits, ExitReason::Killed(case.limit)).await;
    }
}
