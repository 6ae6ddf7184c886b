/* SPDX-License-Identifier: MIT */
/* test_limits.c: idle memory and idle addresses where control groups and limits bound them. In children, with
 * limits of their own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/resource.h>

#include "cgroup_world.h"
#include "os/os.h"
#include "pool/account.h"
#include "pool/limits.h"
#include "observe/stats.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

/* As the preload library has it: memory is mapped as it is needed. */
static bool make_pool(bool open) {
    struct pool_setup setup = fixture_setup();
    setup.reserved = !open;
    setup.span_max = 4 * GIB;
    if (fixture_init(&pool, &setup)) return false;
    for (size_t n = MIB; n <= 512 * MIB; n *= 2)
        fixture_trust(&pool, n);
    /* what the machine's limits are is not the subject, however long the test takes */
    pool.limits_read_ms = os_clock_ms() + 600000;
    return true;
}

static void fill_and_put(size_t n_bytes) {
    char *p = fixture_get(&pool, n_bytes);
    if (!p) return;
    memset(p, 1, n_bytes);
    fixture_put(&pool, p);
}

/* As if they had been read so long ago. */
static void later(uint32_t ms) {
    pool.limits_read_ms = os_clock_ms() - ms;
    limits_refresh(&pool);
}

#define HOLDS(condition, got)                                                                                \
    do {                                                                                                     \
        if (!(condition)) return wrong(#condition, (size_t)(got));                                           \
    } while (0)

static int follows_the_group(void *ignored) {
    if (!world_make()) return NOT_ALLOWED;
    mkdir(WORLD "/a", 0755);
    world_write(WORLD "/self", "0::/a\n");
    world_write(WORLD "/a/memory.max", "800000000\n");
    world_write(WORLD "/a/memory.current", "100000000\n");
    if (!make_pool(true)) return wrong("no pool", 0);
    struct heap *heap = &pool.heap;
    size_t ram = pool.ram_bytes;
    HOLDS(heap->unmarked_max_bytes == ram / 8, heap->unmarked_max_bytes);
    pool.limits_read_ms = 0;
    limits_refresh(&pool);
    HOLDS(heap->limit_bytes == SIZE_MAX, heap->limit_bytes); /* a pool that holds so little reads no files */
    void *held = fixture_get(&pool, 8 * MIB);
    later(1000);
    HOLDS(heap->limit_bytes == 800000000, heap->limit_bytes);
    HOLDS(heap->unmarked_max_bytes == min_size(800000000, ram) / 8, heap->unmarked_max_bytes);
    world_write(WORLD "/a/memory.max", "400000000\n");
    later(10);
    HOLDS(heap->limit_bytes == 800000000, heap->limit_bytes); /* not so often */
    later(100);
    HOLDS(heap->limit_bytes == 400000000, heap->limit_bytes);
    world_write(WORLD "/a/memory.high", "200000000\n");
    later(100);
    HOLDS(heap->limit_bytes == 200000000, heap->limit_bytes);
    HOLDS(heap->unmarked_max_bytes == 25000000, heap->unmarked_max_bytes);
    world_write(WORLD "/a/memory.current", "180000000\n");
    later(100);
    HOLDS(heap->unmarked_max_bytes == 10000000, heap->unmarked_max_bytes); /* half of what is left */
    world_write(WORLD "/a/memory.current", "199999999\n");
    later(100);
    HOLDS(heap->unmarked_max_bytes == LIMITS_LEAST_BYTES, heap->unmarked_max_bytes);
    world_write(WORLD "/a/memory.high", "max\n");
    world_write(WORLD "/a/memory.max", "max\n");
    later(100);
    HOLDS(heap->limit_bytes == SIZE_MAX, heap->limit_bytes);
    HOLDS(heap->unmarked_max_bytes == ram / 8, heap->unmarked_max_bytes);
    os_restricted = true;
    world_write(WORLD "/a/memory.max", "1000000\n");
    later(5000);
    HOLDS(heap->limit_bytes == SIZE_MAX, heap->limit_bytes); /* no files under a filter */
    (void)held;
    return 0;
}

static int marks_beyond_an_eighth(void *ignored) {
    if (!make_pool(true)) return wrong("no pool", 0);
    struct heap *heap = &pool.heap;
    heap->unmarked_max_bytes = 20 * MIB;
    void *p[12];
    for (int i = 0; i < 12; i++)
        memset(p[i] = fixture_get(&pool, 8 * MIB), 1, 8 * MIB);
    for (int i = 0; i < 12; i++) {
        fixture_put(&pool, p[i]);
        size_t unmarked = heap->dirty_bytes - heap->muzzy_bytes;
        HOLDS(unmarked <= 20 * MIB, unmarked);
    }
    HOLDS(heap->muzzy_bytes >= 60 * MIB, heap->muzzy_bytes);
    HOLDS(heap->dirty_bytes >= 88 * MIB, heap->dirty_bytes); /* marked, not given back */
    if (heap_check(heap)) return wrong(heap_check(heap), 0);
    /* Where nothing can be marked it is given back. */
    pool_trim(&pool, 0);
    heap->cannot_mark = true;
    for (int i = 0; i < 12; i++)
        memset(p[i] = fixture_get(&pool, 8 * MIB), 1, 8 * MIB);
    for (int i = 0; i < 12; i++)
        fixture_put(&pool, p[i]);
    HOLDS(heap->dirty_bytes <= 20 * MIB, heap->dirty_bytes);
    return 0;
}

static int large_blocks_do_not_stay_in_slots(void *ignored) {
    if (!make_pool(true)) return wrong("no pool", 0);
    struct tcache *tcache = NULL;
    for (int i = 0; i < 3; i++)
        fill_and_put(30 * MIB);
    tcache = tcache_find(&pool.tcaches);
    HOLDS(tcache->big.extent, 0);
    pool.heap.unmarked_max_bytes = 20 * MIB;
    tcache_disturb(&pool.tcaches); /* as when it falls */
    for (int i = 0; i < 3; i++)
        fill_and_put(30 * MIB);
    HOLDS(!tcache->big.extent, 30 * MIB);
    HOLDS(pool.heap.dirty_bytes - pool.heap.muzzy_bytes <= 20 * MIB, pool.heap.muzzy_bytes);
    fill_and_put(15 * MIB);
    fill_and_put(15 * MIB);
    HOLDS(tcache->big.extent, 15 * MIB);
    return 0;
}

/* What is in use of the addresses that the limit counts. */
static size_t addresses_used(void) {
    size_t room = 0;
    return limit_resource(RLIMIT_AS, 100 * GIB) && os_read_address_room(&room) == 0 ? 100 * GIB - room : 0;
}

static int room_is_left(void *ignored) {
    if (!make_pool(true)) return wrong("no pool", 0);
    void *p[17];
    for (int i = 0; i < 17; i++)
        HOLDS(p[i] = fixture_get(&pool, 32 * MIB), i);
    for (int i = 0; i < 10; i++)
        fixture_put(&pool, p[i]);
    size_t idle = pool.heap.dirty_bytes + pool.heap.clean_bytes, room = 0,
           limit = addresses_used() + 20 * MIB;
    HOLDS(idle >= 9 * 32 * MIB, idle);
    HOLDS(limit_resource(RLIMIT_AS, limit), limit);
    limits_addresses_changed(&pool);
    HOLDS(pool.heap.address_limited, 0);
    fixture_put(&pool, p[10]);
    idle += 32 * MIB;
    size_t wanted = min_size(max_size(LIMITS_ROOM_BYTES, limit / 8), limit / 4);
    if (os_read_address_room(&room)) return wrong("no room", 0);
    HOLDS(room >= wanted, room);
    HOLDS(room <= wanted + MIB, room); /* no more than that */
    size_t left = pool.heap.dirty_bytes + pool.heap.clean_bytes;
    HOLDS(left + wanted + 4 * MIB >= idle, left);
    for (int i = 11; i < 16; i++)
        fixture_put(&pool, p[i]);
    if (os_read_address_room(&room)) return wrong("no room", 0);
    HOLDS(room + 2 * MIB >= wanted, room);
    for (int i = 0; i < 15; i++)
        HOLDS(p[i] = fixture_get(&pool, 32 * MIB), i); /* and all can be had again */
    if (heap_check(&pool.heap)) return wrong(heap_check(&pool.heap), 0);
    return 0;
}

static int makes_room_for_what_is_missing(void *ignored) {
    if (!make_pool(true)) return wrong("no pool", 0);
    HOLDS(!limits_make_room(&pool, MIB), 0); /* nothing is idle */
    void *p[10];
    for (int i = 0; i < 10; i++)
        p[i] = fixture_get(&pool, 32 * MIB);
    for (int i = 0; i < 10; i++)
        fixture_put(&pool, p[i]);
    size_t idle = pool.heap.dirty_bytes + pool.heap.clean_bytes;
    HOLDS(idle >= 280 * MIB, idle);
    HOLDS(!limits_make_room(&pool, MIB), 1); /* no limit is in the way */
    HOLDS(pool.heap.dirty_bytes + pool.heap.clean_bytes == idle, idle);
    size_t used = addresses_used();
    if (!limit_resource(RLIMIT_AS, used + 10 * MIB)) return wrong("no limit", used);
    HOLDS(!limits_make_room(&pool, GIB), 2); /* it would not suffice */
    HOLDS(!limits_make_room(&pool, 8 * GIB), 3);
    HOLDS(pool.heap.dirty_bytes + pool.heap.clean_bytes == idle, idle); /* so nothing goes */
    HOLDS(!limits_make_room(&pool, 5 * MIB), 4);                        /* it fits: another reason */
    HOLDS(pool.heap.dirty_bytes + pool.heap.clean_bytes == idle, idle);
    HOLDS(limits_make_room(&pool, 50 * MIB), 5);
    size_t gone = idle - pool.heap.dirty_bytes - pool.heap.clean_bytes;
    HOLDS(gone >= 40 * MIB && gone <= 44 * MIB, gone);
    void *theirs = NULL;
    HOLDS(os_map(50 * MIB, &theirs) == 0, 6); /* now it does */
    /* What lies in caches helps as well. */
    fixture_trust(&pool, 32 * MIB);
    fixture_put(&pool, fixture_get(&pool, 32 * MIB));
    size_t cached = account_cached_bytes(&pool, NULL);
    HOLDS(cached >= 32 * MIB, cached);
    idle = pool.heap.dirty_bytes + pool.heap.clean_bytes;
    HOLDS(limits_make_room(&pool, idle + 10 * MIB), 7);
    HOLDS(account_cached_bytes(&pool, NULL) == 0, account_cached_bytes(&pool, NULL));
    if (heap_check(&pool.heap)) return wrong(heap_check(&pool.heap), 0);
    return 0;
}

static size_t noted; /* what is zero once a limit has been seen */

static bool make_noting_pool(void) {
    struct pool_setup setup = fixture_setup();
    setup.reserved = false;
    setup.zero_at_limit = &noted;
    noted = 1;
    memset(&pool, 0, sizeof pool);
    return fixture_init(&pool, &setup) == 0;
}

#define HOLDS_SEEN(seen) HOLDS(limits_seen(&pool) == (seen) && (noted == 0) == (seen), noted)

static int seen_once_is_seen_for_ever(void *ignored) {
    if (!world_make() || !world_replace("/proc/sys/vm/overcommit_memory", "mode", "0\n")) return NOT_ALLOWED;
    if (!make_noting_pool()) return wrong("no pool", 0);
    HOLDS_SEEN(false);
    void *p = fixture_get(&pool, 32 * MIB);
    later(5000);
    HOLDS_SEEN(false);
    HOLDS(limit_resource(RLIMIT_DATA, 90 * GIB), 0);
    later(10);
    HOLDS_SEEN(false); /* not so often */
    later(1000);
    HOLDS_SEEN(true);
    HOLDS(limit_resource(RLIMIT_DATA, RLIM_INFINITY), 0);
    later(1000);
    HOLDS_SEEN(true);
    fixture_put(&pool, p);
    return 0;
}

static int seen_at_setup(void *ignored) {
    if (!world_make() || !world_replace("/proc/sys/vm/overcommit_memory", "mode", "2\n")) return NOT_ALLOWED;
    if (!make_noting_pool()) return wrong("no pool", 0);
    HOLDS_SEEN(true);
    world_write(WORLD "/mode", "1\n");
    if (!make_noting_pool()) return wrong("no pool", 1);
    HOLDS_SEEN(false);
    if (UNDER_ASAN) return 0; /* it needs addresses of its own */
    HOLDS(limit_resource(RLIMIT_AS, 90 * GIB), 0);
    if (!make_noting_pool()) return wrong("no pool", 2);
    HOLDS_SEEN(true);
    return 0;
}

/* Addresses that are idle count, even where no memory is; and a strict kernel is seen late, too. */
static int seen_where_only_addresses_are_idle(void *ignored) {
    if (!world_make() || !world_replace("/proc/sys/vm/overcommit_memory", "mode", "0\n")) return NOT_ALLOWED;
    if (!make_noting_pool()) return wrong("no pool", 0);
    fixture_put(&pool, fixture_get(&pool, 100 * MIB));
    pool_trim(&pool, 0);
    HOLDS(pool.heap.active_bytes + pool.heap.dirty_bytes < MIB, pool.heap.dirty_bytes);
    HOLDS(pool.heap.clean_bytes >= 90 * MIB, pool.heap.clean_bytes);
    world_write(WORLD "/mode", "2\n");
    later(1000);
    HOLDS_SEEN(true);
    return 0;
}

/* Whoever needs room has found the limit before it is read. */
static int seen_by_who_is_refused(void *ignored) {
    if (!make_noting_pool()) return wrong("no pool", 0);
    void *p = fixture_get(&pool, 32 * MIB);
    memset(p, 1, 32 * MIB);
    fixture_put(&pool, p);
    if (limits_seen(&pool)) return NOT_ALLOWED; /* this machine has one */
    HOLDS(!limits_make_room(&pool, MIB), 0);
    HOLDS_SEEN(false);
    HOLDS(limit_resource(RLIMIT_AS, addresses_used() + MIB), 0);
    HOLDS(limits_make_room(&pool, 2 * MIB), 1);
    HOLDS_SEEN(true);
    return 0;
}

TestSuite(limits, .timeout = 30);

Test(limits, of_the_group_are_followed) {
    world_run(follows_the_group);
}
Test(limits, idle_memory_beyond_a_share_is_marked_at_once) {
    world_run(marks_beyond_an_eighth);
}
Test(limits, blocks_beyond_it_do_not_stay_in_slots) {
    world_run(large_blocks_do_not_stay_in_slots);
}
/* AddressSanitizer needs addresses of its own. */
Test(limits, addresses_are_left_for_others, .disabled = UNDER_ASAN) {
    world_run(room_is_left);
}
Test(limits, room_is_made_for_what_is_missing, .disabled = UNDER_ASAN) {
    world_run(makes_room_for_what_is_missing);
}
Test(limits, once_seen_are_not_forgotten) {
    world_run(seen_once_is_seen_for_ever);
}
Test(limits, are_seen_at_setup) {
    world_run(seen_at_setup);
}
Test(limits, are_seen_where_only_addresses_are_idle) {
    world_run(seen_where_only_addresses_are_idle);
}
Test(limits, are_seen_by_who_is_refused, .disabled = UNDER_ASAN) {
    world_run(seen_by_who_is_refused);
}
