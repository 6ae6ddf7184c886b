/* SPDX-License-Identifier: MIT */
/* sites.h: the profile of allocation sites: which calls of the program make large blocks, and what becomes
 * of them (ZEROPOOL_PROFILE).
 *
 * Where it is asked for, the constructor puts a jump at the beginning of malloc, free and their kin, so
 * that a call goes
 *
 *   malloc -> sites.c -> plain_malloc, a second copy of malloc.c and aligned.c -> pool or next allocator
 *
 * Everywhere else not one instruction is spent on it. (Not chosen: the table of next.c, by which the
 * hardened mode stands before the allocator: free does not ask it about blocks of the pool.) A call below
 * the threshold is one comparison and a jump more. The program gets the same blocks
 * and the same errno as without.
 *
 * Async and fork safety: there is no lock, nothing is allocated, errno is kept; see sites_table.h,
 * unwind.h. A vfork child counts for its parent, in whose memory it runs.
 *
 * Order: written in the constructor, before the jumps are: `sites` and what sites_setup holds. Calls
 * before that are not seen, and a block from then is not followed.
 */
#ifndef ZP_SHIM_SITES_H
#define ZP_SHIM_SITES_H

#include "sites_table.h"

#pragma GCC visibility push(hidden)

struct sites_setup {
    size_t least_bytes; /* smaller calls are not looked at */
    size_t rate_bytes;  /* one call in so many bytes; 0: all */
    uint64_t started_ns;
    const char *path;
};
extern struct sites_setup sites_setup;
/* NULL: there is no profile. */
extern struct sites *sites;

/* In the constructor, last: begin. why_not: the reason why no call would be seen, or NULL. One line on
 * standard error where it cannot be done. */
void sites_start(const char *path, size_t least_bytes, size_t rate_bytes, const char *why_not);
/* In the destructor, if there is a profile: write it (sites_write.c). */
void sites_finish(void);

/* Does malloc go through here? Then operators new must go through malloc (operators.c). */
static inline bool sites_run(void) {
    return sites != NULL;
}

#pragma GCC visibility pop

#endif
