/* The table of blockcast_blocks::abi, as far as the tests' libraries need it. */
#include <stddef.h>
#include <stdint.h>

typedef struct { const uint8_t *start; size_t size; } text;
typedef struct { uint8_t *address; size_t size; } area;
typedef struct { uint64_t sequence, time; const uint8_t *address; uint32_t length, publisher, lost, reserved; } record;
typedef struct { uint64_t block; uint8_t *address; size_t capacity; } loan;
typedef struct { uint32_t size, overflow, history, depth; text name; } subscription_options;
typedef struct { uint32_t block_size, blocks, max_blocks; } size_class;
typedef struct {
    uint32_t size, block_size, blocks, history, max_blocks, max_subscribers, timestamps, reuse, prefault, larger_count;
    const size_class *larger;
    text name;
} publisher_options;
typedef struct { uint64_t received, lost; uint32_t attached, held, publishers; } subscription_stats;
typedef struct { uint64_t published, bytes, copied, exhausted; uint32_t free_blocks; } publisher_stats;

typedef struct host {
    uint32_t version, size;
    void *context;
    uint32_t (*parameter)(void *, text, text *);
    void (*log)(void *, uint32_t, text);
    void (*fail)(void *, text);
    uint64_t (*now)(void *);
    uint32_t (*shutdown_requested)(void *);
    uint32_t (*wait)(void *, uint64_t);
    void (*wake)(void *);
    uint32_t (*subscription_open)(void *, text, text, uint64_t, const subscription_options *, uint64_t *);
    void (*subscription_close)(void *, uint64_t);
    size_t (*subscription_minimum_size)(void *, uint64_t);
    uint32_t (*subscription_add_storage)(void *, uint64_t, area);
    uint32_t (*subscription_remove_storage)(void *, uint64_t, area);
    uint32_t (*subscription_poll)(void *, uint64_t, record *, uint32_t, uint64_t, uint32_t *);
    uint32_t (*subscription_hold)(void *, uint64_t, uint64_t, uint32_t *);
    uint32_t (*subscription_unhold)(void *, uint64_t, uint32_t);
    uint32_t (*subscription_leave)(void *, uint64_t);
    uint32_t (*subscription_stats)(void *, uint64_t, subscription_stats *);
    uint32_t (*publisher_open)(void *, text, text, uint64_t, const publisher_options *, uint64_t *);
    void (*publisher_close)(void *, uint64_t);
    uint32_t (*publisher_block_size)(void *, uint64_t);
    uint32_t (*publisher_publish)(void *, uint64_t, const uint8_t *, uint32_t, uint64_t *);
    uint32_t (*publisher_in_place_from)(void *, uint64_t);
    uint32_t (*publisher_loan)(void *, uint64_t, uint32_t, loan *);
    uint32_t (*publisher_publish_block)(void *, uint64_t, uint64_t, uint32_t, uint64_t *, loan *);
    uint32_t (*publisher_free_blocks)(void *, uint64_t);
    uint32_t (*publisher_subscriber_count)(void *, uint64_t);
    uint32_t (*publisher_stats)(void *, uint64_t, publisher_stats *);
    uint64_t (*memory_block_new)(void *, size_t);
    void (*memory_block_close)(void *, uint64_t);
    uint32_t (*memory_block_clone)(void *, uint64_t, uint64_t *);
    size_t (*memory_block_minimum_size)(void *, uint64_t);
    size_t (*memory_block_optimum_size)(void *, uint32_t, size_t);
    uint32_t (*memory_block_add_storage)(void *, area);
    uint32_t (*memory_block_remove_storage)(void *, area);
    uint32_t (*memory_block_attach)(void *, uint64_t, uint32_t, area *);
    uint32_t (*memory_block_detach)(void *, uint64_t, size_t);
    uint32_t (*memory_block_create_partition)(void *, uint64_t, size_t, size_t, uint32_t, uint64_t *);
    uint32_t (*memory_block_create_local)(void *, area, uint64_t *);
} host;

typedef struct { uint32_t version, size; uint32_t (*run)(const host *); text name; } app;

enum {
    OK, NO_STORAGE, BUSY, WRONG_SIZE, INTERNAL, DENIED, SCHEMA_MISMATCH, CLOSED, EXHAUSTED, TOO_LARGE, INVALID_PAYLOAD,
    INVALID_HANDLE, OUT_OF_BOUNDS, LIMIT, CANCELLED = 255
};
enum { PROGRESS = 1, TIMEOUT = 2, SHUTDOWN = 4, WAKE_CANCELLED = 8 };
#define FOREVER UINT64_MAX
#define VALID (UINT32_C(1) << 31)
