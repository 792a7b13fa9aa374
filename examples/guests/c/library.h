/* app.h for a shared library: the functions of the host's table (blocks/include/blockcast.h).
 *
 * Build with `cc -shared -fPIC -I blocks/include`. Include it in exactly one file.
 */
#ifndef BC_LIBRARY_H
#define BC_LIBRARY_H

#include "blockcast.h"

typedef bc_status bc_error;
typedef uint32_t bc_overflow, bc_level;
enum { BC_BLOCK = BC_OVERFLOW_BLOCK, BC_DROP_OLDEST = BC_OVERFLOW_DROP_OLDEST, BC_DROP_NEWEST = BC_OVERFLOW_DROP_NEWEST };
enum { BC_ERROR, BC_WARN, BC_INFO, BC_DEBUG, BC_TRACE };
enum { BC_PROGRESS = BC_WAKE_PROGRESS, BC_TIMEOUT = BC_WAKE_TIMEOUT, BC_SHUTDOWN = BC_WAKE_SHUTDOWN };

typedef uint64_t bc_subscription;
typedef uint64_t bc_publisher;

#define BC_TEXT(literal) ((bc_text){(const uint8_t *)(literal), sizeof(literal) - 1})

/* The table of the host that runs the app. */
static const bc_host *bc_the_host;

static inline bc_error bc_subscribe(bc_text topic, bc_text schema, bc_overflow overflow, bc_subscription *subscription) {
    bc_subscription_options options = {.size = sizeof options, .overflow = overflow};
    uint64_t fingerprint = bc_fnv(BC_FNV_BASIS, schema.start, (uint32_t)schema.size);
    return bc_the_host->subscription_open(bc_the_host->context, topic, schema, fingerprint, &options, subscription);
}

static inline bc_error bc_advertise(
    bc_text topic, bc_text schema, uint32_t block_size, uint32_t blocks, bc_publisher *publisher) {
    bc_publisher_options options = {.size = sizeof options, .block_size = block_size, .blocks = blocks};
    uint64_t fingerprint = bc_fnv(BC_FNV_BASIS, schema.start, (uint32_t)schema.size);
    return bc_the_host->publisher_open(bc_the_host->context, topic, schema, fingerprint, &options, publisher);
}

/* Receives up to `room` messages after releasing those before `released_before`. */
static inline bc_error bc_poll(
    bc_subscription subscription, bc_record *batch, uint32_t room, uint64_t released_before, uint32_t *count) {
    return bc_the_host->subscription_poll(bc_the_host->context, subscription, batch, room, released_before, count);
}

/* Publishes a copy of the message. After BC_EXHAUSTED, repeat the call after bc_wait. */
static inline bc_error bc_try_publish(bc_publisher publisher, const void *message, uint32_t size) {
    uint64_t sequence;
    return bc_the_host->publisher_publish(bc_the_host->context, publisher, message, size, &sequence);
}

/* Loans the very block that subscribers read, for a message of up to `size` bytes (0: as many as a block
 * holds). After BC_EXHAUSTED, repeat the call after bc_wait. */
static inline bc_error bc_try_loan(bc_publisher publisher, uint32_t size, bc_loan *loan) {
    *loan = (bc_loan){0};
    return bc_the_host->publisher_loan(bc_the_host->context, publisher, size, loan);
}

/* Returns an unpublished block. */
static inline void bc_loan_drop(bc_loan *loan) {
    bc_the_host->memory_block_close(bc_the_host->context, loan->block);
    *loan = (bc_loan){0};
}

/* Publishes the first `length` bytes of a loan without a copy. The loan ends even if this fails. Nothing may
 * be written there afterwards. */
static inline bc_error bc_publish_loan(bc_publisher publisher, bc_loan *loan, uint32_t length) {
    bc_error error =
        bc_the_host->publisher_publish_block(bc_the_host->context, publisher, loan->block, length, NULL, NULL);
    if (error != BC_OK) bc_loan_drop(loan);
    *loan = (bc_loan){0};
    return error;
}

static inline void bc_subscription_drop(bc_subscription subscription) {
    bc_the_host->subscription_close(bc_the_host->context, subscription);
}
static inline void bc_publisher_drop(bc_publisher publisher) {
    bc_the_host->publisher_close(bc_the_host->context, publisher);
}
static inline uint32_t bc_subscriber_count(bc_publisher publisher) {
    return bc_the_host->publisher_subscriber_count(bc_the_host->context, publisher);
}

/* Waits. A cancelled component is asked to finish as well. */
static inline uint32_t bc_wait(uint64_t timeout) {
    uint32_t reasons = bc_the_host->wait(bc_the_host->context, timeout);
    return reasons & BC_WAKE_CANCELLED ? reasons | BC_SHUTDOWN : reasons;
}

/* Gets the value of a parameter, which is valid until `run` returns. Returns false if there is none. */
static inline bool bc_parameter(bc_text name, bc_text *value) {
    return bc_the_host->parameter(bc_the_host->context, name, value) != 0;
}
static inline void bc_log(bc_level level, bc_text text) { bc_the_host->log(bc_the_host->context, level, text); }
static inline void bc_fail_with(bc_text text) { bc_the_host->fail(bc_the_host->context, text); }
static inline uint64_t bc_now(void) { return bc_the_host->now(bc_the_host->context); }
static inline uint32_t bc_shutdown_requested(void) { return bc_the_host->shutdown_requested(bc_the_host->context); }

static uint32_t run(void);

static uint32_t bc_run(const bc_host *host) {
    if (host == NULL || host->version != BC_VERSION || host->size < sizeof *host) return BC_RUN_REFUSED;
    bc_the_host = host;
    return run();
}

/* The type of `run`, and the app's name. Defines the one symbol that the library exports. */
#define BC_APP(title) \
    __attribute__((visibility("default"))) const bc_app *blockcast_app(const bc_host *host) { \
        __attribute__((section(".blockcast"))) /* where its version can be read without running anything */ \
        static const bc_app app = {BC_VERSION, sizeof app, bc_run, {(const uint8_t *)(title), sizeof(title) - 1}}; \
        (void)host; \
        return &app; \
    } \
    static uint32_t run(void)

#endif
