/* How a component runs and ends. Part of component.c. */

/* Publishes on "out" until it is asked to shut down. */
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

/* Sleeps until it is asked to shut down. */
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

/* Uses contexts that it was not given. */
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

/* Never returns. Computes for a second, and then leaves the processor to the other tests. */
static uint32_t spins(const host *h) {
    for (uint64_t end = h->now(h->context) + 1000000000; h->now(h->context) < end;) {}
    for (;;) pause();
    return 0;
}

/* Calls on and on, and ignores that it was cancelled until it has been refused a thousand times. */
static uint32_t nags(const host *h) {
    uint64_t s;
    for (int refused = 0; refused < 1000;) refused += subscription(h, "own", 0, &s) == CANCELLED;
    return 0;
}

/* Ends a little later than it is asked to. */
static uint32_t tarries(const host *h) {
    while (!h->shutdown_requested(h->context)) usleep(1000);
    usleep(2200000);
    return 0;
}

static uint32_t fails(const host *h) {
    h->fail(h->context, of("first"));
    h->fail(h->context, of("as intended"));
    return 1;
}

static uint32_t chats(const host *h) {
    for (int i = 0; i < 5000; i++) h->log(h->context, i % 7, of("a line"));
    return 0;
}

/* Logs text that would forge a line and move the cursor. */
static uint32_t forges_lines(const host *h) {
    h->log(h->context, 2, of("a\nb\x1b[2J"));
    h->fail(h->context, of("c\nd\xe2\x80\xae"));
    return 1;
}

static uint32_t returns_nonsense(const host *h) {
    (void)h;
    return 77;
}
