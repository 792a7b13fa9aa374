//! Wasm guests that receive and publish, through blocks and through lists of the canonical ABI.
//!
//! Everything runs in one thread, because the comparison is about the work, not about how well two processors
//! share it.

mod blocks;
mod lists;
pub mod start;

use blockcast_blocks::large_page_size;

use crate::rounds::{Failure, Timed};
use crate::work::{Content, Shape, Tally};

/// A topic with a guest at one end and the host at the other.
trait GuestWork {
    /// Passes `messages` messages from one end to the other. The receiving end touches the first and last
    /// byte.
    fn run(&mut self, messages: u64) -> Tally;
}

/// The host publishes and a guest receives.
#[must_use]
pub fn delivery(shape: Shape) -> Vec<Timed> {
    let mut all = vec![
        timed("blockcast", shape, blocks::Delivery::new(shape)),
        timed("blockcast-strict", shape, blocks::Delivery::strict(shape)),
        timed("blockcast-copied", shape, blocks::Delivery::copied(shape)),
        timed_lists("list-u8", shape, lists::Delivery::one_by_one(shape)),
    ];
    if shape.payload <= 64 << 10 {
        all.push(timed("list-u8-batches", shape, lists::Delivery::batches(shape)));
    }
    all
}

/// The host publishes and several guests receive.
#[must_use]
pub fn fan_out(shape: Shape) -> Vec<Timed> {
    let mut all = vec![
        timed("blockcast", shape, blocks::Delivery::new(shape)),
        timed_lists("list-u8", shape, lists::FanOut::new(shape)),
    ];
    if shape.payload * shape.blocks >= large_page_size() {
        all.push(timed("blockcast-small-pages", shape, blocks::Delivery::in_small_pages(shape)));
    }
    all
}

/// The host publishes one message at a time to guests that are asleep, or calls them.
#[must_use]
pub fn waking(shape: Shape) -> Vec<Timed> {
    vec![
        timed("blockcast", shape, blocks::Wake::new(shape)),
        timed_lists("list-u8", shape, lists::FanOut::new(shape)),
    ]
}

/// A guest fills every message anew, in its own memory or in the block, and publishes it. The host receives.
#[must_use]
pub fn building(shape: Shape) -> Vec<Timed> {
    vec![
        timed("blockcast", shape, blocks::Publishing::building(shape, Place::Host)),
        timed("copied", shape, blocks::Publishing::building(shape, Place::Own)),
        timed("in-place", shape, blocks::Publishing::building(shape, Place::Block)),
    ]
}

/// Where a guest fills a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// As the host's default decides.
    Host,
    /// In its own memory, which is copied.
    Own,
    /// In the block, whatever the size.
    Block,
}

/// A guest adds up all words of every message in place, or as many words of its own memory.
#[must_use]
pub fn reading(shape: Shape) -> Vec<Timed> {
    vec![
        timed("blockcast", shape, blocks::Delivery::reading(shape, true)),
        timed("own-memory", shape, blocks::Delivery::reading(shape, false)),
    ]
}

/// A guest publishes and the host receives.
#[must_use]
pub fn publishing(shape: Shape) -> Vec<Timed> {
    vec![
        timed("blockcast", shape, blocks::Publishing::new(shape)),
        timed("blockcast-batches", shape, blocks::Publishing::batches(shape)),
        timed("list-u8", shape, lists::Publishing::one_by_one(shape)),
        timed("list-u8-batches", shape, lists::Publishing::batches(shape)),
    ]
}

/// Like [`publishing`], with the one candidate that does not publish by its key.
#[must_use]
pub fn publishing_by_handle(shape: Shape) -> Timed {
    timed("blockcast-by-handle", shape, blocks::Publishing::by_handle(shape))
}

/// Creates a candidate with a pool.
fn timed(name: &'static str, shape: Shape, work: anyhow::Result<impl GuestWork + 'static>) -> Timed {
    timed_lists(name, shape, work).of_pool(shape.blocks)
}

/// Creates a candidate without a pool. It passes each message as a separate list, and copying it to all
/// guests may take long.
fn timed_lists(name: &'static str, shape: Shape, work: anyhow::Result<impl GuestWork + 'static>) -> Timed {
    let mut work = work.unwrap_or_else(|error| panic!("{name}, {} bytes: {error:?}", shape.payload));
    Timed::new(
        name,
        Box::new(move |messages| {
            let started = std::time::Instant::now();
            let tally = work.run(messages);
            let spent = started.elapsed();
            let expected = messages * shape.subscribers as u64;
            if !tally.is_complete(Content::Marked, expected) {
                return Err(Failure::Lost { candidate: name.to_owned(), expected, tally });
            }
            Ok(spent.as_nanos() as f64 / messages as f64)
        }),
    )
}

/// Fills in the numbers in the text of a component.
fn text(source: &str, numbers: &[(&str, u64)]) -> String {
    numbers.iter().fold(source.to_owned(), |text, (name, number)| {
        text.replace(&format!("{{{name}}}"), &number.to_string())
    })
}

/// Number of wasm pages for `bytes` bytes, plus one page.
fn pages(bytes: usize) -> u64 {
    (bytes.div_ceil(64 << 10) + 1) as u64
}
