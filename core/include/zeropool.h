/* SPDX-License-Identifier: MIT */
/* zeropool.h: the public API of the buffer pool library libzeropool.so.
 *
 * A pool hands out page-aligned buffers and keeps returned ones warm (resident, already faulted in), so that
 * the next request of a similar size costs nanoseconds instead of one page fault per 4 KiB.
 *
 * Conventions, valid for every function below unless it says otherwise:
 * - sizes are bytes;
 * - thread-safety: every function may be called from any thread at any time, except that zp_pool_destroy
 *   needs the pool to itself. zp_get and zp_put may be called in a signal handler;
 * - errors: functions that return a pointer return NULL and set errno; functions that return int return 0 or
 *   a negative errno value and leave errno alone. zp_put and zp_pool_destroy preserve errno;
 * - misuse: freeing a buffer twice, an interior pointer, or a buffer of another pool ends the process with
 *   one line on stderr ("zeropool: fatal: ...") and SIGABRT, before anything is corrupted;
 * - versions: zp_config and zp_stats grow at their ends only. A program tells the library how long its
 *   structs are (the macros at the end do that), so one that was compiled with an older or a newer header
 *   works: fields that it does not have take their defaults or are left out, fields that the library does not
 *   have are 0.
 */
#ifndef ZEROPOOL_H
#define ZEROPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; zp_version() is that of the library. */
#define ZP_VERSION_MAJOR 0
#define ZP_VERSION_MINOR 1
#define ZP_VERSION_PATCH 0

/* A pool. Created by zp_pool_create, owned by the caller, released by zp_pool_destroy. */
typedef struct zp_pool zp_pool;

/* Which idle buffer is given up first when the shared pool is over its limit. */
typedef enum zp_eviction {
    ZP_EVICT_LIFO = 0, /* buffers idle longest go first; reuse takes the most recently returned one */
    /* CLOCK-Pro: sizes that are asked for again soon after eviction become hot and stay */
    ZP_EVICT_CLOCKPRO = 1,
} zp_eviction;

/* Names of workloads. All mean the same configuration, the default: none of those that were tried for one of
 * them was better at it (docs/memory-policy.md). */
typedef enum zp_preset {
    ZP_PRESET_BALANCED = 0,
    ZP_PRESET_ML = 1,
    ZP_PRESET_NETWORK = 2,
    ZP_PRESET_FILE = 3,
} zp_preset;

/* How a pool behaves. Fill it with zp_config_init or zp_config_preset, change what you like, pass it to
 * zp_pool_create, which copies it. */
typedef struct zp_config {
    size_t struct_size; /* set by zp_config_init: the size of this struct in the program */
    /* shards of the shared pool; 0 = one per CPU, rounded up to a power of two; <= 64 */
    unsigned n_shards;
    /* idle buffers a thread keeps per size class, besides the one it returned last; 0: no thread cache; <=
     * 64 */
    unsigned tcache_depth;
    /* idle bytes the pool may hold in all, with up to eight threads using it (each further one may keep 1/64
     * more); 0 = derive it from the recent peak of live */
    size_t max_retained_bytes;
    size_t min_size_bytes; /* zp_get refuses smaller requests with EINVAL; 0 = accept every size */
    bool pinned;           /* mlock the buffers; where the limit forbids it the pool goes on unpinned */
    zp_eviction eviction;  /* which idle buffer is given up first */
    /* idle memory goes back to the kernel over this time, after its first second; 0: not by age, only what is
     * over the budget or max_retained_bytes, and on zp_pool_trim */
    unsigned decay_ms;
} zp_config;

/* What a pool has done and holds. All counters are since creation, all sizes bytes. Counters of other threads
 * are read without stopping them, so a snapshot of a busy pool is consistent only approximately. */
typedef struct zp_stats {
    uint64_t n_gets;         /* requests; each try of one that waits for a lock counts */
    uint64_t n_tcache_hits;  /* gets served by the calling thread's cache */
    uint64_t n_shard_hits;   /* gets served by a shard */
    uint64_t n_steals;       /* shard hits that came from another CPU's shard */
    uint64_t n_heap_dirty;   /* gets served from warm memory of the extent heap */
    uint64_t n_heap_fresh;   /* gets that had to take untouched memory (page faults ahead) */
    uint64_t n_refused;      /* gets refused: too large, out of address space, limit */
    uint64_t n_evictions;    /* idle buffers moved from a shard to the extent heap by the eviction policy */
    uint64_t n_purges;       /* times memory was given back to the kernel */
    uint64_t bytes_purged;   /* bytes given back to the kernel */
    uint64_t bytes_fresh;    /* bytes taken untouched */
    size_t bytes_live;       /* in buffers now held by the program */
    size_t bytes_cached;     /* idle, in thread caches and shards */
    size_t bytes_dirty;      /* idle and warm in the extent heap */
    size_t bytes_mapped;     /* address space in use */
    size_t bytes_live_peak;  /* the largest bytes_live + bytes_cached seen */
    size_t bytes_pinned;     /* locked in RAM */
    uint64_t n_pin_failures; /* mlock refusals */
} zp_stats;

/* Fill *config with the defaults (preset balanced). Never fails. */
void zp_config_init(zp_config *config);

/* Fill *config with a preset. Returns 0, or -EINVAL for an unknown preset (then *config is untouched). */
int zp_config_preset(zp_config *config, zp_preset preset);

/* Create a pool. config may be NULL for the defaults; it is copied. The caller owns the result. Errors:
 * EINVAL (a field out of range), ENOMEM (no address space, or 16384 pools exist; Linux allows a process 65530
 * mappings by default, and a pool takes six). Pools do not share memory with each other. The largest buffer
 * is half of the address space that a pool sets aside: 256 GiB, but 16 GiB where 128 pools exist already and
 * 2 GiB where 1152 do. */
zp_pool *zp_pool_create(const zp_config *config);

/* Give all memory of the pool back and end it. Buffers still held become invalid: return them first. Accepts
 * NULL. No other thread may be using the pool; threads that used it earlier may live on. */
void zp_pool_destroy(zp_pool *pool);

/* Get a buffer of at least size bytes, aligned to 4096. Contents are arbitrary. The caller owns it until
 * zp_put. size 0 is treated as 1. Errors: EINVAL (below min_size_bytes), ENOMEM (also where a thread that has
 * the pool's lock does not come back for a second). Lock-free when the thread cache hits. */
void *zp_get(zp_pool *pool, size_t size);

/* The same, all bytes zero. */
void *zp_get_zeroed(zp_pool *pool, size_t size);

/* The same, aligned to alignment, a power of two up to 1 GiB (else EINVAL). */
void *zp_get_aligned(zp_pool *pool, size_t alignment, size_t size);

/* Return a buffer to the pool it came from. Any thread may return it. Accepts NULL. */
void zp_put(zp_pool *pool, void *buffer);

/* Change the size of a buffer, in place if possible, keeping the contents up to the smaller size. buffer NULL
 * acts as zp_get. On failure (ENOMEM; EINVAL below min_size_bytes) returns NULL and the buffer stays as it
 * was. */
void *zp_resize(zp_pool *pool, void *buffer, size_t size);

/* Bytes that may be used in this buffer: at least what was asked for. 0 for a pointer that is not of this
 * pool. */
size_t zp_usable_size(zp_pool *pool, const void *buffer);

/* True if buffer is a buffer of this pool that the program now holds. Never fails, takes no lock. */
bool zp_owns(zp_pool *pool, const void *buffer);

/* Put count idle buffers of size bytes into the shared pool and touch their pages, so that the next count
 * gets do not fault. Returns the number made ready (fewer when the limit or memory is reached), or -EINVAL
 * for a size that zp_get refuses. */
long zp_preallocate(zp_pool *pool, size_t size, size_t count);

/* The number of idle buffers in the shards and thread caches. Approximate while other threads are active. */
size_t zp_pool_length(zp_pool *pool);

/* Give idle memory back to the kernel now, keeping at most keep_bytes of it. Returns the bytes given back. */
size_t zp_pool_trim(zp_pool *pool, size_t keep_bytes);

/* Copy the statistics into *stats. */
void zp_pool_stats(zp_pool *pool, zp_stats *stats);

/* Check all invariants of the pool. Returns 0, or a negative errno with a description in message (may be
 * NULL; at most message_size bytes). Takes the pool's locks one after the other; meant for tests. */
int zp_validate(zp_pool *pool, char *message, size_t message_size);

/* The version of the library: "0.1.0". */
const char *zp_version(void);

/* What zp_config_init, zp_config_preset and zp_pool_stats are in C and C++: struct_size is the size of the
 * program's struct, and no byte beyond it is written. The functions of those names, which are there for other
 * languages, know the fields of version 0.1.0 only. zp_config_preset_sized returns -EINVAL, too, for a size
 * that cannot be. */
void zp_config_init_sized(zp_config *config, size_t struct_size);
int zp_config_preset_sized(zp_config *config, zp_preset preset, size_t struct_size);
void zp_pool_stats_sized(zp_pool *pool, zp_stats *stats, size_t struct_size);

#define zp_config_init(config) zp_config_init_sized((config), sizeof *(config))
#define zp_config_preset(config, preset) zp_config_preset_sized((config), (preset), sizeof *(config))
#define zp_pool_stats(pool, stats) zp_pool_stats_sized((pool), (stats), sizeof *(stats))

#ifdef __cplusplus
}
#endif
#endif
