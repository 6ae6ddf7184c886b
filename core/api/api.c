/* SPDX-License-Identifier: MIT */
/* api.c: the public functions of zeropool.h, over struct pool. */
#include "zeropool.h"

#include "os/os.h"
#include "pool/account.h"
#include "process/fork.h"
#include "process/helper.h"
#include "pool/pool.h"
#include "pool/resize.h"
#include "pool/zero.h"
#include "sync/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

#define TCACHE_DEPTH_MAX 64
#define ALIGNMENT_MAX GIB
/* Address space of one pool, halved until the limits allow it: enough for any block as long as there are few
 * pools, and less the more there are, so that 16384 take less than 80 of the 128 TiB of a process. */
#define SPAN_MIN (256 * MIB)

static size_t span_wanted(unsigned n_pools) {
    return n_pools < 128 ? 256 * GIB : n_pools < 1152 ? 16 * GIB : 2 * GIB;
}

struct zp_pool {
    struct pool pool;
};

#define TEXT_OF(number) #number
#define VERSION(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

EXPORT const char *zp_version(void) {
    return VERSION(ZP_VERSION_MAJOR, ZP_VERSION_MINOR, ZP_VERSION_PATCH);
}

/* --- structs of other versions --- */

/* The fields of version 0.1.0, for the functions without a size. */
#define END_OF(type, field) align_up(offsetof(type, field) + sizeof((type *)0)->field, sizeof(size_t))
#define CONFIG_FIRST_BYTES END_OF(zp_config, decay_ms)
#define STATS_FIRST_BYTES END_OF(zp_stats, n_pin_failures)

/* Longer structs would be a mistake. */
#define STRUCT_MAX 4096

static bool is_struct_size(size_t n_bytes) {
    return n_bytes >= 2 * sizeof(size_t) && n_bytes <= STRUCT_MAX && n_bytes % sizeof(size_t) == 0;
}

/* Into a struct of another version: fields that it lacks are left out, fields that ours lacks are 0. */
static void copy_out(void *to, size_t to_bytes, const void *from, size_t from_bytes) {
    memcpy(to, from, min_size(to_bytes, from_bytes));
    if (to_bytes > from_bytes) memset((char *)to + from_bytes, 0, to_bytes - from_bytes);
}

/* Fields that ours lacks must ask for nothing. */
static bool copy_in(zp_config *to, const zp_config *from) {
    size_t n_bytes = from->struct_size;
    if (!is_struct_size(n_bytes)) return false;
    for (size_t i = sizeof *to; i < n_bytes; i++)
        if (((const char *)from)[i]) return false;
    zp_config_init(to);
    memcpy(to, from, min_size(n_bytes, sizeof *to));
    to->struct_size = sizeof *to;
    return true;
}

EXPORT int zp_config_preset_sized(zp_config *config, zp_preset preset, size_t struct_size) {
    static const zp_config defaults = {.tcache_depth = 16, .decay_ms = 4000};
    if ((unsigned)preset > ZP_PRESET_FILE || !is_struct_size(struct_size)) return -EINVAL;
    copy_out(config, struct_size, &defaults, sizeof defaults);
    config->struct_size = struct_size;
    return 0;
}

EXPORT void zp_config_init_sized(zp_config *config, size_t struct_size) {
    zp_config_preset_sized(config, ZP_PRESET_BALANCED, struct_size);
}

EXPORT void zp_pool_stats_sized(zp_pool *pool, zp_stats *stats, size_t struct_size) {
    zp_stats ours;
    pool_stats(&pool->pool, &ours);
    copy_out(stats, struct_size, &ours, sizeof ours);
}

/* The parentheses keep the header's macros from expanding. */
EXPORT void(zp_config_init)(zp_config *config) {
    zp_config_init_sized(config, CONFIG_FIRST_BYTES);
}

EXPORT int(zp_config_preset)(zp_config *config, zp_preset preset) {
    return zp_config_preset_sized(config, preset, CONFIG_FIRST_BYTES);
}

EXPORT void(zp_pool_stats)(zp_pool *pool, zp_stats *stats) {
    zp_pool_stats_sized(pool, stats, STATS_FIRST_BYTES);
}

/* --- pools --- */

__attribute__((constructor)) static void load(void) {
    os_helper_prepare();
}

static bool valid(const zp_config *config) {
    return config->n_shards <= SHARDS_MAX && config->tcache_depth <= TCACHE_DEPTH_MAX &&
           (unsigned)config->eviction <= ZP_EVICT_CLOCKPRO;
}

static int init_with_span(struct pool *pool, struct pool_setup *setup) {
    int error = -ENOMEM;
    for (setup->span_max = span_wanted(helper_count_pools()); setup->span_max >= SPAN_MIN;
         setup->span_max /= 2) {
        setup->max_block_bytes = setup->span_max / 2;
        error = pool_init(pool, setup);
        if (error != -ENOMEM) break;
    }
    return error;
}

EXPORT zp_pool *zp_pool_create(const zp_config *wanted) {
    zp_config ours;
    if (!wanted)
        zp_config_init(&ours);
    else if (!copy_in(&ours, wanted) || !valid(&ours)) {
        errno = EINVAL;
        return NULL;
    }
    const zp_config *config = &ours;
    tcache_setup_process();
    size_t retained = config->max_retained_bytes;
    struct pool_setup setup = {
        .reserved = true,
        .n_shards = config->n_shards,
        .tcache_depth = config->tcache_depth,
        /* Half of a limit for the shards, three eighths for the heap, the rest for the caches of eight
         * threads: of each part half for its stacks, and as much at most for the slot before them, which
         * tcache_limit_bytes does not count. */
        .tcache_limit_bytes = retained ? min_size(4 * MIB, retained / 128) : 4 * MIB,
        .shard_limit_bytes = retained ? retained / 2 : 256 * MIB,
        .shard_max_block_bytes = SIZE_MAX,
        .retain_max_bytes = retained ? retained / 8 * 3 : SIZE_MAX,
        .limited = retained != 0,
        .min_size_bytes = config->min_size_bytes,
        .decay_ms = config->decay_ms,
        .eviction = config->eviction == ZP_EVICT_CLOCKPRO ? EVICT_CLOCKPRO : EVICT_LIFO,
        .pinned = config->pinned,
        .huge = SWITCH_AUTO,
    };
    void *memory = NULL;
    int error = os_map(align_up(sizeof(struct zp_pool), PAGE_BYTES), &memory);
    if (!error) {
        error = init_with_span(&((struct zp_pool *)memory)->pool, &setup);
        if (error) os_unmap(memory, align_up(sizeof(struct zp_pool), PAGE_BYTES));
    }
    if (error) {
        errno = -error;
        return NULL;
    }
    if (helper_add_pool(&((struct zp_pool *)memory)->pool)) return memory;
    pool_finish(&((struct zp_pool *)memory)->pool);
    os_unmap(memory, align_up(sizeof(struct zp_pool), PAGE_BYTES));
    errno = ENOMEM;
    return NULL;
}

EXPORT void zp_pool_destroy(zp_pool *pool) {
    if (!pool) return;
    int saved = errno;
    fork_pass();
    helper_remove_pool(&pool->pool);
    pool_finish(&pool->pool);
    os_unmap(pool, align_up(sizeof(struct zp_pool), PAGE_BYTES));
    errno = saved;
}

/* Pages for a request, or 0 with errno set. */
static size_t checked_pages(zp_pool *pool, size_t size) {
    if (size < pool->pool.min_size_bytes) {
        errno = EINVAL;
        return 0;
    }
    if (size > (pool->pool.max_pages << PAGE_SHIFT)) {
        __atomic_fetch_add(&pool->pool.heap.counters.n_refused, 1, __ATOMIC_RELAXED);
        errno = ENOMEM;
        return 0;
    }
    return size ? pages_of(size) : 1;
}

/* A pool that does not get its lock in time refuses, and under the preload library the next allocator serves
 * the request. The API has no other allocator: the request is repeated for up to a second, as long as the
 * lock's holder does not come back. */
#define AGAIN_NS 1000000000u
/* So often even if the lock is free again: nothing tells which of the two happened. */
#define AGAIN_TRIES 3

struct patience {
    unsigned n_tries;
    uint64_t end_ns;
};

static noinline_cold bool try_again(struct patience *patience, const zp_pool *pool) {
    /* In a handler that has interrupted a call of the pool: that call cannot go on before the handler
     * ends. */
    if (tcache_owner_is_inside()) return false;
    if (patience->n_tries++ >= AGAIN_TRIES && !READ_RELAXED(pool->pool.heap.lock.doubtful)) return false;
    uint64_t now_ns = os_clock_ns();
    if (!patience->end_ns) patience->end_ns = now_ns + AGAIN_NS;
    lock_relax();
    return now_ns < patience->end_ns;
}

/* The pointer that the expression gives, or NULL with ENOMEM. */
#define PATIENTLY(pool, expression)                                                                          \
    ({                                                                                                       \
        void *given = (expression);                                                                          \
        for (struct patience patience = {0}; unlikely(!given) && try_again(&patience, pool);)                \
            given = (expression);                                                                            \
        if (!given) errno = ENOMEM;                                                                          \
        given;                                                                                               \
    })

EXPORT void *zp_get(zp_pool *pool, size_t size) {
    size_t n_pages = checked_pages(pool, size);
    return n_pages ? PATIENTLY(pool, pool_get(&pool->pool, tcache_find(&pool->pool.tcaches), n_pages)) : NULL;
}

EXPORT void *zp_get_zeroed(zp_pool *pool, size_t size) {
    size_t n_pages = checked_pages(pool, size);
    if (!n_pages) return NULL;
    const void *site = __builtin_return_address(0);
    return PATIENTLY(pool, zero_get_for(&pool->pool, tcache_find(&pool->pool.tcaches), n_pages, site));
}

EXPORT void *zp_get_aligned(zp_pool *pool, size_t alignment, size_t size) {
    if (!is_pow2(alignment) || alignment > ALIGNMENT_MAX) {
        errno = EINVAL;
        return NULL;
    }
    size_t n_pages = checked_pages(pool, size);
    if (!n_pages) return NULL;
    return PATIENTLY(pool,
                     pool_get_aligned(&pool->pool, tcache_find(&pool->pool.tcaches), alignment, n_pages));
}

EXPORT void zp_put(zp_pool *pool, void *buffer) {
    if (!buffer) return;
    if (!space_owns(&pool->pool.heap.space, buffer)) fatal_pointer("buffer of another pool", buffer);
    int saved = errno;
    pool_put(&pool->pool, tcache_find(&pool->pool.tcaches), buffer);
    errno = saved;
}

EXPORT void *zp_resize(zp_pool *pool, void *buffer, size_t size) {
    if (!buffer) return zp_get(pool, size);
    if (!space_owns(&pool->pool.heap.space, buffer)) fatal_pointer("buffer of another pool", buffer);
    struct extent *extent = pool_live_extent(&pool->pool, buffer);
    if (!checked_pages(pool, size)) return NULL;
    if (resize_in_place(&pool->pool, extent, size)) return buffer;
    return PATIENTLY(pool, resize_move(&pool->pool, tcache_find(&pool->pool.tcaches), extent, size));
}

EXPORT bool zp_owns(zp_pool *pool, const void *buffer) {
    if (!space_owns(&pool->pool.heap.space, buffer)) return false;
    struct extent *extent = space_lookup(&pool->pool.heap.space, buffer);
    return extent->address == buffer && extent_state(extent) == EXTENT_LIVE;
}

EXPORT size_t zp_usable_size(zp_pool *pool, const void *buffer) {
    if (!zp_owns(pool, buffer)) return 0;
    return extent_active_bytes(space_lookup(&pool->pool.heap.space, buffer));
}

EXPORT long zp_preallocate(zp_pool *pool, size_t size, size_t count) {
    int saved = errno;
    size_t n_pages = checked_pages(pool, size);
    errno = saved;
    if (!n_pages) return -EINVAL;
    return (long)pool_preallocate(&pool->pool, n_pages, count);
}

EXPORT size_t zp_pool_length(zp_pool *pool) {
    return shard_count_blocks(&pool->pool) + tcache_count_blocks(&pool->pool);
}

EXPORT size_t zp_pool_trim(zp_pool *pool, size_t keep_bytes) {
    return pool_trim(&pool->pool, keep_bytes);
}

EXPORT int zp_validate(zp_pool *pool, char *message, size_t message_size) {
    const char *broken = pool_check(&pool->pool);
    if (!broken) return 0;
    if (message && message_size) {
        strncpy(message, broken, message_size - 1);
        message[message_size - 1] = '\0';
    }
    return -EFAULT;
}
