// SPDX-License-Identifier: MIT
// Printing of results as one JSON object per program.
#include "line.h"

#include <stdio.h>

#include "../../common/fail.h"

void line_begin(const char *program) {
    printf("{\"program\":\"%s\"", program);
}

void line_text(const char *key, const char *value) {
    printf(",\"%s\":\"%s\"", key, value);
}

void line_count(const char *key, uint64_t value) {
    printf(",\"%s\":%llu", key, (unsigned long long)value);
}

void line_real(const char *key, double value) {
    printf(",\"%s\":%.9g", key, value);
}

void line_times(uint64_t ns, uint64_t cpu_ns) {
    line_real("seconds", (double)ns / 1e9);
    line_real("cpu_seconds", (double)cpu_ns / 1e9);
}

struct line_memory line_gather(void) {
    return (struct line_memory){memory_peak_bytes(), memory_minor_faults(), memory_vmas()};
}

void line_memory(const struct line_memory *memory) {
    line_count("peak_rss_bytes", memory->peak_rss_bytes);
    line_count("minor_faults", memory->minor_faults);
    line_count("vmas", memory->vmas);
}

void line_average(const struct memory_average *average) {
    line_real("mean_rss_bytes", memory_mean_rss(average));
    line_real("mean_rss_over_time_bytes", memory_mean_rss_over_time(average));
    line_real("mean_live_bytes", memory_mean_live(average));
    line_count("samples", average->samples);
}

int line_end(void) {
    puts("}");
    return fflush(stdout) == 0 ? FAIL_NONE : FAIL_RUN;
}
