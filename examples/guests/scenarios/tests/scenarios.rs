//! Runs every scenario linked in, as a native library, as a component, and as the core module inside that
//! component, with the same expectation.

#[path = "support/library.rs"]
mod library;
#[path = "support/module.rs"]
mod module;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use blockcast::{
    Broker, Component, ComponentLimits, Connection, ExitReason, Grants, GuestProgram, GuestSource,
    LibraryProgram, Publisher, PublisherOptions, RecvError, ServeOptions, Subscriber, SubscriberOptions,
};
use guest_scenarios::{LARGE, Numbers};

/// Bounds the wait for one message, for a free block, or for a subscriber. The app is compiled before the
/// test starts.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Deployment {
    Linked,
    Guest,
    Module,
    Library,
}

/// Compiled once for all tests.
static GUEST: LazyLock<GuestProgram> = LazyLock::new(|| {
    let file = guest_scenarios::component_file();
    Broker::new().load(&GuestSource::File(file)).expect("the guest loads")
});

/// The core module that the linker has wrapped in the component.
static MODULE: LazyLock<GuestProgram> = LazyLock::new(|| {
    let file = std::fs::read(guest_scenarios::component_file()).expect("the guest's file");
    let module = module::core_module(&file).expect("a component has a core module");
    Broker::new().load(&GuestSource::bytes("module", module)).expect("the guest loads")
});

/// Built by cargo, once for all tests.
static LIBRARY: LazyLock<LibraryProgram> = LazyLock::new(library::load);

/// A broker with one running scenario.
struct Stage {
    broker: Broker,
    out: Subscriber<Numbers>,
    component: Component,
}

impl Stage {
    fn start(deployment: Deployment, scenario: &str) -> Self {
        let broker = Broker::new();
        let out = broker.subscriber("out", SubscriberOptions::new()).expect("a new topic");
        Self::start_on(broker, out, deployment, scenario)
    }

    fn start_on(broker: Broker, out: Subscriber<Numbers>, deployment: Deployment, scenario: &str) -> Self {
        let mut limits = ComponentLimits::default();
        // Some scenarios keep nearly all blocks.
        limits.pool_share = 100;
        // Below the size of the scenarios' large messages.
        limits.in_place = 512 << 10;
        let grants = Grants::new().subscribe("in*").publish("out").limits(limits);
        let parameters = [("scenario".to_owned(), scenario.to_owned())];
        let component = match deployment {
            Deployment::Linked => broker.run(scenario, grants, parameters, guest_scenarios::run),
            Deployment::Guest => broker.spawn_guest(&GUEST, grants, parameters),
            Deployment::Module => broker.spawn_guest(&MODULE, grants, parameters),
            Deployment::Library => broker.spawn_library(&LIBRARY, grants, parameters),
        };
        Self { broker, out, component: component.expect("the component starts") }
    }

    /// Opens a publisher of a topic that the scenario has subscribed to.
    fn input(&self, topic: &str, blocks: u32) -> Publisher<Numbers> {
        let options = PublisherOptions::new().block_size(64).blocks(blocks);
        let publisher = self.broker.publisher(topic, options).expect("the topic is open");
        let deadline = deadline();
        while publisher.subscriber_count() == 0 {
            assert!(self.component.report().is_none(), "{:?}", self.component.report());
            assert!(Instant::now() < deadline, "the scenario does not subscribe to {topic}");
            std::thread::sleep(Duration::from_millis(1));
        }
        publisher
    }

    fn next(&mut self) -> Vec<u64> {
        self.out.blocking_recv_ref(Some(deadline())).expect("the scenario publishes").view().to_vec()
    }

    /// Returns everything published from here to the end. The scenario must succeed.
    fn rest(mut self) -> Vec<Vec<u64>> {
        let mut rest = Vec::new();
        loop {
            match self.out.blocking_recv_ref(Some(deadline())) {
                Ok(message) => rest.push(message.view().to_vec()),
                Err(RecvError::Ended) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(self.component.wait().reason, ExitReason::Finished);
        rest
    }
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

fn send(publisher: &mut Publisher<Numbers>, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let loan = publisher.blocking_loan(Some(deadline())).expect("a block comes free");
        loan.send(&[number][..]).expect("the number fits");
    }
}

/// Runs the same test in every deployment.
macro_rules! in_every_deployment {
    ($($(#[$doc:meta])* $name:ident($deployment:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            fn check($deployment: Deployment) $body

            #[test]
            fn linked() {
                check(Deployment::Linked);
            }

            #[test]
            fn guest() {
                check(Deployment::Guest);
            }

            #[test]
            fn module() {
                check(Deployment::Module);
            }

            #[test]
            fn library() {
                check(Deployment::Library);
            }
        }
    )*};
}

in_every_deployment! {
    everything_published_is_received_by_reference(deployment) {
        let stage = Stage::start(deployment, "sum");
        send(&mut stage.input("in", 8), 0..5000);
        assert_eq!(stage.rest(), [[5000, 4999 * 5000 / 2]]);
    }

    everything_published_is_received_as_a_stream(deployment) {
        let stage = Stage::start(deployment, "stream");
        send(&mut stage.input("in", 8), 0..5000);
        assert_eq!(stage.rest(), [[5000, 4999 * 5000 / 2]]);
    }

    everything_published_is_received_in_batches(deployment) {
        let stage = Stage::start(deployment, "batches");
        send(&mut stage.input("in", 64), 0..5000);
        assert_eq!(stage.rest(), [[5000, 4999 * 5000 / 2, 0]]);
    }

    a_topic_without_messages_ends(deployment) {
        let stage = Stage::start(deployment, "sum");
        drop(stage.input("in", 8));
        assert_eq!(stage.rest(), [[0, 0]]);
    }

    kept_samples_stay_unchanged_and_hold_back_nothing_else(deployment) {
        let stage = Stage::start(deployment, "keep");
        send(&mut stage.input("in", 64), 0..500);
        assert_eq!(stage.rest(), [(0..500).step_by(10).collect::<Vec<u64>>()]);
    }

    samples_outlive_their_subscriber_and_hold_back_nothing_else(deployment) {
        let mut stage = Stage::start(deployment, "outlive");
        let mut go = stage.input("in-go", 2);
        let mut numbers = stage.input("in", 8);
        send(&mut numbers, 0..3);
        assert_eq!(stage.next(), [0]);
        send(&mut numbers, 3..100); // more than there are blocks
        send(&mut go, [0]);
        assert_eq!(stage.rest(), [[0, 1, 2]]);
    }

    every_loss_is_told_exactly_once(deployment) {
        let mut stage = Stage::start(deployment, "losses");
        let mut go = stage.input("in-go", 2);
        let mut numbers = stage.input("in", 8);
        assert_eq!(stage.next(), [0]);
        send(&mut numbers, 0..1000);
        drop(numbers);
        send(&mut go, [0]);
        let rest = stage.rest();
        let [received, lost, last] = rest[0][..] else { panic!("{rest:?}") };
        assert_eq!(received + lost, 1000);
        assert!((1..=8).contains(&received), "{received} of 8 blocks");
        assert_eq!(last, 999);
    }

    a_message_tells_its_publisher_and_its_place_there(deployment) {
        let stage = Stage::start(deployment, "origins");
        let mut publishers = [stage.input("in", 8), stage.input("in", 8)];
        for number in 0..50 {
            send(&mut publishers[number as usize % 2], [number]);
        }
        drop(publishers);
        let rest = stage.rest();
        let (rest, []) = rest[0].as_chunks::<3>() else { panic!("{rest:?}") };
        assert_eq!(rest.len(), 50);
        let mut ids: Vec<u64> = rest.iter().map(|origin| origin[0]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2);
        for id in ids {
            let of_one = rest.iter().filter(|origin| origin[0] == id);
            for (place, origin) in of_one.enumerate() {
                assert_eq!(origin[1], place as u64, "the sequence counts within the publisher");
                assert_eq!(origin[2] / 2, place as u64, "in order");
            }
        }
    }

    publishers_of_several_processes_are_told_apart(deployment) {
        let path = std::env::temp_dir()
            .join(format!("blockcast-origins-{}-{deployment:?}", std::process::id()));
        let broker = Broker::new();
        let serving = broker.serve(&path, ServeOptions::new()).expect("nobody else serves there");
        let out = broker.subscriber("out", SubscriberOptions::new()).expect("a new topic");
        let stage = Stage::start_on(broker, out, deployment, "origins");
        let own = stage.input("in", 8);
        let connections = [(); 3].map(|()| Connection::connect(&path).expect("somebody serves"));
        let options = PublisherOptions::new().block_size(64).blocks(8);
        let others = connections.each_ref().map(|connection| {
            connection.publisher::<Numbers>("in", options.clone()).expect("the topic is open")
        });
        let mut publishers: Vec<_> = others.into_iter().chain([own]).collect();
        // In turn, so that the messages of all have the same sequences.
        for number in 0..100 {
            send(&mut publishers[number as usize % 4], [number]);
        }
        drop(publishers);
        let rest = stage.rest();
        drop(serving);
        let (rest, []) = rest[0].as_chunks::<3>() else { panic!("{rest:?}") };
        assert_eq!(rest.len(), 100);
        let mut by_publisher = BTreeMap::<u64, Vec<(u64, u64)>>::new();
        for &[publisher, place, number] in rest {
            by_publisher.entry(publisher).or_default().push((place, number));
        }
        assert_eq!(by_publisher.len(), 4, "{by_publisher:?}");
        for of_one in by_publisher.values() {
            let first = of_one[0].1;
            assert!(first < 4 && of_one.iter().copied().eq((0..25).map(|place| (place, first + 4 * place))));
        }
    }

    blocks_are_read_where_they_lie_and_used_again(deployment) {
        let stage = Stage::start(deployment, "addresses");
        send(&mut stage.input("in", 4), 0..100);
        let rest = stage.rest();
        let (rest, []) = rest[0].as_chunks::<2>() else { panic!("{rest:?}") };
        assert_eq!(rest.len(), 100);
        let mut addresses: Vec<u64> = rest.iter().map(|found| found[0]).collect();
        assert!(addresses.iter().all(|address| address % 64 == 0));
        assert!(rest.iter().all(|found| found[1] == 8));
        addresses.sort_unstable();
        addresses.dedup();
        assert!(addresses.len() <= 4, "four blocks have four addresses: {addresses:x?}");
    }

    subscriptions_can_be_opened_and_dropped_again_and_again(deployment) {
        let broker = Broker::new();
        let out = broker.subscriber("out", SubscriberOptions::new()).expect("a new topic");
        let options = PublisherOptions::new().block_size(1 << 20).blocks(16).history(1);
        let mut numbers = broker.publisher::<Numbers>("in", options).expect("a new topic");
        send(&mut numbers, [7]);
        // 16 MiB of address space each time, 300 times: more than there is, unless it is reused.
        let stage = Stage::start_on(broker, out, deployment, "reopen");
        assert_eq!(stage.rest(), [[300]]);
    }

    a_slow_subscriber_holds_the_publisher_back_and_nothing_is_lost(deployment) {
        let mut stage = Stage::start(deployment, "count");
        for number in 0..1000 {
            assert_eq!(stage.next(), [number]);
            if number % 250 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(stage.rest().is_empty());
    }

    /// A guest builds the large messages in the blocks that are read here.
    large_messages_arrive_and_are_not_copied(deployment) {
        let mut stage = Stage::start(deployment, "large");
        for number in 0..LARGE.1 {
            let len = if number % 2 == 0 { LARGE.0 } else { 1 };
            let message = stage.next();
            assert_eq!(message.len(), len);
            assert!(message.iter().all(|&each| each == number), "message {number} is intact");
        }
        let report = stage.component.wait();
        assert_eq!(report.reason, ExitReason::Finished);
        let small = LARGE.1 / 2 * size_of::<u64>() as u64;
        let copied = match deployment {
            Deployment::Linked | Deployment::Library => 0,
            Deployment::Guest | Deployment::Module => small,
        };
        assert_eq!(report.stats.publish_copied_bytes, copied);
    }

    a_loan_survives_a_failed_build(deployment) {
        assert_eq!(Stage::start(deployment, "build").rest(), [[1, 2, 3]]);
    }

    a_message_that_does_not_fit_is_refused_and_the_next_one_is_not(deployment) {
        assert_eq!(Stage::start(deployment, "too-large").rest(), [[7; 8]]);
    }

    topics_and_timers_can_be_selected(deployment) {
        let stage = Stage::start(deployment, "select");
        let mut left = stage.input("in-left", 8);
        let mut right = stage.input("in-right", 8);
        for number in 0..200 {
            send(&mut left, [number]);
            send(&mut right, [1]);
        }
        drop((left, right));
        assert_eq!(stage.rest(), [[199 * 200 / 2, 200, 1]]);
    }

    topics_can_be_joined(deployment) {
        let stage = Stage::start(deployment, "join");
        let mut right = stage.input("in-right", 8);
        let mut left = stage.input("in-left", 8);
        send(&mut right, 0..300);
        send(&mut left, 0..100);
        drop((left, right));
        assert_eq!(stage.rest(), [[99 * 100 / 2, 299 * 300 / 2]]);
    }

    many_futures_are_driven_at_once(deployment) {
        let stage = Stage::start(deployment, "many");
        let mut left = stage.input("in-left", 8);
        let mut right = stage.input("in-right", 8);
        send(&mut left, 0..100);
        send(&mut right, 0..100);
        drop((left, right));
        assert_eq!(stage.rest(), [[50_000_000 + 2 * (99 * 100 / 2)]]);
    }

    sleeping_takes_the_time_that_was_asked_for(deployment) {
        let rest = Stage::start(deployment, "sleep").rest();
        for (took, asked) in rest[0].iter().zip([0, 3, 20]) {
            assert!((asked * 1_000_000..10_000_000_000).contains(took), "{asked} ms took {took} ns");
        }
    }

    a_component_finishes_when_asked_to(deployment) {
        let mut stage = Stage::start(deployment, "shutdown");
        assert_eq!(stage.next(), [1]);
        stage.component.request_shutdown();
        assert_eq!(stage.rest(), [[2]]);
    }

    an_error_is_told_in_the_apps_words(deployment) {
        let stage = Stage::start(deployment, "fail");
        assert_eq!(stage.component.wait().reason, ExitReason::Failed("as asked".to_owned()));
    }

    a_panic_is_told_with_its_message(deployment) {
        let stage = Stage::start(deployment, "panic");
        let reason = stage.component.wait().reason;
        assert!(matches!(reason, ExitReason::Trapped { .. }), "{reason}");
        assert!(reason.to_string().contains("as asked"), "{reason}");
    }
}
