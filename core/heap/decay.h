/* SPDX-License-Identifier: MIT */
/* decay.h: idle memory ages and goes back to the kernel.
 *
 * The curve is the one of Jason Evans' jemalloc: time is cut into DECAY_STEPS intervals; what became idle i
 * intervals ago may still be held to the fraction 1 - smoothstep(i / DECAY_STEPS). The first DECAY_GRACE_MS
 * it is held whole: published measurements put 84 % of the gain of a ten-second decay within the first
 * second.
 */
#ifndef ZP_HEAP_DECAY_H
#define ZP_HEAP_DECAY_H

#include "heap/heap.h"

#define DECAY_GRACE_MS 1000

/* What has rested so long is marked for the kernel to take when it is short of memory. Marking a page and
 * writing it again takes a twentieth of the fault that it costs if the kernel has taken it: too much for what
 * is in use, nothing beside a rest. */
#define DECAY_MARK_MS 50

/* Advance the curve to now and purge what it no longer allows. Returns the milliseconds until it wants to be
 * called again, 0 if there is nothing left to decay. Takes the heap lock and makes system calls. */
unsigned decay_tick(struct heap *heap, uint32_t now_ms);

/* True if an allocation should run decay_tick, for processes without the background thread. Reads without the
 * lock. */
bool decay_due(const struct heap *heap, uint32_t now_ms);

#endif
