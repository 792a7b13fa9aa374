/* The subscriber of the complex example (../../complex/subscriber) in C. It reads every line in place. When
 * the topic `lines` has ended, it publishes its counts on the topic `reports`.
 *
 * Parameter: `name`, which its report carries (empty).
 */
#include "app.h"
#include "flat.h"

enum { ROOM = 64 };

/* A report, flat1/u32:tuple<string,u64,u64,u64,u64,u64,u64>, followed by its text. */
static struct {
    flat_header name;
    uint64_t messages, lines, words, bytes, longest, hash;
    char text[64];
} report = {.hash = BC_FNV_BASIS};

static bc_record batch[ROOM];

/* Returns the character at `at` and its length in bytes. The topic carries UTF-8. */
static uint32_t character(const uint8_t *at, const uint8_t *end, uint32_t *size) {
    uint32_t length = *at < 0x80 ? 1 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : 4;
    uint32_t code = length == 1 ? *at : *at & (0xffu >> (length + 1));
    if (length > (uint32_t)(end - at)) length = (uint32_t)(end - at);
    for (uint32_t i = 1; i < length; i++) code = code << 6 | (at[i] & 0x3f);
    *size = length;
    return code;
}

/* Unicode's White_Space. */
static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
        c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static void count_line(const uint8_t *line, uint32_t size) {
    report.lines++;
    report.bytes += size;
    if (size > report.longest) report.longest = size;
    bool in_word = false;
    for (uint32_t at = 0, length; at < size; at += length) {
        bool space = is_space(character(line + at, line + size, &length));
        report.words += !space && !in_word;
        in_word = !space;
    }
    report.hash = bc_fnv(bc_fnv(report.hash, line, size), "\n", 1);
}

/* Counts the lines of a message. Returns false if it is not a list<string>. */
static bool count_message(const bc_record *record) {
    const uint8_t *message = (const uint8_t *)(uintptr_t)record->address;
    uint32_t size = record->length & 0x7fffffff;
    if (size < sizeof(flat_header)) return false;
    const flat_header *list = (const flat_header *)message;
    const flat_header *lines = (const flat_header *)flat_region(message, size, list, sizeof(flat_header));
    if (!lines || (uintptr_t)lines % sizeof lines->delta != 0) return false;
    for (uint32_t i = 0; i < list->length; i++) {
        const uint8_t *line = flat_region(message, size, &lines[i], 1);
        if (!line) return false;
        count_line(line, lines[i].length);
    }
    report.messages++;
    return true;
}

BC_APP("c-subscriber") {
    bc_text name = {NULL, 0};
    bc_parameter(BC_TEXT("name"), &name);
    if (name.size > sizeof report.text) return bc_fail(BC_TEXT("the name is too long"));
    uint32_t name_size = (uint32_t)name.size;
    for (uint32_t i = 0; i < name_size; i++) report.text[i] = (char)name.start[i];
    report.name = (flat_header){(uint32_t)offsetof(__typeof__(report), text), name_size};

    bc_publisher reports;
    bc_subscription lines;
    bc_error error = bc_advertise(
        BC_TEXT("reports"), BC_TEXT("flat1/u32:tuple<string,u64,u64,u64,u64,u64,u64>"), 4096, 2, &reports);
    if (error != BC_OK) return bc_fail(BC_TEXT("the topic reports cannot be opened"));
    error = bc_subscribe(BC_TEXT("lines"), BC_TEXT("flat1/u32:list<string>"), BC_BLOCK, &lines);
    if (error == BC_DENIED) return bc_fail(BC_TEXT("the topic lines is not granted"));
    if (error != BC_OK) return bc_fail(BC_TEXT("the topic lines cannot be opened"));

    uint64_t received = 0;
    for (uint32_t count;;) {
        error = bc_poll(lines, batch, ROOM, received, &count);
        if (error == BC_CLOSED) break;
        if (error != BC_OK) return bc_fail(BC_TEXT("the topic lines cannot be read"));
        for (uint32_t i = 0; i < count; i++)
            if (!count_message(&batch[i])) return bc_fail(BC_TEXT("a message is no list of strings"));
        received += count;
        if (count == 0) bc_wait(BC_FOREVER);
    }
    bc_subscription_drop(lines);
    error = bc_publish(reports, &report, (uint32_t)offsetof(__typeof__(report), text) + name_size);
    return error == BC_OK ? 0 : bc_fail(BC_TEXT("the report cannot be published"));
}
