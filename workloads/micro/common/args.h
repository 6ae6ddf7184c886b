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

// --help prints and exits 0; a mistake prints one line to stderr and exits 2.
void args_parse(const char *program, const char *purpose, const struct args_entry *table, int argc,
                char **argv);

// For what the table cannot express: one line, exit 2.
_Noreturn void args_refuse(const char *message);

// Is this ARGS_WORD `word`?
bool args_is(const char *value, const char *word);

#endif
