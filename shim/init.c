/* SPDX-License-Identifier: MIT */
/* init.c: start-up, and the set-up of the pool at the first large request. */
#include "shim.h"

#include "bypass.h"
#include "hardened.h"
#include "operators.h"
#include "os/os.h"
#include "passive.h"
#include "process/fork.h"
#include "process/helper.h"
#include "pool/limits.h"
#include "process.h"
#include "report.h"
#include "report_live.h"
#include "rest_calls.h"
#include "sandbox.h"
#include "system.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

struct pool shim_pool;
/* Not at the beginning of the data, where a page's first cache line is. */
__attribute__((aligned(4 * CACHE_LINE))) struct shim_sizes shim_sizes = {32 * KIB, 32 * KIB};

size_t shim_lower_threshold, shim_first_threshold = 32 * KIB;

static struct options options;
static bool options_read;
static _Atomic int setup_state; /* 0 not yet, 1 someone is at it, 2 done, 3 impossible */

/* What a thread and one shard may keep beside the heap, at least. */
#define TCACHE_BYTES (1 * MIB)
#define SHARD_BYTES (256 * KIB)

/* Four times the memory there is: fragmentation and headroom cost addresses only. But no more than there is a
 * place for (space.c). */
#define SPAN_MOST (8192 * GIB)

static size_t span_for(size_t ram) {
    return align_up(min_size(max_size(4 * ram, 16 * GIB), SPAN_MOST), HUGE_BYTES);
}

/* glibc gives the top of its heap back when it exceeds 128 KiB, and learns better only from large blocks that
 * it frees, which it no longer sees: blocks just below the threshold would fault for ever. So it is told, at
 * the first large request, what it would have learned from blocks of 8 MiB, unless the user has told it
 * something else. The same for blocks that it maps one by one, where the threshold was raised above the size
 * from which it does so. */
#define NEXT_TRIM_BYTES (16 * MIB)
#define NEXT_MMAP_DEFAULT (128 * KIB)
#define NEXT_MMAP_MAX (32 * MIB)

static void teach_next(void) {
    if (shim_sizes.threshold > NEXT_MMAP_MAX) return; /* it sees enough to learn by itself */
    if (READ_RELAXED(shim_next_is_tuned)) return;
    if (options_lookup(environ, "MALLOC_TRIM_THRESHOLD_") || options_lookup(environ, "GLIBC_TUNABLES"))
        return;
    /* It locks glibc's heap, as malloc in a program of one thread does not: a handler that allocates, or a
     * child that it forks, would wait for that lock for ever. */
    uint64_t before = os_block_signals();
    next.mallopt(M_TRIM_THRESHOLD, (int)max_size(NEXT_TRIM_BYTES, 2 * shim_sizes.threshold));
    if (shim_sizes.threshold > NEXT_MMAP_DEFAULT) next.mallopt(M_MMAP_THRESHOLD, (int)shim_sizes.threshold);
    os_restore_signals(before);
}

/* Is the hardened mode wanted? Then it is on afterwards. Before the constructor only the switch itself is
 * known. */
static bool harden(void) {
    if (!options_read) {
        const char *value = getauxval(AT_SECURE) ? NULL : options_lookup(environ, "ZEROPOOL_HARDENED");
        options.hardened = value && strcmp(value, "1") == 0;
    }
    if (!options.hardened) return false;
    sandbox_learn();
    return hardened_start(max_size(options.threshold_bytes, 1),
                          min_size(options.max_block_bytes, os_ram_bytes()));
}

bool bypass_owns(const void *p) {
    return shim_owns(p) || hardened_owns(p);
}

static bool set_up(void) {
    if (!options_read) options_defaults(&options);
    sandbox_learn();
    if (passive_wanted() || harden()) return false;
    os_helper_prepare();
    size_t ram = os_ram_bytes();
    size_t asked = options.n_shards ? options.n_shards : os_cpu_count();
    unsigned n_shards = round_up_pow2((unsigned)min_size(asked, SHARDS_MAX));
    struct pool_setup setup = {
        .span_max = span_for(ram),
        .n_shards = n_shards,
        .tcache_depth = (unsigned)options.tcache_depth,
        .tcache_limit_bytes = TCACHE_BYTES,
        .shard_limit_bytes = SHARD_BYTES * n_shards,
        .shard_max_block_bytes = 256 * KIB,
        .caches_grow = true,
        .retain_bytes = options.retain_bytes,
        .retain_max_bytes = SIZE_MAX,
        /* What the kernel's overcommit heuristic would refuse to glibc must not succeed here, nor the other
         * way. */
        .max_block_bytes = min_size(options.max_block_bytes, ram),
        .decay_ms = (unsigned)options.decay_ms,
        .eviction = options.eviction ? EVICT_CLOCKPRO : EVICT_LIFO,
        .huge = options.huge,
        .zero_at_limit = &shim_sizes.jumps_below,
    };
    if (pool_init(&shim_pool, &setup)) return false;
    helper_add_pool(&shim_pool);
    teach_next();
    return true;
}

/* Whoever notes a limit meanwhile does so before the last line reads it, or writes after it. */
void shim_set_threshold(size_t bytes) {
    WRITE_RELAXED(shim_sizes.threshold, bytes);
    __atomic_store_n(&shim_sizes.jumps_below, bytes, __ATOMIC_SEQ_CST);
    if (limits_seen(&shim_pool)) WRITE_RELAXED(shim_sizes.jumps_below, 0);
}

/* The pool may not be there yet. */
void shim_note_limit(void) {
    limits_note(&shim_pool);
    WRITE_RELAXED(shim_sizes.jumps_below, 0);
}

void shim_note_use(void) {
    size_t lower = READ_RELAXED(shim_lower_threshold); /* 0 if another thread was first */
    if (!lower || READ_RELAXED(shim_pool.heap.active_bytes) < SHIM_LOWER_BYTES) return;
    shim_set_threshold(min_size(READ_RELAXED(shim_sizes.threshold), lower));
    WRITE_RELAXED(shim_lower_threshold, 0);
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

/* size: SIZE_MAX for a copy of the process. */
static bool make_room(size_t size) {
    if (!shim_pool.ready || tcache_tls.entered || !fork_pass()) return false;
    int saved = errno;
    tcache_tls.entered = IN_SLOW_PATH;
    bool made = size == SIZE_MAX ? limits_make_room_for_copy(&shim_pool) : limits_make_room(&shim_pool, size);
    tcache_tls.entered = 0;
    errno = saved;
    return made;
}

bool shim_make_room(size_t size) {
    return size != SIZE_MAX && make_room(size);
}

bool shim_make_room_for_copy(void) {
    return make_room(SIZE_MAX);
}

static void start_up(char **environment) {
    next_resolve();
    process_resolve();
    rest_calls_resolve();
    os_clock_prepare();
    tcache_setup_process();
    options_defaults(&options);
    /* A program with raised rights does not listen to whoever started it. */
    if (!getauxval(AT_SECURE)) options_from_environment(&options, environment);
    options_read = true;
    shim_first_threshold = options.enabled ? max_size(options.threshold_bytes, 1) : SIZE_MAX;
    shim_set_threshold(shim_first_threshold);
    bool asked = !getauxval(AT_SECURE) && options_lookup(environment, "ZEROPOOL_THRESHOLD");
    if (options.enabled && !asked) shim_lower_threshold = SHIM_LOWER_TO;
    operators_resolve();
    report_configure(environment);
    if (!options.enabled) return;
    if (bypass_program_has_own_malloc() || passive_wanted()) {
        /* With a malloc of the program's own, what reaches us are the few functions that it does not define,
         * and its free knows nothing of the pool. */
        shim_set_threshold(SIZE_MAX);
        shim_lower_threshold = 0;
        return;
    }
    bypass_close();
    if (harden()) {
        shim_lower_threshold = 0;
        return;
    }
    os_helper_note_main();
    /* The thread is unknown to the C library, so it must not run what others have put in the place of these
     * calls. */
    if (options.background == SWITCH_ON) helper_allow(true);
    if (options.background == SWITCH_OFF || (options.background == SWITCH_AUTO && system_is_hooked()))
        helper_allow(false);
    if (options.live == SWITCH_ON) {
        sandbox_learn();
        os_helper_prepare();
        report_live_start(environment);
    }
}

__attribute__((constructor)) static void start(int argc, char **argv, char **environment) {
    (void)argc;
    (void)argv;
    /* One window for all that is written. Where the kernel refuses, next_resolve says so. */
    bool open = os_unseal();
    start_up(environment);
    if (open) os_seal();
}
