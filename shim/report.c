/* SPDX-License-Identifier: MIT */
/* report.c: writes the statistics at exit: to a file made for it or a descriptor kept for it, never into the
 * program's own output. */
#include "report.h"

#include "os/os.h"
#include "process/fork.h"
#include "observe/stats.h"
#include "report_json.h"
#include "report_write.h"
#include "sites.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[4096] RARELY_USED;
static bool to_path;       /* ZEROPOOL_STATS=FILE */
static int inherited = -1; /* ZEROPOOL_STATS=fd:N */
/* the descriptor's file at start: the program may reuse the number */
static struct stat inherited_status;
static char text[REPORT_BYTES] RARELY_USED;

char report_command[32] = "?";
uint64_t report_started_ns;

static void configure_descriptor(const char *digits) {
    size_t n = 0;
    bool good =
        options_parse_size(digits, &n) && n > 2 && n < 1 << 20 && fstat((int)n, &inherited_status) == 0;
    if (!good) {
        warn_parts("ZEROPOOL_STATS=fd:", digits, ": not an open descriptor above 2",
                   "; no statistics are written");
        return;
    }
    inherited = (int)n;
    stats_wanted = true;
}

void report_configure(char *const *environment) {
    report_started_ns = os_clock_ns();
    strncpy(report_command, program_invocation_short_name, sizeof report_command - 1);
    int saved = errno;
    const char *value = getauxval(AT_SECURE) ? NULL : options_lookup(environment, "ZEROPOOL_STATS");
    if (!value || !*value) return;
    if (strncmp(value, "fd:", 3) == 0) {
        configure_descriptor(value + 3);
    } else if (strlen(value) >= sizeof path) {
        warn_parts("ZEROPOOL_STATS: the file name is too long; no statistics are written", NULL, NULL, NULL);
    } else {
        strcpy(path, value);
        to_path = true;
        stats_wanted = true;
    }
    errno = saved;
}

static size_t describe(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    struct report_process process = {
        .pid = getpid(),
        .parent_pid = getppid(),
        .command = report_command,
        .wall_ns = os_clock_ns() - report_started_ns,
        .at_exit = true,
        .user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec,
        .system_us = (uint64_t)usage.ru_stime.tv_sec * 1000000 + (uint64_t)usage.ru_stime.tv_usec,
        .n_minor_faults = (uint64_t)usage.ru_minflt,
        .max_rss_bytes = (uint64_t)usage.ru_maxrss * KIB,
    };
    /* A child that has taken no slow path since the fork still has its parent's counts. */
    if (shim_pool.ready) fork_pass();
    return report_json(text, sizeof text, &process);
}

__attribute__((destructor)) static void report(void) {
    if (sites_run()) sites_finish();
    if (!to_path && inherited < 0) return;
    int saved = errno;
    size_t length = describe();
    const char *why = NULL, *where = path;
    if (inherited >= 0) {
        struct stat now;
        where = "the descriptor";
        if (fstat(inherited, &now) == 0 && now.st_dev == inherited_status.st_dev &&
            now.st_ino == inherited_status.st_ino)
            why = report_write(inherited, text, length);
    } else {
        why = report_append(path, text, length);
    }
    if (why) warn_parts("cannot write statistics to ", where, ": ", why);
    errno = saved;
}
