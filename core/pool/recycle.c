/* SPDX-License-Identifier: MIT */
/* recycle.c: finding and undoing what a program did to memory it returned. See recycle.h. */
#include "pool/recycle.h"

#include "os/os.h"

/* The bins of thread caches take and give without asking, but not beyond their limit: with a lower one, no block of a size that is
 * watched fits. An owner that sets up its cache at this moment reads the new limit from the pool. */
static void watch_bins(struct pool *pool)
{
    size_t limit = RECYCLE_MIN_BYTES - 1;
    if (READ_RELAXED(pool->tcache_limit_bytes) <= limit) return;
    WRITE_RELAXED(pool->tcache_limit_bytes, limit);
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        if (READ_RELAXED(tcache->pool) == pool) WRITE_RELAXED(tcache->limit_bytes, limit);
}

/* 20 ns a page, a twentieth of filling it. So all of a block only at the beginning, and later the ends, where guards stand. */
static void remove_guards(struct pool *pool, struct extent *extent)
{
    uint32_t n_walked = READ_RELAXED(pool->n_guard_pages);
    if (n_walked < RECYCLE_GUARD_PAGES) {
        WRITE_RELAXED(pool->n_guard_pages, n_walked + extent->n_pages); /* a lost update is harmless */
        os_remove_guards(extent->address, extent_bytes(extent));
        return;
    }
    os_remove_guards(extent->address, PAGE_BYTES);
    os_remove_guards(extent_end(extent) - PAGE_BYTES, PAGE_BYTES);
}

void recycle_check(struct pool *pool, struct extent *extent)
{
    uint32_t n = READ_RELAXED(pool->n_checks);
    if (n < RECYCLE_CHECK_ALL) __atomic_store_n(&pool->n_checks, n + 1, __ATOMIC_RELAXED);
    /* Before the first block there is a page of the space's own (space.h). */
    char *before = (char *)extent->address - PAGE_BYTES;
    size_t bytes = extent_bytes(extent);
    bool has_after = space_owns(&pool->heap.space, extent_end(extent));
    remove_guards(pool, extent);
    if (extent->flags & (EXTENT_HUGE | EXTENT_MOVED)) {
        /* A VMA of its own because of what we did to it: nothing can be told, so put it right anyway. */
        os_scrub(extent->address, bytes);
        return;
    }
    if (os_is_one_vma(before, bytes + PAGE_BYTES + (has_after ? PAGE_BYTES : 0))) return;
    if (pool->heap.pinned) return; /* our own mlock */
    /* In a forked child new mappings do not merge with old ones, so a boundary on one side alone proves nothing. */
    bool joined = os_is_one_vma(before, bytes + PAGE_BYTES) ||
                  (has_after && os_is_one_vma(extent->address, bytes + PAGE_BYTES));
    if (!joined) WRITE_RELAXED(pool->watchful, true);
    if (!joined && extent->cls < TCACHE_BIG_CLASS) watch_bins(pool);
    if (os_restricted) { /* a filter may forbid munlock; mapping anew forgets everything */
        os_remap_fresh(extent->address, bytes);
        return;
    }
    /* What cannot be undone by name (huge page advice, memory policy) goes when the pages go. */
    extent->flags |= EXTENT_HUGE;
    os_scrub(extent->address, bytes);
}
