// SPDX-License-Identifier: MIT
// Command line options as one table: defaults, ranges, --help and the parameters in the report come from it.
#ifndef WORKLOADS_OPTIONS_H
#define WORKLOADS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum options_kind {
    OPTIONS_FLAG,  // bool *, no argument
    OPTIONS_COUNT, // uint64_t *
    OPTIONS_BYTES, // uint64_t *, accepts the suffixes K, M and G (powers of 1024)
    OPTIONS_REAL,  // double *
    OPTIONS_TEXT,  // const char **
};

struct options_entry {
    const char *name; // without the dashes; NULL ends the table
    enum options_kind kind;
    void *value;
    const char *initial; // the default as one would type it; NULL for flags and texts that are unset
    const char *full;    // the default under --full where it differs, else NULL
    double low, high;    // range of numbers
    const char *help;    // NULL hides the option from --help and from the report (test hooks)
};

// What every workload understands; filled by options_parse, read-only afterwards.
struct options_common {
    double scale;
    bool full;
    uint64_t seed;
    uint64_t sample;
    bool json;
    bool checksum_only;
    bool inject_corruption;
    bool help;
};
extern struct options_common options_common;

struct options_program {
    const char *name;
    const char *purpose;       // one or two sentences for --help
    const char *initial_scale; // default of --scale
    const char *scale_help;    // what --scale multiplies in this program
    const struct options_entry *own;
};

// Fill every value of the table. --help prints and exits 0; a mistake prints one line to stderr and exits 2.
void options_parse(const struct options_program *program, int argc, char **argv);

// For checks the table cannot express (two options that exclude each other): one line, exit 2.
_Noreturn void options_usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Was it given on the command line?
bool options_given(const char *name);

// The program's own options as members of a JSON object, without the braces.
void options_print_json(FILE *to);

#endif
