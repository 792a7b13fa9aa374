/* Correct and wrong calls of every function. Part of component.c. */

static int runs_before;

/* Publishes and receives correctly. */
static uint32_t works(const host *h) {
    void *c = h->context;
    uint64_t p, s, sequence = 9;
    loan l, more = {.capacity = 5};
    record r;
    text value = {0};
    MUST(runs_before++ == 0); /* each run has its own static variables */
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
    MUST(r.address == l.address && memcmp(r.address, "hello", 5) == 0); /* read where it was written */
    memcpy(more.address, "again", 5);
    MUST(h->publisher_publish_block(c, p, more.block, 5, NULL, NULL) == OK);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"third", 5, &sequence) == OK && sequence == 2);
    /* From the block of an earlier message into another one. */
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

/* Uses numbers that never were handles, were closed, or are handles of another kind. */
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
    MUST(h->subscription_unhold(c, s, number) == INVALID_HANDLE); /* its slot was reused, and it stays invalid */
    h->subscription_close(c, s);
    MUST(h->subscription_poll(c, s, &r, 1, 0, &number) == INVALID_HANDLE);
    MUST(subscription(h, "own", 0, &other) == OK && other != s);
    MUST(h->subscription_poll(c, s, &r, 1, 0, &number) == INVALID_HANDLE); /* its slot was reused, and it stays invalid */
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

/* Uses pointers that are null or misaligned, and numbers out of range. */
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
    MUST(h->publisher_open(c, of("own"), of("bytes"), f, &po, &p) == OK); /* creates the topic */
    h->publisher_close(c, p);
    MUST(h->publisher_open(c, of("own"), of("other"), f, &po, &p) == SCHEMA_MISMATCH);
    MUST(h->subscription_open(c, of("own"), of("bytes"), f + 1, &so, &s) == SCHEMA_MISMATCH);
    MUST(h->publisher_open(c, of("forbidden"), of("bytes"), f, &po, &p) == DENIED);
    MUST(h->subscription_open(c, of("forbidden"), of("bytes"), f, &so, &s) == DENIED);
    /* Options of an earlier version: the missing fields count as 0. */
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

/* Follows and breaks the rules of memory blocks, which are the same as for guests. */
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
    MUST(memcmp(a2.address, "tent", 4) == 0); /* the partition keeps the storage */
    h->memory_block_close(c, part);
    uint8_t mine[64] = "mine";
    MUST(h->memory_block_create_local(c, (area){mine, sizeof mine}, &b) == OK);
    MUST(h->memory_block_attach(c, b, 2, &a) == OK && a.address == mine && a.size == sizeof mine);
    h->memory_block_close(c, b);
    /* A loan is also a memory block. */
    MUST(open_both(h, &p, &s) == OK && h->publisher_loan(c, p, 100, &l) == OK);
    MUST(h->memory_block_attach(c, l.block, 1, &a) == BUSY); /* it is attached already */
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

/* Opens everything it can and closes almost nothing. */
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

/* Loses messages under both policies and is told how many. */
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
                received += r[j].sequence != UINT64_MAX; /* otherwise the record only reports a loss */
            }
        }
        MUST(h->publisher_publish(c, p, (const uint8_t *)&i, 8, NULL) == OK);
    }
    MUST(received > 0 && lost > 80);
    return 0;
}
