/* SPDX-License-Identifier: MIT */
/* test_checks.c: the check of all invariants finds each kind of damage. It judges every other test, so it is
 * judged here. */
#include <criterion/criterion.h>
#include <string.h>

#include "observe/stats.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;
static char *live, *idle; /* two blocks of the heap, the second one returned */

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    live = fixture_get(&pool, 4 * MIB);
    idle = fixture_get(&pool, 8 * MIB);
    char *wall = fixture_get(&pool, 4 * MIB);
    cr_assert(live && idle && wall);
    struct extent *extent = fixture_extent(&pool, idle);
    extent_set_state(extent, EXTENT_CACHED);
    heap_free(&pool.heap, extent);
    cr_assert_eq(extent_state(extent), EXTENT_DIRTY);
    cr_assert_null(pool_check(&pool));
}

static void finds(const char *what) {
    const char *broken = pool_check(&pool);
    cr_assert_not_null(broken, "nothing was found instead of: %s", what);
    cr_assert_str_eq(broken, what);
}

TestSuite(checks, .init = set_up, .timeout = 30);

Test(checks, counters) {
    pool.heap.dirty_bytes += PAGE_BYTES;
    finds("dirty bytes miscounted");
    pool.heap.dirty_bytes -= PAGE_BYTES;
    pool.heap.active_bytes -= 4 * MIB;
    finds("active bytes miscounted");
    pool.heap.active_bytes += 4 * MIB;
    cr_assert_null(pool_check(&pool));
}

Test(checks, tiles) {
    struct extent *extent = fixture_extent(&pool, live);
    extent->address = (char *)extent->address + PAGE_BYTES;
    finds("extents do not tile the space");
    extent->address = (char *)extent->address - PAGE_BYTES;
    uint32_t n_pages = (uint32_t)extent->n_pages;
    extent->n_pages = 0;
    finds("extents do not tile the space");
    extent->n_pages = n_pages - 1;
    finds("last page not entered");
    extent->n_pages = n_pages;
    extent->cls++;
    finds("class does not match size");
    extent->cls--;
    cr_assert_null(pool_check(&pool));
}

Test(checks, neighbours) {
    struct extent *extent = fixture_extent(&pool, live);
    uint8_t state = extent_state(extent);
    extent_set_state(extent, EXTENT_DIRTY);
    finds("idle neighbours not merged");
    extent_set_state(extent, EXTENT_CLEAN);
    struct extent *other = fixture_extent(&pool, idle);
    extent_set_state(other, EXTENT_CLEAN);
    finds("idle neighbours not merged");
    extent_set_state(other, EXTENT_DIRTY);
    extent_set_state(extent, state);
    cr_assert_null(pool_check(&pool));
}

Test(checks, bins_and_ages) {
    struct extent *extent = fixture_extent(&pool, idle);
    unsigned cls = extent->cls;
    pool.heap.dirty.nonempty[cls / 64] ^= (uint64_t)1 << cls % 64;
    finds("bin bitmap wrong");
    pool.heap.dirty.nonempty[cls / 64] ^= (uint64_t)1 << cls % 64;
    pool.heap.clean.nonempty[0] ^= 1;
    finds("bin bitmap wrong");
    pool.heap.clean.nonempty[0] ^= 1;
    struct extent *head = pool.heap.dirty.head[cls];
    cr_assert_eq(head, extent);
    pool.heap.dirty.head[cls] = fixture_extent(&pool, live);
    finds("extent in wrong bin");
    pool.heap.dirty.head[cls] = head;
    struct extent *newer = pool.heap.by_age.newer;
    pool.heap.by_age.newer = &pool.heap.by_age;
    finds("age list does not hold the dirty extents");
    pool.heap.by_age.newer = newer;
    cr_assert_null(pool_check(&pool));
}

Test(checks, locks_that_are_held) {
    cr_assert(lock_acquire(&pool.heap.lock));
    finds("heap lock is held");
    lock_release(&pool.heap.lock);
    cr_assert(lock_acquire(&pool.shards.shard[1].lock));
    finds("shard lock is held");
    lock_release(&pool.shards.shard[1].lock);
    cr_assert_null(pool_check(&pool));
}

Test(checks, shards) {
    char *blocks[64];
    for (int i = 0; i < 64; i++)
        blocks[i] = fixture_get(&pool, 64 * KIB);
    for (int i = 0; i < 64; i++)
        fixture_put(&pool, blocks[i]);
    struct shard *shard = pool.shards.shard[0].n_blocks ? &pool.shards.shard[0] : &pool.shards.shard[1];
    cr_assert_gt(shard->n_blocks, 0, "a thread's cache holds fewer than 64 blocks");
    shard->bytes += PAGE_BYTES;
    finds("shard bytes miscounted");
    shard->bytes -= PAGE_BYTES;
    shard->n_blocks++;
    finds("shard bytes miscounted");
    shard->n_blocks--;
    shard->policy.cold_bytes += PAGE_BYTES;
    finds("policy bytes miscounted");
    shard->policy.cold_bytes -= PAGE_BYTES;
    struct extent *extent = NULL;
    for (unsigned cls = 0; cls < shard->end_class && !extent; cls++)
        extent = shard->bins[cls];
    extent_set_state(extent, EXTENT_BUSY);
    finds("wrong extent in a shard bin");
    extent_set_state(extent, EXTENT_CACHED);
    cr_assert_null(pool_check(&pool));
}
