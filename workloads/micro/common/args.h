// SPDX-License-Identifier: MIT
// Command lines of the benchmark programs: one table of `--name value` options, from which --help comes too.
//
// The options of ../../common would bring --scale, --sample and --checksum-only along, which mean nothing
// here.
#ifndef MICRO_ARGS_H
#define MICRO_ARGS_H

#include <stdbool.h>
#include <stdint.h>

enum args_kind {
    ARGS_COUNT, // uint64_t *
    ARGS_BYTES, // uint64_t *, accepts the suffixes K, M and G (powers of 1024)
    ARGS_REAL,  // double *
    ARGS_WORD,  // const char **
};

struct args_entry {
    const char *name; // without the dashes; NULL ends the table
    enum args_kind kind;
    void *value; // holds the default before args_parse
    const char *help;
    const char *words; // ARGS_WORD: what is accepted, separated by blanks
};

// Entries that several programs have, each of one or two variables, given by address.
#define ARGS_BLOCKS(low, high)                                                                               \
    {"low", ARGS_BYTES, low, "smallest block", NULL}, {                                                      \
        "high", ARGS_BYTES, high, "largest block", NULL                                                      \
    }
#define ARGS_SIZE(size)                                                                                      \
    { "size", ARGS_BYTES, size, "size of the block", NULL }
#define ARGS_SECONDS(seconds)                                                                                \
    { "seconds", ARGS_REAL, seconds, "how long to measure", NULL }
#define ARGS_SEED(seed)                                                                                      \
    { "seed", ARGS_COUNT, seed, "same seed, same sizes", NULL }
#define ARGS_END                                                                                             \
    { NULL, ARGS_COUNT, NULL, NULL, NULL }

// --help prints and exits 0; a mistake prints one line to stderr and exits 2.
void args_parse(const char *program, const char *purpose, const struct args_entry *table, int argc,
                char **argv);

// For what the table cannot express: one line, exit 2.
_Noreturn void args_refuse(const char *message);

// Refuses what ARGS_BLOCKS cannot mean.
void args_check_blocks(uint64_t low, uint64_t high);

// Is this ARGS_WORD `word`?
bool args_is(const char *value, const char *word);

#endif
