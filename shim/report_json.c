/* SPDX-License-Identifier: MIT */
/* report_json.c: writes the line of JSON. See report_json.h. */
#include "report_json.h"

#include "pool/account.h"
#include "observe/stats.h"
#include "zeropool.h"

#include <string.h>

struct writer {
    char *at, *end;
    bool first; /* in this object or array: no comma before the next member */
};

static void put(struct writer *writer, const char *text) {
    while (*text && writer->at < writer->end)
        *writer->at++ = *text++;
}

static void open_bracket(struct writer *writer, const char *bracket) {
    put(writer, bracket);
    writer->first = true;
}

static void close_bracket(struct writer *writer, const char *bracket) {
    put(writer, bracket);
    writer->first = false;
}

static void separate(struct writer *writer) {
    if (!writer->first) put(writer, ", ");
    writer->first = false;
}

static void name(struct writer *writer, const char *key) {
    separate(writer);
    put(writer, "\"");
    put(writer, key);
    put(writer, "\": ");
}

static void number(struct writer *writer, const char *key, uint64_t value) {
    char digits[24];
    name(writer, key);
    put(writer, format_decimal(digits, value));
}

/* Characters that need escaping, and those outside ASCII, are shown as '?'. */
static void string(struct writer *writer, const char *key, const char *value) {
    name(writer, key);
    put(writer, "\"");
    for (; *value; value++) {
        char c[2] = {*value >= ' ' && *value < 127 && *value != '"' && *value != '\\' ? *value : '?', 0};
        put(writer, c);
    }
    put(writer, "\"");
}

static void write_totals(struct writer *writer) {
    zp_stats s;
    memset(&s, 0, sizeof s);
    if (shim_pool.ready) pool_stats(&shim_pool, &s);
    number(writer, "gets", s.n_gets);
    number(writer, "tcache_hits", s.n_tcache_hits);
    number(writer, "shard_hits", s.n_shard_hits);
    number(writer, "steals", s.n_steals);
    number(writer, "heap_dirty", s.n_heap_dirty);
    number(writer, "heap_fresh", s.n_heap_fresh);
    number(writer, "refused", s.n_refused);
    number(writer, "evictions", s.n_evictions);
    number(writer, "purges", s.n_purges);
    number(writer, "grown_in_place", READ_RELAXED(shim_pool.heap.counters.n_grown_in_place));
    number(writer, "moved_by_tables", READ_RELAXED(shim_pool.heap.counters.n_moved_blocks));
    number(writer, "bytes_purged", s.bytes_purged);
    number(writer, "bytes_fresh", s.bytes_fresh);
    number(writer, "bytes_live", s.bytes_live);
    number(writer, "bytes_cached", s.bytes_cached);
    number(writer, "bytes_dirty", s.bytes_dirty);
    /* of these, marked for the kernel to take */
    number(writer, "bytes_muzzy", READ_RELAXED(shim_pool.heap.muzzy_bytes));
    number(writer, "bytes_clean", READ_RELAXED(shim_pool.heap.clean_bytes));
    /* addresses only: not even mapped */
    number(writer, "bytes_holes", READ_RELAXED(shim_pool.heap.hole_bytes));
    number(writer, "bytes_mapped", s.bytes_mapped);
    number(writer, "bytes_live_peak", s.bytes_live_peak);
}

static void write_sizes(struct writer *writer) {
    struct stats_size sizes[HEAP_SIZES];
    memset(sizes, 0, sizeof sizes);
    if (shim_pool.ready) pool_stats_by_size(&shim_pool, sizes);
    name(writer, "sizes");
    open_bracket(writer, "[");
    for (unsigned i = 0; i < HEAP_SIZES; i++) {
        const struct stats_size *size = &sizes[i];
        if (!size->bytes_warm && !size->bytes_fresh) continue;
        separate(writer);
        open_bracket(writer, "{");
        number(writer, "from", PAGE_BYTES << i);
        number(writer, "tcache", size->n_tcache);
        number(writer, "shard", size->n_shard);
        number(writer, "dirty", size->n_dirty);
        number(writer, "mixed", size->n_mixed);
        number(writer, "fresh", size->n_fresh);
        number(writer, "bytes_warm", size->bytes_warm);
        number(writer, "bytes_cleared", size->bytes_cleared);
        number(writer, "bytes_emptied", size->bytes_emptied);
        number(writer, "bytes_fresh", size->bytes_fresh);
        close_bracket(writer, "}");
    }
    close_bracket(writer, "]");
}

static void write_thread(struct writer *writer, const struct tcache *tcache) {
    uint64_t n_hits = 0;
    for (unsigned cls = 1; cls < N_CLASSES; cls++)
        n_hits += tcache_hits(tcache, cls);
    separate(writer);
    open_bracket(writer, "{");
    number(writer, "tcache_hits", n_hits);
    number(writer, "slow_gets", READ_RELAXED(tcache->n_slow_gets));
    number(writer, "slow_puts", READ_RELAXED(tcache->n_slow_puts));
    number(writer, "shard_hits", READ_RELAXED(tcache->n_shard_hits));
    number(writer, "steals", READ_RELAXED(tcache->n_steals));
    number(writer, "bytes_cached", account_tcache_bytes(&shim_pool, tcache));
    close_bracket(writer, "}");
}

/* The caches of live threads; the work of ended threads is in the totals only. */
static void write_threads(struct writer *writer) {
    unsigned n = 0;
    name(writer, "threads");
    open_bracket(writer, "[");
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered) {
        if (READ_RELAXED(tcache->caches) != &shim_pool.tcaches) continue;
        if (n++ < REPORT_THREADS_MAX) write_thread(writer, tcache);
    }
    close_bracket(writer, "]");
    number(writer, "n_threads", n);
}

#ifdef ZP_COUNTERS
static void write_counters(struct writer *writer) {
    uint64_t sums[N_COUNTERS];
    counters_sum(sums);
    name(writer, "counters");
    open_bracket(writer, "{");
    for (unsigned i = 0; i < N_COUNTERS; i++)
        number(writer, counter_names[i], sums[i]);
    close_bracket(writer, "}");
}
#else
#define write_counters(writer) ((void)0)
#endif

size_t report_json(char *text, size_t size, const struct report_process *process) {
    struct writer writer = {text, text + size - 1, false};
    open_bracket(&writer, "{");
    string(&writer, "schema", "zeropool-stats-1");
    number(&writer, "pid", (uint64_t)process->pid);
    number(&writer, "parent", (uint64_t)process->parent_pid);
    string(&writer, "command", process->command);
    number(&writer, "wall_ns", process->wall_ns);
    if (process->at_exit) {
        number(&writer, "user_us", process->user_us);
        number(&writer, "system_us", process->system_us);
        number(&writer, "minor_faults", process->n_minor_faults);
        number(&writer, "max_rss_bytes", process->max_rss_bytes);
    }
    write_totals(&writer);
    write_sizes(&writer);
    write_threads(&writer);
    write_counters(&writer);
    close_bracket(&writer, "}\n");
    *writer.at = '\0';
    return (size_t)(writer.at - text);
}
