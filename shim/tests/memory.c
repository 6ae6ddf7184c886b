/* SPDX-License-Identifier: MIT */
/* memory.c: memory goes back, by itself and when asked; programs without large blocks stay single-threaded. A
 * program of its own, since what a program imports decides about its background thread. */
#include "reliability/common.h"

#include <malloc.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A burst, then no call at all: what is resident 8 s later, in steps of 16 MiB. */
static void idle(void) {
    void *p[64];
    for (int i = 0; i < 64; i++)
        p[i] = get_filled(4 * MIB);
    for (int i = 0; i < 64; i++)
        free(p[i]);
    struct timespec eight = {8, 0};
    syscall(SYS_nanosleep, &eight, NULL);
    printf("%zu\n", status_bytes("VmRSS") / (16 * MIB));
}

static void trim(void) {
    void *p[64];
    for (int i = 0; i < 64; i++)
        p[i] = get_filled(4 * MIB);
    for (int i = 0; i < 64; i++)
        free(p[i]);
    malloc_trim(0);
    printf("%zu\n", status_bytes("VmRSS") / (16 * MIB));
}

static void small_only(void) {
    void *p[1000];
    for (int i = 0; i < 1000; i++)
        p[i] = get(2000);
    for (int i = 0; i < 1000; i++)
        free(p[i]);
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "Threads:", 8) == 0) fputs(line, stdout);
    if (file) fclose(file);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"idle", idle},
        {"trim", trim},
        {"small-only", small_only},
        {NULL, NULL},
    };
    return run_case(cases, argc, argv);
}
