/* Reaching the limits of a grant. Part of component.c. */

/* Exceeds each limit of the grant. */
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
    MUST(h->publisher_publish(c, p, (const uint8_t *)"x", 1, NULL) == LIMIT); /* a burst of 3 */
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

/* Closes publishers with unread messages until the limit of departed publishers is reached. */
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

/* Makes calls that cannot fail. */
static uint32_t asks(const host *h) {
    text value;
    for (int i = 0; i < 10; i++) {
        h->now(h->context);
        h->shutdown_requested(h->context);
        h->parameter(h->context, of("do"), &value);
    }
    return 0;
}

static uint32_t exceeds(const host *h) {
    uint64_t s;
    for (int i = 0; i < 100; i++) if (subscription(h, "own", 0, &s) == CANCELLED) return 4;
    return 0;
}
