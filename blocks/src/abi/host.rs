//! The host's table: the functions that a component can call.

use std::ffi::c_void;

use super::direct::DirectPublisher;
use super::status::Status;
use super::values::{
    Area, Loan, PublisherOptions, PublisherStats, Record, SubscriptionOptions, SubscriptionStats, Text,
};

/// The functions that the host offers to a component. All pointers are set, except those at the end, which
/// older hosts lack.
///
/// The functions are those of `wit/`, which documents them. The documentation here only states differences.
/// The [module](super) states which pointers must be valid for how long, and which threads may call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Host {
    /// [`VERSION`](super::VERSION) of the host.
    pub version: u32,
    /// Bytes of this table.
    pub size: u32,
    /// The first argument of every function. It has no other use.
    pub context: *mut c_void,

    // interface session
    /// Finds the parameter `name` that was given when the component was started. Returns 1 and sets `value`,
    /// which stays valid until `run` returns, or returns 0 if there is no such parameter.
    pub parameter: unsafe extern "C" fn(context: *mut c_void, name: Text, value: *mut Text) -> u32,
    /// Writes a line to the component's log. Bytes that are not UTF-8 are replaced. An unknown level counts
    /// as the least important.
    pub log: unsafe extern "C" fn(context: *mut c_void, level: u32, text: Text),
    /// Sets the message of the error with which the component is about to end. The last call counts.
    pub fail: unsafe extern "C" fn(context: *mut c_void, text: Text),
    /// The time in nanoseconds, on the clock of the message times (`CLOCK_MONOTONIC`).
    pub now: unsafe extern "C" fn(context: *mut c_void) -> u64,
    /// 1 if the component was asked to finish, otherwise 0.
    pub shutdown_requested: unsafe extern "C" fn(context: *mut c_void) -> u32,

    // interface topics
    /// Blocks the calling thread until a subscription or publisher may make progress, the timeout passes, a
    /// shutdown is requested, or `wake` is called. Returns `WAKE_...`, or 0 if there is no reason.
    ///
    /// Only one thread at a time can wait. A second one gets 0 at once.
    pub wait: unsafe extern "C" fn(context: *mut c_void, timeout_ns: u64) -> u32,
    /// Makes the current `wait`, or the next one if there is none, return early. Only exists natively: it is
    /// the waker of a component with threads. Never blocks. Any thread may call it at any time.
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
    /// Ends the subscription, its deliveries and its holds. Ignores 0 and closed handles.
    pub subscription_close: unsafe extern "C" fn(context: *mut c_void, subscription: u64),
    /// `subscription.minimum-size`: 0.
    pub subscription_minimum_size: unsafe extern "C" fn(context: *mut c_void, subscription: u64) -> usize,
    /// `subscription.add-storage`: succeeds, and does not use the storage, as none is needed.
    pub subscription_add_storage:
        unsafe extern "C" fn(context: *mut c_void, subscription: u64, storage: Area) -> Status,
    /// `subscription.remove-storage`: does nothing.
    pub subscription_remove_storage:
        unsafe extern "C" fn(context: *mut c_void, subscription: u64, storage: Area) -> Status,
    /// `subscription.poll`: releases all deliveries whose index is smaller than `released_before`, then
    /// writes up to `room` records to `batch` and their number to `count`. One call per batch does both. With
    /// a `room` of 0 it only releases, and `batch` and `count` may be null.
    ///
    /// The host delivers as many messages as there are, up to `room`, and polls each publisher once.
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
    /// Ends the publisher and takes its loans back. Ignores 0 and closed handles.
    pub publisher_close: unsafe extern "C" fn(context: *mut c_void, publisher: u64),
    /// `publisher.block-size`; 0 if the handle is invalid.
    pub publisher_block_size: unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> u32,
    /// `publisher.publish`: copies `size` bytes from `message` on into a block. `length` is their number,
    /// with [`VALID`](super::VALID) set if the caller vouches that they are a value of the topic's schema.
    /// Then nobody checks.
    pub publisher_publish: unsafe extern "C" fn(
        context: *mut c_void,
        publisher: u64,
        message: *const u8,
        length: u32,
        sequence: *mut u64,
    ) -> Status,
    /// `publisher.in-place-from`: 0, as every loan is built in place.
    pub publisher_in_place_from: unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> u32,
    /// `publisher.loan` and the loan's `attach`, in one: takes a block for a message of up to `size` bytes
    /// (0: as many as the smallest blocks have) and attaches it for writing.
    ///
    /// The caller may write the block until it is published, or until `memory_block_close` closes its handle
    /// and returns it.
    pub publisher_loan:
        unsafe extern "C" fn(context: *mut c_void, publisher: u64, size: u32, loan: *mut Loan) -> Status,
    /// `publisher.publish-block`: publishes the first bytes of a loan. `length` is their number, with
    /// [`VALID`](super::VALID) set if the caller vouches that they are a value of the topic's schema. Then
    /// nobody checks. On success the loan's handle is closed, and `sequence`, which may be null, is set.
    ///
    /// `next` may be null. If it is not, its `capacity` is the size of the loan that the caller will want
    /// next. The host returns that loan at once, as `publisher_loan` does, if a block is free: one call per
    /// message instead of two. It takes no block from a subscriber for that. If there is none, or if the
    /// status is not `OK`, `next.block` is set to 0.
    pub publisher_publish_block: unsafe extern "C" fn(
        context: *mut c_void,
        publisher: u64,
        block: u64,
        length: u32,
        sequence: *mut u64,
        next: *mut Loan,
    ) -> Status,
    /// `publisher.free-blocks`; 0 if the handle is invalid.
    pub publisher_free_blocks: unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> u32,
    /// `publisher.subscriber-count`; 0 if the handle is invalid.
    pub publisher_subscriber_count: unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> u32,
    /// `publisher.stats`.
    pub publisher_stats:
        unsafe extern "C" fn(context: *mut c_void, publisher: u64, stats: *mut PublisherStats) -> Status,

    // interface memory-blocks
    /// `memory-block.constructor`. Returns 0 if the component has reached its limit of handles.
    pub memory_block_new: unsafe extern "C" fn(context: *mut c_void, size: usize) -> u64,
    /// Detaches the handle and closes it. A loan that was not published returns to the pool. Ignores 0 and
    /// closed handles.
    pub memory_block_close: unsafe extern "C" fn(context: *mut c_void, block: u64),
    /// `memory-block.clone`.
    pub memory_block_clone: unsafe extern "C" fn(context: *mut c_void, block: u64, clone: *mut u64) -> Status,
    /// `memory-block.minimum-size`: 0.
    pub memory_block_minimum_size: unsafe extern "C" fn(context: *mut c_void, block: u64) -> usize,
    /// `memory-block.optimum-size`: 0.
    pub memory_block_optimum_size:
        unsafe extern "C" fn(context: *mut c_void, count: u32, size: usize) -> usize,
    /// `memory-block.add-storage`: succeeds, and does not use the storage, as none is needed.
    pub memory_block_add_storage: unsafe extern "C" fn(context: *mut c_void, storage: Area) -> Status,
    /// `memory-block.remove-storage`: does nothing.
    pub memory_block_remove_storage: unsafe extern "C" fn(context: *mut c_void, storage: Area) -> Status,
    /// `memory-block.attach`; `access` is 0 or a sum of `ACCESS_...`. Memory that is attached for reading
    /// must not be written.
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
    /// Describes how the component can publish directly, without a call per message: see [`DirectPublisher`].
    /// `direct` has its own size set, and no more is written. It is valid until the publisher or the library
    /// is closed. Asking again returns the same.
    ///
    /// `DENIED` if the grant limits rates of publishing, if the blocks have several sizes, or if the topic is
    /// unsealed.
    ///
    /// One thread at a time publishes directly. Meanwhile, no other thread publishes with this publisher by
    /// any function, takes blocks for it, or closes it. Loans, waiting and statistics do no harm.
    pub publisher_direct: Option<
        unsafe extern "C" fn(context: *mut c_void, publisher: u64, direct: *mut DirectPublisher) -> Status,
    >,
    /// Reserves up to `room` blocks for direct publishing: those that the slots of `count` sequences from
    /// `first` on name. `count` is not 0 on success. A sequence is taken modulo 2^64. The blocks are
    /// published in this order. Those that are not come back with the next call of this function or of one
    /// that publishes otherwise, whatever it returns, and when the publisher is closed. Together they count
    /// as one loan when blocks are taken.
    ///
    /// The first block is taken as by `publisher_loan`. More follow only if they are already free and enough
    /// are left, and none if the most recently freed block is to be used first.
    pub publisher_take_blocks: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            publisher: u64,
            room: u32,
            first: *mut u64,
            count: *mut u32,
        ) -> Status,
    >,
    /// Wakes subscribers that wait for what was published directly, even if it returns `CANCELLED`.
    pub publisher_published: Option<unsafe extern "C" fn(context: *mut c_void, publisher: u64) -> Status>,
    /// Publishes the first bytes of the next reserved block, as `publisher_publish_block` does with a loan:
    /// the host checks whether they are a value of the topic's schema. `word` is the block's, as in its slot
    /// or without its lower bits. On success `sequence`, which may be null, is set; otherwise the block stays
    /// reserved.
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

// SAFETY: function pointers, numbers and a pointer that only the host uses, from any thread.
unsafe impl Send for Host {}
// SAFETY: as above; nothing changes in a table that was given out.
unsafe impl Sync for Host {}
