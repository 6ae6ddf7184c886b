// SPDX-License-Identifier: MIT
// A program that allocates much and touches little: one byte per 2 MiB. What stays resident is the
// allocator's doing.
//
// The blocks are allocated and freed --rounds times, because an allocator that learns must not learn the
// wrong thing; RSS is read in the last round, while they are live.
#include "common/args.h"
#include "common/line.h"
#include "common/touch.h"

enum { MOST_BLOCKS = 1024, STEP = 2 << 20 };

static uint64_t bytes = 1 << 30, blocks = 1, rounds = 3;
static const char *call = "malloc";

static const struct args_entry table[] = {
    {"bytes", ARGS_BYTES, &bytes, "bytes in all", NULL},
    {"blocks", ARGS_COUNT, &blocks, "number of blocks", NULL},
    {"rounds", ARGS_COUNT, &rounds, "how often everything is allocated", NULL},
    {"call", ARGS_WORD, &call, "how to allocate", "malloc calloc"},
    ARGS_END,
};

static char *block[MOST_BLOCKS];

int main(int argc, char **argv) {
    args_parse("sparse", "Allocates much and touches one byte per 2 MiB.", table, argc, argv);
    if (blocks < 1 || blocks > MOST_BLOCKS) args_refuse("--blocks: 1 to 1024");
    bool zeroed = args_is(call, "calloc");
    size_t size = bytes / blocks;
    memory_start();
    uint64_t before = memory_rss_bytes(), rss = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint64_t i = 0; i < blocks; i++) {
            block[i] = zeroed ? calloc(1, size) : malloc(size);
            if (block[i] == NULL) fail_memory(call, size);
            touch_escape(block[i]);
            for (size_t at = 0; at < size; at += STEP)
                ((volatile char *)block[i])[at] = 1;
        }
        rss = memory_rss_bytes();
        for (uint64_t i = 0; i < blocks; i++)
            free(block[i]);
    }
    struct line_memory memory = line_gather();
    line_begin("sparse");
    line_count("bytes", bytes);
    line_count("blocks", blocks);
    line_text("call", call);
    line_count("rss_bytes", rss);
    line_count("rss_grown_bytes", rss > before ? rss - before : 0);
    line_memory(&memory);
    return line_end();
}
