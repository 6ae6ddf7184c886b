/* SPDX-License-Identifier: MIT */
/* background.h: what all floors know of the background thread. What it does is in process/helper.h. */
#ifndef ZP_SYNC_BACKGROUND_H
#define ZP_SYNC_BACKGROUND_H

#include "sync/upcalls.h"
#include "base/bits.h"
#include "os/os.h"

#include <stdatomic.h>

/* The longest time between two of its rounds. */
#define BACKGROUND_POLL_MS 1000

/* NONE to STARTING and back: whoever starts the thread. STARTING to RUNNING: the same. RUNNING to NONE and
 * back: the thread. */
enum { BACKGROUND_NONE, BACKGROUND_STARTING, BACKGROUND_RUNNING };
extern _Atomic int background_state __attribute__((visibility("hidden")));
/* When it last began a round; written by it, and by whoever starts it. */
extern uint32_t background_round_ms __attribute__((visibility("hidden")));
/* When a thread of the program last ended, 0 if none has; odd. */
extern uint32_t background_ended_ms __attribute__((visibility("hidden")));

/* Does it run? A thread that was ended from outside cannot say so; the time of its last round tells. */
bool background_runs(void);

/* A pool holds so many bytes: start the thread if it is wanted and not running. Called on slow paths, without
 * locks. */
static inline void background_poke(size_t held_bytes) {
    if (os_restricted || likely(atomic_load_explicit(&background_state, memory_order_relaxed))) return;
    upcalls.background_start(held_bytes);
}

/* A thread of the program ends: the process may soon have only one thread, and ours is in the way then. */
void background_note_end(void);

#endif
