/* What a native component does with publishers' lines. Part of component.c. */

/* What a block's word says besides which one it is. */
#define NOT_THE_BLOCK ((UINT64_C(1) << 33) - 1)

/* The word and the first byte of the block that is named at a sequence which was lent. */
static uint64_t word_of(const line *l, uint64_t named) {
    return __atomic_load_n(&l->slots[named & l->mask].word, __ATOMIC_RELAXED) & ~NOT_THE_BLOCK;
}
static uint8_t *address_of(const line *l, uint64_t named) {
    return l->base + (word_of(l, named) >> 33) * 64;
}

/* Publishes the next block that was lent, as `bc_publishing_line` says, and goes on to the one after it. */
static uint32_t put(const host *h, uint64_t p, const line *l, uint64_t *named, const char *bytes, uint32_t len) {
    uint64_t word = word_of(l, *named);
    memcpy(address_of(l, *named), bytes, len);
    if (__atomic_load_n(l->over, __ATOMIC_ACQUIRE)) return CANCELLED;
    ++*named;
    uint64_t sequence = __atomic_load_n(l->next, __ATOMIC_RELAXED);
    bc_line_slot *slot = &l->slots[sequence & l->mask];
    __atomic_store_n(&slot->word, word | len, __ATOMIC_RELAXED);
    __atomic_store_n(l->bytes, __atomic_load_n(l->bytes, __ATOMIC_RELAXED) + len, __ATOMIC_RELAXED);
    __atomic_store_n(l->next, sequence + 1, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(l->waiters, __ATOMIC_RELAXED) ? h->publisher_published(h->context, p) : OK;
}

static uint32_t line_of(const host *h, uint64_t p, line *l) {
    *l = (line){.size = sizeof *l};
    return h->publisher_line(h->context, p, l);
}

/* Publishes by the line and otherwise, in turns. */
static uint32_t mixes(const host *h) {
    void *c = h->context;
    uint64_t p, s, b, sequence = 9;
    uint32_t count = 0;
    line l, again;
    loan lent;
    record r[8];
    publisher_stats stats;
    MUST(open_both(h, &p, &s) == OK); /* 8 blocks */
    MUST(h->publisher_take_blocks(c, p, 32, &b, &count) == DENIED); /* there is no line yet */
    MUST(line_of(h, p, &l) == OK && l.capacity >= 256 && l.mask >= 7 && *l.next == 0 && !*l.over);
    MUST(line_of(h, p, &again) == OK && again.next == l.next && again.slots == l.slots);
    MUST(h->publisher_take_blocks(c, p, 32, &b, &count) == OK && count == 2);
    MUST((uintptr_t)address_of(&l, b) % 64 == 0 && address_of(&l, b) != address_of(&l, b + 1));
    MUST(h->publisher_free_blocks(c, p) == 8);
    MUST(put(h, p, &l, &b, "one", 3) == OK && *l.next == 1);
    MUST(h->publisher_stats(c, p, &stats) == OK && stats.published == 1 && stats.bytes == 3);
    MUST(h->publisher_free_blocks(c, p) == 7);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"second", 6, &sequence) == OK && sequence == 1 && *l.next == 2);
    /* The second one has come back with that. */
    MUST(h->publisher_take_blocks(c, p, 32, &b, &count) == OK && count == 2 && put(h, p, &l, &b, "third", 5) == OK);
    MUST(h->publisher_loan(c, p, 5, &lent) == OK && lent.address != address_of(&l, b));
    memcpy(lent.address, "fourth", 6);
    MUST(put(h, p, &l, &b, "four", 4) == OK);
    MUST(h->publisher_take_blocks(c, p, 1, &b, &count) == OK && count == 1 && address_of(&l, b) != lent.address);
    MUST(h->publisher_publish_block(c, p, lent.block, 6, &sequence, NULL) == OK && sequence == 4);
    MUST(h->publisher_stats(c, p, &stats) == OK && stats.published == 5 && stats.bytes == 24 && stats.copied == 6);
    MUST(h->subscription_poll(c, s, r, 8, 0, &count) == OK && count == 5);
    static const char *const said[] = {"one", "second", "third", "four", "fourth"};
    for (uint32_t i = 0; i < 5; i++)
        MUST(r[i].sequence == i && (r[i].length & ~VALID) == strlen(said[i]) && memcmp(r[i].address, said[i], strlen(said[i])) == 0);
    MUST(r[0].length & VALID); /* what is published by the line is vouched for */
    /* Round the ring many times. */
    uint64_t taken = 5;
    for (uint32_t i = 0; i < 1000; i++) {
        MUST(h->subscription_poll(c, s, r, 8, taken, &count) == OK && count == 0);
        MUST(h->publisher_take_blocks(c, p, 2, &b, &count) == OK && count >= 1);
        if (i % 5 == 0) count = 1; /* the other one goes back */
        for (uint32_t k = 0; k < count; k++) MUST(put(h, p, &l, &b, (const char *)&i, sizeof i) == OK);
        if (i % 3 == 0) MUST(h->publisher_publish(c, p, (const uint8_t *)&i, sizeof i, NULL) == OK);
        uint32_t all = 0;
        MUST(h->subscription_poll(c, s, r, 8, taken, &all) == OK && all == count + (i % 3 == 0));
        for (uint32_t k = 0; k < all; k++) MUST(r[k].sequence == taken + k && memcmp(r[k].address, &i, sizeof i) == 0);
        taken += all;
    }
    MUST(h->publisher_stats(c, p, &stats) == OK && stats.published == taken);
    /* A call that publishes takes the blocks back, also where it fails. */
    MUST(h->publisher_take_blocks(c, p, 2, &b, &count) == OK && count == 2);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"", 1 << 20, NULL) == TOO_LARGE);
    MUST(h->publisher_publish_taken(c, p, word_of(&l, b), 1, NULL) == INVALID_HANDLE);
    /* One that the host is to look at. */
    MUST(h->publisher_take_blocks(c, p, 2, &b, &count) == OK && count == 2);
    uint64_t word = word_of(&l, b);
    memcpy(address_of(&l, b), "checked", 7);
    MUST(h->publisher_publish_taken(c, p, word, 1 << 20, NULL) == WRONG_SIZE);
    MUST(h->publisher_publish_taken(c, p, word_of(&l, b + 1), 7, NULL) == INVALID_HANDLE); /* not yet its turn */
    MUST(h->publisher_publish_taken(c, p, UINT64_MAX, 7, NULL) == INVALID_HANDLE);
    MUST(h->publisher_publish_taken(c, p, word, 7, &sequence) == OK && sequence == taken && *l.next == taken + 1);
    MUST(h->publisher_publish_taken(c, p, word, 7, NULL) == INVALID_HANDLE); /* it was the other one's turn */
    b++;
    MUST(put(h, p, &l, &b, "unchecked", 9) == OK);
    MUST(next(h, s, r, taken) == OK && memcmp(r[0].address, "checked", 7) == 0);
    MUST(next(h, s, r, taken + 1) == OK && memcmp(r[0].address, "unchecked", 9) == 0);
    MUST(h->publisher_take_blocks(c, p, 2, &b, &count) == OK);
    /* Closed with a block that was lent and not published. */
    h->publisher_close(c, p);
    MUST(line_of(h, p, &l) == INVALID_HANDLE && h->publisher_take_blocks(c, p, 1, &b, &count) == INVALID_HANDLE);
    MUST(h->publisher_published(c, p) == INVALID_HANDLE);
    return 0;
}

/* Runs out of blocks. */
static uint32_t exhausts(const host *h) {
    void *c = h->context;
    uint64_t p, s, b;
    uint32_t count = 0;
    line l;
    loan lent;
    record r;
    publisher_stats stats;
    MUST(publisher(h, "own", 2, &p) == OK && subscription(h, "own", 0, &s) == OK && line_of(h, p, &l) == OK);
    for (uint64_t round = 0; round < 100; round += 2) {
        MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1); /* the other one is left to others */
        MUST(h->publisher_free_blocks(c, p) == 2);
        MUST(h->publisher_loan(c, p, 1, &lent) == OK && lent.address != address_of(&l, b));
        MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1 && lent.address != address_of(&l, b));
        MUST(h->publisher_loan(c, p, 1, &(loan){0}) == EXHAUSTED);
        h->memory_block_close(c, lent.block);
        MUST(put(h, p, &l, &b, "0", 1) == OK && h->publisher_free_blocks(c, p) == 1);
        MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1);
        MUST(put(h, p, &l, &b, "1", 1) == OK && h->publisher_free_blocks(c, p) == 0);
        MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == EXHAUSTED);
        MUST(next(h, s, &r, round) == OK && r.sequence == round && *r.address == '0');
        MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == EXHAUSTED);
        MUST(next(h, s, &r, round + 1) == OK && r.sequence == round + 1 && *r.address == '1');
        MUST(h->subscription_poll(c, s, NULL, 0, round + 2, NULL) == OK);
        MUST(h->wait(c, FOREVER) & PROGRESS); /* it was refused a block, and is told that there is one */
    }
    MUST(h->publisher_stats(c, p, &stats) == OK && stats.published == 100 && stats.exhausted >= 100);
    return 0;
}

/* Asks for lines where there are none. */
static uint32_t no_lines(const host *h) {
    void *c = h->context;
    uint64_t p, b;
    uint32_t count;
    line l;
    size_class larger = {.block_size = 4096, .blocks = 2, .max_blocks = 2};
    publisher_options sizes = {.size = sizeof sizes, .block_size = 64, .blocks = 4, .larger_count = 1, .larger = &larger};
    publisher_options large = {.size = sizeof large, .block_size = 1 << 16, .blocks = 4, .reuse = BC_REUSE_OLDEST};
    publisher_options hottest = {.size = sizeof hottest, .block_size = 64, .blocks = 4, .reuse = BC_REUSE_HOTTEST};
    MUST(h->publisher_open(c, of("own"), of("bytes"), BYTES_FINGERPRINT, &sizes, &p) == OK);
    MUST(line_of(h, p, &l) == DENIED && h->publisher_take_blocks(c, p, 1, &b, &count) == DENIED);
    h->publisher_close(c, p);
    /* But for large blocks there is one, and where the last one that was freed is wanted; one block at a time then. */
    MUST(h->publisher_open(c, of("own"), of("bytes"), BYTES_FINGERPRINT, &large, &p) == OK && line_of(h, p, &l) == OK);
    MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1 && l.capacity >= 1 << 16);
    MUST(h->publisher_open(c, of("own"), of("bytes"), BYTES_FINGERPRINT, &hottest, &p) == OK && line_of(h, p, &l) == OK);
    for (int i = 0; i < 100; i++) {
        MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1);
        if (i % 3 == 0) MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1);
        MUST(put(h, p, &l, &b, "hot", 3) == OK);
        if (i % 5 == 0) MUST(h->publisher_publish(c, p, (const uint8_t *)"copied", 6, NULL) == OK);
    }
    h->publisher_close(c, p);
    MUST(publisher(h, "own", 4, &p) == OK);
    MUST(h->publisher_line(c, p, NULL) == OUT_OF_BOUNDS);
    l.size = 8;
    MUST(h->publisher_line(c, p, &l) == WRONG_SIZE);
    MUST(line_of(h, 0, &l) == INVALID_HANDLE && line_of(h, p, &l) == OK);
    MUST(h->publisher_take_blocks(c, p, 0, &b, &count) == WRONG_SIZE);
    MUST(h->publisher_take_blocks(c, p, 1, NULL, &count) == OUT_OF_BOUNDS);
    MUST(h->publisher_take_blocks(c, p, 1, &b, NULL) == OUT_OF_BOUNDS);
    MUST(h->publisher_publish_taken(c, p, 0, 1, NULL) == INVALID_HANDLE); /* none is lent */
    return 0;
}

/* Within a grant that limits the rate of publishing, and two loans. */
static uint32_t limited_lines(const host *h) {
    void *c = h->context;
    uint64_t p, other, b, others, number = 0;
    uint32_t count;
    line l, others_line;
    loan lent;
    text value;
    MUST(publisher(h, "own", 32, &p) == OK && publisher(h, "own", 32, &other) == OK);
    if (h->parameter(c, of("rate"), &value)) {
        MUST(line_of(h, p, &l) == DENIED);
        return 0;
    }
    MUST(line_of(h, p, &l) == OK && line_of(h, other, &others_line) == OK);
    /* However many blocks a line has, they are one loan. */
    MUST(h->publisher_take_blocks(c, p, 8, &b, &count) == OK && count == 8);
    MUST(h->publisher_take_blocks(c, other, 1, &others, &count) == OK && count == 1);
    MUST(h->publisher_loan(c, p, 1, &lent) == OK);
    MUST(h->publisher_take_blocks(c, p, 8, &b, &count) == LIMIT); /* and those that it had came back */
    MUST(put(h, other, &others_line, &others, "", 0) == OK);
    MUST(h->publisher_take_blocks(c, p, 8, &b, &count) == OK && count == 8);
    MUST(put(h, p, &l, &b, (const char *)&number, 8) == OK);
    return 0;
}

/* Publishes numbers by the line until it is over, pausing now and then so that who receives them sleeps. */
static uint32_t lines(const host *h) {
    void *c = h->context;
    uint64_t p, b;
    line l;
    MUST(publisher(h, "out", 64, &p) == OK && line_of(h, p, &l) == OK);
    for (uint64_t number = 0;;) {
        uint32_t count, status = h->publisher_take_blocks(c, p, 8, &b, &count);
        if (status == EXHAUSTED) {
            if (h->wait(c, FOREVER) & (WAKE_CANCELLED | SHUTDOWN)) return 0;
            continue;
        }
        if (status == CANCELLED || h->shutdown_requested(c)) return 0;
        MUST(status == OK);
        for (uint32_t k = 0; k < count; k++, number++) {
            status = put(h, p, &l, &b, (const char *)&number, sizeof number);
            if (status == CANCELLED) return *l.over ? 0 : wrong(h, __LINE__, "it is over");
            MUST(status == OK);
            if (number % 64 == 0) usleep(200);
        }
    }
}

/* Never calls the host once it has blocks, and finds that it is over all the same. */
static uint32_t looks_at_its_line(const host *h) {
    uint64_t p, b;
    uint32_t count;
    line l;
    MUST(publisher(h, "out", 4, &p) == OK && line_of(h, p, &l) == OK);
    MUST(h->publisher_take_blocks(h->context, p, 1, &b, &count) == OK);
    while (!__atomic_load_n(l.over, __ATOMIC_ACQUIRE)) usleep(100);
    MUST(put(h, p, &l, &b, "late", 4) == CANCELLED && *l.next == 0);
    return 0;
}
