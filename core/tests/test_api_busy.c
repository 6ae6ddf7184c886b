/* SPDX-License-Identifier: MIT */
/* test_api_busy.c: a thread that has a pool's lock and does not come back in time. The preload library has
 * another allocator to ask; users of the API have not. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "pool/pool.h"
#include "zeropool.h"

TestSuite(api_busy, .timeout = 60);

/* zp_pool is the pool and nothing else (api.c). */
static struct lock *lock_of(zp_pool *pool) {
    return &((struct pool *)(void *)pool)->heap.lock;
}

struct holder {
    struct lock *lock;
    unsigned ms;
    _Atomic bool has_it;
};

static void *hold(void *argument) {
    struct holder *holder = argument;
    if (!lock_try(holder->lock)) return "the lock is not free";
    holder->has_it = true;
    usleep(holder->ms * 1000);
    lock_release(holder->lock);
    return NULL;
}

/* While another thread has the lock for so long. */
static void *get_beside(zp_pool *pool, unsigned ms, void *(*get)(zp_pool *)) {
    struct holder holder = {.lock = lock_of(pool), .ms = ms};
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, hold, &holder), 0);
    while (!holder.has_it)
        usleep(100);
    void *fault, *p = get(pool);
    int error = errno;
    pthread_join(thread, &fault);
    cr_assert_null(fault);
    errno = error;
    return p;
}

static void *get(zp_pool *pool) {
    return zp_get(pool, 3 * MIB);
}
static void *get_zeroed(zp_pool *pool) {
    return zp_get_zeroed(pool, 3 * MIB);
}
static void *get_aligned(zp_pool *pool) {
    return zp_get_aligned(pool, 64 * KIB, 3 * MIB);
}
static void *grown;
static void *resize(zp_pool *pool) {
    return grown = zp_resize(pool, grown, 9 * MIB);
}

Test(api_busy, a_request_waits_longer_than_a_lock_does) {
    void *(*const calls[])(zp_pool *) = {get, get_zeroed, get_aligned, resize};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        zp_pool *pool = zp_pool_create(NULL);
        cr_assert(pool && (grown = zp_get(pool, 200 * KIB)));
        cr_assert(get_beside(pool, 10 * LOCK_PATIENCE_NS / 1000000, calls[i]), "call %zu", i);
        zp_pool_destroy(pool);
    }
}

Test(api_busy, but_not_for_ever) {
    zp_pool *pool = zp_pool_create(NULL);
    cr_assert(pool);
    errno = 0;
    cr_assert_null(get_beside(pool, 3000, get));
    cr_assert_eq(errno, ENOMEM);
    zp_pool_destroy(pool);
}
