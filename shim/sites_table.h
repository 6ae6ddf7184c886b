/* SPDX-License-Identifier: MIT */
/* sites_table.h: what the profile of allocation sites knows: stacks with their sums, and live blocks.
 *
 * Structure
 * - stacks: a hash table of fixed size. A slot is claimed by writing the hash of the frames, which is
 *   never 0; the frames lie in an arena, and frames_at is written when they are complete. Nothing is ever
 *   removed. What finds no place is summed in the last record, `lost`, which has no frames.
 * - blocks: address -> stack, size, time, thread, weight. Buckets of eight addresses, each block in one of
 *   two. A block that finds both full is counted as not followed: its call is in the sums, its end is not.
 * - all of it in one mapping that is zero in a forked child, where zero is a valid empty table: a child
 *   begins anew by itself, whatever its parent's threads were doing.
 *
 * Synchronization: no locks, so handlers and forks may come at any time. Sums are relaxed atomic
 * additions. The key of a block is taken by compare-and-swap after the block was allocated, and cleared
 * before it is given back: in between only who frees the block looks for its address, and the program
 * itself has brought the address to that thread.
 *
 * Live at the peak, without a walk through all stacks at each new peak: the peaks are numbered, and a
 * stack notes what it held at the last one before its own number of live bytes changes next. Of threads
 * that allocate at the same time each may be off by the block that it is at.
 */
#ifndef ZP_SHIM_SITES_TABLE_H
#define ZP_SHIM_SITES_TABLE_H

#include "python.h"

#pragma GCC visibility push(hidden)

#define SITES_STACKS 16384
#define SITES_PROBES 128
#define SITES_FRAMES (512 * 1024)
#define SITES_BLOCKS (1 << 18)
#define SITES_BUCKET 8
/* Weights are in 256ths of a call: a sampled one stands for several. */
#define SITES_ONE 256

/* A frame of a stack is as unwind.h has it, or one of Python: this as its object, and the number of a
 * place. */
#define SITES_PYTHON 0xfffeu

struct sites_stack {
    _Atomic uint64_t hash;
    _Atomic uint32_t frames_at; /* 1 more than the place in frames; 0: not complete yet */
    uint16_t n_frames;
    bool is_cut;
    /* in 256ths of a call: calls, those whose blocks are freed, those freed by another thread */
    _Atomic uint64_t calls, freed, foreign;
    _Atomic uint64_t bytes, live_bytes, life_ns;
    _Atomic uint64_t mapped_bytes; /* that glibc would have mapped anew */
    _Atomic uint64_t allocating_ns;
    _Atomic uint64_t peak_bytes, peak_number;
    /* pages: of blocks that were looked at, of these touched, of these by a page fault */
    _Atomic uint64_t looked_pages, touched_pages, faulted_pages;
    _Atomic uint32_t n_seen;
};

struct sites_block {
    uint64_t bytes, born_ns;
    uint32_t stack, thread, weight;
    uint8_t look;  /* sites_look.h */
    uint8_t fresh; /* pages looked at that were not there, a bit each */
    bool is_mapped;
};

struct sites {
    struct sites_stack stacks[SITES_STACKS + 1];
    _Atomic uint64_t keys[SITES_BLOCKS] __attribute__((aligned(64)));
    struct sites_block blocks[SITES_BLOCKS];
    _Atomic uint32_t n_frames;
    uint64_t frames[SITES_FRAMES];
    struct unwinder unwinder;
    struct python python;
    _Atomic uint64_t live_bytes, peak_bytes, peak_number, n_not_followed, n_foreign;
};

/* The number of the stack of these frames, SITES_STACKS where there is no place. */
uint32_t sites_find_stack(struct sites *sites, const uint64_t *frames, unsigned n, bool is_cut);

/* A call has returned the block at an address, of which glibc would have mapped so many bytes anew. */
void sites_add(struct sites *sites, const void *address, const struct sites_block *block,
               uint64_t mapped_bytes);
/* The end of a block: removes it and copies what is known; false if it is not followed. */
bool sites_take(struct sites *sites, const void *address, struct sites_block *out);
/* Such a block back: it is still there. */
void sites_put_back(struct sites *sites, const void *address, const struct sites_block *block);
/* Such a block is freed. */
void sites_count_end(struct sites *sites, const struct sites_block *block, uint32_t thread, uint64_t now_ns);

/* What a stack held at the last peak. */
uint64_t sites_at_peak(const struct sites *sites, const struct sites_stack *stack);

static inline uint64_t sites_weighted(uint64_t value, uint32_t weight) {
    return weight == SITES_ONE ? value : (uint64_t)((unsigned __int128)value * weight / SITES_ONE);
}

static inline void sites_sum(_Atomic uint64_t *sum, uint64_t value) {
    if (value) atomic_fetch_add_explicit(sum, value, memory_order_relaxed);
}

#pragma GCC visibility pop

#endif
