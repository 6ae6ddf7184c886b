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

/* What was changed is known: no need to ask. */
static void mend(void *address, size_t n_bytes, uint16_t flags)
{
    /* Under a filter munlock may be forbidden; mapping anew forgets everything. */
    if ((flags & EXTENT_REPLACED || os_restricted) && os_remap_fresh(address, n_bytes) == 0) return;
    os_scrub(address, n_bytes);
}

void recycle_mend_tail(struct pool *pool, struct extent *extent, size_t n_pages)
{
    if (!(extent->flags & (EXTENT_CHANGED | EXTENT_REPLACED)) && !READ_RELAXED(pool->watchful)) return;
    mend((char *)extent->address + (n_pages << PAGE_SHIFT), extent_bytes(extent) - (n_pages << PAGE_SHIFT), extent->flags);
    extent->flags |= EXTENT_HUGE;
}

/* A block of this many pages is found from its inside. One step costs less than a nanosecond. */
#define NOTE_STEPS (GIB / PAGE_BYTES)

/* The address is read again: a descriptor that is being used for something else has had another one, or none, in between. */
static bool covers(const struct extent *extent, uintptr_t page)
{
    void *address = __atomic_load_n(&extent->address, __ATOMIC_ACQUIRE);
    size_t n_pages = __atomic_load_n(&extent->n_pages, __ATOMIC_ACQUIRE);
    return address && page - (uintptr_t)address < n_pages << PAGE_SHIFT && READ_RELAXED(extent->address) == address;
}

/* The extent that a page belongs to, or NULL if it is not found. The map of a live block's pages does not change meanwhile; of other
 * extents it may. */
static struct extent *find_covering(struct space *space, uintptr_t page, size_t *steps)
{
    for (uintptr_t at = page; *steps; at -= PAGE_BYTES) {
        struct extent *extent = space_lookup(space, (void *)at);
        (*steps)--;
        if (READ_RELAXED(extent->address) != NULL) return covers(extent, page) ? extent : NULL;
        if (at == space->base) break;
    }
    return NULL;
}

void recycle_note(struct pool *pool, const void *start, size_t length, uint16_t flag)
{
    struct space *space = &pool->heap.space;
    uintptr_t end = space->base + atomic_load_explicit(&space->span, memory_order_relaxed);
    uintptr_t page = align_down((uintptr_t)start, PAGE_BYTES);
    if (length < UINTPTR_MAX - (uintptr_t)start) end = min_size(end, (uintptr_t)start + length);
    page = max_size(page, space->base);
    size_t steps = NOTE_STEPS;
    while (page < end && steps) {
        /* A program that changes a block piece by piece finds it again at once. A live block that covers the page is the page's own:
         * whoever gave a part of it back did so before anybody could get that part. */
        struct extent *extent = READ_RELAXED(pool->last_noted);
        if (!extent || extent_state(extent) != EXTENT_LIVE || !covers(extent, page)) extent = find_covering(space, page, &steps);
        if (!extent) break;
        uintptr_t next = (uintptr_t)extent_end(extent);
        if (extent_state(extent) == EXTENT_LIVE) {
            __atomic_fetch_or(&extent->flags, flag, __ATOMIC_RELAXED);
            WRITE_RELAXED(pool->last_noted, extent);
        } else if (flag != EXTENT_HUGE) {
            WRITE_RELAXED(pool->watchful, true);
        }
        if (next <= page) break;
        page = next;
        if (steps) steps--;
    }
    if (page < end && flag != EXTENT_HUGE) WRITE_RELAXED(pool->watchful, true);
}

void recycle_check(struct pool *pool, struct extent *extent)
{
    if (extent->flags & (EXTENT_CHANGED | EXTENT_REPLACED)) {
        mend(extent->address, extent_bytes(extent), extent->flags);
        /* For what the names do not reach. */
        extent->flags |= EXTENT_HUGE;
        return;
    }
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
