/* SPDX-License-Identifier: MIT */
/* watch.c: see watch.h. */
#include "learn/watch.h"

#include "base/time.h"
#include "os/os.h"
#include "cache/tcache.h"

/* Of the samples: so many resident show that a block is filled, so few that it is sparse. */
#define FILLED_SAMPLES (WATCH_SAMPLES - 1)
#define SPARSE_SAMPLES (WATCH_SAMPLES / 2)

/* Marsaglia's xorshift. Two threads may get the same number. */
static uint32_t random_of(struct watch *watch) {
    uint32_t x = READ_RELAXED(watch->random) | 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    WRITE_RELAXED(watch->random, x);
    return x;
}

uint32_t watch_random(struct watch *watch) {
    return random_of(watch);
}

bool watch_one_in(struct watch *watch, uint32_t n) {
    return random_of(watch) % n == 0;
}

/* The i-th sample: a page somewhere in the i-th part of the block. */
static char *sample(const struct watched *block, unsigned i) {
    uint32_t part = block->n_pages / WATCH_SAMPLES;
    uint32_t x = (block->seed + i) * 2654435761u;
    return block->address + ((size_t)(i * part + (x >> 8) % part) << PAGE_SHIFT);
}

/* How many samples are resident; negative if that cannot be told. */
static int n_touched(const struct watched *block) {
    int sum = 0;
    for (unsigned i = 0; i < WATCH_SAMPLES; i++) {
        int n = os_resident_pages(sample(block, i), 1);
        if (n < 0) return n;
        sum += n;
    }
    return sum;
}

static struct watched *find(struct watch *watch, const char *address) {
    for (int i = 0; i < WATCH_BLOCKS; i++)
        if (watch->blocks[i].address == address) return &watch->blocks[i];
    return NULL;
}

static void forget(struct watch *watch, struct watched *block) {
    WRITE_RELAXED(watch->n_open, watch->n_open - !block->done);
    block->address = NULL;
    WRITE_RELAXED(watch->n_watched, watch->n_watched - 1);
}

/* A free entry, or that of the oldest. */
static struct watched *entry_for(struct watch *watch, uint32_t now) {
    struct watched *oldest = &watch->blocks[0];
    for (int i = 0; i < WATCH_BLOCKS; i++) {
        struct watched *block = &watch->blocks[i];
        if (!block->address) {
            oldest = block;
            break;
        }
        bool rather = block->done != oldest->done
                          ? block->done
                          : time_passed_ms(now, block->since_ms) > time_passed_ms(now, oldest->since_ms);
        if (rather) oldest = block;
    }
    if (oldest->address) forget(watch, oldest);
    return oldest;
}

static void begin(struct watch *watch, struct extent *extent, bool marked) {
    if (!lock_try(&watch->lock)) return;
    uint32_t now = os_clock_ms();
    struct watched *block = entry_for(watch, now);
    *block = (struct watched){.address = extent->address,
                              .n_pages = extent->used_pages,
                              .since_ms = now,
                              .seed = random_of(watch),
                              .by = tcache_thread_mark(),
                              .marked = marked};
    WRITE_RELAXED(watch->n_watched, watch->n_watched + 1);
    WRITE_RELAXED(watch->n_open, watch->n_open + 1);
    struct watched copy = *block;
    lock_release(&watch->lock);
    for (unsigned i = 0; i < WATCH_SAMPLES; i++)
        os_purge(sample(&copy, i), PAGE_BYTES);
    extent->flags |= EXTENT_OBSERVE;
}

/* A write to a huge page is a write to all of it. Without one of its pages it is mapped by small ones, and
 * what is not written can go alone. Before it is marked: then the kernel splits it. */
static void break_huge_pages(struct watch *watch, const struct heap *heap, struct extent *extent) {
    if (READ_RELAXED(heap->huge_pages) == HUGE_NEVER) return;
    char *end = (char *)extent->address + extent_active_bytes(extent);
    if (extent->flags & EXTENT_HUGE && os_forbid_huge(extent->address, extent_bytes(extent)) == 0)
        extent->flags &= (uint16_t)~EXTENT_HUGE;
    for (char *unit = (char *)align_up((uintptr_t)extent->address, HUGE_BYTES); unit + HUGE_BYTES <= end;
         unit += HUGE_BYTES)
        os_purge(unit + (random_of(watch) % (HUGE_BYTES >> PAGE_SHIFT) << PAGE_SHIFT), PAGE_BYTES);
}

/* Mark a block as a whole, so that what is not written of it can go. */
static bool mark(struct watch *watch, const struct heap *heap, struct extent *extent) {
    if (READ_RELAXED(heap->cannot_mark)) return false;
    break_huge_pages(watch, heap, extent);
    return os_mark_reclaimable(extent->address, extent_active_bytes(extent)) == 0;
}

/* Advice of an earlier owner must not fill it with huge pages. */
static bool give_whole(struct extent *extent) {
    if (!(extent->flags & EXTENT_HUGE)) return os_purge(extent->address, extent_active_bytes(extent)) == 0;
    if (os_remap_fresh(extent->address, extent_bytes(extent))) return false;
    extent->flags &= (uint16_t)~EXTENT_HUGE;
    return true;
}

/* The block still belongs to whom it was given. */
static bool lives(const struct heap *heap, const struct watched *block) {
    const struct space *space = &heap->space;
    if (!space_owns(space, block->address)) return false;
    const struct extent *extent = space_lookup(space, block->address);
    return READ_RELAXED(extent->address) == block->address && extent_state(extent) == EXTENT_LIVE &&
           READ_RELAXED(extent->n_pages) >= block->n_pages;
}

/* The calling thread's last block of this size, not yet judged; an entry without address if there is none. */
static struct watched own_last(struct watch *watch, size_t n_pages, struct watched **entry) {
    struct watched last = {NULL};
    if (!READ_RELAXED(watch->n_open) || !lock_try(&watch->lock)) return last;
    for (int i = 0; i < WATCH_BLOCKS; i++) {
        struct watched *block = &watch->blocks[i];
        if (!block->address || block->done || block->sparse || block->by != tcache_thread_mark() ||
            log2_floor(block->n_pages) != log2_floor(n_pages))
            continue;
        if (last.address && time_is_later(last.since_ms, block->since_ms)) continue;
        last = *block;
        *entry = block;
    }
    lock_release(&watch->lock);
    return last;
}

/* A thread that asks for the next block has filled the last one, if it fills them. One that is not filled
 * may be filled later, but those before it no longer speak for the next. */
static void look_at_last(struct watch *watch, const struct heap *heap, struct learned_sizes *sizes,
                         size_t n_pages) {
    struct watched *entry = NULL, last = own_last(watch, n_pages, &entry);
    if (!last.address || !lives(heap, &last)) return;
    int n = n_touched(&last);
    if (n < 0) return;
    if (n < FILLED_SAMPLES) {
        fill_doubt_warm(sizes, last.n_pages);
        return;
    }
    if (!lock_try(&watch->lock)) return;
    bool same = entry->address == last.address && entry->seed == last.seed;
    if (same) forget(watch, entry);
    lock_release(&watch->lock);
    if (same) fill_learn_warm(sizes, last.n_pages, true);
}

bool watch_offer(struct watch *watch, const struct heap *heap, struct learned_sizes *sizes,
                 struct extent *extent, size_t fresh_bytes) {
    size_t n_bytes = extent_active_bytes(extent);
    if (os_restricted || n_bytes < WATCH_MIN_BYTES || fresh_bytes >= n_bytes || heap->pinned) return false;
    int habit = fill_habit(sizes, extent->used_pages);
    if (fill_left_empty(sizes, extent->used_pages) && !watch_one_in(watch, FILL_EMPTY_ONE_IN)) return false;
    if (habit < 0 || (habit == 0 && fresh_bytes >= n_bytes / 2)) return give_whole(extent);
    if (!fill_trusts_warm(sizes, extent->used_pages)) look_at_last(watch, heap, sizes, extent->used_pages);
    bool known = fill_trusts_warm(sizes, extent->used_pages);
    if (known && !watch_one_in(watch, WATCH_ONE_IN)) return false;
    /* nobody would notice that it is sparse */
    if (!known && READ_RELAXED(watch->n_watched) >= WATCH_BLOCKS) return give_whole(extent);
    begin(watch, extent, !known && mark(watch, heap, extent));
    return false;
}

bool watch_returned(struct watch *watch, struct learned_sizes *sizes, const struct extent *extent) {
    if (os_restricted || !READ_RELAXED(watch->n_watched) || !lock_try(&watch->lock)) return false;
    struct watched *block = find(watch, extent->address);
    struct watched copy = {NULL};
    if (block) {
        copy = *block;
        forget(watch, block);
    }
    lock_release(&watch->lock);
    if (!copy.address || copy.n_pages > extent->n_pages) return false;
    int n = n_touched(&copy);
    if (n >= 0) fill_learn_warm(sizes, copy.n_pages, n >= FILLED_SAMPLES);
    return true;
}

/* Without the lock: look at one block, and give back a step of it if it is sparse. Returns what becomes of
 * its entry. */
static struct watched looked_at(const struct heap *heap, struct learned_sizes *sizes, struct watched block) {
    if (!lives(heap, &block)) return (struct watched){NULL};
    if (!block.sparse) {
        int n = n_touched(&block);
        if (n >= FILLED_SAMPLES) {
            fill_learn_warm(sizes, block.n_pages, true);
            return (struct watched){NULL};
        }
        block.sparse = block.marked && n >= 0 && n <= SPARSE_SAMPLES;
        /* it may still be being filled: what it teaches is learned when it comes back */
        block.done = !block.sparse;
    }
    if (block.sparse && !block.done) {
        size_t left = (size_t)(block.n_pages - block.given_pages) << PAGE_SHIFT,
               step = min_size(left, WATCH_STEP_BYTES);
        os_give_unwritten(block.address + ((size_t)block.given_pages << PAGE_SHIFT), step);
        block.given_pages += (uint32_t)(step >> PAGE_SHIFT);
        block.done = step == left;
    }
    return block;
}

/* With the lock: the first entry that is to be looked at now, or NULL; *wait falls to when others are. */
static struct watched *due(struct watch *watch, uint32_t now_ms, unsigned *wait) {
    for (int i = 0; i < WATCH_BLOCKS; i++) {
        struct watched *block = &watch->blocks[i];
        if (!block->address || block->done) continue;
        uint32_t age = time_passed_ms(now_ms, block->since_ms);
        if (age >= WATCH_AFTER_MS) return block;
        *wait = time_sooner(WATCH_AFTER_MS - age, *wait);
    }
    return NULL;
}

/* One block. */
static unsigned tick_one(struct watch *watch, const struct heap *heap, struct learned_sizes *sizes,
                         uint32_t now_ms) {
    unsigned wait = 0;
    if (!lock_try(&watch->lock)) return WATCH_AFTER_MS;
    struct watched *block = due(watch, now_ms, &wait);
    struct watched before = block ? *block : (struct watched){NULL};
    lock_release(&watch->lock);
    if (!before.address) return wait;
    struct watched after = looked_at(heap, sizes, before);
    if (!lock_try(&watch->lock)) return 1;
    /* The entry may have been forgotten, or taken for another block, meanwhile. */
    if (block->address == before.address && block->seed == before.seed) {
        WRITE_RELAXED(watch->n_open, watch->n_open - (before.done != after.done || !after.address));
        if (!after.address) WRITE_RELAXED(watch->n_watched, watch->n_watched - 1);
        *block = after;
    }
    lock_release(&watch->lock);
    return 1; /* there may be more to do */
}

unsigned watch_tick(struct watch *watch, const struct heap *heap, struct learned_sizes *sizes,
                    uint32_t now_ms) {
    unsigned wait = 0;
    if (os_restricted) return 0;
    for (int i = 0; i < WATCH_LOOKS && READ_RELAXED(watch->n_open); i++)
        if ((wait = tick_one(watch, heap, sizes, now_ms)) != 1) break;
    return wait;
}
