/* SPDX-License-Identifier: MIT */
/* check.h: what the preloaded test programs share. No stdio for messages: it allocates, and some programs run
 * where it must not. */
#ifndef ZP_SHIM_TESTS_CHECK_H
#define ZP_SHIM_TESTS_CHECK_H

#include "../../core/tests/portable.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define SKIP 77

static inline void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

#define CHECK_TEXT2(x) #x
#define CHECK_TEXT(x) CHECK_TEXT2(x)
/* Ends the program with status 1; also in children and handlers, therefore _exit. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            say(__FILE__ ":" CHECK_TEXT(__LINE__) ": failed: " #condition "\n");                             \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

/* A test that ran without the shim would prove nothing. */
static inline void require_shim(void) {
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    CHECK(symbol && dladdr(symbol, &info) &&
          (strstr(info.dli_fname, "zeropool-preload") || strstr(info.dli_fname, "zeropool-hardened")));
}

/* A program of several cases: its only argument names one. Returns what that does, or 2 after a line of
 * usage. */
struct test_case {
    const char *name;
    int (*run)(void);
};
#define RUN_CASE(program, cases)                                                                             \
    run_one_of(argc, argv, cases, sizeof(cases) / sizeof *(cases), "usage: " #program " CASE\n")

static inline int run_one_of(int argc, char **argv, const struct test_case *cases, size_t n,
                             const char *usage) {
    for (size_t i = 0; argc == 2 && i < n; i++) {
        if (strcmp(argv[1], cases[i].name) != 0) continue;
        int status = cases[i].run();
        if (status == SKIP) say("not permitted here\n");
        return status;
    }
    say(usage);
    return 2;
}

/* Its main, where there is nothing else to do; the cases are the entries of the table. */
#define MAIN_OF_CASES(program, ...)                                                                          \
    int main(int argc, char **argv) {                                                                        \
        static const struct test_case cases[] = {__VA_ARGS__};                                               \
        require_shim();                                                                                      \
        return RUN_CASE(program, cases);                                                                     \
    }

/* The pool and the hardened mode's blocks lie between 22 and 42 TiB. */
static inline bool in_pool(const void *p) {
    return (uintptr_t)p >> 40 >= 22 && (uintptr_t)p >> 40 < 42;
}

/* The compiler knows malloc and may drop a pair whose result is not used. */
#define KEEP(p) __asm__ __volatile__("" : "+r"(p)::"memory")

static inline void *get(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}

/* Threads of this process, those that the C library does not know among them. */
static inline unsigned n_threads(void) {
    DIR *folder = opendir("/proc/self/task");
    CHECK(folder);
    unsigned n = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        n += entry->d_name[0] != '.';
    closedir(folder);
    return n;
}

/* --- contents: a word in every page, and one at the end --- */

static inline uint64_t stamp_of(const void *p, uint64_t tag) {
    uint64_t x = ((uintptr_t)p >> 3) * 0x9e3779b97f4a7c15u ^ tag * 0xff51afd7ed558ccdu;
    return x ^ (x >> 31);
}

/* By offset, so that contents may move. n must be at least 8. */
static inline void stamp(void *p, size_t n, uint64_t tag) {
    uint64_t word;
    for (size_t at = 0; at + 16 <= n; at += 4096) {
        word = stamp_of((void *)at, tag);
        memcpy((char *)p + at, &word, 8);
    }
    word = stamp_of((void *)n, tag);
    memcpy((char *)p + n - 8, &word, 8);
}

/* Of what stamp(p, n_stamped) wrote, is the part in the first n bytes there? */
static inline bool stamped(const void *p, size_t n, size_t n_stamped, uint64_t tag) {
    uint64_t word, found;
    for (size_t at = 0; at + 16 <= n_stamped && at + 8 <= n; at += 4096) {
        if (at + 8 > n_stamped - 8) break;
        word = stamp_of((void *)at, tag);
        memcpy(&found, (const char *)p + at, 8);
        if (word != found) return false;
    }
    if (n < n_stamped) return true;
    word = stamp_of((void *)n_stamped, tag);
    memcpy(&found, (const char *)p + n_stamped - 8, 8);
    return word == found;
}

static inline bool all_zero(const void *p, size_t n) {
    const unsigned char *bytes = p;
    if (n == 0) return true;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

#endif
