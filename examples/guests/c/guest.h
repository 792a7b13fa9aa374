/* app.h for a guest: the functions of wit/topics.wit and wit/session.wit under their lowered names.
 *
 * A guest is a plain core module. It exports `run`, and its memory as `memory`, and imports nothing but these
 * functions. The WIT files describe them. Of memory blocks, only what loans need is here.
 *
 * Lowered means: a string or an area becomes two parameters, address and size; an enum becomes its number; a
 * result that is not a single number is written to an area whose address is the last parameter. A `result`
 * has its case at offset 0 (0 is ok), and its value or the number of its error at the alignment of the value.
 */
#ifndef BC_GUEST_H
#define BC_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BC_TOPICS "blockcast:blocks/topics@0.1.0"
#define BC_MEMORY "blockcast:blocks/memory-blocks@0.1.0"
#define BC_SESSION "blockcast:blocks/session@0.1.0"
#define BC_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define BC_EXPORT(name) __attribute__((export_name(name), used))
/* the type of `run`, and the app's name */
#define BC_APP(name) BC_EXPORT("run") uint32_t run(void)

/* types.error, plus 1; 0 is success */
typedef enum {
    BC_OK, BC_NO_STORAGE, BC_BUSY, BC_WRONG_SIZE, BC_INTERNAL, BC_DENIED, BC_SCHEMA_MISMATCH, BC_CLOSED, BC_EXHAUSTED,
    BC_TOO_LARGE, BC_INVALID_PAYLOAD, BC_INVALID_HANDLE, BC_OUT_OF_BOUNDS, BC_LIMIT,
} bc_error;

typedef enum { BC_BLOCK, BC_DROP_OLDEST, BC_DROP_NEWEST } bc_overflow;
typedef enum { BC_ERROR, BC_WARN, BC_INFO, BC_DEBUG, BC_TRACE } bc_level;
enum { BC_PROGRESS = 1, BC_TIMEOUT = 2, BC_SHUTDOWN = 4 };
#define BC_FOREVER UINT64_MAX

typedef uint32_t bc_subscription;
typedef uint32_t bc_publisher;

/* one message, as bc_poll writes it */
typedef struct {
    uint64_t sequence, time;
    uint32_t address, length /* bit 31: known to be valid */, publisher, lost;
} bc_record;

/* a block to fill and publish; its bytes are unspecified at first */
typedef struct {
    uint32_t block;
    uint8_t *address;
    size_t capacity;
} bc_loan;

/* a text, not terminated */
typedef struct {
    const uint8_t *start;
    uint32_t size;
} bc_text;
#define BC_TEXT(literal) ((bc_text){(const uint8_t *)(literal), sizeof(literal) - 1})

/* The raw imports. */

typedef struct { uint8_t is_error; union { uint8_t error; uint32_t value; } __attribute__((aligned(4))); } bc_result32;
typedef struct { uint8_t is_error; union { uint8_t error; uint64_t value; } __attribute__((aligned(8))); } bc_result64;
typedef struct { uint32_t address, size; } bc_area;
typedef struct { uint8_t is_error; union { uint8_t error; bc_area value; } __attribute__((aligned(4))); } bc_result_area;
typedef struct { uint8_t is_error, error; } bc_result;
typedef struct { uint8_t is_some; bc_text value; } bc_option;

BC_IMPORT(BC_TOPICS, "[static]subscription.open")
void bc_raw_subscription_open(const uint8_t *topic, uint32_t topic_size, const uint8_t *schema, uint32_t schema_size,
    uint64_t fingerprint, uint32_t overflow, uint32_t history, uint32_t depth, bc_result32 *result);
BC_IMPORT(BC_TOPICS, "[method]subscription.minimum-size") uint32_t bc_minimum_size(bc_subscription);
BC_IMPORT(BC_TOPICS, "[method]subscription.add-storage")
void bc_raw_add_storage(bc_subscription, uint32_t address, uint32_t size, bc_result *result);
BC_IMPORT(BC_TOPICS, "[method]subscription.poll")
void bc_raw_poll(bc_subscription, bc_record *batch, uint32_t size, uint64_t released_before, bc_result32 *result);
BC_IMPORT(BC_TOPICS, "[resource-drop]subscription") void bc_subscription_drop(bc_subscription);
BC_IMPORT(BC_TOPICS, "[static]publisher.open")
void bc_raw_publisher_open(const uint8_t *topic, uint32_t topic_size, const uint8_t *schema, uint32_t schema_size,
    uint64_t fingerprint, uint32_t block_size, uint32_t blocks, uint32_t history, bc_result32 *result);
BC_IMPORT(BC_TOPICS, "[method]publisher.block-size") uint32_t bc_block_size(bc_publisher);
BC_IMPORT(BC_TOPICS, "[method]publisher.publish")
void bc_raw_publish(bc_publisher, const void *message, uint32_t size, bc_result64 *result);
BC_IMPORT(BC_TOPICS, "[method]publisher.loan") void bc_raw_loan(bc_publisher, uint32_t size, bc_result32 *result);
BC_IMPORT(BC_TOPICS, "[method]publisher.publish-block")
void bc_raw_publish_block(bc_publisher, uint32_t block, uint32_t length, bc_result64 *result);
BC_IMPORT(BC_TOPICS, "[method]publisher.free-blocks") uint32_t bc_free_blocks(bc_publisher);
BC_IMPORT(BC_TOPICS, "[method]publisher.subscriber-count") uint32_t bc_subscriber_count(bc_publisher);
BC_IMPORT(BC_TOPICS, "[resource-drop]publisher") void bc_publisher_drop(bc_publisher);
BC_IMPORT(BC_MEMORY, "[method]memory-block.minimum-size") uint32_t bc_raw_block_minimum_size(uint32_t block);
BC_IMPORT(BC_MEMORY, "[static]memory-block.add-storage")
void bc_raw_block_add_storage(uint32_t address, uint32_t size, bc_result *result);
BC_IMPORT(BC_MEMORY, "[method]memory-block.attach")
void bc_raw_block_attach(uint32_t block, uint32_t access, bc_result_area *result);
BC_IMPORT(BC_MEMORY, "[resource-drop]memory-block") void bc_raw_block_drop(uint32_t block);
BC_IMPORT(BC_TOPICS, "wait") uint32_t bc_wait(uint64_t timeout);
BC_IMPORT(BC_SESSION, "parameter") void bc_raw_parameter(const uint8_t *name, uint32_t size, bc_option *result);
BC_IMPORT(BC_SESSION, "log") void bc_raw_log(uint32_t level, const uint8_t *text, uint32_t size);
BC_IMPORT(BC_SESSION, "fail") void bc_raw_fail(const uint8_t *text, uint32_t size);
BC_IMPORT(BC_SESSION, "now") uint64_t bc_now(void);
BC_IMPORT(BC_SESSION, "shutdown-requested") uint32_t bc_shutdown_requested(void);

/* The same functions with C's types. */

static inline bc_error bc_subscribe(bc_text topic, bc_text schema, bc_overflow overflow, bc_subscription *subscription) {
    bc_result32 result;
    bc_raw_subscription_open(topic.start, topic.size, schema.start, schema.size,
        bc_fnv(BC_FNV_BASIS, schema.start, schema.size), overflow, 0, 0, &result);
    if (result.is_error) return (bc_error)(result.error + 1);
    *subscription = result.value;
    return BC_OK;
}

static inline bc_error bc_advertise(
    bc_text topic, bc_text schema, uint32_t block_size, uint32_t blocks, bc_publisher *publisher) {
    bc_result32 result;
    bc_raw_publisher_open(topic.start, topic.size, schema.start, schema.size,
        bc_fnv(BC_FNV_BASIS, schema.start, schema.size), block_size, blocks, 0, &result);
    if (result.is_error) return (bc_error)(result.error + 1);
    *publisher = result.value;
    return BC_OK;
}

/* Grows the memory by `size` bytes, in whole wasm pages. Returns where they begin, or 0. */
static inline uint32_t bc_grow(uint32_t size) {
    size_t page = __builtin_wasm_memory_grow(0, size >> 16);
    return page == SIZE_MAX ? 0 : (uint32_t)(page << 16);
}

/* Grows the memory by as much as the subscription needs, and donates that. */
static inline bc_error bc_make_room(bc_subscription subscription) {
    uint32_t size = bc_minimum_size(subscription);
    if (size == 0) return BC_OK;
    uint32_t address = bc_grow(size);
    if (address == 0) return BC_LIMIT;
    bc_result result;
    bc_raw_add_storage(subscription, address, size, &result);
    return result.is_error ? (bc_error)(result.error + 1) : BC_OK;
}

/* The same for a loaned block. Needed once for all blocks of a publisher. */
static inline bc_error bc_make_room_for_loans(uint32_t block) {
    uint32_t size = bc_raw_block_minimum_size(block);
    if (size == 0) return BC_INTERNAL; /* the host contradicts itself */
    uint32_t address = bc_grow(size);
    if (address == 0) return BC_LIMIT;
    bc_result result;
    bc_raw_block_add_storage(address, size, &result);
    return result.is_error ? (bc_error)(result.error + 1) : BC_OK;
}

/* Receives up to `room` messages after releasing those before `released_before`. Donates address space if
 * needed. */
static inline bc_error bc_poll(
    bc_subscription subscription, bc_record *batch, uint32_t room, uint64_t released_before, uint32_t *count) {
    for (;;) {
        bc_result32 result;
        bc_raw_poll(subscription, batch, room * (uint32_t)sizeof *batch, released_before, &result);
        if (!result.is_error) {
            *count = result.value;
            return BC_OK;
        }
        bc_error error = (bc_error)(result.error + 1);
        if (error != BC_NO_STORAGE) return error;
        error = bc_make_room(subscription);
        if (error != BC_OK) return error;
    }
}

/* Publishes a copy of the message. After BC_EXHAUSTED, repeat the call after bc_wait. */
static inline bc_error bc_try_publish(bc_publisher publisher, const void *message, uint32_t size) {
    bc_result64 result;
    bc_raw_publish(publisher, message, size, &result);
    return result.is_error ? (bc_error)(result.error + 1) : BC_OK;
}

/* Returns an unpublished block. */
static inline void bc_loan_drop(bc_loan *loan) {
    if (loan->block) bc_raw_block_drop(loan->block);
    *loan = (bc_loan){0};
}

/* Loans a block for a message of up to `size` bytes (0: as many as a block holds). After BC_EXHAUSTED, repeat
 * the call after bc_wait.
 *
 * From 1 MiB (a setting of the host) it is the very block that subscribers read. A shorter one is copied when
 * it is published, so bc_publish is cheaper.
 */
static inline bc_error bc_try_loan(bc_publisher publisher, uint32_t size, bc_loan *loan) {
    *loan = (bc_loan){0};
    bc_result32 loaned;
    bc_raw_loan(publisher, size ? size : bc_block_size(publisher), &loaned);
    if (loaned.is_error) return (bc_error)(loaned.error + 1);
    loan->block = loaned.value;
    bc_result_area attached;
    for (;;) {
        bc_raw_block_attach(loan->block, 1 /* write */, &attached);
        if (!attached.is_error) break;
        bc_error error = (bc_error)(attached.error + 1);
        if (error == BC_NO_STORAGE) error = bc_make_room_for_loans(loan->block);
        if (error != BC_OK) {
            bc_loan_drop(loan);
            return error;
        }
    }
    loan->address = (uint8_t *)(uintptr_t)attached.value.address;
    loan->capacity = attached.value.size;
    return BC_OK;
}

/* Publishes the first `length` bytes of a loan, without a copy if it is the block that subscribers read. The
 * loan ends even if this fails. Nothing may be written there afterwards. */
static inline bc_error bc_publish_loan(bc_publisher publisher, bc_loan *loan, uint32_t length) {
    bc_result64 result;
    bc_raw_publish_block(publisher, loan->block, length, &result);
    bc_loan_drop(loan);
    return result.is_error ? (bc_error)(result.error + 1) : BC_OK;
}

/* Allocates memory in which the host puts the value of a parameter. */
BC_EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    static uint8_t heap[256];
    (void)old, (void)old_size, (void)align;
    if (size > sizeof heap) __builtin_trap();
    return heap;
}

/* Gets the value of a parameter, which is valid until the next call. Returns false if there is none. */
static inline bool bc_parameter(bc_text name, bc_text *value) {
    bc_option result;
    bc_raw_parameter(name.start, name.size, &result);
    if (result.is_some) *value = result.value;
    return result.is_some;
}

static inline void bc_log(bc_level level, bc_text text) { bc_raw_log(level, text.start, text.size); }

static inline void bc_fail_with(bc_text text) { bc_raw_fail(text.start, text.size); }

#endif
