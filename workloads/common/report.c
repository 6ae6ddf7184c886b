// SPDX-License-Identifier: MIT
// Printing a run's result.
//
// operations counts allocator calls, bytes what was asked of malloc, calloc and realloc. These, units and
// checksum depend on the options alone; everything else depends on time, machine or allocator.
#include "report.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "options.h"

typedef unsigned long long ull;

static uint64_t report_begin_ns;
static struct rusage report_begin_usage;

void report_begin(void) {
    getrusage(RUSAGE_SELF, &report_begin_usage);
    report_begin_ns = clock_monotonic_ns();
}

// VmHWM, not ru_maxrss: the kernel carries ru_maxrss over execve, so a workload started by a large Python
// process would report Python's peak. Read with read(2): stdio would allocate. 0 when unavailable.
static uint64_t report_peak_rss_kib(void) {
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return 0;
    text[length] = '\0';
    const char *line = strstr(text, "\nVmHWM:");
    return line != NULL ? strtoull(line + strlen("\nVmHWM:"), NULL, 10) : 0;
}

static double report_seconds(struct timeval end, struct timeval begin) {
    return (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_usec - begin.tv_usec) / 1e6;
}

// Everything measured, gathered once before anything is printed (printing allocates and faults).
struct report {
    uint64_t operations;
    double elapsed, user, system, ns_per_tick, overhead_ns;
    uint64_t minor_faults, major_faults, peak_rss_kib;
};

static struct report report_gather(const struct meter *total) {
    struct report r = {0};
    struct rusage usage;
    r.elapsed = (double)(clock_monotonic_ns() - report_begin_ns) / 1e9;
    getrusage(RUSAGE_SELF, &usage);
    r.user = report_seconds(usage.ru_utime, report_begin_usage.ru_utime);
    r.system = report_seconds(usage.ru_stime, report_begin_usage.ru_stime);
    r.minor_faults = (uint64_t)(usage.ru_minflt - report_begin_usage.ru_minflt);
    r.major_faults = (uint64_t)(usage.ru_majflt - report_begin_usage.ru_majflt);
    r.peak_rss_kib = report_peak_rss_kib();
    for (unsigned c = 0; c < METER_CALLS; c++)
        r.operations += total->calls[c];
    r.ns_per_tick = clock_ns_per_tick();
    r.overhead_ns = clock_overhead_ns();
    return r;
}

static double report_rate(uint64_t count, double seconds) {
    return seconds > 0 ? (double)count / seconds : 0;
}

static const char *const report_call_name[METER_CALLS] = {"malloc", "calloc", "realloc", "free"};

static void report_json_latency(const char *name, const struct histogram *h, double ns_per_tick) {
    printf(",\"%s_ns\":{\"count\":%llu,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}", name, (ull)h->count,
           (double)histogram_percentile(h, 0.50) * ns_per_tick,
           (double)histogram_percentile(h, 0.99) * ns_per_tick, (double)h->max * ns_per_tick);
}

static void report_json(const char *unit, const struct meter *total, const struct report *r) {
    printf("{\"program\":\"%s\",\"seed\":%llu,\"scale\":%.9g,\"parameters\":{", fail_program(),
           (ull)options_common.seed, options_common.scale);
    options_print_json(stdout);
    printf("},\"unit\":\"%s\",\"units\":%llu,\"operations\":%llu,\"bytes\":%llu,\"checksum\":\"%016llx\"",
           unit, (ull)total->units, (ull)r->operations, (ull)total->bytes, (ull)total->checksum);
    if (!options_common.checksum_only) {
        printf(",\"operations_per_second\":%.1f,\"units_per_second\":%.1f,\"elapsed_seconds\":%.6f",
               report_rate(r->operations, r->elapsed), report_rate(total->units, r->elapsed), r->elapsed);
        printf(",\"user_seconds\":%.6f,\"system_seconds\":%.6f,\"minor_faults\":%llu,\"major_faults\":%llu",
               r->user, r->system, (ull)r->minor_faults, (ull)r->major_faults);
        for (unsigned c = 0; c < METER_CALLS; c++)
            report_json_latency(report_call_name[c], &total->latency[c], r->ns_per_tick);
        report_json_latency("unit", &total->unit, r->ns_per_tick);
        printf(",\"timer_overhead_ns\":%.1f,\"peak_rss_kib\":%llu", r->overhead_ns, (ull)r->peak_rss_kib);
    }
    puts("}");
}

static void report_table_latency(const char *name, const struct histogram *h, double ns_per_tick) {
    if (h->count == 0) return;
    printf("  %-10s %12llu %12.0f %12.0f %14.0f\n", name, (ull)h->count,
           (double)histogram_percentile(h, 0.50) * ns_per_tick,
           (double)histogram_percentile(h, 0.99) * ns_per_tick, (double)h->max * ns_per_tick);
}

static void report_table(const char *unit, const struct meter *total, const struct report *r) {
    printf("%s: seed %llu, scale %.6g\n", fail_program(), (ull)options_common.seed, options_common.scale);
    printf("  %-16s %llu (%.0f per second)\n", unit, (ull)total->units,
           report_rate(total->units, r->elapsed));
    printf("  %-16s %llu (%.0f per second)\n", "operations", (ull)r->operations,
           report_rate(r->operations, r->elapsed));
    printf("  %-16s %llu\n", "bytes", (ull)total->bytes);
    printf("  %-16s %.3f s elapsed, %.3f user, %.3f system\n", "time", r->elapsed, r->user, r->system);
    printf("  %-16s %llu minor, %llu major\n", "page faults", (ull)r->minor_faults, (ull)r->major_faults);
    printf("  %-16s %llu KiB\n", "peak RSS", (ull)r->peak_rss_kib);
    printf("  %-16s %016llx, all contents intact\n", "checksum", (ull)total->checksum);
    printf("  %-10s %12s %12s %12s %14s   (timer itself %.0f ns)\n", "latency ns", "count", "p50", "p99",
           "max", r->overhead_ns);
    for (unsigned c = 0; c < METER_CALLS; c++)
        report_table_latency(report_call_name[c], &total->latency[c], r->ns_per_tick);
    report_table_latency(unit, &total->unit, r->ns_per_tick);
}

int report_finish(const char *unit, const struct meter *total) {
    struct report r = report_gather(total);
    if (options_common.json)
        report_json(unit, total, &r);
    else if (options_common.checksum_only)
        printf("%s seed %llu %s %llu operations %llu bytes %llu checksum %016llx\n", fail_program(),
               (ull)options_common.seed, unit, (ull)total->units, (ull)r.operations, (ull)total->bytes,
               (ull)total->checksum);
    else
        report_table(unit, total, &r);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "%s: cannot write the report\n", fail_program());
        return FAIL_RUN;
    }
    return FAIL_NONE;
}
