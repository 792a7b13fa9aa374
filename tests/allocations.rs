//! A message's path allocates nothing, in any layout. The allocator itself counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use blockcast::{
    Broker, Flat, Payload, Pod, PublisherOptions, Rkyv, SizeClass, SubscriberOptions, WriteFrom, archive,
};

/// Counts the allocations of this thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is forwarded to the system's allocator. Counting in a thread-local cell that needs no
// initialization does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller makes the same promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller makes the same promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(of: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    of();
    ALLOCATIONS.with(Cell::get) - before
}

/// Counts the allocations of sending `value` 1,000 times from a publisher to a subscriber, by reference and
/// owned.
fn of_messages<P, V>(value: &V, mut read: impl FnMut(P::View<'_>)) -> u64
where
    P: Payload + WriteFrom<V>,
    V: ?Sized,
{
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<P>("t", SubscriberOptions::new()).unwrap();
    let mut publisher = broker.publisher::<P>("t", PublisherOptions::new().block_size(4096)).unwrap();
    let mut round = |count: u32| {
        for number in 0..count {
            publisher.try_loan().unwrap().send(value).unwrap();
            if number % 2 == 0 {
                read(subscriber.try_recv_ref().unwrap().view());
            } else {
                read(subscriber.try_recv().unwrap().view());
            }
        }
    };
    round(100); // lets the pool's stacks and rkyv's arena grow to their size
    allocations(|| round(1000))
}

#[archive]
struct Reading {
    sensor: String,
    values: Vec<f64>,
}

#[test]
fn messages_that_grow_into_larger_blocks_are_built_without_an_allocation() {
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<Flat<Vec<String>>>("t", SubscriberOptions::new()).unwrap();
    let options = PublisherOptions::new().block_size(64);
    let larger = SizeClass { block_size: 4096, blocks: 64, max_blocks: 64 };
    let mut publisher = broker.publisher::<Flat<Vec<String>>>("t", options.larger_blocks(larger)).unwrap();
    let lines = vec!["a line that is too long for a small block".to_owned(); 20];
    let mut round = |count: u32| {
        for _ in 0..count {
            publisher.try_loan().unwrap().send(&lines).unwrap();
            assert_eq!(subscriber.try_recv_ref().unwrap().view().len(), 20);
        }
    };
    round(100); // lets the pool's stacks grow to their size
    assert_eq!(allocations(|| round(1000)), 0);
}

#[test]
fn messages_of_every_layout_are_built_and_read_without_an_allocation() {
    let lines = vec!["hello".to_owned(), "one".to_owned()];
    assert_eq!(of_messages::<Flat<Vec<String>>, _>(&lines, |view| assert_eq!(view.get(1), Some("one"))), 0);
    let reading = Reading { sensor: "a sensor on the roof".to_owned(), values: vec![1.0; 100] };
    assert_eq!(of_messages::<Rkyv<Reading>, _>(&reading, |view| assert_eq!(view.values.len(), 100)), 0);
    assert_eq!(of_messages::<Pod<u32>, _>(&[1, 2, 3][..], |view| assert_eq!(view, [1, 2, 3])), 0);
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8]))) > 0, "the counter counts");
}
