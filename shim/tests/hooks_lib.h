/* SPDX-License-Identifier: MIT */
/* hooks_lib.h: what hooks_lib.c has seen: calls outside the pool and inside. */
#ifndef ZP_SHIM_TESTS_HOOKS_LIB_H
#define ZP_SHIM_TESTS_HOOKS_LIB_H

struct hooks_seen {
    volatile unsigned madvise[2], munmap[2], mmap[2], pkey_mprotect[2];
};
struct hooks_seen *hooks(void);

#endif
