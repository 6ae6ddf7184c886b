/* SPDX-License-Identifier: MIT */
/* zero_fresh.c: are blocks of untouched memory filled? See zero.h. */
#include "pool/zero.h"
#include "pool/zero_inner.h"

#include "sync/options.h"
#include "os/os.h"
#include "heap/heap_fresh.h"
#include "learn/sample.h"

/* Of smaller fresh blocks only some are looked at: the call would show beside their faults. */
#define OBSERVE_MIN_BYTES MIB
#define OBSERVE_MIN_AHEAD_BYTES MIB
#define OBSERVE_MIN_ZEROED_BYTES (256 * KIB)
#define FRESH_SMALL_EVERY 4
/* Of SAMPLE_PAGES probes: from here on a block counts as filled enough for memset, and as filled whole. */
#define DENSE_PROBES 14
#define FULL_PROBES 15
/* Of the fresh blocks that might be made resident beforehand, so many-th is not, to see whether they still
 * are filled. */
#define FRESH_PROBE_EVERY 8
/* Filled blocks in a row before others are made resident beforehand. */
#define AHEAD_VOTES 2
/* Such a block counts as not filled if nothing is in it when it is the last but one. */
#define AHEAD_LOOK_BACK 2
/* That of another thread is no longer waited for when it is this one. */
#define AHEAD_GIVE_UP 16
/* And blocks of which less was untouched show nothing: most of their pages were there before. */
#define FRESH_SHARE 4

/* Whose block is it? A thread that asks for another block has had its time with the last one; others have
 * not, they may just be filling theirs, or wait for a processor. */
static bool is_own(_Atomic uint16_t *by) {
    return atomic_load_explicit(by, memory_order_relaxed) == tcache_thread_mark();
}

/* The same for one that was left as it was. */
static void learn_seen(struct learned *learned, bool filled) {
    if (filled) fill_used(learned);
    habit_saw(&learned->malloced, filled, LEAST_PENALTY);
}

bool zero_wants_huge(struct pool *pool, size_t n_pages, bool zeroed) {
    if (pool->huge == SWITCH_OFF || n_pages < HUGE_MIN_BYTES >> PAGE_SHIFT) return false;
    if (pool->huge == SWITCH_ON && !zeroed) return true;
    struct learned *learned = learned_of(pool, n_pages);
    struct habit *habit = zeroed ? &learned->zeroed : &learned->malloced;
    if (habit_filled(habit) <= 0 || READ_RELAXED(habit->is_on_trial)) return false;
    if (!zeroed && habit_wants_trial(habit)) {
        habit_begin_trial(habit);
        return false;
    }
    return true;
}

bool zero_is_proven(const struct pool *pool, size_t n_pages, bool zeroed) {
    if (os_restricted || n_pages < ZERO_UNPROVEN_BYTES >> PAGE_SHIFT) return true;
    const struct learned *learned = &pool->learned.size[log2_floor(n_pages)];
    return habit_filled(zeroed ? &learned->zeroed : &learned->malloced) > 0;
}

bool zero_expects_filled(struct pool *pool, size_t n_pages, bool zeroed) {
    /* Of zeroed blocks half a block counts as filled (DENSE_PROBES), which is not enough here. The largest
     * blocks get huge pages as they are touched (zero_wants_huge). */
    if (zeroed || pool->huge == SWITCH_OFF || pool->heap.pinned || n_pages >= HUGE_MIN_BYTES >> PAGE_SHIFT)
        return false;
    if (READ_RELAXED(pool->heap.several_nodes) && n_pages > FRESH_NODE_MAX_BYTES >> PAGE_SHIFT) return false;
    struct learned *learned = learned_of(pool, n_pages);
    struct habit *habit = &learned->malloced;
    /* After a sparse block its penalty has seen to that; where nobody looks inside one more is wanted. */
    bool looked_inside = n_pages >= OBSERVE_MIN_AHEAD_BYTES >> PAGE_SHIFT;
    if (habit_filled(habit) < (looked_inside && READ_RELAXED(habit->penalty) ? 1 : AHEAD_VOTES)) return false;
    if (READ_RELAXED(habit->is_on_trial)) return false;
    size_t ahead = (size_t)atomic_load_explicit(&learned->ahead_pages, memory_order_relaxed) << PAGE_SHIFT;
    if (ahead > max_size(AHEAD_MIN_BYTES, READ_RELAXED(pool->heap.active_bytes) >> AHEAD_SHARE_LOG2))
        return false;
    if (habit_wants_trial(habit)) {
        habit_begin_trial(habit);
        return false;
    }
    return (looked_inside && READ_RELAXED(habit->n_right) == 0) ||
           !watch_one_in(&pool->watch, FRESH_PROBE_EVERY);
}

/* 1 if all pages of a block are resident, 0 if not, negative if that cannot be told. A page or two at the end
 * of a class are never asked for. */
static int filled_whole(struct pool *pool, void *address, size_t n_pages) {
    if (n_pages > OS_RESIDENT_MAX)
        return sample_resident(address, n_pages, FULL_PROBES, watch_random(&pool->watch));
    int n = os_resident_pages(address, n_pages);
    return n < 0 ? n : n >= (int)(n_pages - n_pages / 16);
}

/* What is in a block that was made resident, or has huge pages, tells whether it was written. Also of a block
 * that somebody else may be freeing. True if it was. */
static bool look_inside(struct pool *pool, struct habit *habit, void *address, size_t n_pages,
                        uint8_t least_penalty) {
    int written = sample_peek_written(address, n_pages, watch_random(&pool->watch));
    if (written >= 0) habit_saw_contents(habit, written, least_penalty);
    return written > 0;
}

/* A block noted by note_fresh, if it is still out: NULL if it has been freed, zero_observe has seen it. */
static struct extent *noted(struct pool *pool, uint64_t block) {
    block &= ~LEFT_HUGE;
    void *address = (void *)(pool->heap.space.base + ((size_t)(block >> LAST_FRESH_SHIFT) << PAGE_SHIFT));
    struct extent *extent = space_lookup(&pool->heap.space, address);
    return block_number(pool, extent) == block && extent_state(extent) == EXTENT_LIVE ? extent : NULL;
}

static size_t noted_pages(uint64_t block) {
    return block & (((uint64_t)1 << LAST_FRESH_SHIFT) - 1);
}

/* Has the block noted there been filled? 1 yes, 0 no, negative if there is none or that cannot be told, and
 * then it is forgotten. */
static int is_filled(struct pool *pool, struct learned *learned, _Atomic uint64_t *entry) {
    uint64_t block = atomic_load_explicit(entry, memory_order_relaxed);
    if (!block) return -1;
    struct extent *extent = noted(pool, block);
    int filled = -1;
    if (extent) {
        void *address = READ_RELAXED(extent->address);
        size_t n_pages = noted_pages(block);
        filled = habit_filled(&learned->malloced) > 0
                     ? 1
                     : sample_one_resident(address, n_pages, watch_random(&pool->watch));
        if (filled > 0) filled = filled_whole(pool, address, n_pages);
    } else {
        WRITE_RELAXED(learned->malloced.is_on_trial, false);
    }
    if (filled < 0) atomic_store_explicit(entry, 0, memory_order_relaxed);
    return filled;
}

/* That is what has become of the block noted there. */
static void learn_left(struct pool *pool, struct learned *learned, _Atomic uint64_t *entry, bool filled) {
    uint64_t block = atomic_load_explicit(entry, memory_order_relaxed);
    struct extent *extent = block ? noted(pool, block) : NULL;
    atomic_store_explicit(entry, 0, memory_order_relaxed);
    if (!extent) return;
    void *address = READ_RELAXED(extent->address);
    size_t n_pages = noted_pages(block);
    if (!filled || !(block & LEFT_HUGE))
        learn_seen(learned, filled);
    else
        filled = look_inside(pool, &learned->malloced, address, n_pages, LEAST_PENALTY);
    if (filled) heap_prove_seen(&pool->heap, extent, address, n_pages);
}

/* Were the blocks that were left as they were filled meanwhile? The one handed out last may not have been
 * written yet: it speaks for filling, and then those before it had their time; or it says nothing. The one
 * before that is reason for a trial, and the one before that speaks against filling. What another thread has
 * not filled says nothing. Reads without a lock: at worst one wrong vote. */
static void look_at_left(struct pool *pool, struct learned *learned, uint16_t n_fresh) {
    struct habit *habit = &learned->malloced;
    _Atomic uint64_t *entries[LOOK_BACK_BLOCKS];
    bool own[LOOK_BACK_BLOCKS];
    for (unsigned age = 0; age < LOOK_BACK_BLOCKS; age++) {
        unsigned at = (uint16_t)(n_fresh - age) % LOOK_BACK_BLOCKS;
        entries[age] = &learned->left[at];
        own[age] = is_own(&learned->left_by[at]);
    }
    int last = is_filled(pool, learned, entries[0]);
    int filled = is_filled(pool, learned, entries[2]);
    if (filled > 0 || (filled == 0 && own[2])) learn_left(pool, learned, entries[2], filled);
    if (last <= 0 && habit_filled(habit) <= 0) return;
    filled = is_filled(pool, learned, entries[1]);
    bool unfilled = filled == 0 && own[1];
    if (filled > 0 || (unfilled && last > 0))
        learn_left(pool, learned, entries[1], filled);
    else if (unfilled && !READ_RELAXED(habit->is_on_trial))
        habit_saw_contents(habit, false, LEAST_PENALTY);
    if (last > 0) learn_left(pool, learned, entries[0], true);
}

/* The same for one that was made resident beforehand. */
static void look_at_ahead(struct pool *pool, struct learned *learned, uint16_t n_next) {
    uint64_t block = atomic_load_explicit(&learned->last_ahead, memory_order_relaxed);
    if (!block) return;
    struct extent *extent = noted(pool, block);
    uint16_t age =
        (uint16_t)(n_next - atomic_load_explicit(&learned->last_ahead_number, memory_order_relaxed));
    bool old = age >= AHEAD_LOOK_BACK && is_own(&learned->last_ahead_by);
    int written = -1;
    if (extent)
        written = sample_peek_written(READ_RELAXED(extent->address), noted_pages(block),
                                      watch_random(&pool->watch));
    if (written > 0) fill_used(learned);
    if (written > 0 || (written == 0 && old)) habit_saw_contents(&learned->malloced, written, LEAST_PENALTY);
    if (written != 0 || old || age >= AHEAD_GIVE_UP)
        atomic_store_explicit(&learned->last_ahead, 0, memory_order_relaxed);
}

void zero_look_back(struct pool *pool, size_t n_pages) {
    struct learned *learned = learned_of(pool, n_pages);
    uint16_t n_fresh = atomic_load_explicit(&learned->n_fresh, memory_order_relaxed);
    if (n_fresh == atomic_load_explicit(&learned->n_looked, memory_order_relaxed) || os_restricted) return;
    atomic_store_explicit(&learned->n_looked, n_fresh, memory_order_relaxed);
    look_at_left(pool, learned, n_fresh);
    look_at_ahead(pool, learned, (uint16_t)(n_fresh + 1));
}

/* Note a block to be looked at when others are handed out. One that was made resident and is waiting for its
 * look is not replaced by a younger one. Of small ones that are known to be sparse only some are noted. */
static void note_fresh(struct pool *pool, struct learned *learned, const struct extent *extent,
                       uint16_t n_fresh) {
    uint64_t block = block_number(pool, extent);
    if (!(extent->flags & EXTENT_POPULATED)) {
        bool wanted = extent_bytes(extent) >= OBSERVE_MIN_BYTES || habit_filled(&learned->malloced) >= 0 ||
                      watch_one_in(&pool->watch, FRESH_SMALL_EVERY);
        if (extent->flags & EXTENT_HUGE) block |= LEFT_HUGE;
        if (!wanted) return;
        unsigned at = n_fresh % LOOK_BACK_BLOCKS;
        atomic_store_explicit(&learned->left[at], block, memory_order_relaxed);
        atomic_store_explicit(&learned->left_by[at], tcache_thread_mark(), memory_order_relaxed);
    } else if (!atomic_load_explicit(&learned->last_ahead, memory_order_relaxed)) {
        atomic_store_explicit(&learned->last_ahead, block, memory_order_relaxed);
        atomic_store_explicit(&learned->last_ahead_number, n_fresh, memory_order_relaxed);
        atomic_store_explicit(&learned->last_ahead_by, tcache_thread_mark(), memory_order_relaxed);
    }
}

void zero_mark_fresh(struct pool *pool, struct extent *extent, size_t fresh_bytes, bool zeroed) {
    struct learned *learned = learned_of(pool, extent->n_pages);
    bool whole = extent->flags & EXTENT_ZERO;
    bool ahead = extent->flags & EXTENT_POPULATED;
    bool shows = ahead ? whole && extent_bytes(extent) >= OBSERVE_MIN_AHEAD_BYTES
                       : fresh_bytes >= extent_bytes(extent) / FRESH_SHARE;
    bool large = extent_bytes(extent) >= (zeroed ? OBSERVE_MIN_ZEROED_BYTES : OBSERVE_MIN_BYTES);
    if (ahead) {
        uint32_t pages = atomic_load_explicit(&learned->ahead_pages, memory_order_relaxed);
        atomic_store_explicit(&learned->ahead_pages, pages + (uint32_t)(fresh_bytes >> PAGE_SHIFT),
                              memory_order_relaxed);
    }
    if (!zeroed) {
        uint16_t n_fresh = (uint16_t)(atomic_load_explicit(&learned->n_fresh, memory_order_relaxed) + 1);
        atomic_store_explicit(&learned->n_fresh, n_fresh, memory_order_relaxed);
        atomic_store_explicit(&learned->left[n_fresh % LOOK_BACK_BLOCKS], 0, memory_order_relaxed);
        if (shows) note_fresh(pool, learned, extent, n_fresh);
        large = large || watch_one_in(&pool->watch, FRESH_PROBE_EVERY);
    }
    if (shows && whole && large) extent->flags |= EXTENT_OBSERVE | (zeroed ? EXTENT_CALLOC : 0);
    if (!(extent->flags & EXTENT_OBSERVE)) extent->flags &= (uint16_t)~EXTENT_POPULATED;
}

/* A block that was made resident beforehand comes back, and has not been looked at. */
static void observe_ahead(struct pool *pool, struct extent *extent) {
    struct learned *learned = learned_of(pool, extent->n_pages);
    uint64_t block = block_number(pool, extent);
    if (atomic_load_explicit(&learned->last_ahead, memory_order_relaxed) != block) return;
    atomic_store_explicit(&learned->last_ahead, 0, memory_order_relaxed);
    if (look_inside(pool, &learned->malloced, extent->address, extent->n_pages, LEAST_PENALTY))
        fill_used(learned);
}

/* Is not one page of it resident? */
static bool is_untouched(const struct extent *extent) {
    size_t n_pages = extent->used_pages;
    for (size_t done = 0; done < n_pages; done += OS_RESIDENT_MAX)
        if (os_resident_pages((char *)extent->address + (done << PAGE_SHIFT), n_pages - done) != 0)
            return false;
    return true;
}

void zero_observe(struct pool *pool, struct extent *extent) {
    if (os_restricted) return;
    if (extent->flags & EXTENT_POPULATED) {
        observe_ahead(pool, extent);
        return;
    }
    struct learned *learned = learned_of(pool, extent->n_pages);
    bool zeroed = extent->flags & EXTENT_CALLOC;
    struct habit *habit = zeroed ? &pool->callers.habits[extent->caller % ZERO_CALLERS] : &learned->malloced;
    /* Where blocks are known to be sparse a single look is enough as a rule. */
    bool rather_not = READ_RELAXED(habit->is_known) && habit_filled(habit) <= 0;
    if (!zeroed && fill_left_empty(&pool->learned, extent->n_pages) &&
        !watch_one_in(&pool->watch, FILL_EMPTY_ONE_IN))
        return;
    int filled =
        rather_not ? sample_one_resident(extent->address, extent->n_pages, watch_random(&pool->watch)) : 1;
    if (!zeroed && rather_not && extent->used_pages <= FILL_EMPTY_MAX_PAGES)
        fill_learn_empty(learned, filled == 0 && is_untouched(extent));
    if (filled > 0)
        filled = zeroed ? sample_resident(extent->address, extent->n_pages, DENSE_PROBES,
                                          watch_random(&pool->watch))
                        : filled_whole(pool, extent->address, extent->n_pages);
    if (filled < 0) return;
    if (filled && extent->flags & EXTENT_HUGE) {
        look_inside(pool, habit, extent->address, extent->n_pages,
                    zeroed ? LEAST_PENALTY_CALLER : LEAST_PENALTY);
        return;
    }
    if (!zeroed) {
        learn_seen(learned, filled);
        return;
    }
    habit_saw(habit, filled, LEAST_PENALTY_CALLER);
    habit_learn(&learned->zeroed, filled, LEAST_PENALTY);
    if (!filled) zero_note_use(pool, extent, ZERO_LEFT_EMPTY);
}
