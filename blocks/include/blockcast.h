/* The functions that a component that is a shared library calls, and how it is called.
 *
 * A library exports one symbol, `const bc_app *blockcast_app(const bc_host *host)`, whose result is its own table. The host
 * then calls `run` on a thread of its own, with its table. What the functions do is said in wit/ (types.wit, topics.wit,
 * memory-blocks.wit and session.wit); what is said here is what differs natively.
 *
 *   - Every function takes the host's `context` first. It and the table stay valid until the library is closed.
 *   - Pointers that are given are valid for the call; none is kept. Where something is returned through a pointer it is
 *     written on success only.
 *   - Handles are opaque numbers, never 0, and the host checks each. What is not closed is closed when `run` returns.
 *   - Any thread of the component may call while `run` goes on, one at a time may be in `wait`.
 *   - Once the component is cancelled calls return BC_CANCELLED and `wait` returns BC_WAKE_CANCELLED: return from `run` then.
 *
 * Made by cbindgen from blocks/src/abi: do not edit.
 */

#ifndef BLOCKCAST_H
#define BLOCKCAST_H

#include <stddef.h>
#include <stdint.h>

// The version of both tables. Other versions are incompatible.
#define BC_VERSION 1

// The app has finished.
#define BC_RUN_FINISHED 0

// The app failed, with the text given to `fail`.
#define BC_RUN_FAILED 1

// The app panicked. The text given to `fail` says where.
#define BC_RUN_PANICKED 2

// The host's table does not fit the app. Nothing was called except, if possible, `fail`.
#define BC_RUN_REFUSED 3

// The app was cancelled.
#define BC_RUN_CANCELLED 4

// Bit of a message's length: the bytes are known to be a value of the topic's schema.
#define BC_VALID 2147483648

// The publisher waits. Nothing is lost.
#define BC_OVERFLOW_BLOCK 0

// The oldest messages are skipped. The next message reports how many.
#define BC_OVERFLOW_DROP_OLDEST 1

// New messages are lost until there is room. The next message reports how many.
#define BC_OVERFLOW_DROP_NEWEST 2

// The kernel's tick, 1 to 10 ms.
#define BC_TIMESTAMPS_COARSE 0

// Messages carry no time.
#define BC_TIMESTAMPS_OFF 1

// Nanoseconds.
#define BC_TIMESTAMPS_PRECISE 2

// Like `BC_REUSE_HOTTEST` for large blocks, and like `BC_REUSE_OLDEST` for small ones.
#define BC_REUSE_BY_SIZE 0

// The block that was freed first.
#define BC_REUSE_OLDEST 1

// The block that was freed last.
#define BC_REUSE_HOTTEST 2

// Attach for writing, exclusively. Without it: for reading.
#define BC_ACCESS_WRITE 1

// For reading: share with other readers. For writing: the result may be read by many.
#define BC_ACCESS_SHARED 2

// `wait` returned because a subscription or publisher may make progress.
#define BC_WAKE_PROGRESS 1

// `wait` returned because its timeout passed.
#define BC_WAKE_TIMEOUT 2

// `wait` returned because the component was asked to finish. This ends one `wait`. Later ones only report it
// beside another reason.
#define BC_WAKE_SHUTDOWN 4

// The component was cancelled and must return from `run`. From then on, every `wait` returns this at once.
#define BC_WAKE_CANCELLED 8

// The timeout of a `wait` without a timeout.
#define BC_FOREVER UINT64_MAX

// Something failed.
#define BC_LEVEL_ERROR 0

// Something is suspicious.
#define BC_LEVEL_WARN 1

// Progress that a user wants to see.
#define BC_LEVEL_INFO 2

// For developers.
#define BC_LEVEL_DEBUG 3

// For developers, in great detail.
#define BC_LEVEL_TRACE 4

// Why a host refuses a call. In this order the variants are the cases of the WIT package's `error`; as a
// `Status`, each has the number of its case plus 1.
enum Error
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // More address space must be donated first.
    NoStorage,
    // Something that conflicts is still going on.
    Busy,
    // A size or an alignment is not as required.
    WrongSize,
    // The host could not do it; its log gives the reason.
    Internal,
    // The component's grant does not allow this.
    Denied,
    // The topic exists with a different schema.
    SchemaMismatch,
    // The topic has ended and everything was delivered, or the broker is shutting down.
    Closed,
    // No block is free.
    Exhausted,
    // The message is longer than a block of the publisher.
    TooLarge,
    // The bytes are not a valid value of the topic's schema.
    InvalidPayload,
    // The handle, index or hold is not valid, or no longer.
    InvalidHandle,
    // The range does not lie where it must.
    OutOfBounds,
    // A limit of the component's grant is reached.
    Limit,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum Error Error;
#else
typedef uint8_t Error;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A UTF-8 text without a terminator: `size` bytes from `start` on. `start` may be null if `size` is 0.
typedef struct {
    // The first byte.
    const uint8_t *start;
    // Number of bytes.
    size_t size;
} bc_text;

// Whether a call succeeded, and if not, why: 0, or the number of the WIT package's `error` plus 1.
//
// A call that returns anything except `BC_OK` has changed nothing. Later hosts may return numbers
// that are not listed here: treat them as `BC_INTERNAL`.
typedef uint32_t bc_status;
// The call succeeded.
#define BC_OK 0
// More address space must be donated first. Natively there is nothing to donate, and no call returns it.
#define BC_NO_STORAGE 1
// A conflicting operation is still in progress.
#define BC_BUSY 2
// A size or an alignment is not as required.
#define BC_WRONG_SIZE 3
// The host failed. Its log gives the reason.
#define BC_INTERNAL 4
// The component was not granted this.
#define BC_DENIED 5
// The topic exists with a different schema.
#define BC_SCHEMA_MISMATCH 6
// The topic has ended and everything was delivered, or the broker is shutting down.
#define BC_CLOSED 7
// No block is free: wait, then repeat the call.
#define BC_EXHAUSTED 8
// The message exceeds the publisher's blocks, or a name is too long.
#define BC_TOO_LARGE 9
// The bytes are not a valid value of the topic's schema. They were not published.
#define BC_INVALID_PAYLOAD 10
// The handle, index or hold is invalid, or no longer valid.
#define BC_INVALID_HANDLE 11
// A pointer must not be null, or a range is out of bounds.
#define BC_OUT_OF_BOUNDS 12
// A limit of the component's grant is reached.
#define BC_LIMIT 13
// The component was cancelled and must return from `run`. Not an error of the WIT package, as a guest is
// ended instead.
#define BC_CANCELLED 255

// The options of a subscription.
typedef struct {
    // Bytes of this struct.
    uint32_t size;
    // What happens if it falls behind: `BC_OVERFLOW_BLOCK`, `BC_OVERFLOW_DROP_OLDEST` or
    // `BC_OVERFLOW_DROP_NEWEST`.
    uint32_t overflow;
    // Number of earlier messages to start with, per publisher.
    uint32_t history;
    // Number of messages that may wait for it, per publisher. 0: as the policy says.
    uint32_t depth;
    // The subscription's name in statistics. Empty: the name of its component.
    bc_text name;
} bc_subscription_options;

// Memory: `size` bytes from `address` on.
typedef struct {
    // The first byte. May be null if `size` is 0.
    uint8_t *address;
    // Number of bytes.
    size_t size;
} bc_area;

// A delivered message, as `subscription_poll` writes it.
typedef struct {
    // Position of the message among its publisher's, from 0 on. 2^64 - 1: this is not a delivery, and has no
    // index. It reports `lost` messages that no message follows yet.
    uint64_t sequence;
    // Time of publishing, in nanoseconds of the clock of `now`; 0 if the publisher does not stamp its
    // messages.
    uint64_t time;
    // The first byte of the message; aligned to 64. Must not be written to.
    const uint8_t *address;
    // Bits 0 to 30: bytes of the message. Bit 31 (`BC_VALID`): they are known to be a value of the topic's
    // schema.
    uint32_t length;
    // Number of the publisher within the broker.
    uint32_t publisher;
    // Messages lost just before this one, at most 2^32 - 1.
    uint32_t lost;
    // 0.
    uint32_t reserved;
} bc_record;

// Counters of a subscription since it was opened.
typedef struct {
    // Messages delivered.
    uint64_t received;
    // Messages lost to the overflow policy.
    uint64_t lost;
    // Delivered messages that are neither released nor held.
    uint32_t attached;
    // Held messages.
    uint32_t held;
    // Publishers that currently feed the subscription.
    uint32_t publishers;
} bc_subscription_stats;

// Blocks of one size.
typedef struct {
    // Capacity of a block in bytes.
    uint32_t block_size;
    // Initial number of blocks.
    uint32_t blocks;
    // Largest number of blocks; at least `blocks`.
    uint32_t max_blocks;
} bc_size_class;

// The options of a publisher.
typedef struct {
    // Bytes of this struct.
    uint32_t size;
    // Capacity of a block in bytes, and so the longest message. The host may round it up.
    uint32_t block_size;
    // Number of blocks, at least 2.
    uint32_t blocks;
    // Number of messages kept for subscribers that join late.
    uint32_t history;
    // Number of blocks that the pool may grow to. 0: the pool does not grow.
    uint32_t max_blocks;
    // Largest number of subscribers at a time. 0: the default.
    uint32_t max_subscribers;
    // Whether messages carry the time: `BC_TIMESTAMPS_COARSE`, `BC_TIMESTAMPS_OFF` or `BC_TIMESTAMPS_PRECISE`.
    uint32_t timestamps;
    // Which free block is loaned next: `BC_REUSE_BY_SIZE`, `BC_REUSE_OLDEST` or `BC_REUSE_HOTTEST`.
    uint32_t reuse;
    // Not 0: touch all memory now rather than at its first use.
    uint32_t prefault;
    // Number of size classes in `larger`.
    uint32_t larger_count;
    // Blocks of larger sizes, in ascending order; null if there are none.
    const bc_size_class *larger;
    // The publisher's name in statistics. Empty: the name of its component.
    bc_text name;
} bc_publisher_options;

// A block to fill and publish.
typedef struct {
    // Handle of the block, a memory block that is attached for writing. 0: there is no block.
    uint64_t block;
    // The first byte; aligned to 64.
    uint8_t *address;
    // Number of bytes that may be written. Their content is unspecified.
    size_t capacity;
} bc_loan;

// Counters of a publisher since it was opened.
typedef struct {
    // Messages published.
    uint64_t published;
    // Bytes of all messages published.
    uint64_t bytes;
    // Bytes that the host copied into blocks: those of `publisher_publish`, not those of
    // `publisher_publish_block`.
    uint64_t copied;
    // Number of loans that found no free block.
    uint64_t exhausted;
    // Free blocks, as of the latest check.
    uint32_t free_blocks;
} bc_publisher_stats;

// One descriptor of the ring.
typedef struct {
    // Bits 0 to 31: bytes of the message, at most 2^31 - 1. Bit 32: they were not checked. Bits 33 to 63:
    // where the block starts, in units of 64 bytes from `base`.
    uint64_t word;
    // Time of publishing, in nanoseconds of the clock of `now`; 0 if the publisher does not stamp its
    // messages.
    uint64_t time;
} bc_ring_slot;

// Where a publisher's messages are announced. See `publisher_direct`.
//
// `publisher_take_blocks` reserves blocks. They are published in the order in which the ring names them:
// sequence by sequence from `first` on, each in the slot whose index is the sequence and `mask`. To publish
// a message, take these steps in this order. Each access to a single word is atomic.
//
// 1. Read the `word` of the slot that names the next block, and fill the block. Step 3 may write to this
//    same slot.
// 2. If `over` is not 0, publish nothing: the component must end, as any call will say. A component that
//    takes few blocks at a time may leave this check to the next `publisher_take_blocks`.
// 3. In the slot of the message's sequence, set `time` unless it has this value already, and set `word` to
//    bits 33 to 63 of the block's word and the length, unless it has this value already. The bytes must be a
//    value of the topic's schema. If the component does not vouch for that, call `publisher_publish_taken`
//    instead.
// 4. Add the length to `bytes`.
// 5. Set `next` to the sequence plus 1, with release order. The message is published.
// 6. Read `waiters`, after step 5 in program order. A compiler barrier between the two suffices; the host
//    provides the processor's. If the value is not 0, call `publisher_published`.
//
// The message's sequence is the value of `next` before step 5. Code that caches `next` and `bytes` must read
// them again after a call that publishes. A call of `publisher_take_blocks`, `publisher_publish` or
// `publisher_publish_block` with this publisher takes back all blocks that were reserved before, whatever it
// returns.
typedef struct {
    // Bytes of this struct; set by the component before it asks.
    uint32_t size;
    // Which time the messages carry: `BC_TIMESTAMPS_OFF`,
    // `BC_TIMESTAMPS_COARSE` or `BC_TIMESTAMPS_PRECISE`.
    uint32_t timestamps;
    // The descriptors: `mask` plus 1 of them.
    bc_ring_slot *slots;
    // Their number minus 1; a power of two minus 1.
    uint64_t mask;
    // The sequence of the next message.
    uint64_t *next;
    // Bytes of all messages published.
    uint64_t *bytes;
    // Not 0: somebody may wait for a message.
    const uint32_t *waiters;
    // Not 0: the component must end. Unlike the other words, this one stays in place until the library is
    // closed.
    const uint32_t *over;
    // Bytes of each block.
    size_t capacity;
    // Where the blocks start; aligned to 64.
    uint8_t *base;
} bc_direct_publisher;

// The functions that the host offers to a component. All pointers are set, except those at the end, which
// older hosts lack.
//
// The functions are those of `wit/`, which documents them. The documentation here only states differences.
// The module states which pointers must be valid for how long, and which threads may call.
typedef struct {
    // `BC_VERSION` of the host.
    uint32_t version;
    // Bytes of this table.
    uint32_t size;
    // The first argument of every function. It has no other use.
    void *context;
    // Finds the parameter `name` that was given when the component was started. Returns 1 and sets `value`,
    // which stays valid until `run` returns, or returns 0 if there is no such parameter.
    uint32_t (*parameter)(void *context, bc_text name, bc_text *value);
    // Writes a line to the component's log. Bytes that are not UTF-8 are replaced. An unknown level counts
    // as the least important.
    void (*log)(void *context, uint32_t level, bc_text text);
    // Sets the message of the error with which the component is about to end. The last call counts.
    void (*fail)(void *context, bc_text text);
    // The time in nanoseconds, on the clock of the message times (`CLOCK_MONOTONIC`).
    uint64_t (*now)(void *context);
    // 1 if the component was asked to finish, otherwise 0.
    uint32_t (*shutdown_requested)(void *context);
    // Blocks the calling thread until a subscription or publisher may make progress, the timeout passes, a
    // shutdown is requested, or `wake` is called. Returns `BC_WAKE_...`, or 0 if there is no reason.
    //
    // Only one thread at a time can wait. A second one gets 0 at once.
    uint32_t (*wait)(void *context, uint64_t timeout_ns);
    // Makes the current `wait`, or the next one if there is none, return early. Only exists natively: it is
    // the waker of a component with threads. Never blocks. Any thread may call it at any time.
    void (*wake)(void *context);
    // `subscription.open`.
    bc_status (*subscription_open)(void *context,
                                   bc_text topic,
                                   bc_text schema_name,
                                   uint64_t fingerprint,
                                   const bc_subscription_options *options,
                                   uint64_t *subscription);
    // Ends the subscription, its deliveries and its holds. Ignores 0 and closed handles.
    void (*subscription_close)(void *context, uint64_t subscription);
    // `subscription.minimum-size`: 0.
    size_t (*subscription_minimum_size)(void *context, uint64_t subscription);
    // `subscription.add-storage`: succeeds, and does not use the storage, as none is needed.
    bc_status (*subscription_add_storage)(void *context, uint64_t subscription, bc_area storage);
    // `subscription.remove-storage`: does nothing.
    bc_status (*subscription_remove_storage)(void *context, uint64_t subscription, bc_area storage);
    // `subscription.poll`: releases all deliveries whose index is smaller than `released_before`, then
    // writes up to `room` records to `batch` and their number to `count`. One call per batch does both. With
    // a `room` of 0 it only releases, and `batch` and `count` may be null.
    //
    // The host delivers as many messages as there are, up to `room`, and polls each publisher once.
    bc_status (*subscription_poll)(void *context,
                                   uint64_t subscription,
                                   bc_record *batch,
                                   uint32_t room,
                                   uint64_t released_before,
                                   uint32_t *count);
    // `subscription.hold`.
    bc_status (*subscription_hold)(void *context, uint64_t subscription, uint64_t index, uint32_t *hold);
    // `subscription.unhold`.
    bc_status (*subscription_unhold)(void *context, uint64_t subscription, uint32_t hold);
    // `subscription.leave`.
    bc_status (*subscription_leave)(void *context, uint64_t subscription);
    // `subscription.stats`.
    bc_status (*subscription_stats)(void *context, uint64_t subscription, bc_subscription_stats *stats);
    // `publisher.open`.
    bc_status (*publisher_open)(void *context,
                                bc_text topic,
                                bc_text schema_name,
                                uint64_t fingerprint,
                                const bc_publisher_options *options,
                                uint64_t *publisher);
    // Ends the publisher and takes its loans back. Ignores 0 and closed handles.
    void (*publisher_close)(void *context, uint64_t publisher);
    // `publisher.block-size`; 0 if the handle is invalid.
    uint32_t (*publisher_block_size)(void *context, uint64_t publisher);
    // `publisher.publish`: copies `size` bytes from `message` on into a block. `length` is their number,
    // with `BC_VALID` set if the caller vouches that they are a value of the topic's schema.
    // Then nobody checks.
    bc_status (*publisher_publish)(void *context,
                                   uint64_t publisher,
                                   const uint8_t *message,
                                   uint32_t length,
                                   uint64_t *sequence);
    // `publisher.in-place-from`: 0, as every loan is built in place.
    uint32_t (*publisher_in_place_from)(void *context, uint64_t publisher);
    // `publisher.loan` and the loan's `attach`, in one: takes a block for a message of up to `size` bytes
    // (0: as many as the smallest blocks have) and attaches it for writing.
    //
    // The caller may write the block until it is published, or until `memory_block_close` closes its handle
    // and returns it.
    bc_status (*publisher_loan)(void *context, uint64_t publisher, uint32_t size, bc_loan *loan);
    // `publisher.publish-block`: publishes the first bytes of a loan. `length` is their number, with
    // `BC_VALID` set if the caller vouches that they are a value of the topic's schema. Then
    // nobody checks. On success the loan's handle is closed, and `sequence`, which may be null, is set.
    //
    // `next` may be null. If it is not, its `capacity` is the size of the loan that the caller will want
    // next. The host returns that loan at once, as `publisher_loan` does, if a block is free: one call per
    // message instead of two. It takes no block from a subscriber for that. If there is none, or if the
    // status is not `BC_OK`, `next.block` is set to 0.
    bc_status (*publisher_publish_block)(void *context,
                                         uint64_t publisher,
                                         uint64_t block,
                                         uint32_t length,
                                         uint64_t *sequence,
                                         bc_loan *next);
    // `publisher.free-blocks`; 0 if the handle is invalid.
    uint32_t (*publisher_free_blocks)(void *context, uint64_t publisher);
    // `publisher.subscriber-count`; 0 if the handle is invalid.
    uint32_t (*publisher_subscriber_count)(void *context, uint64_t publisher);
    // `publisher.stats`.
    bc_status (*publisher_stats)(void *context, uint64_t publisher, bc_publisher_stats *stats);
    // `memory-block.constructor`. Returns 0 if the component has reached its limit of handles.
    uint64_t (*memory_block_new)(void *context, size_t size);
    // Detaches the handle and closes it. A loan that was not published returns to the pool. Ignores 0 and
    // closed handles.
    void (*memory_block_close)(void *context, uint64_t block);
    // `memory-block.clone`.
    bc_status (*memory_block_clone)(void *context, uint64_t block, uint64_t *clone);
    // `memory-block.minimum-size`: 0.
    size_t (*memory_block_minimum_size)(void *context, uint64_t block);
    // `memory-block.optimum-size`: 0.
    size_t (*memory_block_optimum_size)(void *context, uint32_t count, size_t size);
    // `memory-block.add-storage`: succeeds, and does not use the storage, as none is needed.
    bc_status (*memory_block_add_storage)(void *context, bc_area storage);
    // `memory-block.remove-storage`: does nothing.
    bc_status (*memory_block_remove_storage)(void *context, bc_area storage);
    // `memory-block.attach`; `access` is 0 or a sum of `BC_ACCESS_...`. Memory that is attached for reading
    // must not be written.
    bc_status (*memory_block_attach)(void *context, uint64_t block, uint32_t access, bc_area *area);
    // `memory-block.detach`.
    bc_status (*memory_block_detach)(void *context, uint64_t block, size_t consumed);
    // `memory-block.create-partition`.
    bc_status (*memory_block_create_partition)(void *context,
                                               uint64_t block,
                                               size_t start,
                                               size_t size,
                                               uint32_t access,
                                               uint64_t *partition);
    // `memory-block.create-local`. The memory must stay valid until the last handle on it is closed.
    bc_status (*memory_block_create_local)(void *context, bc_area area, uint64_t *block);
    // Describes how the component can publish directly, without a call per message: see `DirectPublisher`.
    // `direct` has its own size set, and no more is written. It is valid until the publisher or the library
    // is closed. Asking again returns the same.
    //
    // `DENIED` if the grant limits rates of publishing, if the blocks have several sizes, or if the topic is
    // unsealed.
    //
    // One thread at a time publishes directly. Meanwhile, no other thread publishes with this publisher by
    // any function, takes blocks for it, or closes it. Loans, waiting and statistics do no harm.
    bc_status (*publisher_direct)(void *context, uint64_t publisher, bc_direct_publisher *direct);
    // Reserves up to `room` blocks for direct publishing: those that the slots of `count` sequences from
    // `first` on name. `count` is not 0 on success. A sequence is taken modulo 2^64. The blocks are
    // published in this order. Those that are not come back with the next call of this function or of one
    // that publishes otherwise, whatever it returns, and when the publisher is closed. Together they count
    // as one loan when blocks are taken.
    //
    // The first block is taken as by `publisher_loan`. More follow only if they are already free and enough
    // are left, and none if the most recently freed block is to be used first.
    bc_status (*publisher_take_blocks)(void *context,
                                       uint64_t publisher,
                                       uint32_t room,
                                       uint64_t *first,
                                       uint32_t *count);
    // Wakes subscribers that wait for what was published directly, even if it returns `CANCELLED`.
    bc_status (*publisher_published)(void *context, uint64_t publisher);
    // Publishes the first bytes of the next reserved block, as `publisher_publish_block` does with a loan:
    // the host checks whether they are a value of the topic's schema. `word` is the block's, as in its slot
    // or without its lower bits. On success `sequence`, which may be null, is set; otherwise the block stays
    // reserved.
    bc_status (*publisher_publish_taken)(void *context,
                                         uint64_t publisher,
                                         uint64_t word,
                                         uint32_t length,
                                         uint64_t *sequence);
} bc_host;

// Describes a library to the host that loads it.
typedef struct {
    // `BC_VERSION` of the library.
    uint32_t version;
    // Bytes of this table.
    uint32_t size;
    // Runs the app from beginning to end, and returns a value such as `BC_RUN_FINISHED`. Called on a thread
    // of its own, once at a time. Static variables keep their values when it is called again.
    //
    // Does not unwind. `host` stays valid until the library is closed.
    uint32_t (*run)(const bc_host *host);
    // The app's name and version, for messages. Valid until the library is closed.
    bc_text name;
} bc_app;





// Every error, in the order of the WIT package.
#define BC_Error_ALL { NoStorage, Busy, WrongSize, Internal, Denied, SchemaMismatch, Closed, Exhausted, TooLarge, InvalidPayload, InvalidHandle, OutOfBounds, Limit, }

#endif  /* BLOCKCAST_H */
