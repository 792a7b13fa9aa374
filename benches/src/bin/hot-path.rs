//! Runs one hot path a given number of times, so that callgrind can count its instructions
//! (`.ci/instructions`). Those of wasm guests need the feature `guests`.

use std::hint::black_box;

use blockcast_blocks::{ChannelConfig, Payload, Pod, PublisherId, Reuse, Timestamps, channel};
use blockcast_publisher::Publisher;
use blockcast_subscriber::{Overflow, Subscriber, SubscriberOptions, SubscriptionFeed, subscription};
use disruptor::{BusySpin, Producer, build_single_producer};

type Bytes = Pod<u8>;

/// An event of `disruptor`, which is the peer to beat here.
#[repr(align(64))]
struct Line([u8; PAYLOAD]);

const PAYLOAD: usize = 64;
const BATCH: u64 = 32;

/// Bytes of a large block, of which only [`PAYLOAD`] are written.
const LARGE: usize = 64 << 10;

/// The name of a path, and the function that runs it for a number of messages.
type Path = (&'static str, fn(u64));

/// All paths by name.
const PATHS: [Path; 11] = [
    ("by-reference", |messages| by_reference(1, Reuse::Oldest, PAYLOAD, messages)),
    ("by-reference-8", |messages| by_reference(8, Reuse::Oldest, PAYLOAD, messages)),
    ("by-reference-hottest", |messages| by_reference(1, Reuse::Hottest, PAYLOAD, messages)),
    ("by-reference-large", |messages| by_reference(1, Reuse::BySize, LARGE, messages)),
    ("by-reference-overtakable", overtakable),
    ("batches-of-32", |messages| batches(messages, publish_each)),
    ("sent-one-by-one", |messages| batches(messages, send_each)),
    ("sent-in-batches-of-32", |messages| batches(messages, send_batch)),
    ("owned", |messages| owned(1, messages)),
    ("owned-kept-8", |messages| owned(8, messages)),
    ("disruptor", disruptor),
];

/// A guest publishes, and the host receives.
#[cfg(feature = "guests")]
const GUEST_PATHS: &[Path] = &[
    ("guest-publish", |messages| guest_publish("blockcast", messages)),
    ("guest-publish-by-handle", |messages| guest_publish("blockcast-by-handle", messages)),
    ("guest-publish-in-batches", |messages| guest_publish("blockcast-batches", messages)),
    ("guest-publish-list", |messages| guest_publish("list-u8", messages)),
];
#[cfg(not(feature = "guests"))]
const GUEST_PATHS: &[Path] = &[];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut paths = PATHS.iter().chain(GUEST_PATHS);
    let wanted = match &arguments[..] {
        [] => {
            paths.for_each(|(name, _)| println!("{name}"));
            return;
        }
        [name, messages] => paths.find(|(known, _)| known == name).zip(messages.parse().ok()),
        _ => None,
    };
    let Some(((_, path), messages)) = wanted else {
        eprintln!("usage: hot-path [PATH MESSAGES]; without arguments it names the paths");
        std::process::exit(2);
    };
    path(messages);
}

fn open(
    subscribers: usize,
    overflow: Overflow,
    reuse: Reuse,
    block_size: usize,
) -> (Publisher<Bytes>, Vec<(Subscriber<Bytes>, SubscriptionFeed)>) {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    config.block_size = block_size;
    config.timestamps = Timestamps::Off;
    config.reuse = reuse;
    let writer = channel(config).expect("64 blocks are a channel");
    let options = SubscriberOptions::new().overflow(overflow).reader();
    let subscribers = (0..subscribers)
        .map(|_| {
            let (feed, subscription) = subscription();
            let reader = writer
                .channel()
                .join(writer.schema(), options, feed.signal().clone())
                .expect("there are cursors for all");
            feed.add(reader);
            // SAFETY: the subscription's only publisher carries the schema of the payload.
            (unsafe { Subscriber::new(subscription) }, feed)
        })
        .collect();
    (Publisher::new(writer).expect("the schema is this payload's"), subscribers)
}

// Inlined everywhere, as where a program publishes in one place.
#[inline(always)]
fn publish(publisher: &mut Publisher<Bytes>) {
    let loan = publisher.try_loan().expect("everything was received before");
    loan.send_with(|block| {
        let mut builder = block.builder();
        let elements = builder.elements();
        elements[0] = 1;
        elements[PAYLOAD - 1] = 1;
        builder.finish(PAYLOAD)
    })
    .expect("the message fits its block");
}

fn publish_each(publisher: &mut Publisher<Bytes>) {
    (0..BATCH).for_each(|_| publish(publisher));
}

fn send_each(publisher: &mut Publisher<Bytes>) {
    let message = black_box(&[1; PAYLOAD][..]);
    for _ in 0..BATCH {
        let loan = publisher.try_loan().expect("everything was received before");
        loan.send(message).expect("the message fits its block");
    }
}

fn send_batch(publisher: &mut Publisher<Bytes>) {
    let message = black_box(&[1; PAYLOAD][..]);
    let sent = publisher.send_batch(std::iter::repeat_n(message, BATCH as usize));
    sent.expect("everything was received before");
}

fn touch(bytes: &[u8]) -> u64 {
    u64::from(bytes[0]) + u64::from(bytes[PAYLOAD - 1])
}

fn check(sum: u64, received: u64) {
    assert_eq!(sum, 2 * received, "a message was lost");
}

fn by_reference(subscribers: usize, reuse: Reuse, block_size: usize, messages: u64) {
    let (mut publisher, mut subscribers) = open(subscribers, Overflow::Block, reuse, block_size);
    let mut sum = 0;
    for _ in 0..messages {
        publish(&mut publisher);
        for (subscriber, _) in &mut subscribers {
            sum += touch(subscriber.try_recv_ref().expect("it was published").view());
        }
    }
    check(sum, messages * subscribers.len() as u64);
}

/// The same as [`by_reference`] with one subscriber, with another crate.
fn disruptor(messages: u64) {
    let ring = build_single_producer(PAYLOAD, || Line([0; PAYLOAD]), BusySpin);
    let (poller, ring) = ring.new_event_poller();
    let (mut publisher, mut subscribers) = (ring.build(), vec![poller]);
    let mut sum = 0;
    for _ in 0..messages {
        publisher.publish(|event| {
            event.0[0] = 1;
            event.0[PAYLOAD - 1] = 1;
        });
        for subscriber in &mut subscribers {
            if let Ok(mut events) = subscriber.poll() {
                for event in &mut events {
                    sum += touch(&event.0);
                }
            }
        }
    }
    check(sum, messages);
}

fn overtakable(messages: u64) {
    let (mut publisher, mut subscribers) = open(1, Overflow::DropOldest, Reuse::Oldest, PAYLOAD);
    let (subscriber, _) = &mut subscribers[0];
    let mut sum = 0;
    for _ in 0..messages {
        publish(&mut publisher);
        sum += touch(subscriber.try_recv_ref().expect("it was published").view());
    }
    check(sum, messages);
}

fn batches(messages: u64, publish: fn(&mut Publisher<Bytes>)) {
    let (mut publisher, mut subscribers) = open(1, Overflow::Block, Reuse::Oldest, PAYLOAD);
    let (subscriber, _) = &mut subscribers[0];
    let mut sum = 0;
    for _ in 0..messages / BATCH {
        publish(&mut publisher);
        let batch = subscriber.try_recv_batch(BATCH as usize).expect("they were published");
        for view in batch.views() {
            sum += touch(view.expect("bytes are always valid"));
        }
    }
    check(sum, messages / BATCH * BATCH);
}

/// Keeps the latest `kept` samples.
fn owned(kept: usize, messages: u64) {
    let (mut publisher, mut subscribers) = open(1, Overflow::Block, Reuse::Oldest, PAYLOAD);
    let (subscriber, _) = &mut subscribers[0];
    let mut samples: Vec<Option<_>> = (0..kept).map(|_| None).collect();
    let mut sum = 0;
    for number in 0..messages {
        publish(&mut publisher);
        let sample = subscriber.try_recv().expect("it was published");
        sum += touch(sample.view());
        samples[number as usize % kept] = Some(sample);
    }
    check(sum, messages);
}

/// Like `compare --bench guest-publish` with one candidate.
#[cfg(feature = "guests")]
fn guest_publish(candidate: &str, messages: u64) {
    use blockcast_bench::guests;
    use blockcast_bench::work::{Content, Shape, Wait};

    let shape =
        Shape { payload: PAYLOAD, subscribers: 1, blocks: 64, content: Content::Marked, wait: Wait::Spin };
    let others = std::iter::once_with(|| guests::publishing_by_handle(shape));
    let mut all = guests::publishing(shape).into_iter().chain(others);
    let mut timed = all.find(|timed| timed.candidate == candidate).expect("one of them");
    timed.run(messages).expect("no message is lost");
}
