/* Calls from threads that the component starts. Part of component.c. */

/* Publishes from several threads at once. */
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

/* Publishes messages that the host has to validate, from two threads. */
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

/* Leaves a thread behind that calls after the end. A library must not have running threads when it is
   closed, so the destructor joins this one. */
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

__attribute__((destructor)) static void joins_late_thread(void) {
    if (has_late) pthread_join(late, NULL);
}

static uint32_t ends_early(const host *h) {
    MUST(pthread_create(&late, NULL, calls_late, (void *)h) == 0);
    has_late = 1;
    return 0;
}

/* Leaves a thread behind that goes on publishing directly after the end, without checking that it may. */
static struct {
    const host *h;
    uint64_t p, b;
    direct l;
} left;

static void *publishes_late(void *data) {
    const uint32_t *over = left.l.over;
    left.l.over = &(uint32_t){0};
    while (!__atomic_load_n(over, __ATOMIC_ACQUIRE)) usleep(100);
    usleep(20000); /* meanwhile everything is returned */
    (void)data;
    for (int i = 0; i < 2; i++) (void)put(left.h, left.p, &left.l, &left.b, "late", 4);
    return NULL;
}

static uint32_t publishes_after_the_end(const host *h) {
    uint32_t count;
    left.h = h;
    MUST(publisher(h, "own", 8, &left.p) == OK && open_direct(h, left.p, &left.l) == OK);
    MUST(h->publisher_take_blocks(h->context, left.p, 2, &left.b, &count) == OK && count == 2);
    MUST(put(h, left.p, &left.l, &left.b, "in time", 7) == OK);
    MUST(h->publisher_take_blocks(h->context, left.p, 2, &left.b, &count) == OK && count == 2);
    MUST(pthread_create(&late, NULL, publishes_late, NULL) == 0);
    has_late = 1;
    return 0;
}
