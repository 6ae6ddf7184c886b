/* SPDX-License-Identifier: MIT */
/* setup.c: the pool is set up at the first large request. See setup.h. */
#include "setup.h"

#include "hardened.h"
#include "os/os.h"
#include "passive.h"
#include "process/helper.h"
#include "sandbox.h"
#include "shim.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

struct options setup_options;
bool setup_options_read;
static _Atomic int setup_state; /* 0 not yet, 1 in progress, 2 done, 3 impossible */

/* What a thread and a shard may keep beside the heap, at least. */
#define TCACHE_BYTES (1 * MIB)
#define SHARD_BYTES (256 * KIB)

/* Four times the machine's memory: fragmentation and headroom cost only addresses. Bounded by the room for a
 * span (space.c). */
#define SPAN_MOST (8192 * GIB)

static size_t span_for(size_t ram) {
    return align_up(min_size(max_size(4 * ram, 16 * GIB), SPAN_MOST), HUGE_BYTES);
}

/* glibc gives the top of its heap back when it exceeds 128 KiB. It raises that bound when large blocks are
 * freed, but large blocks no longer reach it, so blocks just below our threshold would fault at every use. At
 * the first large request it is therefore told what blocks of 8 MiB would have taught it, unless the user has
 * set a value. The same holds for blocks that it maps one by one, if our threshold lies above its own. */
#define NEXT_TRIM_BYTES (16 * MIB)
#define NEXT_MMAP_DEFAULT (128 * KIB)
#define NEXT_MMAP_MAX (32 * MIB)

static void teach_next(void) {
    if (shim_sizes.threshold > NEXT_MMAP_MAX) return; /* it sees enough to learn by itself */
    if (READ_RELAXED(shim_next_is_tuned)) return;
    if (options_lookup(environ, "MALLOC_TRIM_THRESHOLD_") || options_lookup(environ, "GLIBC_TUNABLES"))
        return;
    /* mallopt locks glibc's heap, which malloc does not do in a program of one thread. A handler that
     * allocates, or a forked child, would wait for that lock for ever. */
    uint64_t before = os_block_signals();
    next.mallopt(M_TRIM_THRESHOLD, (int)max_size(NEXT_TRIM_BYTES, 2 * shim_sizes.threshold));
    if (shim_sizes.threshold > NEXT_MMAP_DEFAULT) next.mallopt(M_MMAP_THRESHOLD, (int)shim_sizes.threshold);
    os_restore_signals(before);
}

bool setup_harden(void) {
    if (!setup_options_read) {
        const char *value = getauxval(AT_SECURE) ? NULL : options_lookup(environ, "ZEROPOOL_HARDENED");
        setup_options.hardened = value && strcmp(value, "1") == 0;
    }
    if (!setup_options.hardened) return false;
    sandbox_learn();
    if (!hardened_start(&next, max_size(setup_options.threshold_bytes, 1),
                        min_size(setup_options.max_block_bytes, os_ram_bytes())))
        return false;
    shim_set_threshold(SIZE_MAX);
    next_resolve(); /* enters the mode's functions */
    return true;
}

static bool set_up(void) {
    if (!setup_options_read) options_defaults(&setup_options);
    sandbox_learn();
    if (passive_wanted() || setup_harden()) return false;
    os_helper_prepare();
    size_t ram = os_ram_bytes();
    size_t asked = setup_options.n_shards ? setup_options.n_shards : os_cpu_count();
    unsigned n_shards = round_up_pow2((unsigned)min_size(asked, SHARDS_MAX));
    struct pool_setup setup = {
        .span_max = span_for(ram),
        .n_shards = n_shards,
        .tcache_depth = (unsigned)setup_options.tcache_depth,
        .tcache_limit_bytes = TCACHE_BYTES,
        .shard_limit_bytes = SHARD_BYTES * n_shards,
        .shard_max_block_bytes = 256 * KIB,
        .caches_grow = true,
        .retain_bytes = setup_options.retain_bytes,
        .retain_max_bytes = SIZE_MAX,
        /* A size that the kernel's overcommit heuristic refuses to glibc must not succeed here, nor the other
         * way round. */
        .max_block_bytes = min_size(setup_options.max_block_bytes, ram),
        .decay_ms = (unsigned)setup_options.decay_ms,
        .eviction = setup_options.eviction ? EVICT_CLOCKPRO : EVICT_LIFO,
        .huge = setup_options.huge,
        .zero_at_limit = &shim_sizes.jumps_below,
    };
    if (pool_init(&shim_pool, &setup)) return false;
    helper_add_pool(&shim_pool);
    teach_next();
    return true;
}

bool shim_ready(void) {
    int state = atomic_load_explicit(&setup_state, memory_order_acquire);
    if (likely(state == 2)) return true;
    if (state != 0 || tcache_tls.entered) return false;
    if (!atomic_compare_exchange_strong(&setup_state, &state, 1)) return false;
    int saved = errno;
    bool done = set_up();
    errno = saved;
    atomic_store_explicit(&setup_state, done ? 2 : 3, memory_order_release);
    return done;
}
