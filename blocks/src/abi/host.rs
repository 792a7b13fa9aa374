//! The host's table: what a component can call.

use std::ffi::c_void;

use super::line::PublishingLine;
use super::status::Status;
use super::values::{
    Area, Loan, PublisherOptions, PublisherStats, Record, SubscriptionOptions, SubscriptionStats, Text,
};

/// What the host offers to a component. All pointers are set, but those of functions that were added later, at its end, in an
/// earlier host.
///
/// The functions are those of `wit/`, which says what they do; what is said here is what differs. Which pointers must be
/// valid for how long, and which thread may call, is said in the [module](super).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Host {
    /// [`VERSION`](super::VERSION) of the host.
    pub version: u32,
    /// Bytes of this table.
    pub size: u32,
    /// What the functions are called with. Nothing else may be done with it.
    pub context: *mut c_void,

    // interface session
    /// Finds the value that whoever started the component gave for `name`. Returns 1 and sets `value`, which stays valid until
    /// `run` returns, or 0 if there is none.
    pub parameter: unsafe extern "C" fn(context: *mut c_void, name: Text, value: *mut Text) -> u32,
    /// Writes a line to the component's log. Bytes that are not UTF-8 are replaced; an unknown level counts as the least
    /// important.
    pub log: unsafe extern "C" fn(context: *mut c_void, level: u32, text: Text),
    /// Leaves the message of the error with which the component is about to end. The last call counts.
    pub fail: unsafe extern "C" fn(context: *mut c_void, text: Text),
    /// The time in nanoseconds, on the clock of the message times (`CLOCK_MONOTONIC`).
    pub now: unsafe extern "C" fn(context: *mut c_void) -> u64,
    /// 1 if the component is asked to finish, else 0.
    pub shutdown_requested: unsafe extern "C" fn(context: *mut c_void) -> u32,

    // interface topics
    /// Blocks the calling thread until a subscription or publisher may make progress, the timeout has passed, a shutdown is
    /// requested, or `wake` is called. Returns `WAKE_...`, or 0 where there is no reason.
    ///
    /// One thread at a time; a second one gets 0 at once.
    pub wait: unsafe extern "C" fn(context: *mut c_void, timeout_ns: u64) -> u32,
    /// Makes the `wait` that is going on, or if there is none the next one, return early. Only natively: the waker of a
    /// component with threads. Never blocks; any thread may call it at any time.
    pub wake: unsafe extern "C" fn(context: *mut c_void),

    /// `subscription.open`.
    pub subscription_open: unsafe extern "C" fn(
        context: *mut c_void,
        topic: Text,
        schema_name: Text,
        fingerprint: u64,
        options: *const SubscriptionOptions,
        subscription: *mut u64,
    ) -> Status,
    /// Ends the subscription, its deliveries and its holds. 0 and what was closed already are ignored.
    pub subscription_close: unsafe extern "C" fn(context: *mut c_void, subscription: u64),
    /// `subscription.minimum-size`: 0.
    pub subscription_minimum_size: unsafe extern "C" fn(context: *mut c_void, subscription: u64) -> usize,
    /// `subscription.add-storage`: accepted and left alone, as nothing is needed.
    pub subscription_add_storage:
        unsafe extern "C" fn(context: *mut c_void, subscription: u64, storage: Area) -> Status,
    /// `subscription.remove-storage`: does nothing.
    pub subscription_remove_storage:
        unsafe extern "C" fn(context: *mut c_void, subscription: u64, storage: Area) -> Status,
    /// `subscription.poll`: releases all deliveries whose index is smaller than `released_before`, then writes up to
    /// `room` records to `batch` and their number to `count`. One call per batch does both. With `room` 0 it only releases, and
    /// `batch` and `count` may be null.
    ///
    /// The host takes as many messages as are there, up to `room`, and looks at each publisher once.
    pub subscription_poll: unsafe extern "C" fn(
        context: *mut c_void,
        subscription: u64,
        batch: *mut Record,
        room: u32,
        released_before: u64,
        count: *mut u32,
    ) -> Status,
    /// `subscription.hold`.
    pub subscription_hold:
        unsafe extern "C" fn(context: *mut c_void, subscription: u64, index: u64, hold: *mut u32) -> Status,
    /// `subscription.unhold`.
    pub subscription_unhold:
        unsafe extern "C" fn(context: *mut c_void, subscription: u64, hold: u32) -> Status,
    /// `subscription.leave`.
    pub subscription_leave: unsafe extern "C" fn(context: *mut c_void, subscription: u64) -> Status,
    /// `subscription.stats`.
    pub subscription_stats: unsafe extern "C" fn(
        context: *mut c_void,
        subscription: u64,
        stats: *mut SubscriptionStats,
    ) -> Status,

    /// `publisher.open`.
    pub publisher_open: unsafe extern "C" fn(
        context: *mut c_void,
        topic: Text,
        schema_name: Text,
        fingerprint: u64,
        options: *const PublisherOptions,
        publisher: *mut u64,
    ) -> Status,
    /// Ends the publisher and takes its loans back. 0 and what was closed already are ignored.
    pub publisher_close: unsafe extern "C" fn(context: *mut c_void, publisher: u64),
    /// `publisher.block-size`; 0 where the handle stands for nothing.
    pub publisher_block_size: unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> u32,
    /// `publisher.publish`: copies `size` bytes from `message` on into a block. `length` is their number, with [`VALID`](super::VALID) set where the
    /// caller vouches that they are a value of the topic's schema; then nobody checks.
    pub publisher_publish: unsafe extern "C" fn(
        context: *mut c_void,
        publisher: u64,
        message: *const u8,
        length: u32,
        sequence: *mut u64,
    ) -> Status,
    /// `publisher.in-place-from`: 0, as every loan is built in place.
    pub publisher_in_place_from: unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> u32,
    /// `publisher.loan` and the loan's `attach`, in one: takes a block for a message of up to `size` bytes (0: as many as
    /// the smallest blocks have) and attaches it for writing.
    ///
    /// The block is the caller's to write until it is published or its handle is closed with `memory_block_close`, which returns it.
    pub publisher_loan:
        unsafe extern "C" fn(context: *mut c_void, publisher: u64, size: u32, loan: *mut Loan) -> Status,
    /// `publisher.publish-block`: publishes the first bytes of a loan. `length` is their number, with [`VALID`](super::VALID) set where the caller
    /// vouches that they are a value of the topic's schema; then nobody checks. On success the loan's handle is closed, and
    /// `sequence`, which may be null, is set.
    ///
    /// `next` may be null. If it is not, its `capacity` says how large a loan the caller will want next, and the host
    /// gives it right away, as `publisher_loan` does, if a block is free for it: one call per message instead of two. It takes none
    /// from a subscriber for it; where there is none, or the status is not `OK`, `next.block` is set to 0.
    pub publisher_publish_block: unsafe extern "C" fn(
        context: *mut c_void,
        publisher: u64,
        block: u64,
        length: u32,
        sequence: *mut u64,
        next: *mut Loan,
    ) -> Status,
    /// `publisher.free-blocks`; 0 where the handle stands for nothing.
    pub publisher_free_blocks: unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> u32,
    /// `publisher.subscriber-count`; 0 where the handle stands for nothing.
    pub publisher_subscriber_count: unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> u32,
    /// `publisher.stats`.
    pub publisher_stats:
        unsafe extern "C" fn(context: *mut c_void, publisher: u64, stats: *mut PublisherStats) -> Status,

    // interface memory-blocks
    /// `memory-block.constructor`. 0 if the component has as many handles as it may have.
    pub memory_block_new: unsafe extern "C" fn(context: *mut c_void, size: usize) -> u64,
    /// Detaches the handle and closes it; a loan that was not published goes back. 0 and what was closed already are
    /// ignored.
    pub memory_block_close: unsafe extern "C" fn(context: *mut c_void, block: u64),
    /// `memory-block.clone`.
    pub memory_block_clone: unsafe extern "C" fn(context: *mut c_void, block: u64, clone: *mut u64) -> Status,
    /// `memory-block.minimum-size`: 0.
    pub memory_block_minimum_size: unsafe extern "C" fn(context: *mut c_void, block: u64) -> usize,
    /// `memory-block.optimum-size`: 0.
    pub memory_block_optimum_size:
        unsafe extern "C" fn(context: *mut c_void, count: u32, size: usize) -> usize,
    /// `memory-block.add-storage`: accepted and left alone, as nothing is needed.
    pub memory_block_add_storage: unsafe extern "C" fn(context: *mut c_void, storage: Area) -> Status,
    /// `memory-block.remove-storage`: does nothing.
    pub memory_block_remove_storage: unsafe extern "C" fn(context: *mut c_void, storage: Area) -> Status,
    /// `memory-block.attach`; `access` is 0 or a sum of `ACCESS_...`. What is attached for reading must not be written.
    pub memory_block_attach:
        unsafe extern "C" fn(context: *mut c_void, block: u64, access: u32, area: *mut Area) -> Status,
    /// `memory-block.detach`.
    pub memory_block_detach:
        unsafe extern "C" fn(context: *mut c_void, block: u64, consumed: usize) -> Status,
    /// `memory-block.create-partition`.
    pub memory_block_create_partition: unsafe extern "C" fn(
        context: *mut c_void,
        block: u64,
        start: usize,
        size: usize,
        access: u32,
        partition: *mut u64,
    ) -> Status,
    /// `memory-block.create-local`. The memory must stay valid until the last handle on it is closed.
    pub memory_block_create_local:
        unsafe extern "C" fn(context: *mut c_void, area: Area, block: *mut u64) -> Status,

    // Added later; null in a host that does not have it.
    /// Describes the publisher's line, by which the component can publish without a call: see [`PublishingLine`]. `line` has its own size set, and no
    /// more is written. It is valid until the publisher is closed, or the library is. Asked again, it is the same.
    ///
    /// `DENIED` where there is none: as the grant limits rates of publishing, as blocks are of several sizes, or as the topic is unsealed.
    ///
    /// One thread at a time publishes by it, and meanwhile no other publishes with this publisher, by whichever function, takes blocks for it or
    /// closes it. Loans, waiting and statistics do no harm.
    pub publisher_line: Option<
        unsafe extern "C" fn(context: *mut c_void, publisher: u64, line: *mut PublishingLine) -> Status,
    >,
    /// Lends up to `room` blocks for the line: those that the slots of `count` sequences, which is not 0 on success, from `first` on name. A
    /// sequence is taken modulo 2^64. They are published in this order; those that are not come back with the next call of this
    /// function or of one that publishes otherwise, whatever it returns, and when the publisher is closed. Together they count as one loan
    /// when blocks are taken.
    ///
    /// The first is taken as by `publisher_loan`; further ones only where they are free already and enough are left, and none where the block
    /// that was freed last is wanted first.
    pub publisher_take_blocks: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            publisher: u64,
            room: u32,
            first: *mut u64,
            count: *mut u32,
        ) -> Status,
    >,
    /// Wakes whoever waits for what was published by the line. Also done where it returns `CANCELLED`.
    pub publisher_published: Option<unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> Status>,
    /// Publishes the first bytes of the next block that was lent for the line, as `publisher_publish_block` does with a loan: the host looks
    /// whether they are a value of the topic's schema. `word` is the block's, as its slot says it or without its lower bits. On success
    /// `sequence`, which may be null, is set; otherwise the block stays lent.
    pub publisher_publish_taken: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            publisher: u64,
            word: u64,
            length: u32,
            sequence: *mut u64,
        ) -> Status,
    >,
}

// SAFETY: function pointers, numbers and a pointer that only the host looks at, from any thread.
unsafe impl Send for Host {}
// SAFETY: as above; nothing changes in a table that was given out.
unsafe impl Sync for Host {}
