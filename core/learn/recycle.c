/* SPDX-License-Identifier: MIT */
/* recycle.c: finding and undoing what a program did to memory it returned. See recycle.h. */
#include "learn/recycle.h"

#include "os/os.h"

static struct heap *heap_of(const struct recycle *recycle) {
    return recycle->caches->shards->heap;
}

/* The bins of thread caches, and the slot before them, take and give without asking, but not beyond their
 * limit: with a lower one, no block of a size that is watched fits. An owner that sets up its cache at this
 * moment reads the new limit from the pool. */
static void watch_bins(struct recycle *recycle) {
    size_t limit = RECYCLE_MIN_BYTES - 1;
    size_t before = READ_RELAXED(recycle->caches->limit_bytes);
    if (before <= limit) return;
    WRITE_RELAXED(recycle->unwatched_limit_bytes, before);
    WRITE_RELAXED(recycle->caches->limit_bytes, limit);
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        if (READ_RELAXED(tcache->caches) == recycle->caches) tcache_set_limit(tcache, limit);
}

static void watch(struct recycle *recycle, bool bins_too) {
    WRITE_RELAXED(recycle->check_every_free, RECYCLE_QUIET);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with that in is_quiet */
    if (bins_too) watch_bins(recycle);
}

void recycle_watch(struct recycle *recycle) {
    watch(recycle, false);
    tcache_disturb(recycle->caches);
    watch_bins(recycle);
}

/* A check has found nothing that the program did. */
static void is_quiet(struct recycle *recycle) {
    uint32_t n = READ_RELAXED(recycle->check_every_free);
    if (!n ||
        !__atomic_compare_exchange_n(&recycle->check_every_free, &n, n - 1, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_RELAXED) ||
        n > 1)
        return;
    size_t limit = READ_RELAXED(recycle->unwatched_limit_bytes);
    if (limit) WRITE_RELAXED(recycle->caches->limit_bytes, limit); /* caches adopt it when they are full */
    atomic_thread_fence(memory_order_seq_cst);
    if (READ_RELAXED(recycle->check_every_free)) watch_bins(recycle); /* again, by another thread */
}

/* What was changed is known: no need to ask. Of a live block, from one page on. */
static void mend(struct recycle *recycle, struct extent *extent, size_t first_page) {
    char *address = (char *)extent->address + (first_page << PAGE_SHIFT);
    size_t n_bytes = extent_bytes(extent) - (first_page << PAGE_SHIFT);
    /* Under a filter not all can be undone by name. */
    if ((extent->flags & EXTENT_REPLACED || os_restricted) && os_remap_fresh(address, n_bytes) == 0) return;
    bool is_asked =
        extent->flags & (EXTENT_CHECK | EXTENT_REPLACED) || READ_RELAXED(recycle->check_every_free);
    if (!is_asked && extent->flags & EXTENT_CHANGED && extent->changed_pages) {
        /* the block may have become smaller since */
        size_t from = max_size(extent->changed_from, first_page);
        size_t end = min_size((size_t)extent->changed_from + extent->changed_pages, extent->n_pages);
        if (from >= end || os_make_accessible((char *)extent->address + (from << PAGE_SHIFT),
                                              (end - from) << PAGE_SHIFT) == 0)
            return;
    }
    os_scrub(address, n_bytes);
}

void recycle_mend_tail(struct recycle *recycle, struct extent *extent, size_t n_pages) {
    if (extent->flags & (EXTENT_CHANGED | EXTENT_REPLACED) || READ_RELAXED(recycle->check_every_free))
        mend(recycle, extent, n_pages);
}

/* A range that covers more blocks than this is more than a program knows of. */
#define NOTE_BLOCKS 65536

/* The address is read again: a descriptor that is being used for something else has had another one, or none,
 * in between. */
static bool covers(const struct extent *extent, uintptr_t page) {
    void *address = __atomic_load_n(&extent->address, __ATOMIC_ACQUIRE);
    size_t n_pages = __atomic_load_n(&extent->n_pages, __ATOMIC_ACQUIRE);
    return address && page - (uintptr_t)address < n_pages << PAGE_SHIFT &&
           READ_RELAXED(extent->address) == address;
}

/* What is noted: flags, or that the protection was changed or put back. */
struct note {
    enum { FLAGS, PROTECTED, UNPROTECTED } kind;
    uint16_t flags;
};

/* The last word of a descriptor: what is known of a live block's changes. */
union change {
    uint64_t word;
    struct {
        uint16_t flags, n_pages;
        uint32_t from;
    };
};
_Static_assert(sizeof(union change) == sizeof(uint64_t), "one word");

static void protect(union change *change, size_t from, size_t end) {
    if (change->flags & EXTENT_CHANGED) {
        if (!change->n_pages) return;
        from = min_size(from, change->from);
        end = max_size(end, (size_t)change->from + change->n_pages);
    }
    change->flags |= EXTENT_CHANGED;
    change->from = (uint32_t)from;
    change->n_pages = end - from <= UINT16_MAX ? (uint16_t)(end - from) : 0;
}

/* What is left in between of several guards stays noted. */
static void unprotect(union change *change, size_t from, size_t end) {
    size_t begins = change->from, ends = begins + change->n_pages;
    if (!(change->flags & EXTENT_CHANGED) || !change->n_pages || end <= begins || from >= ends) return;
    if (from > begins && end < ends) return;
    if (from <= begins) begins = min_size(end, ends);
    if (end >= ends) ends = max_size(from, begins);
    change->from = (uint32_t)begins;
    change->n_pages = (uint16_t)(ends - begins);
    if (begins == ends) change->flags &= (uint16_t)~EXTENT_CHANGED;
}

/* Pages [from, end) of a live block. */
static void mark(struct extent *extent, const struct note *note, size_t from, size_t end) {
    uint64_t *word = (uint64_t *)(void *)&extent->flags;
    union change old = {.word = __atomic_load_n(word, __ATOMIC_RELAXED)}, new;
    do {
        new = old;
        if (note->kind == PROTECTED) protect(&new, from, end);
        if (note->kind == UNPROTECTED) unprotect(&new, from, end);
        if (note->flags & EXTENT_CHANGED) new.n_pages = 0;
        new.flags |= note->flags;
    } while (new.word != old.word && !__atomic_compare_exchange_n(word, &old.word, new.word, false,
                                                                  __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

static void note_range(struct recycle *recycle, const void *start, size_t length, const struct note *note) {
    struct space *space = &heap_of(recycle)->space;
    bool is_harmless = note->kind == UNPROTECTED || (note->kind == FLAGS && note->flags == EXTENT_HUGE);
    uintptr_t end = space->base + atomic_load_explicit(&space->span, memory_order_relaxed);
    uintptr_t page = align_down((uintptr_t)start, PAGE_BYTES);
    if (length < UINTPTR_MAX - (uintptr_t)start)
        end = min_size(end, align_up((uintptr_t)start + length, PAGE_BYTES));
    page = max_size(page, space->base);
    size_t n_blocks = 0;
    while (page < end && n_blocks++ < NOTE_BLOCKS) {
        /* A program that changes a block piece by piece finds it again at once. A live block that covers the
         * page is the page's own: whoever gave a part of it back did so before anybody could get that
         * part. */
        struct extent *extent = READ_RELAXED(recycle->last_noted);
        if (!extent || extent_state(extent) != EXTENT_LIVE || !covers(extent, page))
            extent = space_find(space, (void *)page);
        if (!extent || !covers(extent, page)) break;
        uintptr_t begins = (uintptr_t)extent->address, ends = (uintptr_t)extent_end(extent);
        if (extent_state(extent) == EXTENT_LIVE) {
            mark(extent, note, (page - begins) >> PAGE_SHIFT, (min_size(end, ends) - begins) >> PAGE_SHIFT);
            WRITE_RELAXED(recycle->last_noted, extent);
        } else if (!is_harmless) {
            recycle_watch(recycle);
        }
        if (ends <= page) break;
        page = ends;
    }
    if (page < end && !is_harmless) recycle_watch(recycle);
}

void recycle_note(struct recycle *recycle, const void *start, size_t length, uint16_t flags) {
    note_range(recycle, start, length, &(struct note){.kind = FLAGS, .flags = flags});
}

void recycle_note_protection(struct recycle *recycle, const void *start, size_t length, bool undone) {
    note_range(recycle, start, length, &(struct note){.kind = undone ? UNPROTECTED : PROTECTED});
}

static bool has_after(const struct recycle *recycle, const struct extent *extent) {
    return space_owns(&heap_of(recycle)->space, extent_end(extent));
}

/* One VMA with both neighbours. Before the first block there is a page of the space's own (space.h). */
static bool is_plain(const struct recycle *recycle, const struct extent *extent) {
    size_t neighbours = PAGE_BYTES + (has_after(recycle, extent) ? PAGE_BYTES : 0);
    return os_is_one_vma((char *)extent->address - PAGE_BYTES, extent_bytes(extent) + neighbours);
}

/* One VMA with one neighbour at least. */
static bool is_joined(const struct recycle *recycle, const struct extent *extent) {
    size_t bytes = extent_bytes(extent) + PAGE_BYTES;
    return os_is_one_vma((char *)extent->address - PAGE_BYTES, bytes) ||
           (has_after(recycle, extent) && os_is_one_vma(extent->address, bytes));
}

/* There are boundaries. In a forked child new mappings do not merge with old ones, so one on one side alone
 * proves nothing; where several threads touch new memory at once, neighbours may stay apart on both sides.
 * But what a program did can be undone, and then the block merges with its neighbours or turns out to have
 * been replaced. */
static void look_closer(struct recycle *recycle, struct extent *extent) {
    bool was_joined = is_joined(recycle, extent);
    bool replaced = os_scrub(extent->address, extent_bytes(extent)) > 0;
    bool joined = is_joined(recycle, extent);
    if (!was_joined && (joined || replaced))
        watch(recycle, !tcache_is_big(extent));
    else
        is_quiet(recycle);
    /* Under a filter munlock may be forbidden; mapping anew forgets everything. */
    if (os_restricted && os_remap_fresh(extent->address, extent_bytes(extent)) == 0) return;
    if (!joined) extent->flags |= EXTENT_HUGE; /* it may have such advice, which goes when the pages go */
}

void recycle_check(struct recycle *recycle, struct extent *extent) {
    if (extent->flags & (EXTENT_CHANGED | EXTENT_REPLACED)) {
        mend(recycle, extent, 0);
        return;
    }
    if (recycle_begins(recycle))
        __atomic_store_n(&recycle->n_checks, READ_RELAXED(recycle->n_checks) + 1, __ATOMIC_RELAXED);
    if (extent->flags & (EXTENT_HUGE | EXTENT_MOVED)) {
        /* A VMA of its own because of what we did to it: nothing can be told, so put it right anyway. */
        os_scrub(extent->address, extent_bytes(extent));
        is_quiet(recycle);
        return;
    }
    if (is_plain(recycle, extent) || heap_of(recycle)->pinned) /* our own mlock */
        is_quiet(recycle);
    else
        look_closer(recycle, extent);
}
