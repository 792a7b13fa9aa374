/* A native component that performs the task in its parameter `do`. Most tasks misuse the interface. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "short.h"

#include "helpers.h"

#include "calls.h"
#include "direct.h"
#include "limits.h"
#include "running.h"
#include "threads.h"

static const struct { const char *name; uint32_t (*run)(const host *); } tasks[] = {
    {"works", works}, {"handles", handles}, {"ranges", ranges}, {"blocks", blocks}, {"leaks", leaks},
    {"publishes", publishes}, {"sleeps", sleeps}, {"timeouts", timeouts}, {"threads", threads}, {"ends-early", ends_early},
    {"forges", forges}, {"spins", spins}, {"nags", nags}, {"tarries", tarries}, {"fails", fails}, {"chats", chats},
    {"limits", limits}, {"departs", departs}, {"asks", asks}, {"forges-lines", forges_lines}, {"exceeds", exceeds}, {"returns-nonsense", returns_nonsense}, {"loses", loses},
    {"mixes", mixes}, {"exhausts", exhausts}, {"no-direct", no_direct}, {"limited-direct", limited_direct}, {"publishes-directly", publishes_directly},
    {"is-checked", is_checked}, {"watches-for-the-end", watches_for_the_end}, {"publishes-after-the-end", publishes_after_the_end},
};

__attribute__((unused)) static uint32_t run(const host *h) {
    text wanted = {0};
    if (!h->parameter(h->context, of("do"), &wanted)) return wrong(h, __LINE__, "there is no parameter `do`");
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (strlen(tasks[i].name) == wanted.size && memcmp(tasks[i].name, wanted.start, wanted.size) == 0) return tasks[i].run(h);
    return wrong(h, __LINE__, "the task is unknown");
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
