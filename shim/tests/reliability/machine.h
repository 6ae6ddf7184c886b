/* SPDX-License-Identifier: MIT */
/* machine.h: what programs share that come to limits of the machine: a number written into a file of the
 * kernel, and memory locked by a user who may lock only so much. */
#ifndef ZP_TESTS_RELIABILITY_MACHINE_H
#define ZP_TESTS_RELIABILITY_MACHINE_H

#include "common.h"

#include <grp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define LONELY_USER 54322

static inline bool write_number(const char *path, size_t value) {
    FILE *file = fopen(path, "w");
    bool done = file && fprintf(file, "%zu", value) > 0;
    return file && fclose(file) == 0 && done;
}

/* 205 MiB more than the process has now. False where it cannot be set. */
static inline bool limit_locked(void) {
    size_t room = status_bytes("VmSize") + 205 * MIB;
    return setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){room, room}) == 0;
}

/* Root may lock everything, so another user does. */
static inline void become_lonely(void) {
    if (geteuid() == 0 && (setgroups(0, NULL) || setresgid(LONELY_USER, LONELY_USER, LONELY_USER) ||
                           setresuid(LONELY_USER, LONELY_USER, LONELY_USER)))
        skip("cannot change the user");
}

#endif
