/* SPDX-License-Identifier: MIT */
/* test_api.c: zeropool.h as its comments describe it: every function and every documented error. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "support.h"
#include "zeropool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static zp_pool *pool;

static void set_up(void) {
    cr_assert(pool = zp_pool_create(NULL));
}
static void tear_down(void) {
    char message[200] = "";
    cr_expect_eq(zp_validate(pool, message, sizeof message), 0, "%s", message);
    zp_pool_destroy(pool);
}
TestSuite(api, .init = set_up, .fini = tear_down, .timeout = 60);
TestSuite(api_config, .timeout = 60);

static bool is_unmapped(void *address) {
    unsigned char resident;
    void *page = (void *)((uintptr_t)address & ~(uintptr_t)4095);
    return mincore(page, 4096, &resident) != 0 && errno == ENOMEM;
}

Test(api_config, version) {
    cr_assert_str_eq(zp_version(), "0.1.0");
}

Test(api_config, presets) {
    zp_config init, config;
    memset(&init, 0, sizeof init);
    memset(&config, 0, sizeof config);
    zp_config_init(&init);
    cr_assert_eq(init.struct_size, sizeof init);
    cr_assert_eq(zp_config_preset(&config, ZP_PRESET_BALANCED), 0);
    cr_assert_eq(memcmp(&init, &config, sizeof init), 0, "init is the balanced preset");
    for (int preset = ZP_PRESET_BALANCED; preset <= ZP_PRESET_FILE; preset++) {
        cr_assert_eq(zp_config_preset(&config, (zp_preset)preset), 0);
        cr_assert_eq(config.struct_size, sizeof config);
        zp_pool *p = zp_pool_create(&config);
        cr_assert(p, "preset %d", preset);
        void *buffer = zp_get(p, 3 * MIB);
        cr_assert(buffer);
        zp_put(p, buffer);
        cr_assert_eq(zp_validate(p, NULL, 0), 0);
        zp_pool_destroy(p);
    }
}

Test(api_config, an_unknown_preset_leaves_the_config_alone) {
    zp_config config, before;
    memset(&config, 0x5a, sizeof config);
    before = config;
    errno = 99;
    cr_assert_eq(zp_config_preset(&config, (zp_preset)4), -EINVAL);
    cr_assert_eq(zp_config_preset(&config, (zp_preset)-1), -EINVAL);
    cr_assert_eq(memcmp(&config, &before, sizeof config), 0);
    cr_assert_eq(errno, 99, "functions that return int leave errno alone");
}

static void refused(zp_config config, const char *what) {
    errno = 0;
    cr_assert_null(zp_pool_create(&config), "%s", what);
    cr_assert_eq(errno, EINVAL, "%s", what);
}

Test(api_config, fields_out_of_range_are_refused) {
    zp_config good, bad;
    zp_config_init(&good);
    bad = good, bad.n_shards = 65, refused(bad, "n_shards 65");
    bad = good, bad.tcache_depth = 65, refused(bad, "tcache_depth 65");
    bad = good, bad.eviction = (zp_eviction)2, refused(bad, "eviction 2");
    bad = good, bad.eviction = (zp_eviction)-1, refused(bad, "eviction -1");
    bad = good, bad.struct_size = 0, refused(bad, "struct_size 0");
    bad = good, bad.struct_size = sizeof good + 1, refused(bad, "struct_size too large");
}

Test(api_config, the_extremes_of_the_ranges_work) {
    for (unsigned i = 0; i < 32; i++) {
        zp_config config;
        zp_config_init(&config);
        config.n_shards = i & 1 ? 64 : 1;
        config.tcache_depth = i & 2 ? 64 : 0;
        config.eviction = i & 4 ? ZP_EVICT_CLOCKPRO : ZP_EVICT_LIFO;
        config.max_retained_bytes = i & 8 ? 4096 : 0;
        config.decay_ms = i & 16 ? 0xffffffffu : 0;
        zp_pool *p = zp_pool_create(&config);
        cr_assert(p);
        void *buffers[50];
        for (int n = 0; n < 50; n++)
            cr_assert(buffers[n] = zp_get(p, (size_t)(n + 1) * 9999));
        for (int n = 0; n < 50; n++)
            zp_put(p, buffers[n]);
        cr_assert_eq(zp_validate(p, NULL, 0), 0);
        zp_pool_destroy(p);
    }
}

Test(api_config, create_without_address_space_says_enomem, .disabled = UNDER_ASAN) {
    struct rlimit tight = {64 * MIB, 64 * MIB};
    cr_assert_eq(setrlimit(RLIMIT_AS, &tight), 0);
    errno = 0;
    zp_pool *p = zp_pool_create(NULL);
    int error = errno;
    cr_assert_null(p);
    cr_assert_eq(error, ENOMEM);
}

Test(api_config, create_makes_do_with_little_address_space, .disabled = UNDER_ASAN) {
    struct rlimit tight = {2 * GIB, 2 * GIB};
    cr_assert_eq(setrlimit(RLIMIT_AS, &tight), 0);
    zp_pool *p = zp_pool_create(NULL);
    cr_assert(p, "2 GiB of address space are enough for a pool");
    void *buffer = zp_get(p, 64 * MIB);
    cr_assert(buffer);
    zp_put(p, buffer);
    zp_pool_destroy(p);
}

Test(api_config, destroy_accepts_null_and_preserves_errno) {
    errno = 77;
    zp_pool_destroy(NULL);
    cr_assert_eq(errno, 77);
    zp_pool *p = zp_pool_create(NULL);
    char *buffer = zp_get(p, MIB);
    *buffer = 1;
    zp_put(p, buffer);
    errno = 77;
    zp_pool_destroy(p);
    cr_assert_eq(errno, 77);
    cr_assert(is_unmapped(buffer), "destroy gives all memory back");
}

Test(api_config, a_thousand_pools_one_after_the_other_cost_nothing) {
    size_t before = resident_bytes();
    for (int i = 0; i < 1000; i++) {
        zp_pool *p = zp_pool_create(NULL);
        cr_assert(p);
        zp_put(p, memset(zp_get(p, 256 * KIB), 1, 256 * KIB));
        zp_pool_destroy(p);
    }
    cr_assert_lt(resident_bytes(), before + 4 * MIB);
}

Test(api, get_is_aligned_usable_and_ours) {
    uint64_t rng = 1;
    for (int i = 0; i < 500; i++) {
        size_t n = rng_range(&rng, 0, (size_t)1 << rng_range(&rng, 1, 24));
        char *p = zp_get(pool, n);
        cr_assert(p);
        cr_assert_eq((uintptr_t)p % 4096, 0);
        cr_assert_geq(zp_usable_size(pool, p), n);
        cr_assert_geq(zp_usable_size(pool, p), 1);
        cr_assert_leq(zp_usable_size(pool, p), (n ? n : 1) + n / 16 + 4096);
        cr_assert(zp_owns(pool, p));
        p[0] = 1;
        p[zp_usable_size(pool, p) - 1] = 1;
        zp_put(pool, p);
        cr_assert_not(zp_owns(pool, p));
        cr_assert_eq(zp_usable_size(pool, p), 0);
    }
}

Test(api, too_large_is_enomem) {
    size_t sizes[] = {(size_t)1 << 45, PTRDIFF_MAX,  (size_t)PTRDIFF_MAX + 1,
                      SIZE_MAX - 4095, SIZE_MAX - 1, SIZE_MAX};
    char *held = zp_get(pool, MIB);
    pattern_fill(held, MIB, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        errno = 0;
        cr_assert_null(zp_get(pool, sizes[i]));
        cr_assert_eq(errno, ENOMEM);
        errno = 0;
        cr_assert_null(zp_get_zeroed(pool, sizes[i]));
        cr_assert_eq(errno, ENOMEM);
        errno = 0;
        cr_assert_null(zp_get_aligned(pool, 8192, sizes[i]));
        cr_assert_eq(errno, ENOMEM);
        errno = 0;
        cr_assert_null(zp_resize(pool, held, sizes[i]));
        cr_assert_eq(errno, ENOMEM);
        errno = 0;
        cr_assert_null(zp_resize(pool, NULL, sizes[i]));
        cr_assert_eq(errno, ENOMEM);
        cr_assert_eq(zp_preallocate(pool, sizes[i], 1), -EINVAL);
        cr_assert_eq(pattern_check(held, MIB, 1), MIB, "a failed resize leaves the buffer as it was");
    }
    zp_put(pool, held);
}

Test(api_config, below_the_minimum_is_einval) {
    zp_config config;
    zp_config_init(&config);
    config.min_size_bytes = 64 * KIB;
    zp_pool *p = zp_pool_create(&config);
    errno = 0;
    cr_assert_null(zp_get(p, 64 * KIB - 1));
    cr_assert_eq(errno, EINVAL);
    errno = 0;
    cr_assert_null(zp_get_zeroed(p, 0));
    cr_assert_eq(errno, EINVAL);
    errno = 0;
    cr_assert_null(zp_get_aligned(p, 4096, 1));
    cr_assert_eq(errno, EINVAL);
    errno = 99;
    cr_assert_eq(zp_preallocate(p, 1, 1), -EINVAL);
    cr_assert_eq(errno, 99);
    void *buffer = zp_get(p, 64 * KIB);
    cr_assert(buffer);
    zp_put(p, buffer);
    zp_pool_destroy(p);
}

Test(api, zeroed_is_zero_after_dirty_use) {
    for (size_t n = 1; n <= 32 * MIB; n = n * 3 + 1) {
        char *p = zp_get(pool, n);
        memset(p, 0xff, zp_usable_size(pool, p));
        zp_put(pool, p);
        p = zp_get_zeroed(pool, n);
        cr_assert_eq(first_nonzero(p, n), n, "%zu bytes", n);
        zp_put(pool, p);
    }
}

Test(api, alignment) {
    for (size_t align = 1; align <= GIB; align *= 2) {
        void *p = zp_get_aligned(pool, align, 5000);
        cr_assert(p, "alignment %zu", align);
        cr_assert_eq((uintptr_t)p % align, 0);
        cr_assert_eq((uintptr_t)p % 4096, 0);
        zp_put(pool, p);
        p = zp_get_aligned(pool, align, 5000); /* the warm one, if it fits */
        cr_assert_eq((uintptr_t)p % align, 0);
        zp_put(pool, p);
    }
    size_t bad[] = {0, 3, 4097, 6144, 2 * GIB, SIZE_MAX, SIZE_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        cr_assert_null(zp_get_aligned(pool, bad[i], 5000));
        cr_assert_eq(errno, EINVAL, "alignment %zu", bad[i]);
    }
}

Test(api, put_accepts_null_and_preserves_errno) {
    errno = 55;
    zp_put(pool, NULL);
    for (size_t n = 1; n < 64 * MIB; n *= 4) {
        void *p = zp_get(pool, n);
        memset(p, 1, n);
        errno = 55;
        zp_put(pool, p);
        cr_assert_eq(errno, 55, "%zu bytes", n);
    }
}

Test(api, resize_follows_its_contract) {
    char *p = zp_resize(pool, NULL, 100 * KIB);
    cr_assert(p, "NULL acts as zp_get");
    pattern_fill(p, 100 * KIB, 3);
    cr_assert_eq(zp_resize(pool, p, zp_usable_size(pool, p)), p, "up to the usable size nothing moves");
    p = zp_resize(pool, p, 10 * MIB);
    cr_assert_eq(pattern_check(p, 100 * KIB, 3), 100 * KIB);
    cr_assert_geq(zp_usable_size(pool, p), 10 * MIB);
    pattern_fill(p, 10 * MIB, 4);
    p = zp_resize(pool, p, 50 * KIB);
    cr_assert_eq(pattern_check_front(p, 50 * KIB, 10 * MIB, 4), 50 * KIB);
    cr_assert_lt(zp_usable_size(pool, p), 100 * KIB, "shrinking gives memory back");
    p = zp_resize(pool, p, 0);
    cr_assert(p, "size 0 is treated as 1");
    zp_put(pool, p);
}

Test(api, preallocated_buffers_do_not_fault, .disabled = UNDER_ASAN) {
    enum { N = 8 };
    cr_assert_eq(zp_preallocate(pool, MIB, N), N);
    cr_assert_eq(zp_pool_length(pool), N);
    char *p[N];
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < N; i++) {
        p[i] = zp_get(pool, MIB);
        memset(p[i], 1, MIB);
    }
    getrusage(RUSAGE_SELF, &after);
    cr_assert_lt(after.ru_minflt - before.ru_minflt, 64, "%ld faults", after.ru_minflt - before.ru_minflt);
    cr_assert_eq(zp_pool_length(pool), 0);
    for (int i = 0; i < N; i++)
        zp_put(pool, p[i]);
    cr_assert_eq(zp_preallocate(pool, MIB, 0), 0);
}

Test(api_config, preallocate_stops_at_the_limit) {
    zp_config config;
    zp_config_init(&config);
    config.n_shards = 1;
    config.max_retained_bytes = 4 * MIB;
    zp_pool *p = zp_pool_create(&config);
    long n = zp_preallocate(p, MIB, 100);
    cr_assert(n >= 1 && n <= 4, "said %ld were ready where 4 MiB may be kept", n);
    zp_stats stats;
    zp_pool_stats(p, &stats);
    cr_assert_leq(stats.bytes_cached + stats.bytes_dirty, 4 * MIB);
    zp_pool_destroy(p);
}

Test(api, length_counts_idle_buffers) {
    void *p[10];
    cr_assert_eq(zp_pool_length(pool), 0);
    for (int i = 0; i < 10; i++)
        p[i] = zp_get(pool, 64 * KIB);
    cr_assert_eq(zp_pool_length(pool), 0);
    for (int i = 0; i < 10; i++) {
        zp_put(pool, p[i]);
        cr_assert_eq(zp_pool_length(pool), (size_t)i + 1);
    }
    zp_pool_trim(pool, 0);
    cr_assert_eq(zp_pool_length(pool), 0);
}

Test(api, trim_gives_memory_back) {
    char *p = zp_get(pool, 64 * MIB);
    memset(p, 1, 64 * MIB);
    zp_put(pool, p);
    size_t before = resident_bytes();
    size_t given = zp_pool_trim(pool, 16 * MIB);
    cr_assert(given >= 47 * MIB && given <= 49 * MIB, "%zu", given);
    cr_assert_lt(resident_bytes() + 46 * MIB, before);
    given = zp_pool_trim(pool, 0);
    cr_assert(given >= 15 * MIB && given <= 17 * MIB, "%zu", given);
    cr_assert_eq(zp_pool_trim(pool, 0), 0, "nothing left");
}

Test(api, validate_writes_no_further_than_it_may) {
    char message[8];
    memset(message, 'x', sizeof message);
    cr_assert_eq(zp_validate(pool, message, sizeof message), 0);
    cr_assert_eq(zp_validate(pool, NULL, 100), 0);
    cr_assert_eq(zp_validate(pool, message, 0), 0);
    cr_assert_eq(message[7], 'x');
}

Test(api, owns_and_usable_size_of_strangers) {
    int local;
    char *p = zp_get(pool, MIB);
    const void *strangers[] = {NULL,     &local,      (void *)-1,   (void *)1, p + 1,
                               p + 4096, p + MIB - 1, p + 16 * MIB, p - 1};
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        cr_assert_not(zp_owns(pool, strangers[i]), "stranger %zu", i);
        cr_assert_eq(zp_usable_size(pool, strangers[i]), 0, "stranger %zu", i);
    }
    zp_put(pool, p);
}
