/* SPDX-License-Identifier: MIT */
/* hardened.h: large blocks from the guarded allocator instead of the pool: libzeropool-hardened.so, and the
 * way to it.
 *
 * - LD_PRELOAD=libzeropool-hardened.so: the library interposes the malloc family itself (hardened_family.c).
 *   It has no pool. `zeropool run` chooses it where the mode is asked for. It begins at the first call.
 * - ZEROPOOL_HARDENED=1 under libzeropool-preload.so: that loads the library beside it (hardened_load.c),
 *   which enters its functions where the next allocator stands. The pool is never set up, and the threshold
 *   is out of reach, so malloc and free find the mode by the calls they make anyway for what is not the
 *   pool's: without it not one instruction is spent on it. What the guarded allocator refuses goes to the
 *   real next allocator, unguarded but working. It begins at the first large request or in the constructor,
 *   whatever comes first.
 *
 * Either stays for good. The real next allocator and the bounds are written before the functions are entered,
 * with the same values by whoever writes them, and not changed while threads run.
 */
#ifndef ZP_SHIM_HARDENED_H
#define ZP_SHIM_HARDENED_H

#include "family.h"

#include <stdbool.h>
#include <stdint.h>

/* Where its blocks lie. */
struct hardened_range {
    uintptr_t base;
    size_t span;
};

static inline bool hardened_range_owns(const struct hardened_range *range, const void *p) {
    return (uintptr_t)p - range->base < range->span;
}

/* --- in libzeropool-hardened.so --- */

/* Serve requests from threshold_bytes to max_bytes guarded, in front of what *table holds (of table_bytes:
 * another size is another version, and refused); the entries of *table become the mode's functions. A second
 * call corrects the numbers. */
bool zeropool_hardened_attach(struct next_allocator *table, size_t table_bytes, size_t threshold_bytes,
                              size_t max_bytes, struct hardened_range *range);
#define HARDENED_ATTACH "zeropool_hardened_attach"

/* The mode's functions; NULL where it has none of its own. Before zeropool_hardened_attach all that is asked
 * for is guarded. */
extern const struct next_allocator hardened_functions HIDDEN;

/* Choose the range of addresses; once, whoever comes first. */
void hardened_prepare(void) HIDDEN;

/* --- in libzeropool-preload.so --- */

/* Load the library, to serve requests from threshold_bytes to max_bytes guarded in front of what is behind
 * us; next_resolve then enters its functions. False, after one line on standard error, if it cannot be
 * loaded. A second call corrects the numbers. */
bool hardened_start(const struct next_allocator *behind, size_t threshold_bytes, size_t max_bytes) HIDDEN;

bool hardened_runs(void) HIDDEN;

/* Is this one of its blocks, or was it? */
bool hardened_owns(const void *p) HIDDEN;

/* Put the mode's functions in front of what was found behind us. */
void hardened_wrap(struct next_allocator *found) HIDDEN;

#endif
