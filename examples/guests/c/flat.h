/* The part of the flat layout (flat-types/FORMAT.md) that these guests need, with 32-bit indices.
 *
 * The header of a string or list is two 32-bit numbers, distance and length. Its region begins at the
 * header's own address plus the distance. Strings are not terminated. Regions follow in the order of their
 * headers.
 */
#ifndef FLAT_H
#define FLAT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct { uint32_t delta, length; } flat_header;

/* Returns where the region of `header` begins, if `length` elements of `size` bytes from there lie inside the
 * message. */
static inline const uint8_t *flat_region(
    const uint8_t *message, uint32_t message_size, const flat_header *header, uint32_t size) {
    uint64_t start = (uint64_t)((const uint8_t *)header - message) + header->delta;
    return start + (uint64_t)header->length * size <= message_size ? message + start : 0;
}

/* Builds a list<string> in a buffer, with room for a fixed number of strings. */
typedef struct {
    uint8_t *message;
    uint32_t size, capacity, strings;
} flat_strings;

static inline flat_strings flat_strings_new(uint8_t *message, uint32_t capacity, uint32_t strings) {
    uint32_t size = (uint32_t)sizeof(flat_header) * (1 + strings);
    *(flat_header *)message = (flat_header){sizeof(flat_header), 0};
    /* Unused headers are a gap of zero bytes. */
    __builtin_memset(message + sizeof(flat_header), 0, size - sizeof(flat_header));
    return (flat_strings){message, size, capacity, strings};
}

/* Returns false if there is no room. */
static inline bool flat_strings_push(flat_strings *list, const char *text, uint32_t length) {
    flat_header *headers = (flat_header *)list->message;
    uint32_t count = headers[0].length;
    if (count == list->strings || length > list->capacity - list->size) return false;
    flat_header *header = &headers[1 + count];
    *header = (flat_header){(uint32_t)(list->message + list->size - (uint8_t *)header), length};
    __builtin_memcpy(list->message + list->size, text, length);
    list->size += length;
    headers[0].length = count + 1;
    return true;
}

#endif
