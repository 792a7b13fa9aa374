/* An ordinary program that knows nothing about Blockcast. The environment variable `task` selects what it
 * does.
 *
 * Built for WASI, it runs as a guest: its output becomes its log, its exit code its exit reason, and its
 * parameters are its environment.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *task = getenv("task");
    if (!task) task = "greet";
    if (!strcmp(task, "greet")) {
        printf("hello from %s\n", argc > 0 ? argv[0] : "nobody");
        fprintf(stderr, "and good bye\n");
        return 0;
    }
    if (!strcmp(task, "fail")) {
        printf("no end of line");
        return 3;
    }
    if (!strcmp(task, "sleep")) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        usleep(50 * 1000);
        clock_gettime(CLOCK_MONOTONIC, &after);
        long slept = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
        printf("slept for %s\n", slept >= 49 ? "long enough" : "too short a time");
        return 0;
    }
    if (!strcmp(task, "files")) {
        /* There is no folder, so there can be no file. */
        printf("%s\n", fopen("/etc/passwd", "r") || fopen("new", "w") ? "a file" : "no file");
        printf("%s\n", getchar() == EOF ? "no input" : "input");
        return 0;
    }
    if (!strcmp(task, "random")) {
        unsigned char bytes[16] = {0};
        int different = 0;
        if (getentropy(bytes, sizeof bytes)) return 1;
        for (size_t i = 1; i < sizeof bytes; i++) different += bytes[i] != bytes[0];
        printf("%s\n", different ? "random" : "not random");
        return 0;
    }
    if (!strcmp(task, "talk")) {
        for (int i = 0; i < 100000; i++) printf("line %d\n", i);
        return 0;
    }
    fprintf(stderr, "there is no task %s\n", task);
    abort();
}
