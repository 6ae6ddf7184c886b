/* SPDX-License-Identifier: MIT */
/* tcache_fixture.h: a pool, a thread on one CPU, and what its cache holds. */
#ifndef ZP_TESTS_TCACHE_FIXTURE_H
#define ZP_TESTS_TCACHE_FIXTURE_H

#include "pool_fixture.h"

#include <criterion/criterion.h>
#include <string.h>

static struct pool pool;

static inline void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    fixture_pin(0);
}
static inline void tear_down(void) {
    const char *broken = pool_check(&pool);
    cr_expect_null(broken, "%s", broken);
    pool_finish(&pool);
}

static inline unsigned cached(unsigned cls) {
    return tcache_bin_n(tcache_find(&pool.tcaches), cls);
}

#endif
