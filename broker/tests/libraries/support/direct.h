/* Direct publishing: messages that are published without a call. Part of component.c. */

/* The bits of a word that do not identify the block. */
#define NOT_THE_BLOCK ((UINT64_C(1) << 33) - 1)

/* The word and the address of the block that was taken for a sequence. */
static uint64_t word_of(const direct *l, uint64_t named) {
    return __atomic_load_n(&l->slots[named & l->mask].word, __ATOMIC_RELAXED) & ~NOT_THE_BLOCK;
}
static uint8_t *address_of(const direct *l, uint64_t named) {
    return l->base + (word_of(l, named) >> 33) * 64;
}

/* Publishes the next taken block as `bc_direct_publisher` specifies, and advances to the one after it. */
static uint32_t put(const host *h, uint64_t p, const direct *l, uint64_t *named, const char *bytes, uint32_t len) {
    uint64_t word = word_of(l, *named);
    memcpy(address_of(l, *named), bytes, len);
    if (__atomic_load_n(l->over, __ATOMIC_ACQUIRE)) return CANCELLED;
    ++*named;
    uint64_t sequence = __atomic_load_n(l->next, __ATOMIC_RELAXED);
    bc_ring_slot *slot = &l->slots[sequence & l->mask];
    __atomic_store_n(&slot->word, word | len, __ATOMIC_RELAXED);
    __atomic_store_n(l->bytes, __atomic_load_n(l->bytes, __ATOMIC_RELAXED) + len, __ATOMIC_RELAXED);
    __atomic_store_n(l->next, sequence + 1, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(l->waiters, __ATOMIC_RELAXED) ? h->publisher_published(h->context, p) : OK;
}

static uint32_t open_direct(const host *h, uint64_t p, direct *l) {
    *l = (direct){.size = sizeof *l};
    return h->publisher_direct(h->context, p, l);
}

/* Alternates between direct publishing and calls. */
static uint32_t mixes(const host *h) {
    void *c = h->context;
    uint64_t p, s, b, sequence = 9;
    uint32_t count = 0;
    direct l, again;
    loan lent;
    record r[8];
    publisher_stats stats;
    MUST(open_both(h, &p, &s) == OK); /* 8 blocks */
    MUST(h->publisher_take_blocks(c, p, 32, &b, &count) == DENIED); /* direct publishing was not opened yet */
    MUST(open_direct(h, p, &l) == OK && l.capacity >= 256 && l.mask >= 7 && *l.next == 0 && !*l.over);
    MUST(open_direct(h, p, &again) == OK && again.next == l.next && again.slots == l.slots);
    MUST(h->publisher_take_blocks(c, p, 32, &b, &count) == OK && count == 2);
    MUST((uintptr_t)address_of(&l, b) % 64 == 0 && address_of(&l, b) != address_of(&l, b + 1));
    MUST(h->publisher_free_blocks(c, p) == 8);
    MUST(put(h, p, &l, &b, "one", 3) == OK && *l.next == 1);
    MUST(h->publisher_stats(c, p, &stats) == OK && stats.published == 1 && stats.bytes == 3);
    MUST(h->publisher_free_blocks(c, p) == 7);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"second", 6, &sequence) == OK && sequence == 1 && *l.next == 2);
    /* That returned the second block. */
    MUST(h->publisher_take_blocks(c, p, 32, &b, &count) == OK && count == 2 && put(h, p, &l, &b, "third", 5) == OK);
    MUST(h->publisher_loan(c, p, 5, &lent) == OK && lent.address != address_of(&l, b));
    memcpy(lent.address, "fourth", 6);
    MUST(put(h, p, &l, &b, "four", 4) == OK);
    MUST(h->publisher_take_blocks(c, p, 1, &b, &count) == OK && count == 1 && address_of(&l, b) != lent.address);
    MUST(h->publisher_publish_block(c, p, lent.block, 6, &sequence, NULL) == OK && sequence == 4);
    MUST(h->publisher_stats(c, p, &stats) == OK && stats.published == 5 && stats.bytes == 24 && stats.copied == 6);
    MUST(h->subscription_poll(c, s, r, 8, 0, &count) == OK && count == 5);
    static const char *const sent[] = {"one", "second", "third", "four", "fourth"};
    for (uint32_t i = 0; i < 5; i++)
        MUST(r[i].sequence == i && (r[i].length & ~VALID) == strlen(sent[i]) && memcmp(r[i].address, sent[i], strlen(sent[i])) == 0);
    MUST(r[0].length & VALID); /* direct messages are vouched for */
    /* Goes around the ring many times. */
    uint64_t taken = 5;
    for (uint32_t i = 0; i < 1000; i++) {
        MUST(h->subscription_poll(c, s, r, 8, taken, &count) == OK && count == 0);
        MUST(h->publisher_take_blocks(c, p, 2, &b, &count) == OK && count >= 1);
        if (i % 5 == 0) count = 1; /* the other block is returned */
        for (uint32_t k = 0; k < count; k++) MUST(put(h, p, &l, &b, (const char *)&i, sizeof i) == OK);
        if (i % 3 == 0) MUST(h->publisher_publish(c, p, (const uint8_t *)&i, sizeof i, NULL) == OK);
        uint32_t all = 0;
        MUST(h->subscription_poll(c, s, r, 8, taken, &all) == OK && all == count + (i % 3 == 0));
        for (uint32_t k = 0; k < all; k++) MUST(r[k].sequence == taken + k && memcmp(r[k].address, &i, sizeof i) == 0);
        taken += all;
    }
    MUST(h->publisher_stats(c, p, &stats) == OK && stats.published == taken);
    /* A call that publishes returns the taken blocks, even if it fails. */
    MUST(h->publisher_take_blocks(c, p, 2, &b, &count) == OK && count == 2);
    MUST(h->publisher_publish(c, p, (const uint8_t *)"", 1 << 20, NULL) == TOO_LARGE);
    MUST(h->publisher_publish_taken(c, p, word_of(&l, b), 1, NULL) == INVALID_HANDLE);
    /* Publishes a block that the host has to validate. */
    MUST(h->publisher_take_blocks(c, p, 2, &b, &count) == OK && count == 2);
    uint64_t word = word_of(&l, b);
    memcpy(address_of(&l, b), "checked", 7);
    MUST(h->publisher_publish_taken(c, p, word, 1 << 20, NULL) == WRONG_SIZE);
    MUST(h->publisher_publish_taken(c, p, word_of(&l, b + 1), 7, NULL) == INVALID_HANDLE); /* it is not its turn yet */
    MUST(h->publisher_publish_taken(c, p, UINT64_MAX, 7, NULL) == INVALID_HANDLE);
    MUST(h->publisher_publish_taken(c, p, word, 7, &sequence) == OK && sequence == taken && *l.next == taken + 1);
    MUST(h->publisher_publish_taken(c, p, word, 7, NULL) == INVALID_HANDLE); /* it was the other one's turn */
    b++;
    MUST(put(h, p, &l, &b, "unchecked", 9) == OK);
    MUST(next(h, s, r, taken) == OK && memcmp(r[0].address, "checked", 7) == 0);
    MUST(next(h, s, r, taken + 1) == OK && memcmp(r[0].address, "unchecked", 9) == 0);
    MUST(h->publisher_take_blocks(c, p, 2, &b, &count) == OK);
    /* Closes the publisher while a block is taken and unpublished. */
    h->publisher_close(c, p);
    MUST(open_direct(h, p, &l) == INVALID_HANDLE && h->publisher_take_blocks(c, p, 1, &b, &count) == INVALID_HANDLE);
    MUST(h->publisher_published(c, p) == INVALID_HANDLE);
    return 0;
}

/* Runs out of blocks. */
static uint32_t exhausts(const host *h) {
    void *c = h->context;
    uint64_t p, s, b;
    uint32_t count = 0;
    direct l;
    loan lent;
    record r;
    publisher_stats stats;
    MUST(publisher(h, "own", 2, &p) == OK && subscription(h, "own", 0, &s) == OK && open_direct(h, p, &l) == OK);
    for (uint64_t round = 0; round < 100; round += 2) {
        MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1); /* leaves one block for calls */
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
        MUST(h->wait(c, FOREVER) & PROGRESS); /* it was refused a block, so it is woken when one is free */
    }
    MUST(h->publisher_stats(c, p, &stats) == OK && stats.published == 100 && stats.exhausted >= 100);
    return 0;
}

/* Asks for direct publishing when it is unavailable. */
static uint32_t no_direct(const host *h) {
    void *c = h->context;
    uint64_t p, b;
    uint32_t count;
    direct l;
    size_class larger = {.block_size = 4096, .blocks = 2, .max_blocks = 2};
    publisher_options sizes = {.size = sizeof sizes, .block_size = 64, .blocks = 4, .larger_count = 1, .larger = &larger};
    publisher_options large = {.size = sizeof large, .block_size = 1 << 16, .blocks = 4, .reuse = BC_REUSE_OLDEST};
    publisher_options hottest = {.size = sizeof hottest, .block_size = 64, .blocks = 4, .reuse = BC_REUSE_HOTTEST};
    MUST(h->publisher_open(c, of("own"), of("bytes"), BYTES_FINGERPRINT, &sizes, &p) == OK);
    MUST(open_direct(h, p, &l) == DENIED && h->publisher_take_blocks(c, p, 1, &b, &count) == DENIED);
    h->publisher_close(c, p);
    /* Large blocks and the reuse of the hottest block allow direct publishing, with one block at a time. */
    MUST(h->publisher_open(c, of("own"), of("bytes"), BYTES_FINGERPRINT, &large, &p) == OK && open_direct(h, p, &l) == OK);
    MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1 && l.capacity >= 1 << 16);
    MUST(h->publisher_open(c, of("own"), of("bytes"), BYTES_FINGERPRINT, &hottest, &p) == OK && open_direct(h, p, &l) == OK);
    for (int i = 0; i < 100; i++) {
        MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1);
        if (i % 3 == 0) MUST(h->publisher_take_blocks(c, p, 4, &b, &count) == OK && count == 1);
        MUST(put(h, p, &l, &b, "hot", 3) == OK);
        if (i % 5 == 0) MUST(h->publisher_publish(c, p, (const uint8_t *)"copied", 6, NULL) == OK);
    }
    h->publisher_close(c, p);
    MUST(publisher(h, "own", 4, &p) == OK);
    MUST(h->publisher_direct(c, p, NULL) == OUT_OF_BOUNDS);
    l.size = 8;
    MUST(h->publisher_direct(c, p, &l) == WRONG_SIZE);
    MUST(open_direct(h, 0, &l) == INVALID_HANDLE && open_direct(h, p, &l) == OK);
    MUST(h->publisher_take_blocks(c, p, 0, &b, &count) == WRONG_SIZE);
    MUST(h->publisher_take_blocks(c, p, 1, NULL, &count) == OUT_OF_BOUNDS);
    MUST(h->publisher_take_blocks(c, p, 1, &b, NULL) == OUT_OF_BOUNDS);
    MUST(h->publisher_publish_taken(c, p, 0, 1, NULL) == INVALID_HANDLE); /* no block is taken */
    return 0;
}

/* Runs with a grant that limits the rate of publishing, or the loans to two. */
static uint32_t limited_direct(const host *h) {
    void *c = h->context;
    uint64_t p, other, b, others, number = 0;
    uint32_t count;
    direct l, others_direct;
    loan lent;
    text value;
    MUST(publisher(h, "own", 32, &p) == OK && publisher(h, "own", 32, &other) == OK);
    if (h->parameter(c, of("rate"), &value)) {
        MUST(open_direct(h, p, &l) == DENIED);
        return 0;
    }
    MUST(open_direct(h, p, &l) == OK && open_direct(h, other, &others_direct) == OK);
    /* All blocks that a publisher has taken count as one loan. */
    MUST(h->publisher_take_blocks(c, p, 8, &b, &count) == OK && count == 8);
    MUST(h->publisher_take_blocks(c, other, 1, &others, &count) == OK && count == 1);
    MUST(h->publisher_loan(c, p, 1, &lent) == OK);
    MUST(h->publisher_take_blocks(c, p, 8, &b, &count) == LIMIT); /* and those that it had are returned */
    MUST(put(h, other, &others_direct, &others, "", 0) == OK);
    MUST(h->publisher_take_blocks(c, p, 8, &b, &count) == OK && count == 8);
    MUST(put(h, p, &l, &b, (const char *)&number, 8) == OK);
    return 0;
}

/* Publishes numbers directly until the end, with pauses so that the receiver sleeps. */
static uint32_t publishes_directly(const host *h) {
    void *c = h->context;
    uint64_t p, b;
    direct l;
    MUST(publisher(h, "out", 64, &p) == OK && open_direct(h, p, &l) == OK);
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
            if (status == CANCELLED) return *l.over ? 0 : wrong(h, __LINE__, "refused before the end");
            MUST(status == OK);
            if (number % 64 == 0) usleep(200);
        }
    }
}

/* Never calls the host once it has a block, and still notices the end. */
static uint32_t watches_for_the_end(const host *h) {
    uint64_t p, b;
    uint32_t count;
    direct l;
    MUST(publisher(h, "out", 4, &p) == OK && open_direct(h, p, &l) == OK);
    MUST(h->publisher_take_blocks(h->context, p, 1, &b, &count) == OK);
    while (!__atomic_load_n(l.over, __ATOMIC_ACQUIRE)) usleep(100);
    MUST(put(h, p, &l, &b, "late", 4) == CANCELLED && *l.next == 0);
    return 0;
}
