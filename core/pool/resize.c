/* SPDX-License-Identifier: MIT */
/* resize.c: growing and shrinking blocks. See resize.h. */
#include "pool/resize.h"

#include "sync/probe.h"
#include "os/os.h"
#include "cache/cache_keep.h"
#include "sync/fork_door.h"
#include "pool/limits.h"
#include "learn/recycle.h"
#include "pool/zero.h"

#include <string.h>

/* Below this, copying into warm memory beats moving page tables and faulting in the new part. */
#define MOVE_MIN_PAGES ROOM_MIN_PAGES
/* Up to here a block is copied rather than moved if the pool has enough idle memory for the larger one. */
#define COPY_MAX_PAGES (8 * MIB >> PAGE_SHIFT)
/* A moved block gets this many times its size as address space behind it, up to a bound. Addresses are
 * free. */
#define HEADROOM_FACTOR 3
#define HEADROOM_MAX_PAGES (4 * GIB >> PAGE_SHIFT)
/* Each moved block is a VMA of its own until it is purged; of 65530 a process may have, we take at most this
 * many. */
#define MOVED_MAX 4096
/* A block gives its tail back when that is worth an operation on the heap: an eighth, and 16 KiB. */
#define SHRINK_SHIFT 3
#define SHRINK_MIN_PAGES 4

bool resize_in_place(struct pool *pool, struct extent *extent, size_t n_bytes) {
    size_t n_pages = n_bytes ? pages_of(n_bytes) : 1;
    if (n_pages > pool->max_pages) return false;
    size_t used = extent->used_pages, wanted = pool_block_pages(pool, n_pages, class_of_pages(n_pages));
    if (n_pages <= used) {
        if (used > wanted + (used >> SHRINK_SHIFT) && used - wanted >= SHRINK_MIN_PAGES &&
            !tcache_tls.entered && fork_pass()) {
            tcache_tls.entered = IN_SLOW_PATH;
            recycle_mend_tail(&pool->recycle, extent, wanted);
            heap_shrink(&pool->heap, extent, wanted);
            tcache_tls.entered = 0;
        }
        return true;
    }
    if (pool->heap.pinned || tcache_tls.entered || !fork_pass()) return false;
    tcache_tls.entered = IN_SLOW_PATH;
    struct tcache *tcache = tcache_find(&pool->tcaches);
    if (tcache) cache_flush_big(&pool->tcaches, tcache);
    size_t warm_pages = 0;
    bool grown = heap_extend(&pool->heap, extent, wanted, &warm_pages);
    if (grown && warm_pages >= ZERO_UNPROVEN_BYTES >> PAGE_SHIFT && zero_tail_is_sparse(pool, wanted))
        os_purge((char *)extent->address + (used << PAGE_SHIFT), (wanted - used) << PAGE_SHIFT);
    tcache_tls.entered = 0;
    if (grown) extent->flags |= EXTENT_GREW;
    return grown;
}

static void *move(struct pool *pool, struct tcache *tcache, struct extent *extent, size_t n_bytes,
                  bool *by_tables) {
    size_t n_pages = pages_of(n_bytes), used = extent->used_pages;
    if (n_pages > pool->max_pages || !pool->ready) return NULL;
    bool tables_may = used >= MOVE_MIN_PAGES && !tcache_tls.entered && fork_pass() && !pool->heap.pinned &&
                      pool->heap.counters.n_moved_vmas < MOVED_MAX;
    if (tables_may) {
        size_t wanted = pool_block_pages(pool, n_pages, class_of_pages(n_pages));
        struct heap_request request = {
            .n_pages = wanted,
            .align_pages = 1,
            .proven = true,
            .grows = room_is_wanted(wanted, used),
            .headroom_pages = READ_RELAXED(pool->heap.address_limited)
                                  ? 0
                                  : min_size(wanted * HEADROOM_FACTOR, HEADROOM_MAX_PAGES),
        };
        /* Headroom is found in untouched memory only. Where enough is idle and warm, copying a few MiB is the
         * lesser price. */
        if (used < COPY_MAX_PAGES && READ_RELAXED(pool->heap.dirty_bytes) >= wanted << PAGE_SHIFT)
            request.headroom_pages = 0;
        tcache_tls.entered = IN_SLOW_PATH;
        struct extent *larger = heap_alloc(&pool->heap, &request);
        size_t moved = 0;
        if (larger && larger->flags & EXTENT_ZERO) {
            ssize_t result = heap_move_pages(&pool->heap, extent, larger, used);
            if (result < 0) {
                heap_lose(&pool->heap, larger);
                larger = NULL;
            } else {
                moved = (size_t)result;
            }
        }
        if (larger) {
            extent_set_state(larger, EXTENT_LIVE);
            memcpy((char *)larger->address + moved, (char *)extent->address + moved,
                   (used << PAGE_SHIFT) - moved);
            larger->flags = (uint16_t)((larger->flags & ~EXTENT_ZERO) | EXTENT_GREW);
            /* Attributes move with the pages. */
            if (moved) recycle_follow(larger, extent);
            extent->flags &= (uint16_t)~EXTENT_ZERO;
            /* Its pages are gone, but not what the program may have mapped over them. */
            if (moved && os_remap_fresh(extent->address, extent_bytes(extent)) == 0) {
                heap_forget_move(&pool->heap, extent);
                extent->flags = (uint16_t)((extent->flags & ~EXTENT_HUGE) | EXTENT_ZERO);
            } else if (recycle_wants(&pool->recycle, extent))
                recycle_check(&pool->recycle, extent);
            extent_set_state(extent, EXTENT_CACHED);
            heap_free(&pool->heap, extent);
        }
        tcache_tls.entered = 0;
        *by_tables = moved > 0;
        if (larger) return larger->address;
    }
    void *larger = pool_get(pool, tcache, n_pages);
    if (!larger) return NULL;
    memcpy(larger, extent->address, min_size(used << PAGE_SHIFT, n_bytes));
    pool_put(pool, tcache, extent->address);
    return larger;
}

/* There is no room for the old and the new block together. Returns where it is now, which may be where it
 * was. */
static void *relocate(struct pool *pool, struct extent *extent, size_t n_bytes) {
    size_t n_pages = pages_of(n_bytes), grows_by = (n_pages - min_size(n_pages, extent->n_pages))
                                                   << PAGE_SHIFT;
    if (n_pages > pool->max_pages || !grows_by || tcache_tls.entered || !fork_pass()) return NULL;
    tcache_tls.entered = IN_SLOW_PATH;
    struct extent from = *extent;
    struct extent *to = heap_relocate(&pool->heap, extent, n_pages);
    bool grown = false;
    if (!to && limits_make_room(pool, grows_by)) {
        grown = heap_extend(&pool->heap, extent, n_pages, NULL);
        if (!grown) to = heap_relocate(&pool->heap, extent, n_pages);
    }
    if (to) recycle_follow(to, &from); /* attributes move with the pages */
    tcache_tls.entered = 0;
    if (grown) extent->flags |= EXTENT_GREW;
    return to ? to->address : grown ? extent->address : NULL;
}

void *resize_move(struct pool *pool, struct tcache *tcache, struct extent *extent, size_t n_bytes) {
    bool by_tables = false;
    size_t had = extent_active_bytes(extent);
    void *larger = move(pool, tcache, extent, n_bytes, &by_tables);
    if (unlikely(!larger) && READ_RELAXED(pool->heap.address_limited))
        larger = relocate(pool, extent, n_bytes);
    if (larger) PROBE3(realloc_move, had, n_bytes, by_tables); /* one place: perf takes no name twice */
    return larger;
}
