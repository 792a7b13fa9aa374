/* Publishes numbered lines on the topic `lines`, in the batches (`list<string>`) that the subscribers of the
 * complex example read.
 *
 * Parameters: `lines`, their number (1000); `batch`, the number of lines per message (100); `subscribers`,
 * the number to wait for before it begins (1). Small messages are built here and copied into a block, larger
 * ones are built in the block itself.
 */
#include "app.h"
#include "flat.h"

enum { BLOCK_SIZE = 4096, BLOCKS = 8, SMALL_BATCH = 100, LARGEST_BATCH = 1000000, LONGEST_LINE = 15 };

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
    uint32_t lines = 1000, batch = SMALL_BATCH, subscribers = 1;
    if (!number(BC_TEXT("lines"), &lines)) return bc_fail(BC_TEXT("lines is not a number"));
    if (!number(BC_TEXT("batch"), &batch) || batch == 0 || batch > LARGEST_BATCH)
        return bc_fail(BC_TEXT("batch is not a number from 1 to 1000000"));
    if (!number(BC_TEXT("subscribers"), &subscribers)) return bc_fail(BC_TEXT("subscribers is not a number"));

    bool large = batch > SMALL_BATCH;
    uint32_t block_size = large ? (uint32_t)sizeof(flat_header) + batch * ((uint32_t)sizeof(flat_header) + LONGEST_LINE) : BLOCK_SIZE;
    bc_publisher publisher;
    bc_error error =
        bc_advertise(BC_TEXT("lines"), BC_TEXT("flat1/u32:list<string>"), block_size, BLOCKS, &publisher);
    if (error == BC_DENIED) return bc_fail(BC_TEXT("the topic lines is not granted"));
    if (error != BC_OK) return bc_fail(BC_TEXT("the topic lines cannot be opened"));
    while (bc_subscriber_count(publisher) < subscribers)
        if (bc_wait(BC_FOREVER) & BC_SHUTDOWN) return 0;

    for (uint32_t n = 0; n < lines;) {
        bc_loan loan = {.address = message, .capacity = sizeof message};
        error = large ? bc_loan_block(publisher, block_size, &loan) : BC_OK;
        if (error == BC_CLOSED) return 0;
        if (error != BC_OK) return bc_fail(BC_TEXT("no block can be loaned"));
        flat_strings list = flat_strings_new(loan.address, (uint32_t)loan.capacity, batch);
        char text[LONGEST_LINE];
        while (n < lines && flat_strings_push(&list, text, line(text, n))) n++;
        error = large ? bc_publish_loan(publisher, &loan, list.size) : bc_publish(publisher, message, list.size);
        if (error == BC_CLOSED) return 0;
        if (error != BC_OK) return bc_fail(BC_TEXT("a batch cannot be published"));
    }
    bc_publisher_drop(publisher);
    return 0;
}
