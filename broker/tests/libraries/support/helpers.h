/* Opening, waiting and failing. Part of component.c. */

/* Fails with the line number if the condition is false. */
#define MUST(condition) do { if (!(condition)) return wrong(h, __LINE__, #condition); } while (0)
#define BYTES_FINGERPRINT bytes_fingerprint()

static text of(const char *string) { return (text){(const uint8_t *)string, strlen(string)}; }

static uint32_t wrong(const host *h, int line, const char *condition) {
    char message[256];
    snprintf(message, sizeof message, "line %d: %s", line, condition);
    h->fail(h->context, of(message));
    return 1;
}

static uint64_t bytes_fingerprint(void) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *c = "bytes"; *c; c++) hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
    return hash;
}

static uint32_t publisher(const host *h, const char *topic, uint32_t blocks, uint64_t *out) {
    publisher_options options = {.size = sizeof options, .block_size = 256, .blocks = blocks};
    return h->publisher_open(h->context, of(topic), of("bytes"), BYTES_FINGERPRINT, &options, out);
}

static uint32_t subscription(const host *h, const char *topic, uint32_t overflow, uint64_t *out) {
    subscription_options options = {.size = sizeof options, .overflow = overflow};
    return h->subscription_open(h->context, of(topic), of("bytes"), BYTES_FINGERPRINT, &options, out);
}

static uint32_t open_both(const host *h, uint64_t *p, uint64_t *s) {
    uint32_t status = publisher(h, "own", 8, p);
    return status ? status : subscription(h, "own", 0, s);
}

/* Releases what precedes `released` and waits for the next message. */
static uint32_t next(const host *h, uint64_t s, record *r, uint64_t released) {
    for (;;) {
        uint32_t count = 0, status = h->subscription_poll(h->context, s, r, 1, released, &count);
        if (status || count) return status;
        if (h->wait(h->context, FOREVER) & WAKE_CANCELLED) return CANCELLED;
    }
}
