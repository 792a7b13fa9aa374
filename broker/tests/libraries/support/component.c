/* A native component that does what its parameter `do` says: above all what it should not. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "short.h"

/* Gives up with the line where something is not as it must be. */
#define MUST(condition) do { if (!(condition)) return wrong(h, __LINE__, #condition); } while (0)
#define BYTES_FINGERPRINT bytes_fingerprint()

static text of(const char *string) { return (text){(const uint8_t *)string, strlen(string)}; }

static uint32_t wrong(const host *h, int line, const char *condition) {
    char said[256];
    snprintf(said, sizeof said, "line %d: %s", line, condition);
    h->fail(h->context, of(said));
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

/* Waits until the subscription has a message. */
static uint32_t next(const host *h, uint64_t s, record *r, uint64_t released) {
    for (;;) {
        uint32_t count = 0, status = h->subscription_poll(h->context, s, r, 1, released, &count);
        if (status || count) return status;
        if (h->wait(h->context, FOREVER) & WAKE_CANCELLED) return CANCELLED;
    }
}

#include "lines.h"

static int runs_before;

/* Publishes and receives as one should. */
static uint32_t works(const host *h) {
    void *c = h->context;
    uint64_t p, s, sequence = 9;
    loan l, more = {.capacity = 5};
    record r;
    text value = {0};
    MUST(runs_before++ == 0); /* static variables are a run's own */
    MUST(h->parameter(c, of("do"), &value) == 1 && value.size == 5 && memcmp(value.start, "works", 5) == 0);
    MUST(h->parameter(c, of("nothing"), &value) == 0);
    MUST(open_both(h, &p, &s) == OK);
    MUST(h->publisher_block_size(c, p) >= 256 && h->publisher_subscriber_count(c, p) == 1);
    MUST(h->publisher_in_place_from(c, p) == 0 && h->subscription_minimum_size(c, s) == 0);
    MUST(h->publisher_loan(c, p, 5, &l) == OK && l.block && l.capacity >= 5 && (uintptr_t)l.address % 64 == 0);
    memcpy(l.address, "hello", 5);
    MUST(h->publisher_publish_block(c, p, l.block, 5, &sequence, &more) == OK && sequence == 0);
    MUST(more.block && more.block != l.block && more.address != l.address);
    MUST(next(h, s, &r, 0) == OK && r.sequence == 0 && (r.length & ~VALID) == 5 && r.lost == 0);
    MUST(r.address == l.address && memcmp(r.address, "hello", 5) == 0); /* where it was written */
    memcpy(more.address, "again", 5);
    MUST(h->publisher_publish_block(c, p, more.block, 5, NULL, NULL) == OK);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"third", 5, &sequence) == OK && sequence == 2);
    /* From the block of an earlier message, into another one. */
    MUST(h->publisher_publish(c, p, r.address, 5, &sequence) == OK && sequence == 3);
    MUST(next(h, s, &r, 1) == OK && memcmp(r.address, "again", 5) == 0);
    MUST(next(h, s, &r, 2) == OK && memcmp(r.address, "third", 5) == 0);
    uint32_t hold, count = 0;
    MUST(h->subscription_hold(c, s, 2, &hold) == OK);
    const uint8_t *kept = r.address;
    MUST(next(h, s, &r, 3) == OK && memcmp(r.address, "hello", 5) == 0);
    for (int i = 0; i < 40; i++) {
        MUST(h->publisher_publish(c, p, (const uint8_t *)"later", 5, NULL) == OK);
        MUST(next(h, s, &r, 4 + i) == OK);
    }
    MUST(memcmp(kept, "third", 5) == 0);
    MUST(h->subscription_unhold(c, s, hold) == OK);
    subscription_stats ss;
    publisher_stats ps;
    MUST(h->subscription_stats(c, s, &ss) == OK && ss.received == 44 && ss.attached == 1 && ss.held == 0 && ss.publishers == 1);
    MUST(h->publisher_stats(c, p, &ps) == OK && ps.published == 44 && ps.bytes == 220 && ps.copied == 210);
    h->publisher_close(c, p);
    MUST(h->subscription_poll(c, s, &r, 1, 44, &count) == CLOSED);
    h->subscription_close(c, s);
    return 0;
}

/* Numbers that are no handles, or not any more, or of another kind. */
static uint32_t handles(const host *h) {
    void *c = h->context;
    uint64_t p, s, q, other;
    loan l, l2;
    record r;
    area a;
    subscription_stats ss;
    publisher_stats ps;
    uint32_t number = 7;
    MUST(open_both(h, &p, &s) == OK);
    MUST(publisher(h, "own", 8, &q) == OK);
    MUST(h->publisher_loan(c, p, 5, &l) == OK);
    uint64_t never[] = {0, 1000, UINT64_MAX, p ^ (UINT64_C(1) << 40), s + (UINT64_C(1) << 32), UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        uint64_t n = never[i];
        MUST(h->subscription_poll(c, n, &r, 1, 0, &number) == INVALID_HANDLE);
        MUST(h->subscription_hold(c, n, 0, &number) == INVALID_HANDLE);
        MUST(h->subscription_unhold(c, n, 0) == INVALID_HANDLE);
        MUST(h->subscription_leave(c, n) == INVALID_HANDLE && h->subscription_stats(c, n, &ss) == INVALID_HANDLE);
        MUST(h->subscription_add_storage(c, n, (area){0}) == INVALID_HANDLE);
        MUST(h->publisher_publish(c, n, (const uint8_t *)"x", 1, NULL) == INVALID_HANDLE);
        MUST(h->publisher_loan(c, n, 1, &l2) == INVALID_HANDLE && h->publisher_stats(c, n, &ps) == INVALID_HANDLE);
        MUST(h->publisher_publish_block(c, n, l.block, 1, NULL, NULL) == INVALID_HANDLE);
        MUST(h->publisher_publish_block(c, p, n, 1, NULL, NULL) == INVALID_HANDLE);
        MUST(h->publisher_block_size(c, n) == 0 && h->publisher_free_blocks(c, n) == 0);
        MUST(h->publisher_subscriber_count(c, n) == 0);
        MUST(h->memory_block_attach(c, n, 0, &a) == INVALID_HANDLE && h->memory_block_detach(c, n, 0) == INVALID_HANDLE);
        MUST(h->memory_block_clone(c, n, &other) == INVALID_HANDLE);
        MUST(h->memory_block_create_partition(c, n, 0, 1, 0, &other) == INVALID_HANDLE);
        h->subscription_close(c, n), h->publisher_close(c, n), h->memory_block_close(c, n);
    }
    MUST(h->subscription_poll(c, p, &r, 1, 0, &number) == INVALID_HANDLE);
    MUST(h->publisher_publish(c, s, (const uint8_t *)"x", 1, NULL) == INVALID_HANDLE);
    MUST(h->memory_block_attach(c, p, 0, &a) == INVALID_HANDLE);
    h->subscription_close(c, p), h->publisher_close(c, s), h->memory_block_close(c, s), h->memory_block_close(c, p);
    MUST(h->publisher_publish_block(c, q, l.block, 1, NULL, NULL) == INVALID_HANDLE); /* another publisher's loan */
    MUST(h->publisher_publish_block(c, p, l.block, 1, NULL, NULL) == OK);
    MUST(h->publisher_publish_block(c, p, l.block, 1, NULL, NULL) == INVALID_HANDLE); /* twice */
    h->memory_block_close(c, l.block);
    MUST(next(h, s, &r, 0) == OK);
    MUST(h->subscription_hold(c, s, 0, &number) == OK);
    MUST(h->subscription_hold(c, s, 1, &number) == INVALID_HANDLE); /* not delivered */
    MUST(h->subscription_poll(c, s, NULL, 0, 2, NULL) == INVALID_HANDLE);
    MUST(h->subscription_poll(c, s, NULL, 0, 1, NULL) == OK);
    uint32_t late = 7;
    MUST(h->subscription_hold(c, s, 0, &late) == INVALID_HANDLE && late == 7); /* released */
    MUST(h->subscription_unhold(c, s, number + 1) == INVALID_HANDLE);
    MUST(h->subscription_unhold(c, s, number) == OK && h->subscription_unhold(c, s, number) == INVALID_HANDLE);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"x", 1, NULL) == OK && next(h, s, &r, 1) == OK);
    MUST(h->subscription_hold(c, s, 1, &late) == OK && late != number);
    MUST(h->subscription_unhold(c, s, number) == INVALID_HANDLE); /* its place is taken, and it is not it */
    h->subscription_close(c, s);
    MUST(h->subscription_poll(c, s, &r, 1, 0, &number) == INVALID_HANDLE);
    MUST(subscription(h, "own", 0, &other) == OK && other != s);
    MUST(h->subscription_poll(c, s, &r, 1, 0, &number) == INVALID_HANDLE); /* its place is taken, and it is not it */
    h->subscription_close(c, s);
    MUST(h->subscription_stats(c, other, &ss) == OK);
    MUST(h->publisher_loan(c, q, 5, &l) == OK);
    h->publisher_close(c, q);
    MUST(h->publisher_publish_block(c, q, l.block, 1, NULL, NULL) == INVALID_HANDLE);
    MUST(h->publisher_publish_block(c, p, l.block, 1, NULL, NULL) == INVALID_HANDLE);
    MUST(h->memory_block_attach(c, l.block, 0, &a) == CLOSED);
    h->memory_block_close(c, l.block);
    return 0;
}

/* Pointers that are null or odd, and numbers out of range. */
static uint32_t ranges(const host *h) {
    void *c = h->context;
    uint64_t p = 0, s = 0, n = 0;
    uint32_t count = 0;
    loan l, spare;
    record r[2];
    area a;
    char *odd = (char *)r + 1;
    text null = {NULL, 5}, huge = {(const uint8_t *)"x", SIZE_MAX}, not_utf8 = {(const uint8_t *)"\xff\xfe", 2};
    char long_name[300];
    memset(long_name, 'x', sizeof long_name);
    text long_text = {(const uint8_t *)long_name, sizeof long_name};
    subscription_options so = {.size = sizeof so};
    publisher_options po = {.size = sizeof po, .block_size = 256, .blocks = 4};
    uint64_t f = BYTES_FINGERPRINT;
    text names[] = {null, huge, not_utf8, long_text, {NULL, 0}};
    uint32_t refused[] = {OUT_OF_BOUNDS, OUT_OF_BOUNDS, INVALID_PAYLOAD, TOO_LARGE, TOO_LARGE};
    for (size_t i = 0; i < 5; i++) {
        MUST(h->subscription_open(c, names[i], of("bytes"), f, &so, &s) == refused[i]);
        MUST(h->publisher_open(c, names[i], of("bytes"), f, &po, &p) == refused[i]);
        if (i < 4) MUST(h->subscription_open(c, of("own"), names[i], f, &so, &s) == refused[i]);
        h->fail(c, names[i]);
        h->log(c, 99, names[i]);
        MUST(h->parameter(c, names[i], &names[i]) == 0);
    }
    MUST(h->parameter(c, of("do"), NULL) == 0);
    MUST(h->subscription_open(c, of("own"), of("bytes"), f, NULL, &s) == OUT_OF_BOUNDS);
    MUST(h->subscription_open(c, of("own"), of("bytes"), f, (void *)odd, &s) == OUT_OF_BOUNDS);
    MUST(h->subscription_open(c, of("own"), of("bytes"), f, &so, NULL) == OUT_OF_BOUNDS);
    MUST(h->subscription_open(c, of("own"), of("bytes"), f, &so, (void *)odd) == OUT_OF_BOUNDS);
    so.size = 3;
    MUST(h->subscription_open(c, of("own"), of("bytes"), f, &so, &s) == WRONG_SIZE);
    so = (subscription_options){.size = sizeof so, .overflow = 3};
    MUST(h->subscription_open(c, of("own"), of("bytes"), f, &so, &s) == WRONG_SIZE);
    so = (subscription_options){.size = sizeof so};
    publisher_options bad[] = {
        {.size = 0, .block_size = 256, .blocks = 4},
        {.size = sizeof po, .block_size = 0, .blocks = 4},
        {.size = sizeof po, .block_size = 256, .blocks = 0},
        {.size = sizeof po, .block_size = UINT32_MAX, .blocks = 2},
        {.size = sizeof po, .block_size = 256, .blocks = UINT32_MAX},
        {.size = sizeof po, .block_size = 256, .blocks = 4, .timestamps = 9},
        {.size = sizeof po, .block_size = 256, .blocks = 4, .reuse = 9},
        {.size = sizeof po, .block_size = 256, .blocks = 4, .larger_count = 1},
        {.size = sizeof po, .block_size = 256, .blocks = 4, .larger_count = UINT32_MAX, .larger = (void *)r},
        {.size = sizeof po, .block_size = 256, .blocks = 4, .history = 4},
        {.size = sizeof po, .block_size = 256, .blocks = 4, .name = null},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        MUST(h->publisher_open(c, of("own"), of("bytes"), f, &bad[i], &p) != OK && p == 0);
    MUST(h->publisher_open(c, of("own"), of("bytes"), f, &po, &p) == OK); /* makes the topic */
    h->publisher_close(c, p);
    MUST(h->publisher_open(c, of("own"), of("other"), f, &po, &p) == SCHEMA_MISMATCH);
    MUST(h->subscription_open(c, of("own"), of("bytes"), f + 1, &so, &s) == SCHEMA_MISMATCH);
    MUST(h->publisher_open(c, of("forbidden"), of("bytes"), f, &po, &p) == DENIED);
    MUST(h->subscription_open(c, of("forbidden"), of("bytes"), f, &so, &s) == DENIED);
    /* Options of an earlier edition: what they lack is 0. */
    publisher_options early = {.size = 16, .block_size = 256, .blocks = 4, .timestamps = 77};
    MUST(h->publisher_open(c, of("second"), of("bytes"), f, &early, &p) == OK);
    MUST(h->subscription_open(c, of("second"), of("bytes"), f, &so, &s) == OK);
    MUST(h->subscription_poll(c, s, NULL, 1, 0, &count) == OUT_OF_BOUNDS);
    MUST(h->subscription_poll(c, s, (record *)odd, 1, 0, &count) == OUT_OF_BOUNDS);
    MUST(h->subscription_poll(c, s, r, 1, 0, NULL) == OUT_OF_BOUNDS);
    MUST(h->subscription_poll(c, s, NULL, 0, 0, NULL) == OK);
    MUST(h->subscription_poll(c, s, r, 1, UINT64_MAX, &count) == INVALID_HANDLE);
    MUST(h->subscription_hold(c, s, 0, NULL) == OUT_OF_BOUNDS);
    MUST(h->subscription_stats(c, s, NULL) == OUT_OF_BOUNDS && h->publisher_stats(c, p, NULL) == OUT_OF_BOUNDS);
    MUST(h->publisher_publish(c, p, NULL, 5, NULL) == OUT_OF_BOUNDS);
    MUST(h->publisher_publish(c, p, NULL, 0, NULL) == OK);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"x", 1, (void *)odd) == OUT_OF_BOUNDS);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"x", VALID - 1, NULL) == TOO_LARGE);
    MUST(h->publisher_loan(c, p, 1, NULL) == OUT_OF_BOUNDS && h->publisher_loan(c, p, 257, &l) == TOO_LARGE);
    MUST(h->publisher_loan(c, p, UINT32_MAX, &l) == TOO_LARGE);
    MUST(h->publisher_loan(c, p, 0, &l) == OK && l.capacity >= 256);
    MUST(h->publisher_publish_block(c, p, l.block, (uint32_t)l.capacity + 1, NULL, NULL) == WRONG_SIZE);
    MUST(h->publisher_publish_block(c, p, l.block, 1, (void *)odd, NULL) == OUT_OF_BOUNDS);
    MUST(h->publisher_publish_block(c, p, l.block, 1, NULL, (void *)odd) == OUT_OF_BOUNDS);
    spare.capacity = SIZE_MAX;
    MUST(h->publisher_publish_block(c, p, l.block, 256, NULL, &spare) == OK && spare.block == 0);
    MUST(h->memory_block_new(c, SIZE_MAX) == 0);
    MUST(h->memory_block_create_local(c, (area){NULL, 5}, &n) == OUT_OF_BOUNDS);
    MUST(h->memory_block_create_local(c, (area){(uint8_t *)-4, 5}, &n) == OUT_OF_BOUNDS);
    MUST(h->memory_block_create_local(c, (area){(uint8_t *)r, sizeof r}, NULL) == OUT_OF_BOUNDS);
    n = h->memory_block_new(c, 100);
    MUST(n && h->memory_block_attach(c, n, 1, NULL) == OUT_OF_BOUNDS && h->memory_block_attach(c, n, 0, &a) == BUSY);
    MUST(h->memory_block_attach(c, n, 1, &a) == OK && a.size == 100 && (uintptr_t)a.address % 64 == 0);
    MUST(h->memory_block_detach(c, n, 101) == WRONG_SIZE && h->memory_block_detach(c, n, SIZE_MAX) == WRONG_SIZE);
    MUST(h->memory_block_create_partition(c, n, 100, 1, 0, &s) == OUT_OF_BOUNDS);
    MUST(h->memory_block_create_partition(c, n, SIZE_MAX, 2, 0, &s) == OUT_OF_BOUNDS);
    return 0;
}

/* The rules of memory blocks, as a guest has them. */
static uint32_t blocks(const host *h) {
    void *c = h->context;
    uint64_t b = h->memory_block_new(c, 100), clone, part, p, s, sequence;
    area a, a2;
    loan l;
    record r;
    MUST(b && h->memory_block_clone(c, b, &clone) == OK);
    MUST(h->memory_block_minimum_size(c, b) == 0 && h->memory_block_optimum_size(c, 9, 1 << 20) == 0);
    MUST(h->memory_block_add_storage(c, (area){0}) == OK && h->memory_block_remove_storage(c, (area){0}) == OK);
    MUST(h->memory_block_attach(c, b, 3, &a) == OK);
    MUST(a.address[0] == 0 && a.address[99] == 0);
    MUST(h->memory_block_attach(c, clone, 2, &a2) == BUSY && h->memory_block_attach(c, b, 1, &a2) == BUSY);
    memcpy(a.address, "content", 7);
    MUST(h->memory_block_detach(c, b, 7) == OK);
    MUST(h->memory_block_attach(c, b, 2, &a) == OK && a.size == 7);
    MUST(h->memory_block_attach(c, clone, 2, &a2) == OK && a2.address == a.address);
    MUST(h->memory_block_create_partition(c, b, 3, 4, 2, &part) == OK);
    MUST(h->memory_block_detach(c, clone, 0) == OK);
    MUST(h->memory_block_attach(c, part, 1, &a2) == DENIED);
    MUST(h->memory_block_attach(c, part, 2, &a2) == OK && a2.size == 4 && memcmp(a2.address, "tent", 4) == 0);
    h->memory_block_close(c, b), h->memory_block_close(c, clone);
    MUST(memcmp(a2.address, "tent", 4) == 0); /* the part keeps the storage */
    h->memory_block_close(c, part);
    uint8_t mine[64] = "mine";
    MUST(h->memory_block_create_local(c, (area){mine, sizeof mine}, &b) == OK);
    MUST(h->memory_block_attach(c, b, 2, &a) == OK && a.address == mine && a.size == sizeof mine);
    h->memory_block_close(c, b);
    /* A loan is a memory block too. */
    MUST(open_both(h, &p, &s) == OK && h->publisher_loan(c, p, 100, &l) == OK);
    MUST(h->memory_block_attach(c, l.block, 1, &a) == BUSY); /* it is attached */
    memcpy(l.address, "loaned", 6);
    MUST(h->memory_block_detach(c, l.block, 6) == OK);
    MUST(h->publisher_publish_block(c, p, l.block, 7, &sequence, NULL) == WRONG_SIZE);
    MUST(h->memory_block_attach(c, l.block, 0, &a) == OK && a.size == 6 && a.address == l.address);
    MUST(h->memory_block_detach(c, l.block, 0) == OK);
    MUST(h->memory_block_clone(c, l.block, &clone) == OK);
    MUST(h->publisher_publish_block(c, p, clone, 6, &sequence, NULL) == OK);
    MUST(h->memory_block_attach(c, l.block, 0, &a) == CLOSED);
    MUST(h->publisher_publish_block(c, p, l.block, 6, &sequence, NULL) == CLOSED);
    MUST(next(h, s, &r, 0) == OK && memcmp(r.address, "loaned", 6) == 0);
    h->memory_block_close(c, l.block);
    return 0;
}

/* Opens what it can and closes nothing, in no good order. */
static uint32_t leaks(const host *h) {
    void *c = h->context;
    for (int i = 0; i < 4; i++) {
        uint64_t p, s, b, clone;
        loan l, unused;
        record r;
        area a;
        uint32_t hold;
        MUST(publisher(h, "own", 64, &p) == OK && subscription(h, "own", i & 1, &s) == OK);
        MUST(h->publisher_loan(c, p, 9, &l) == OK && h->publisher_loan(c, p, 9, &unused) == OK);
        MUST(h->publisher_publish_block(c, p, l.block, 9, NULL, NULL) == OK);
        MUST(next(h, s, &r, 0) == OK && h->subscription_hold(c, s, 0, &hold) == OK);
        MUST(h->memory_block_clone(c, unused.block, &clone) == OK);
        MUST((b = h->memory_block_new(c, 4096)) && h->memory_block_attach(c, b, 1, &a) == OK);
        if (i == 2) h->publisher_close(c, p);
        if (i == 3) h->subscription_close(c, s);
    }
    return 0;
}

/* Publishes on "out" until it is told to stop; every loan is filled. */
static uint32_t publishes(const host *h) {
    uint64_t p;
    loan l;
    MUST(publisher(h, "out", 8, &p) == OK);
    for (uint64_t number = 0;;) {
        uint32_t status = h->publisher_loan(h->context, p, 8, &l);
        if (status == EXHAUSTED) {
            uint32_t reasons = h->wait(h->context, FOREVER);
            if (reasons & WAKE_CANCELLED) return 4;
            if (reasons & SHUTDOWN) return 0;
            continue;
        }
        if (status == CANCELLED) return 4;
        MUST(status == OK);
        memcpy(l.address, &number, 8);
        status = h->publisher_publish_block(h->context, p, l.block, 8, NULL, NULL);
        if (status == CANCELLED) return 4;
        MUST(status == OK);
        number++;
        if (h->shutdown_requested(h->context)) return 0;
    }
}

/* Sleeps until it is told to finish. */
static uint32_t sleeps(const host *h) {
    for (;;) {
        uint32_t reasons = h->wait(h->context, FOREVER);
        if (reasons & WAKE_CANCELLED) return 4;
        if (reasons & SHUTDOWN) return 0;
    }
}

static uint32_t timeouts(const host *h) {
    void *c = h->context;
    uint64_t before = h->now(c);
    MUST(h->wait(c, 0) == TIMEOUT);
    MUST(h->wait(c, 20000000) == TIMEOUT && h->now(c) - before >= 20000000);
    h->wake(c);
    MUST(h->wait(c, FOREVER) == 0); /* woken before */
    MUST(h->wait(c, 1000) == TIMEOUT);
    return 0;
}

/* Calls from threads of its own. */
static uint64_t shared_publisher, shared_subscription;
static uint32_t trouble;

static void *publishes_elsewhere(void *data) {
    const host *h = data;
    for (int i = 0; i < 1000; i++) {
        uint32_t status;
        while ((status = h->publisher_publish(h->context, shared_publisher, (const uint8_t *)&i, 4, NULL)) == EXHAUSTED) usleep(100);
        if (status) trouble = status;
    }
    usleep(1000);
    h->wake(h->context);
    return NULL;
}

static uint32_t threads(const host *h) {
    pthread_t thread[3];
    record r[16];
    int next_of[3] = {0};
    MUST(open_both(h, &shared_publisher, &shared_subscription) == OK);
    for (int i = 0; i < 3; i++) MUST(pthread_create(&thread[i], NULL, publishes_elsewhere, (void *)h) == 0);
    uint32_t received = 0, sum = 0;
    while (received < 3000) {
        uint32_t count, status = h->subscription_poll(h->context, shared_subscription, r, 16, received, &count);
        MUST(status == OK);
        for (uint32_t i = 0; i < count; i++) sum += *(const uint32_t *)r[i].address;
        received += count;
        if (count == 0 && h->wait(h->context, FOREVER) & WAKE_CANCELLED) return 4;
    }
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
    (void)next_of;
    MUST(trouble == 0 && sum == 3 * 999 * 1000 / 2);
    return 0;
}

/* Publishes what the host has to check, from both of its threads. */
static void *publishes_unchecked(void *data) {
    const host *h = data;
    for (int i = 0; i < 10; i++) {
        uint32_t status = h->publisher_publish(h->context, shared_publisher, (const uint8_t *)"x", 1, NULL);
        if (status) trouble = status;
    }
    return NULL;
}

static uint32_t is_checked(const host *h) {
    pthread_t thread;
    MUST(publisher(h, "out", 64, &shared_publisher) == OK);
    publishes_unchecked((void *)h);
    MUST(pthread_create(&thread, NULL, publishes_unchecked, (void *)h) == 0);
    pthread_join(thread, NULL);
    MUST(trouble == 0);
    return 0;
}

/* Leaves a thread behind that calls after the end. It must not run this code then, so it is the library's mistake; this one is
   gone before the library is closed. */
static void *calls_late(void *data) {
    const host *h = data;
    uint64_t s;
    while (subscription(h, "own", 0, &s) == OK) h->subscription_close(h->context, s);
    trouble = h->wait(h->context, FOREVER) == WAKE_CANCELLED ? 0 : 1;
    h->wake(h->context);
    h->log(h->context, 0, of("late"));
    return NULL;
}

static pthread_t late;
static int has_late;

__attribute__((destructor)) static void joins_the_late(void) {
    if (has_late) pthread_join(late, NULL);
}

static uint32_t ends_early(const host *h) {
    MUST(pthread_create(&late, NULL, calls_late, (void *)h) == 0);
    has_late = 1;
    return 0;
}

/* Leaves a thread behind that goes on publishing by a line after the end, and does not look whether it may. */
static struct {
    const host *h;
    uint64_t p, b;
    line l;
} left;

static void *publishes_late(void *data) {
    const uint32_t *over = left.l.over;
    left.l.over = &(uint32_t){0};
    while (!__atomic_load_n(over, __ATOMIC_ACQUIRE)) usleep(100);
    usleep(20000); /* everything is given back meanwhile */
    (void)data;
    for (int i = 0; i < 2; i++) (void)put(left.h, left.p, &left.l, &left.b, "late", 4);
    return NULL;
}

static uint32_t leaves_a_line(const host *h) {
    uint32_t count;
    left.h = h;
    MUST(publisher(h, "own", 8, &left.p) == OK && line_of(h, left.p, &left.l) == OK);
    MUST(h->publisher_take_blocks(h->context, left.p, 2, &left.b, &count) == OK && count == 2);
    MUST(put(h, left.p, &left.l, &left.b, "in time", 7) == OK);
    MUST(h->publisher_take_blocks(h->context, left.p, 2, &left.b, &count) == OK && count == 2);
    MUST(pthread_create(&late, NULL, publishes_late, NULL) == 0);
    has_late = 1;
    return 0;
}

/* Uses a context that it was not given. */
static uint32_t forges(const host *h) {
    host forged = *h;
    uint64_t s;
    void *contexts[] = {NULL, (void *)-1, (void *)((uintptr_t)h->context + 1000), &forged};
    for (int i = 0; i < 4; i++) {
        forged.context = contexts[i];
        MUST(subscription(&forged, "own", 0, &s) == CLOSED);
        MUST(forged.wait(forged.context, FOREVER) == WAKE_CANCELLED);
        MUST(forged.memory_block_new(forged.context, 9) == 0);
        forged.log(forged.context, 0, of("forged")), forged.fail(forged.context, of("forged")), forged.wake(forged.context);
    }
    return 0;
}

/* Never returns: computes for a second, then leaves the processor to the other tests. */
static uint32_t spins(const host *h) {
    for (uint64_t end = h->now(h->context) + 1000000000; h->now(h->context) < end;) {}
    for (;;) pause();
    return 0;
}

/* Calls for ever, and does not care for the answers. */
static uint32_t nags(const host *h) {
    uint64_t s;
    for (int refused = 0; refused < 1000;) refused += subscription(h, "own", 0, &s) == CANCELLED;
    return 0;
}

/* Does not end when it is told to, but a little later. */
static uint32_t tarries(const host *h) {
    while (!h->shutdown_requested(h->context)) usleep(1000);
    usleep(2200000);
    return 0;
}

static uint32_t fails(const host *h) {
    h->fail(h->context, of("first"));
    h->fail(h->context, of("as it should"));
    return 1;
}

static uint32_t chats(const host *h) {
    for (int i = 0; i < 5000; i++) h->log(h->context, i % 7, of("a line"));
    return 0;
}

/* Opens more than the grant allows, of everything. */
static uint32_t limits(const host *h) {
    void *c = h->context;
    uint64_t p, s, n;
    loan l;
    record r[8];
    uint32_t count, hold;
    MUST(open_both(h, &p, &s) == OK);
    MUST(subscription(h, "own", 0, &n) == LIMIT && publisher(h, "own", 4, &n) == LIMIT);
    MUST(h->publisher_loan(c, p, 1, &l) == OK && h->publisher_loan(c, p, 1, &l) == OK);
    MUST(h->publisher_loan(c, p, 1, &l) == LIMIT);
    h->memory_block_close(c, l.block);
    for (int i = 0; i < 3; i++) MUST(h->publisher_publish(c, p, (const uint8_t *)"x", 1, NULL) == OK);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"x", 1, NULL) == LIMIT); /* 3 at once */
    MUST(h->publisher_free_blocks(c, p) == 0);
    while (h->publisher_publish(c, p, (const uint8_t *)"x", 1, NULL) == LIMIT) MUST(h->wait(c, FOREVER) & PROGRESS);
    MUST(h->subscription_poll(c, s, r, 8, 0, &count) == OK && count == 3); /* 3 attached at a time */
    MUST(h->subscription_poll(c, s, r, 8, 0, &count) == LIMIT);
    MUST(h->subscription_hold(c, s, 0, &hold) == OK && h->subscription_hold(c, s, 1, &hold) == LIMIT);
    while ((n = h->memory_block_new(c, 1 << 20)) != 0) {
        area a;
        if (h->memory_block_attach(c, n, 1, &a) == LIMIT) return 0;
    }
    return 1;
}

/* Closes publishers whose messages nobody has read, until there may be no more of them. */
static uint32_t departs(const host *h) {
    void *c = h->context;
    uint64_t p, s;
    MUST(subscription(h, "own", 0, &s) == OK);
    for (int i = 0; i < 3; i++) {
        MUST(publisher(h, "own", 4, &p) == OK && h->publisher_publish(c, p, (const uint8_t *)"x", 1, NULL) == OK);
        h->publisher_close(c, p);
    }
    MUST(publisher(h, "own", 4, &p) == LIMIT);
    h->subscription_close(c, s);
    MUST(publisher(h, "own", 4, &p) == OK);
    return 0;
}

/* Makes calls that are answered in any case. */
static uint32_t asks(const host *h) {
    text value;
    for (int i = 0; i < 10; i++) {
        h->now(h->context);
        h->shutdown_requested(h->context);
        h->parameter(h->context, of("do"), &value);
    }
    return 0;
}

/* Says what forges a line and moves a cursor. */
static uint32_t forges_lines(const host *h) {
    h->log(h->context, 2, of("a\nb\x1b[2J"));
    h->fail(h->context, of("c\nd\xe2\x80\xae"));
    return 1;
}

static uint32_t exceeds(const host *h) {
    uint64_t s;
    for (int i = 0; i < 100; i++) if (subscription(h, "own", 0, &s) == CANCELLED) return 4;
    return 0;
}

static uint32_t returns_nonsense(const host *h) {
    (void)h;
    return 77;
}

/* Overtaken, and told so; the newest dropped. */
static uint32_t loses(const host *h) {
    void *c = h->context;
    uint64_t p, oldest, newest;
    record r[16];
    uint32_t count;
    MUST(publisher(h, "own", 8, &p) == OK && subscription(h, "own", 1, &oldest) == OK && subscription(h, "own", 2, &newest) == OK);
    for (uint64_t i = 0; i < 100; i++) MUST(h->publisher_publish(c, p, (const uint8_t *)&i, 8, NULL) == OK);
    MUST(h->subscription_poll(c, oldest, r, 16, 0, &count) == OK && count > 0 && r[0].lost == r[0].sequence && r[0].lost > 80);
    uint64_t received = 0, lost = 0;
    for (uint64_t i = 100; i < 110; i++) {
        while (h->subscription_poll(c, newest, r, 16, received, &count) == OK && count > 0) {
            for (uint32_t j = 0; j < count; j++) {
                lost += r[j].lost;
                received += r[j].sequence != UINT64_MAX; /* else it tells of a loss only */
            }
        }
        MUST(h->publisher_publish(c, p, (const uint8_t *)&i, 8, NULL) == OK);
    }
    MUST(received > 0 && lost > 80);
    return 0;
}

static const struct { const char *name; uint32_t (*run)(const host *); } deeds[] = {
    {"works", works}, {"handles", handles}, {"ranges", ranges}, {"blocks", blocks}, {"leaks", leaks},
    {"publishes", publishes}, {"sleeps", sleeps}, {"timeouts", timeouts}, {"threads", threads}, {"ends-early", ends_early},
    {"forges", forges}, {"spins", spins}, {"nags", nags}, {"tarries", tarries}, {"fails", fails}, {"chats", chats},
    {"limits", limits}, {"departs", departs}, {"asks", asks}, {"forges-lines", forges_lines}, {"exceeds", exceeds}, {"returns-nonsense", returns_nonsense}, {"loses", loses},
    {"mixes", mixes}, {"exhausts", exhausts}, {"no-lines", no_lines}, {"limited-lines", limited_lines}, {"lines", lines},
    {"is-checked", is_checked}, {"looks-at-its-line", looks_at_its_line}, {"leaves-a-line", leaves_a_line},
};

__attribute__((unused)) static uint32_t run(const host *h) {
    text wanted = {0};
    if (!h->parameter(h->context, of("do"), &wanted)) return wrong(h, __LINE__, "there is no parameter `do`");
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++)
        if (strlen(deeds[i].name) == wanted.size && memcmp(deeds[i].name, wanted.start, wanted.size) == 0) return deeds[i].run(h);
    return wrong(h, __LINE__, "unknown");
}

#ifndef TABLE
#define TABLE {1, sizeof(app), run, {(const uint8_t *)"tests-component 1.2", 19}}
#endif
#ifdef DECLARATIONS
DECLARATIONS
#endif
#ifndef CONSTRUCTOR
#define CONSTRUCTOR
#endif
__attribute__((constructor)) static void made(void) { CONSTRUCTOR; }

#ifndef SECTION
#define SECTION ".blockcast"
#endif
__attribute__((section(SECTION), unused)) static const app table = TABLE;

#ifndef NO_ENTRY
__attribute__((visibility("default"))) const app *blockcast_app(const host *h) {
    (void)h;
    return &table;
}
#endif
