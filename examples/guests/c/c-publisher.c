/* Publishes numbered lines on the topic `lines`: batches of lines, `list<string>`, as the subscribers of the complex example want them.
 *
 * Parameters: `lines`, how many (1000); `subscribers`, for how many it waits before it begins (1).
 */
#include "app.h"
#include "flat.h"

enum { BLOCK_SIZE = 4096, BLOCKS = 8, LINES_PER_BATCH = 100 };

static uint8_t message[BLOCK_SIZE] __attribute__((aligned(8)));

static bool number(bc_text name, uint32_t *value) {
    bc_text text;
    if (!bc_parameter(name, &text)) return true;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.start[i] < '0' || text.start[i] > '9') return false;
        sum = sum * 10 + (uint64_t)(text.start[i] - '0');
        if (sum > UINT32_MAX) return false;
    }
    *value = (uint32_t)sum;
    return text.size > 0;
}

/* Writes "line N" and returns its length. */
static uint32_t line(char *to, uint32_t n) {
    char digits[10];
    uint32_t count = 0, size = 0;
    do digits[count++] = (char)('0' + n % 10);
    while (n /= 10);
    for (const char *c = "line "; *c; c++) to[size++] = *c;
    while (count) to[size++] = digits[--count];
    return size;
}

BC_APP("c-publisher") {
    uint32_t lines = 1000, subscribers = 1;
    if (!number(BC_TEXT("lines"), &lines)) return bc_fail(BC_TEXT("lines is not a number"));
    if (!number(BC_TEXT("subscribers"), &subscribers)) return bc_fail(BC_TEXT("subscribers is not a number"));

    bc_publisher publisher;
    bc_error error =
        bc_advertise(BC_TEXT("lines"), BC_TEXT("flat1/u32:list<string>"), BLOCK_SIZE, BLOCKS, &publisher);
    if (error == BC_DENIED) return bc_fail(BC_TEXT("the topic lines is not granted"));
    if (error != BC_OK) return bc_fail(BC_TEXT("the topic lines cannot be opened"));
    while (bc_subscriber_count(publisher) < subscribers)
        if (bc_wait(BC_FOREVER) & BC_SHUTDOWN) return 0;

    for (uint32_t n = 0; n < lines;) {
        flat_strings batch = flat_strings_new(message, sizeof message, LINES_PER_BATCH);
        char text[16];
        while (n < lines && flat_strings_push(&batch, text, line(text, n))) n++;
        error = bc_publish(publisher, message, batch.size);
        if (error == BC_CLOSED) return 0;
        if (error != BC_OK) return bc_fail(BC_TEXT("a batch cannot be published"));
    }
    bc_publisher_drop(publisher);
    return 0;
}
