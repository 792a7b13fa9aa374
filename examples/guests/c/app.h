/* The functions that an app in C calls. The same source becomes a guest (guest.h) or a shared library that
 * the broker loads (library.h), depending on the compiler's target.
 *
 * A message is published by copying (bc_publish), or, if it is large, built in a loaned block (bc_loan_block,
 * bc_publish_loan). Memory blocks for other purposes are left out. The WIT files describe each function.
 */
#ifndef BC_APP_H
#define BC_APP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 64-bit FNV-1a: the fingerprint of a schema is that of its name */
static inline uint64_t bc_fnv(uint64_t hash, const void *bytes, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
    return hash;
}
#define BC_FNV_BASIS 0xcbf29ce484222325

#ifdef __wasm__
#include "guest.h"
#else
#include "library.h"
#endif

/* Publishes a copy of the message. Waits for a free block. Returns BC_CLOSED if it was asked to finish while
 * it waited. */
static inline bc_error bc_publish(bc_publisher publisher, const void *message, uint32_t size) {
    for (;;) {
        bc_error error = bc_try_publish(publisher, message, size);
        if (error != BC_EXHAUSTED) return error;
        if (bc_wait(BC_FOREVER) & BC_SHUTDOWN) return BC_CLOSED;
    }
}

/* Loans a block for a message of up to `size` bytes (0: as many as a block holds), to be filled from
 * `loan->address`. Waits for a free block. Returns BC_CLOSED if it was asked to finish while it waited. */
static inline bc_error bc_loan_block(bc_publisher publisher, uint32_t size, bc_loan *loan) {
    for (;;) {
        bc_error error = bc_try_loan(publisher, size, loan);
        if (error != BC_EXHAUSTED) return error;
        if (bc_wait(BC_FOREVER) & BC_SHUTDOWN) return BC_CLOSED;
    }
}

/* To end `run` with an error: `return bc_fail(...)`. */
static inline uint32_t bc_fail(bc_text text) {
    bc_fail_with(text);
    return 1;
}

#endif
