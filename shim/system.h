/* SPDX-License-Identifier: MIT */
/* system.h: the calls that change mappings, or how many there may be, as whoever stands behind us defines
 * them.
 *
 * os_calls (os.h) has those that the pool itself makes; system_calls the rest of those that we interpose. The
 * entries are valid from the first instruction on: they begin as functions that look all of them up, together
 * with the next allocator, and are then written once, all writers writing the same. What nobody behind us
 * defines becomes a plain system call, and so does a call made in the middle of the lookup.
 */
#ifndef ZP_SHIM_SYSTEM_H
#define ZP_SHIM_SYSTEM_H

#include "os/os.h"

#include <sys/resource.h>

#define HIDDEN __attribute__((visibility("hidden")))

struct system_calls {
    void *(*mmap64)(void *, size_t, int, int, int, off_t);
    int (*posix_madvise)(void *, size_t, int);
    int (*mlock2)(const void *, size_t, unsigned);
    int (*remap_file_pages)(void *, size_t, int, size_t, int);
    void *(*shmat)(int, const void *, int);
    int (*mlockall)(int);
    int (*munlockall)(void);
    int (*setrlimit)(__rlimit_resource_t, const struct rlimit *);
    int (*setrlimit64)(__rlimit_resource_t, const struct rlimit64 *);
    int (*prlimit)(pid_t, enum __rlimit_resource, const struct rlimit *, struct rlimit *);
    int (*prlimit64)(pid_t, enum __rlimit_resource, const struct rlimit64 *, struct rlimit64 *);
};
extern struct system_calls system_calls HIDDEN;

/* For next_resolve, unsealed: look all of them up and write them into the tables. */
void system_resolve(struct os_calls *os, struct system_calls *rest) HIDDEN;

/* Does somebody between us and the C library define calls that the pool itself makes, other than the
 * allocator behind us, of which this is a function? After system_resolve. */
bool system_is_hooked(const struct os_calls *os, const void *other) HIDDEN;

/* A call of libnuma, which makes it a system call and nothing else. */
long system_mbind(void *start, unsigned long length, int mode, const unsigned long *nodes,
                  unsigned long n_nodes, unsigned flags) HIDDEN;

#endif
