// SPDX-License-Identifier: MIT
// The one line of JSON that a benchmark program prints. Everything is measured before line_begin: printing
// allocates.
#ifndef MICRO_LINE_H
#define MICRO_LINE_H

#include <stdint.h>

#include "memory.h"

void line_begin(const char *program);
void line_text(const char *key, const char *value);
void line_count(const char *key, uint64_t value);
void line_real(const char *key, double value);
// How long the work took: on the clock on the wall, and of the processor.
void line_times(uint64_t ns, uint64_t cpu_ns);

// What a program that has finished its work says of its memory; gather first, print later.
struct line_memory {
    uint64_t peak_rss_bytes, minor_faults, vmas;
};
struct line_memory line_gather(void);
void line_memory(const struct line_memory *memory);
void line_average(const struct memory_average *average);

// The exit status of the program.
int line_end(void);

#endif
