// SPDX-License-Identifier: MIT
// The two macros the unit tests need; plain mains, so that they also run under ThreadSanitizer.
#ifndef WORKLOADS_TESTS_CHECK_H
#define WORKLOADS_TESTS_CHECK_H

#include <stdio.h>

static unsigned check_failures;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                          \
            check_failures++;                                                                                \
        }                                                                                                    \
    } while (0)

// What main returns.
#define CHECK_RESULT() (check_failures == 0 ? 0 : 1)

#endif
