/* SPDX-License-Identifier: MIT */
/* recycle.c: finding and undoing what a program did to memory it returned. See recycle.h. */
#include "pool/recycle.h"

#include "os/os.h"

/* The bins of thread caches, and the slot before them, take and give without asking, but not beyond their limit: with a lower one, no
 * block of a size that is watched fits. An owner that sets up its cache at this moment reads the new limit from the pool. */
static void watch_bins(struct pool *pool)
{
    size_t limit = RECYCLE_MIN_BYTES - 1;
    if (READ_RELAXED(pool->tcache_limit_bytes) <= limit) return;
    WRITE_RELAXED(pool->tcache_limit_bytes, limit);
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        if (READ_RELAXED(tcache->pool) == pool) tcache_set_limit(tcache, limit);
}

void recycle_watch(struct pool *pool)
{
    WRITE_RELAXED(pool->watchful, true);
    tcache_disturb(pool);
    watch_bins(pool);
}

/* What was changed is known: no need to ask. */
static void mend(void *address, size_t n_bytes, uint16_t flags)
{
    /* Under a filter not all can be undone by name. */
    if ((flags & EXTENT_REPLACED || os_restricted) && os_remap_fresh(address, n_bytes) == 0) return;
    os_scrub(address, n_bytes);
}

void recycle_mend_tail(struct pool *pool, struct extent *extent, size_t n_pages)
{
    if (!(extent->flags & (EXTENT_CHANGED | EXTENT_REPLACED)) && !READ_RELAXED(pool->watchful)) return;
    mend((char *)extent->address + (n_pages << PAGE_SHIFT), extent_bytes(extent) - (n_pages << PAGE_SHIFT), extent->flags);
}

/* A page is found that lies so many pages from one end of its block. One step costs less than two nanoseconds. */
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
    uintptr_t end = space->base + atomic_load_explicit(&space->span, memory_order_relaxed);
    uintptr_t before = page, after = page; /* guards lie at either end, as a rule */
    while (*steps && (before >= space->base || after < end)) {
        (*steps)--;
        struct extent *extent = before >= space->base ? space_lookup(space, (void *)before) : space->extents;
        if (READ_RELAXED(extent->address) == NULL && after < end) extent = space_lookup(space, (void *)after);
        if (READ_RELAXED(extent->address) != NULL) return covers(extent, page) ? extent : NULL;
        before -= PAGE_BYTES;
        after += PAGE_BYTES;
    }
    return NULL;
}

void recycle_note(struct pool *pool, const void *start, size_t length, uint16_t flags)
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
            __atomic_fetch_or(&extent->flags, flags, __ATOMIC_RELAXED);
            WRITE_RELAXED(pool->last_noted, extent);
        } else if (flags != EXTENT_HUGE) {
            recycle_watch(pool);
        }
        if (next <= page) break;
        page = next;
        if (steps) steps--;
    }
    if (page < end && flags != EXTENT_HUGE) recycle_watch(pool);
}

static bool has_after(const struct pool *pool, const struct extent *extent)
{
    return space_owns(&pool->heap.space, extent_end(extent));
}

/* One VMA with both neighbours. Before the first block there is a page of the space's own (space.h). */
static bool is_plain(const struct pool *pool, const struct extent *extent)
{
    size_t neighbours = PAGE_BYTES + (has_after(pool, extent) ? PAGE_BYTES : 0);
    return os_is_one_vma((char *)extent->address - PAGE_BYTES, extent_bytes(extent) + neighbours);
}

/* One VMA with one neighbour at least. */
static bool is_joined(const struct pool *pool, const struct extent *extent)
{
    size_t bytes = extent_bytes(extent) + PAGE_BYTES;
    return os_is_one_vma((char *)extent->address - PAGE_BYTES, bytes) ||
           (has_after(pool, extent) && os_is_one_vma(extent->address, bytes));
}

/* There are boundaries. In a forked child new mappings do not merge with old ones, so one on one side alone proves nothing; where
 * several threads touch new memory at once, neighbours may stay apart on both sides. But what a program did can be undone, and then
 * the block merges with its neighbours or turns out to have been replaced. */
static void look_closer(struct pool *pool, struct extent *extent)
{
    bool was_joined = is_joined(pool, extent);
    bool replaced = os_scrub(extent->address, extent_bytes(extent)) > 0;
    bool joined = is_joined(pool, extent);
    if (!was_joined && (joined || replaced)) {
        WRITE_RELAXED(pool->watchful, true);
        if (!tcache_is_big(extent)) watch_bins(pool);
    }
    /* Under a filter munlock may be forbidden; mapping anew forgets everything. */
    if (os_restricted && os_remap_fresh(extent->address, extent_bytes(extent)) == 0) return;
    if (!joined) extent->flags |= EXTENT_HUGE; /* it may have such advice, which goes when the pages go */
}

void recycle_check(struct pool *pool, struct extent *extent)
{
    if (extent->flags & (EXTENT_CHANGED | EXTENT_REPLACED)) {
        mend(extent->address, extent_bytes(extent), extent->flags);
        return;
    }
    if (recycle_begins(pool)) __atomic_store_n(&pool->n_checks, READ_RELAXED(pool->n_checks) + 1, __ATOMIC_RELAXED);
    if (extent->flags & (EXTENT_HUGE | EXTENT_MOVED)) {
        /* A VMA of its own because of what we did to it: nothing can be told, so put it right anyway. */
        os_scrub(extent->address, extent_bytes(extent));
        return;
    }
    if (is_plain(pool, extent)) return;
    if (pool->heap.pinned) return; /* our own mlock */
    look_closer(pool, extent);
}
