/* SPDX-License-Identifier: MIT */
/* limits.c: see limits.h. */
#include "pool/limits.h"

#include "base/time.h"
#include "os/os.h"
#include "pool/account.h"

/* So often at most they are read: where there is a limit, and where there is none. */
#define REFRESH_MS 100u
#define REFRESH_FREE_MS 1000u
/* A pool that holds less is not worth reading files for. */
#define REFRESH_MIN_BYTES (4 * MIB)
/* Addresses are looked at again when so much more has become idle. */
#define ADDRESS_STEP_BYTES MIB

/* As last read, by whatever pool: two that read at once find the same. */
static struct os_group_memory known = {SIZE_MAX, SIZE_MAX};

void limits_learn(void) {
    struct os_group_memory memory;
    if (os_read_group_memory(&memory)) return;
    WRITE_RELAXED(known.limit_bytes, memory.limit_bytes);
    WRITE_RELAXED(known.room_bytes, memory.room_bytes);
    os_address_limit();
}

static void set_memory(struct pool *pool) {
    struct heap *heap = &pool->heap;
    size_t limit = READ_RELAXED(known.limit_bytes), room = READ_RELAXED(known.room_bytes);
    WRITE_RELAXED(heap->limit_bytes, limit);
    size_t most = min_size(limit, pool->ram_bytes) / LIMITS_MEMORY_SHARE;
    if (room != SIZE_MAX) most = min_size(most, max_size(room / 2, LIMITS_LEAST_BYTES));
    size_t before = READ_RELAXED(heap->unmarked_max_bytes);
    WRITE_RELAXED(heap->unmarked_max_bytes, most);
    if (most < before / 2) tcache_disturb(&pool->tcaches); /* what lies in slots may be larger now */
}

void limits_addresses_changed(struct pool *pool) {
    bool limited = os_address_limit() != SIZE_MAX;
    if (limited) limits_note(pool);
    WRITE_RELAXED(pool->heap.address_limited, limited);
    WRITE_RELAXED(pool->addresses_seen_bytes, 0);
}

/* All of them anew, but for the control group's. */
static void learn_refusals(struct pool *pool) {
    if (!limits_seen(pool) && os_commit_may_be_strict()) limits_note(pool);
    limits_addresses_changed(pool);
}

void limits_refresh(struct pool *pool) {
    const struct heap *heap = &pool->heap;
    size_t held =
        READ_RELAXED(heap->active_bytes) + READ_RELAXED(heap->dirty_bytes) + READ_RELAXED(heap->clean_bytes);
    if (os_restricted || held < REFRESH_MIN_BYTES) return;
    uint32_t now = os_clock_ms(), last = READ_RELAXED(pool->limits_read_ms);
    uint32_t every = READ_RELAXED(heap->limit_bytes) == SIZE_MAX ? REFRESH_FREE_MS : REFRESH_MS;
    if (last && time_passed_ms(now, last) < every) return;
    WRITE_RELAXED(pool->limits_read_ms, (uint32_t)max_size(now, 1));
    limits_learn();
    set_memory(pool);
    learn_refusals(pool);
}

void limits_prepare(struct pool *pool) {
    pool->ram_bytes = os_ram_bytes();
    set_memory(pool);
    learn_refusals(pool);
}

static size_t idle_addresses(const struct heap *heap) {
    return READ_RELAXED(heap->dirty_bytes) + READ_RELAXED(heap->clean_bytes);
}

static void keep_addresses(struct pool *pool) {
    struct heap *heap = &pool->heap;
    size_t idle = idle_addresses(heap), seen = READ_RELAXED(pool->addresses_seen_bytes);
    if (idle < seen) WRITE_RELAXED(pool->addresses_seen_bytes, idle);
    if (idle < seen + ADDRESS_STEP_BYTES) return;
    size_t limit = os_address_limit(), room = 0, wanted = max_size(LIMITS_ROOM_BYTES, limit / 8);
    wanted = min_size(wanted, limit / 4);
    if (limit == SIZE_MAX) return;
    if (os_read_address_room(&room)) room = 0; /* not to be told: all that is idle goes */
    if (room < wanted) heap_release(heap, wanted - room);
    WRITE_RELAXED(pool->addresses_seen_bytes, idle_addresses(heap));
}

void limits_keep(struct pool *pool) {
    struct heap *heap = &pool->heap;
    size_t unmarked = READ_RELAXED(heap->dirty_bytes) - READ_RELAXED(heap->muzzy_bytes),
           most = READ_RELAXED(heap->unmarked_max_bytes);
    if (unlikely(unmarked > most && unmarked < SIZE_MAX / 2)) {
        heap_mark(heap, unmarked - most / 4 * 3, os_clock_ms());
        if (READ_RELAXED(heap->cannot_mark)) heap_trim(heap, most);
    }
    if (unlikely(READ_RELAXED(heap->address_limited))) keep_addresses(pool);
}

/* What the next allocator maps beside what it was asked for. */
#define OVERHEAD_BYTES (256 * KIB)

/* How much has to be unmapped for n_bytes more to be mapped; 0 if no limit is in the way that the pool counts
 * against. */
static size_t missing_bytes(size_t n_bytes, size_t idle) {
    size_t room;
    int error = os_read_address_room(&room);
    if (error && os_address_limit() != SIZE_MAX) return n_bytes;
    if (!error && n_bytes > room) return n_bytes - room;
    error = os_read_commit_room(&room);
    /* By how much the machine is beyond its limit is not known: then all that is idle goes. */
    if (!error && n_bytes > room) return room ? n_bytes - room : max_size(n_bytes, idle);
    if (!READ_RELAXED(os_keeps_locked)) return 0;
    error = os_read_lock_room(&room);
    return error ? n_bytes : n_bytes > room ? n_bytes - room : 0;
}

bool limits_make_room(struct pool *pool, size_t n_bytes) {
    struct heap *heap = &pool->heap;
    size_t idle = idle_addresses(heap) + account_cached_bytes(pool, NULL);
    if (idle == 0 || n_bytes > heap->space.span_max) return false;
    size_t missing = missing_bytes(n_bytes + OVERHEAD_BYTES, idle);
    if (missing) limits_note(pool);
    if (missing == 0 || missing > idle) return false;
    size_t released = heap_release(heap, missing);
    if (released < missing) {
        pool_flush_caches(pool);
        released += heap_release(heap, missing - released);
    }
    return released > 0;
}

bool limits_make_room_for_copy(struct pool *pool) {
    size_t room;
    if (os_read_commit_room(&room) || room == SIZE_MAX) return false;
    pool_flush_caches(pool);
    return heap_release(&pool->heap, SIZE_MAX) > 0;
}
