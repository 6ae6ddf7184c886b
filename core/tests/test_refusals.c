/* SPDX-License-Identifier: MIT */
/* test_refusals.c: what the pool does where it cannot work: in a handler that interrupted it, without its
 * locks, while it is taken down, and where the kernel says no to a range that is not there. It refuses or
 * puts off; it never waits, loses or breaks anything. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/os.h"
#include "pool/resize.h"
#include "observe/stats.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
}

static void *resize(void *p, size_t n_bytes) {
    struct extent *extent = pool_live_extent(&pool, p);
    if (resize_in_place(&pool, extent, n_bytes)) return p;
    return resize_move(&pool, tcache_find(&pool.tcaches), extent, n_bytes);
}

TestSuite(refusals, .init = set_up, .timeout = 60);

/* tcache_tls.entered: this thread was inside a slow path when the handler came. */
Test(refusals, a_handler_that_interrupts_the_pool) {
    char *big = fixture_get(&pool, 3 * MIB), *small = fixture_get(&pool, 50 * KIB),
         *grow = fixture_get(&pool, 700 * KIB);
    cr_assert(big && small && grow);
    pattern_fill(grow, 700 * KIB, 5);
    tcache_tls.entered = IN_SLOW_PATH;
    cr_assert_null(fixture_get(&pool, 5 * MIB));
    cr_assert_null(pool_get_aligned(&pool, tcache_find(&pool.tcaches), 2 * MIB, 10));
    cr_assert_null(zero_get(&pool, tcache_find(&pool.tcaches), 900));
    cr_assert_eq(pool_preallocate(&pool, 10, 3), 0);
    cr_assert_eq(pool_trim(&pool, 0), 0);
    cr_assert_null(resize(grow, 20 * MIB), "growing needs the slow path");
    char *shrunk = resize(grow, 300 * KIB);
    cr_assert(!shrunk || pattern_check_front(shrunk, 300 * KIB, 700 * KIB, 5) == 300 * KIB);
    fixture_put(&pool, big);
    fixture_put(&pool, small);
    tcache_tls.entered = 0;
    cr_assert_null(pool_check(&pool));
    fixture_put(&pool, grow);
    pool_trim(&pool, 0);
    cr_assert_null(pool_check(&pool));
    cr_assert_eq(pool.heap.active_bytes, 0, "what was freed in the handler has arrived");
}

Test(refusals, without_the_lock_of_the_heap) {
    char *big = fixture_get(&pool, 3 * MIB), *grow = fixture_get(&pool, 700 * KIB),
         *next = fixture_get(&pool, 40 * MIB);
    cr_assert(big && grow && next);
    pattern_fill(grow, 700 * KIB, 5);
    struct extent *extent = fixture_extent(&pool, grow);
    cr_assert(lock_acquire(&pool.heap.lock));
    cr_assert_null(fixture_get(&pool, 5 * MIB));
    cr_assert_not(heap_extend(&pool.heap, extent, extent->used_pages + 10, NULL));
    heap_shrink(&pool.heap, extent, extent->used_pages - 10);
    cr_assert_eq(heap_trim(&pool.heap, 0), 0);
    heap_release_top(&pool.heap);
    cr_assert_eq(heap_release(&pool.heap, 64 * MIB), 0);
    struct extent *returned = fixture_extent(&pool, next);
    extent_set_state(returned, EXTENT_CACHED);
    heap_free(&pool.heap, returned); /* put off */
    lock_release(&pool.heap.lock);
    fixture_put(&pool, big);
    cr_assert_eq(pattern_check_front(grow, 600 * KIB, 700 * KIB, 5), 600 * KIB);
    fixture_put(&pool, grow);
    pool_trim(&pool, 0);
    cr_assert_null(pool_check(&pool));
    cr_assert_eq(pool.heap.active_bytes, 0, "what was put off has arrived");
}

Test(refusals, without_the_locks_of_the_shards) {
    char *blocks[64];
    for (int i = 0; i < 64; i++)
        blocks[i] = fixture_get(&pool, 64 * KIB);
    for (unsigned i = 0; i < pool.shards.n; i++)
        cr_assert(lock_acquire(&pool.shards.shard[i].lock));
    for (int i = 0; i < 64; i++)
        fixture_put(&pool, blocks[i]);
    char *again = fixture_get(&pool, 64 * KIB), *other = fixture_get(&pool, 90 * KIB);
    cr_assert(again && other, "the heap serves what the shards cannot");
    for (unsigned i = 0; i < pool.shards.n; i++)
        lock_release(&pool.shards.shard[i].lock);
    fixture_put(&pool, again);
    fixture_put(&pool, other);
    pool_trim(&pool, 0);
    cr_assert_null(pool_check(&pool));
    cr_assert_eq(pool.heap.active_bytes, 0);
}

/* From the moment that it begins to be destroyed. */
Test(refusals, a_pool_that_is_not_ready) {
    char *big = fixture_get(&pool, 3 * MIB), *grow = fixture_get(&pool, 700 * KIB);
    pattern_fill(grow, 700 * KIB, 5);
    pool.ready = false;
    cr_assert_null(fixture_get(&pool, 5 * MIB));
    cr_assert_null(pool_get_aligned(&pool, tcache_find(&pool.tcaches), 2 * MIB, 10));
    cr_assert_null(zero_get(&pool, tcache_find(&pool.tcaches), 900));
    cr_assert_eq(pool_trim(&pool, 0), 0);
    void *grown = resize(grow, 20 * MIB);
    cr_assert(!grown || grown == grow, "in place at most");
    cr_assert_eq(pattern_check_front(grow, 600 * KIB, 700 * KIB, 5), 600 * KIB);
    resize(grow, 100 * KIB);
    fixture_put(&pool, big);
    fixture_put(&pool, grow);
}

Test(refusals, sizes_beyond_the_largest_block) {
    char *p = fixture_get(&pool, MIB);
    cr_assert_null(fixture_get(&pool, 513 * MIB));
    cr_assert_null(pool_get_aligned(&pool, tcache_find(&pool.tcaches), 4096, 513 * MIB >> PAGE_SHIFT));
    cr_assert_null(pool_get_aligned(&pool, tcache_find(&pool.tcaches), GIB, 1));
    cr_assert_null(resize(p, 600 * MIB));
    cr_assert_eq(pool_preallocate(&pool, 600 * MIB >> PAGE_SHIFT, 1), 0);
    fixture_put(&pool, p);
}

/* --- the kernel's refusals, as its callers see them --- */

Test(refusals, ranges_that_are_not_there) {
    void *p = NULL;
    errno = 4711;
    cr_assert_eq(os_map(4 * PAGE_BYTES, &p), 0);
    cr_assert_eq(os_map_at(p, PAGE_BYTES), -EEXIST);
    cr_assert_eq(os_unmap(p, 4 * PAGE_BYTES), 0);
    cr_assert_lt(os_unmap((char *)p + 1, PAGE_BYTES), 0);
    if (!UNDER_ASAN) cr_assert_eq(os_lock(p, PAGE_BYTES), -ENOMEM);
    if (!UNDER_ASAN) cr_assert_eq(os_unlock(p, PAGE_BYTES), -ENOMEM);
    cr_assert_leq(os_move_pages(p, (char *)p + 2 * PAGE_BYTES, PAGE_BYTES), 0, "nothing has been moved");
    cr_assert_lt(os_resident_pages(p, 4), 0);
    cr_assert_lt(os_peek_pages((void *[OS_PEEK_PAGES]){p, p, p, p}), 0);
    cr_assert_not(os_is_one_vma(p, PAGE_BYTES));
    cr_assert_lt(os_populate(p, PAGE_BYTES), 0);
    cr_assert_eq(os_scrub(p, PAGE_BYTES), 1, "replaced with fresh memory");
    cr_assert_eq(os_unmap(p, PAGE_BYTES), 0);
    cr_assert_eq(os_purge((void *)(~(uintptr_t)0 << PAGE_SHIFT), PAGE_BYTES), -ENOMEM,
                 "beyond the address space");
    cr_assert_lt(os_reserve((size_t)1 << 62, &p), 0);
    cr_assert_eq(errno, 4711, "errno is the program's");
}

Test(refusals, in_a_sandbox_the_cpu_is_not_asked_for) {
    os_restricted = true;
    (void)os_cpu_current();
    /* A lock that is held: spins instead of giving the processor away. */
    cr_assert(lock_acquire(&pool.heap.lock));
    cr_assert_null(fixture_get(&pool, 5 * MIB));
    lock_release(&pool.heap.lock);
    os_restricted = false;
    cr_assert_not_null(fixture_get(&pool, 5 * MIB));
}
