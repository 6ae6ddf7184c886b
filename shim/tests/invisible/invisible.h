/* SPDX-License-Identifier: MIT */
/* invisible.h: what the programs of this folder share. They are ordinary programs that print figures ("name
 * value"); the driver runs each without the library and with it and judges. */
#ifndef ZP_TESTS_INVISIBLE_H
#define ZP_TESTS_INVISIBLE_H

#include "../../../core/tests/portable.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
/* The bounds of memory at rest are for a process that has rested so long. */
#define REST_S 10

/* The result of malloc must look used, or the compiler drops the pair of calls. */
#define KEEP(p) __asm__ __volatile__("" : "+r"(p)::"memory")

/* The pool's blocks lie between 22 and 42 TiB, where nobody else places anything. */
static inline bool in_pool(const void *p) {
    return (uintptr_t)p >> 40 >= 22 && (uintptr_t)p >> 40 < 42;
}

static inline void *get(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}

/* Writes one byte in each piece of step bytes. */
static inline void *touch_each(void *block, size_t n, size_t step) {
    volatile char *bytes = block;
    for (size_t at = 0; at < n; at += step)
        bytes[at] = 1;
    return block;
}

static inline void *get_touched(size_t n) {
    void *p = get(n);
    return p ? touch_each(p, n, PAGE) : NULL;
}

static inline void use_once(size_t n) {
    free(get_touched(n));
}

/* Fills so many MiB in blocks of that size, all at once, and frees them. */
static inline void use_blocks(size_t mib, size_t block_mib) {
    size_t n = mib / block_mib;
    void **blocks = calloc(n, sizeof *blocks);
    for (size_t i = 0; i < n; i++)
        blocks[i] = get_touched(block_mib * MIB);
    for (size_t i = 0; i < n; i++)
        free(blocks[i]);
    free(blocks);
}

/* A field of /proc/PID/status as it stands there (KiB, or a count); 0 if it is not there. */
static inline size_t status_of(int pid, const char *field) {
    char path[64], line[256];
    size_t value = 0, length = strlen(field);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, field, length) == 0 && line[length] == ':')
            value = strtoul(line + length + 1, NULL, 10);
    if (file) fclose(file);
    return value;
}

static inline void report(const char *name, double value) {
    printf("%s %.2f\n", name, value);
    fflush(stdout);
}

static inline void report_mib(const char *name, const char *field) {
    report(name, (double)status_of(getpid(), field) / 1024);
}

/* Rests, then tells the peak from before and what is resident now. */
static inline void rest_and_report(void) {
    report_mib("peak", "VmHWM");
    sleep(REST_S);
    report_mib("rest", "VmRSS");
}

/* "ok" with the library where it is "refused" without is fine, the reverse is not. */
static inline void say(const char *what, bool good) {
    printf("%s: %s\n", what, good ? "ok" : "refused");
    fflush(stdout);
}

/* Processor time of the process or the thread: not what others take meanwhile. */
static inline double clock_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static inline size_t number(char **argv, int i) {
    return argv[i] ? strtoul(argv[i], NULL, 10) : 0;
}

struct named {
    const char *name;
    int (*run)(char **arguments);
};

/* Runs the case named first on the command line with the arguments behind it. */
static inline int run_named(const struct named *cases, char **argv) {
    for (; argv[1] && cases->name; cases++)
        if (strcmp(cases->name, argv[1]) == 0) return cases->run(argv + 2);
    fprintf(stderr, "usage: %s CASE [NUMBER...]\n", argv[0]);
    return 2;
}

#endif
