/* SPDX-License-Identifier: MIT */
/* state.c: the pool of the process, which requests are its own, and what it gives back for others. */
#include "shim.h"

#include "sync/fork_door.h"
#include "pool/limits.h"

#include <errno.h>

struct pool shim_pool;
/* Not at the beginning of the data: a page's first cache line is in use by programs that step through
 * pages. */
__attribute__((aligned(4 * CACHE_LINE))) struct shim_sizes shim_sizes = {32 * KIB, 32 * KIB};

size_t shim_lower_threshold, shim_first_threshold = 32 * KIB;

/* A thread that notes a limit meanwhile does so before the last line reads it, or writes after it. */
void shim_set_threshold(size_t bytes) {
    WRITE_RELAXED(shim_sizes.threshold, bytes);
    __atomic_store_n(&shim_sizes.jumps_below, bytes, __ATOMIC_SEQ_CST);
    if (limits_seen(&shim_pool)) WRITE_RELAXED(shim_sizes.jumps_below, 0);
}

/* The pool may not be there yet. */
void shim_note_limit(void) {
    limits_note(&shim_pool);
    WRITE_RELAXED(shim_sizes.jumps_below, 0);
}

void shim_note_use(void) {
    size_t lower = READ_RELAXED(shim_lower_threshold); /* 0 if another thread was first */
    static uint32_t n_uses;                            /* a lost count is harmless */
    WRITE_RELAXED(n_uses, READ_RELAXED(n_uses) + 1);
    if (!lower || (READ_RELAXED(shim_pool.heap.active_bytes) < SHIM_LOWER_BYTES &&
                   READ_RELAXED(n_uses) < SHIM_LOWER_USES))
        return;
    shim_set_threshold(min_size(READ_RELAXED(shim_sizes.threshold), lower));
    WRITE_RELAXED(shim_lower_threshold, 0);
}

/* size: SIZE_MAX for a copy of the process. */
static bool make_room(size_t size) {
    if (!shim_pool.ready || tcache_tls.entered || !fork_pass()) return false;
    int saved = errno;
    tcache_tls.entered = IN_SLOW_PATH;
    bool made = size == SIZE_MAX ? limits_make_room_for_copy(&shim_pool) : limits_make_room(&shim_pool, size);
    tcache_tls.entered = 0;
    errno = saved;
    return made;
}

bool shim_make_room(size_t size) {
    return size != SIZE_MAX && make_room(size);
}

bool shim_make_room_for_copy(void) {
    return make_room(SIZE_MAX);
}
