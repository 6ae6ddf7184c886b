/* SPDX-License-Identifier: MIT */
/* options.h: the one table of everything that ZEROPOOL_* variables can set.
 *
 * The table is the source: the manual page, the docs and the error messages are made from it.
 * Columns: field, variable, kind, default, minimum, maximum (or the words of a choice), one line of help.
 */
#ifndef ZP_SYNC_OPTIONS_H
#define ZP_SYNC_OPTIONS_H

#include "base/bits.h"

enum switch_value { SWITCH_OFF, SWITCH_ON, SWITCH_AUTO };

#define OPTIONS_TABLE(NUMBER, CHOICE)                                                                        \
    CHOICE(enabled, "ZEROPOOL_ENABLED", SWITCH_ON, "off|on", "off: every call goes to the next allocator")   \
    NUMBER(threshold_bytes, "ZEROPOOL_THRESHOLD", SIZE, 32 * KIB, 1, 64 * GIB,                               \
           "requests of at least this size are served from the pool; not set: 16K once 8 MiB are in use")    \
    NUMBER(max_block_bytes, "ZEROPOOL_MAX_BLOCK", SIZE, 64 * GIB, 4 * KIB, 128 * GIB,                        \
           "larger requests go to the next allocator (never above the machine's memory)")                    \
    NUMBER(retain_bytes, "ZEROPOOL_RETAIN", SIZE, 0, 0, 64 * GIB,                                            \
           "idle bytes kept on top of the budget derived from recent use, but not by malloc_trim or near a " \
           "memory limit")                                                                                   \
    CHOICE(preset, "ZEROPOOL_PRESET", 0, "balanced|ml|network|file",                                         \
           "all mean the default; the names are kept")                                                       \
    CHOICE(eviction, "ZEROPOOL_EVICTION", 0, "lifo|clockpro", "which idle block is given up first")          \
    NUMBER(decay_ms, "ZEROPOOL_DECAY_MS", COUNT, 4000, 0, 3600000,                                           \
           "idle memory goes back to the kernel over this many milliseconds, after the first second; 0: "    \
           "not by age")                                                                                     \
    CHOICE(background, "ZEROPOOL_BACKGROUND", SWITCH_AUTO, "off|on|auto",                                    \
           "the thread that gives memory back while the program makes no calls; on: also in processes with " \
           "one thread")                                                                                     \
    NUMBER(n_shards, "ZEROPOOL_SHARDS", COUNT, 0, 0, 64,                                                     \
           "shards of the shared pool, rounded up to a power of two; 0: one per CPU")                        \
    NUMBER(tcache_depth, "ZEROPOOL_TCACHE_DEPTH", COUNT, 16, 0, 64, "idle blocks a thread keeps per class")  \
    NUMBER(hardened, "ZEROPOOL_HARDENED", COUNT, 0, 0, 1,                                                    \
           "1: each large block between guards, freed ones inaccessible; slow, and nothing is pooled")       \
    CHOICE(live, "ZEROPOOL_LIVE", SWITCH_OFF, "off|on",                                                      \
           "a page from which 'zeropool stat' and 'zeropool top' read the running process")                  \
    NUMBER(profile_rate_bytes, "ZEROPOOL_PROFILE_RATE", SIZE, 0, 0, 1 * GIB,                                 \
           "with ZEROPOOL_PROFILE: one call in about so many bytes is captured; 0: all")                     \
    CHOICE(huge, "ZEROPOOL_HUGE", SWITCH_AUTO, "off|on|auto",                                                \
           "huge pages for fresh blocks: auto where earlier blocks of that size were filled")

/* Variables that are texts, read where they are used. Columns: variable, one line of help. */
#define OPTIONS_TEXTS(TEXT)                                                                                  \
    TEXT("ZEROPOOL_STATS",                                                                                   \
         "file to which each process appends a line of statistics at its end, or fd:N: an open descriptor")  \
    TEXT("ZEROPOOL_PROFILE",                                                                                 \
         "each process writes which calls made its large blocks to this name and .PID, or with %p for the "  \
         "number")

struct options {
#define NUMBER_FIELD(field, variable, kind, value, low, high, help) size_t field;
#define CHOICE_FIELD(field, variable, value, words, help) unsigned field;
    OPTIONS_TABLE(NUMBER_FIELD, CHOICE_FIELD)
#undef NUMBER_FIELD
#undef CHOICE_FIELD
};

/* Set every field to its default. */
void options_defaults(struct options *options);

/* Apply the ZEROPOOL_* variables found in environment (NULL is empty). A bad value warns once on stderr,
 * naming what is accepted, and keeps what was there. */
void options_from_environment(struct options *options, char *const *environment);

/* The value of one variable without its name, or NULL. Walks environment; getenv may be the program's own. */
const char *options_lookup(char *const *environment, const char *variable);

/* Digits, then an optional K, M, G or T (powers of 1024, either case), then an optional "iB" or "B": "64",
 * "4k", "2GiB"; not "1.5G". False, and *value untouched, on anything else. */
bool options_parse_size(const char *text, size_t *value);

#endif
