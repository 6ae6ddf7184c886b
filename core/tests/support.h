/* SPDX-License-Identifier: MIT */
/* support.h: what the unit tests share: a reproducible random source, contents to recognise, children to
 * misbehave in. */
#ifndef ZP_TESTS_SUPPORT_H
#define ZP_TESTS_SUPPORT_H

#include "portable.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* AddressSanitizer makes mlock a no-op, needs address space of its own, and faults in its shadow. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN true
#else
#define UNDER_ASAN false
#endif

/* Fill n_bytes with a pattern derived from a tag, and look whether it is still there: at the ends and in
 * every page. Returns the first wrong offset, or n_bytes. */
void pattern_fill(void *p, size_t n_bytes, uint64_t tag);
size_t pattern_check(const void *p, size_t n_bytes, uint64_t tag);
/* The same for the first n_bytes of a pattern of n_whole bytes. */
size_t pattern_check_front(const void *p, size_t n_bytes, size_t n_whole, uint64_t tag);

/* The first byte that is not zero, or n_bytes. Looks at all of them. */
size_t first_nonzero(const void *p, size_t n_bytes);

/* Allow this process so much of a resource (RLIMIT_...), at most what it may raise it to. False if that is
 * refused. */
bool limit_resource(int resource, size_t n);

/* What became of a child. */
struct child_result {
    int exit_status; /* -1 if it did not exit */
    int signal;      /* 0 if it was not killed */
    char text[4096]; /* what it wrote to stderr, NUL-terminated */
};

/* Run body(argument) in a forked child with stderr captured; the child exits with body's result. Kills it
 * after ten seconds. */
struct child_result run_child(int (*body)(void *), void *argument);

/* Milliseconds of a clock that never goes back. */
uint64_t now_ms(void);

/* Resident bytes of this process. */
size_t resident_bytes(void);

#endif
