//! Wasm guests that receive and publish, by blocks and by lists of the canonical ABI.
//!
//! All in one thread: what is compared is the work, not how well two processors share it.

mod blocks;
mod lists;
pub mod start;

use crate::rounds::{Lost, Timed};
use crate::work::{Content, Shape, Tally};

/// A guest at one end of a topic, and the host at the other.
trait GuestWork {
    /// So many messages from one end to the other; the receiving end touches the first and last byte.
    fn run(&mut self, messages: u64) -> Tally;
}

/// The host publishes, a guest receives.
#[must_use]
pub fn delivery(shape: Shape) -> Vec<Timed> {
    let mut all = vec![
        timed("blockcast", shape, blocks::Delivery::new(shape)),
        timed("list-u8", shape, lists::Delivery::one_by_one(shape)),
    ];
    if shape.payload <= 64 << 10 {
        all.push(timed("list-u8-batches", shape, lists::Delivery::batches(shape)));
    }
    all
}

/// A guest publishes, the host receives.
#[must_use]
pub fn publishing(shape: Shape) -> Vec<Timed> {
    vec![
        timed("blockcast", shape, blocks::Publishing::new(shape)),
        timed("list-u8", shape, lists::Publishing::new(shape)),
    ]
}

fn timed(name: &'static str, shape: Shape, work: anyhow::Result<impl GuestWork + 'static>) -> Timed {
    let mut work = work.unwrap_or_else(|error| panic!("{name}, {} bytes: {error:?}", shape.payload));
    Timed::new(
        name,
        Box::new(move |messages| {
            let started = std::time::Instant::now();
            let tally = work.run(messages);
            let spent = started.elapsed();
            if !tally.is_complete(Content::Marked, messages) {
                return Err(Lost { candidate: name.to_owned(), expected: messages, tally });
            }
            Ok(spent.as_nanos() as f64 / messages as f64)
        }),
    )
}

/// The text of a component with its numbers filled in.
fn text(source: &str, numbers: &[(&str, u64)]) -> String {
    numbers.iter().fold(source.to_owned(), |text, (name, number)| {
        text.replace(&format!("{{{name}}}"), &number.to_string())
    })
}

/// Wasm pages for that many bytes and one page more.
fn pages(bytes: usize) -> u64 {
    (bytes.div_ceil(64 << 10) + 1) as u64
}
