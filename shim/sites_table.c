/* SPDX-License-Identifier: MIT */
/* sites_table.c: see sites_table.h. */
#include "sites_table.h"

#include "base/bits.h"

#include <string.h>

#define RELAXED memory_order_relaxed

/* --- stacks --- */

static uint64_t hash_of(const uint64_t *frames, unsigned n) {
    uint64_t hash = n + 1;
    for (unsigned i = 0; i < n; i++) {
        hash = (hash ^ frames[i]) * 0x9E3779B97F4A7C15ull;
        hash ^= hash >> 29;
    }
    hash *= 0xBF58476D1CE4E5B9ull;
    hash ^= hash >> 32;
    return hash ? hash : 1;
}

/* The frames of a slot that this thread has claimed. False: no room, and nobody will look for them. */
static bool store_frames(struct sites *sites, struct sites_stack *stack, const uint64_t *frames, unsigned n,
                         bool is_cut) {
    uint32_t at = atomic_fetch_add_explicit(&sites->n_frames, n, RELAXED);
    if (at > SITES_FRAMES - n) {
        atomic_fetch_sub_explicit(&sites->n_frames, n, RELAXED);
        return false;
    }
    memcpy(sites->frames + at, frames, n * sizeof *frames);
    stack->n_frames = (uint16_t)n;
    stack->is_cut = is_cut;
    atomic_store_explicit(&stack->frames_at, at + 1, memory_order_release);
    return true;
}

uint32_t sites_find_stack(struct sites *sites, const uint64_t *frames, unsigned n, bool is_cut) {
    uint64_t hash = hash_of(frames, n);
    for (uint32_t tried = 0, at = (uint32_t)hash % SITES_STACKS; tried < SITES_PROBES;
         tried++, at = (at + 1) % SITES_STACKS) {
        struct sites_stack *stack = &sites->stacks[at];
        uint64_t seen = atomic_load_explicit(&stack->hash, RELAXED);
        /* A slot whose frames found no room stays without: whoever looks for it again is lost, too. */
        if (seen == 0 && atomic_load_explicit(&sites->n_frames, RELAXED) + n > SITES_FRAMES) break;
        if (seen == 0 &&
            atomic_compare_exchange_strong_explicit(&stack->hash, &seen, hash, RELAXED, RELAXED)) {
            if (store_frames(sites, stack, frames, n, is_cut)) return at;
            break;
        }
        if (seen == hash) return at;
    }
    return SITES_STACKS;
}

/* --- blocks --- */

/* The first place of the bucket number `which` of an address. */
static inline uint32_t bucket_of(uint64_t key, unsigned which) {
    uint64_t mixed = (key >> 4) * 0x9E3779B97F4A7C15ull;
    return (uint32_t)((mixed >> (which ? 40 : 16)) % (SITES_BLOCKS / SITES_BUCKET)) * SITES_BUCKET;
}

static bool insert(struct sites *sites, const void *address, const struct sites_block *block) {
    uint64_t key = (uint64_t)(uintptr_t)address;
    for (unsigned which = 0; which < 2; which++) {
        uint32_t first = bucket_of(key, which);
        for (uint32_t at = first; at < first + SITES_BUCKET; at++) {
            uint64_t empty = 0;
            if (atomic_load_explicit(&sites->keys[at], RELAXED) != 0) continue;
            /* Acquires what the clearing store released: who was here before has read the block. */
            if (!atomic_compare_exchange_strong_explicit(&sites->keys[at], &empty, key, memory_order_acquire,
                                                         RELAXED))
                continue;
            sites->blocks[at] = *block;
            return true;
        }
    }
    return false;
}

bool sites_take(struct sites *sites, const void *address, struct sites_block *out) {
    uint64_t key = (uint64_t)(uintptr_t)address;
    for (unsigned which = 0; which < 2; which++) {
        uint32_t first = bucket_of(key, which);
        for (uint32_t at = first; at < first + SITES_BUCKET; at++) {
            if (atomic_load_explicit(&sites->keys[at], RELAXED) != key) continue;
            *out = sites->blocks[at];
            atomic_store_explicit(&sites->keys[at], 0, memory_order_release);
            return true;
        }
    }
    return false;
}

/* --- sums --- */

static void note_peak(struct sites *sites, struct sites_stack *stack) {
    uint64_t number = atomic_load_explicit(&sites->peak_number, RELAXED);
    if (atomic_load_explicit(&stack->peak_number, RELAXED) == number) return;
    atomic_store_explicit(&stack->peak_bytes, atomic_load_explicit(&stack->live_bytes, RELAXED), RELAXED);
    atomic_store_explicit(&stack->peak_number, number, RELAXED);
}

uint64_t sites_at_peak(const struct sites *sites, const struct sites_stack *stack) {
    bool noted = atomic_load_explicit(&stack->peak_number, RELAXED) ==
                 atomic_load_explicit(&sites->peak_number, RELAXED);
    return atomic_load_explicit(noted ? &stack->peak_bytes : &stack->live_bytes, RELAXED);
}

static void count_live(struct sites *sites, struct sites_stack *stack, uint64_t bytes) {
    note_peak(sites, stack);
    atomic_fetch_add_explicit(&stack->live_bytes, bytes, RELAXED);
    uint64_t live = atomic_fetch_add_explicit(&sites->live_bytes, bytes, RELAXED) + bytes;
    uint64_t peak = atomic_load_explicit(&sites->peak_bytes, RELAXED);
    while (live > peak) {
        if (!atomic_compare_exchange_weak_explicit(&sites->peak_bytes, &peak, live, RELAXED, RELAXED))
            continue;
        atomic_fetch_add_explicit(&sites->peak_number, 1, RELAXED);
        break;
    }
}

static void count_gone(struct sites *sites, struct sites_stack *stack, uint64_t bytes) {
    note_peak(sites, stack);
    atomic_fetch_sub_explicit(&stack->live_bytes, bytes, RELAXED);
    atomic_fetch_sub_explicit(&sites->live_bytes, bytes, RELAXED);
}

void sites_add(struct sites *sites, const void *address, const struct sites_block *block,
               uint64_t mapped_bytes) {
    struct sites_stack *stack = &sites->stacks[block->stack];
    uint64_t bytes = sites_weighted(block->bytes, block->weight);
    sites_sum(&stack->calls, block->weight);
    sites_sum(&stack->bytes, bytes);
    sites_sum(&stack->mapped_bytes, sites_weighted(mapped_bytes, block->weight));
    if (insert(sites, address, block))
        count_live(sites, stack, bytes);
    else
        sites_sum(&sites->n_not_followed, 1);
}

void sites_put_back(struct sites *sites, const void *address, const struct sites_block *block) {
    if (insert(sites, address, block)) return;
    sites_sum(&sites->n_not_followed, 1);
    count_gone(sites, &sites->stacks[block->stack], sites_weighted(block->bytes, block->weight));
}

void sites_count_end(struct sites *sites, const struct sites_block *block, uint32_t thread, uint64_t now_ns) {
    struct sites_stack *stack = &sites->stacks[block->stack];
    sites_sum(&stack->freed, block->weight);
    if (block->thread != thread) sites_sum(&stack->foreign, block->weight);
    if (now_ns > block->born_ns)
        sites_sum(&stack->life_ns, sites_weighted(now_ns - block->born_ns, block->weight));
    count_gone(sites, stack, sites_weighted(block->bytes, block->weight));
}
