/* SPDX-License-Identifier: MIT */
/* common.h: what the reliability programs share. They are ordinary programs: nothing in them knows of the
 * pool. */
#ifndef ZP_TESTS_RELIABILITY_COMMON_H
#define ZP_TESTS_RELIABILITY_COMMON_H

#include "../../../core/tests/portable.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* A case is a function; main picks it by name. */
struct test_case {
    const char *name;
    void (*run)(void);
};

static inline void skip(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(77);
}

static inline void say(const char *what, int good) {
    printf("%s: %s\n", what, good ? "ok" : "refused");
    fflush(stdout);
}

/* Through a volatile pointer, so that the compiler does not see through malloc and free. */
static inline void *hide(void *p) {
    void *volatile hidden = p;
    return hidden;
}

/* A block with its own address at both ends, to be checked later. */
static inline void *get(size_t size) {
    size_t *p = hide(malloc(size));
    if (p) {
        p[0] = (size_t)p;
        p[size / sizeof *p - 1] = ~(size_t)p;
    }
    return p;
}

static inline int good(const void *block, size_t size) {
    const size_t *p = block;
    return p[0] == (size_t)p && p[size / sizeof *p - 1] == ~(size_t)p;
}

static inline void *get_filled(size_t size) {
    void *p = hide(malloc(size));
    if (p) memset(p, 0x5a, size);
    return p;
}

/* Enough large blocks, used and freed, for everything lazy in an allocator to have happened. */
static inline void warm_up(void) {
    for (int i = 0; i < 2; i++) {
        void *a = get_filled(16 * MIB), *b = get_filled(12 * MIB);
        free(a);
        free(b);
    }
}

/* A field of a file in /proc that counts in kB, in bytes; 0 if it is not there. */
static inline size_t field_bytes(const char *path, const char *field) {
    char line[256];
    size_t kib = 0, length = strlen(field);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, field, length) == 0 && line[length] == ':')
            kib = strtoul(line + length + 1, NULL, 10);
    if (file) fclose(file);
    return kib * KIB;
}

static inline size_t status_bytes(const char *field) {
    return field_bytes("/proc/self/status", field);
}

static inline int run_case(const struct test_case *cases, int argc, char **argv) {
    for (; argc == 2 && cases->name; cases++)
        if (strcmp(cases->name, argv[1]) == 0) {
            cases->run();
            return 0;
        }
    fprintf(stderr, "usage: %s CASE\n", argv[0]);
    return 2;
}

#endif
