/* SPDX-License-Identifier: MIT */
/* hardened.h: ZEROPOOL_HARDENED=1: large blocks come from the guarded allocator instead of the pool.
 *
 * How         The mode stands where the next allocator stands: its functions are entered into the table `next`, the pool is never
 *             set up, and the threshold is out of reach. malloc and free therefore find the mode by the calls they make anyway for
 *             what is not the pool's, and without it not one instruction is spent on it.
 *             What the guarded allocator refuses goes to the real next allocator, unguarded but working.
 * When        At the first large request or in the constructor, whatever comes first; it stays for good.
 * State       `real` and the threshold are written before `next`, with the same values by whoever writes them, and not changed
 *             while threads run.
 */
#ifndef ZP_SHIM_HARDENED_H
#define ZP_SHIM_HARDENED_H

#include "shim.h"

/* Serve requests from threshold_bytes to max_bytes guarded. A second call corrects the numbers. */
void hardened_start(size_t threshold_bytes, size_t max_bytes) HIDDEN;

bool hardened_runs(void) HIDDEN;

/* Is this one of its blocks, or was it? */
bool hardened_owns(const void *p) HIDDEN;

/* Keep what was found behind us, and put the mode's own functions in front of it. */
void hardened_wrap(struct next_allocator *found) HIDDEN;

#endif
