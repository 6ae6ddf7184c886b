// SPDX-License-Identifier: MIT
// Readers of /proc/self with read(2) into static buffers.
#include "memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../common/fail.h"

static int memory_statm = -1;

void memory_start(void) {
    memory_statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (memory_statm < 0) fail_errno("cannot open /proc/self/statm");
}

uint64_t memory_rss_bytes(void) {
    char text[128];
    ssize_t length = pread(memory_statm, text, sizeof text - 1, 0);
    if (length <= 0) fail_errno("cannot read /proc/self/statm");
    text[length] = '\0';
    const char *resident = strchr(text, ' ');
    return resident != NULL ? strtoull(resident + 1, NULL, 10) * 4096u : 0;
}

uint64_t memory_peak_bytes(void) {
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail_errno("cannot open /proc/self/status");
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) fail_errno("cannot read /proc/self/status");
    text[length] = '\0';
    const char *line = strstr(text, "\nVmHWM:");
    return line != NULL ? strtoull(line + strlen("\nVmHWM:"), NULL, 10) * 1024 : 0;
}

uint64_t memory_vmas(void) {
    static char text[65536];
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    uint64_t lines = 0;
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            lines += text[i] == '\n';
    close(fd);
    return lines;
}

uint64_t memory_minor_faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt;
}

void memory_sample(struct memory_average *average, uint64_t now_ns, uint64_t live_bytes) {
    uint64_t rss = memory_rss_bytes();
    if (average->samples++ == 0)
        average->first_ns = now_ns;
    else
        average->rss_byte_ns +=
            (double)(now_ns - average->last_ns) * ((double)rss + (double)average->last_rss) / 2;
    average->rss_sum += (double)rss;
    average->live_sum += (double)live_bytes;
    average->last_ns = now_ns;
    average->last_rss = rss;
}

double memory_mean_rss(const struct memory_average *average) {
    return average->samples > 0 ? average->rss_sum / (double)average->samples : 0;
}

double memory_mean_live(const struct memory_average *average) {
    return average->samples > 0 ? average->live_sum / (double)average->samples : 0;
}

double memory_mean_rss_over_time(const struct memory_average *average) {
    double passed = (double)(average->last_ns - average->first_ns);
    return passed > 0 ? average->rss_byte_ns / passed : memory_mean_rss(average);
}
