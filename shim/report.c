/* SPDX-License-Identifier: MIT */
/* report.c: writes the statistics at exit: to a file made for it or a descriptor kept for it, never into the program's own output. */
#include "report.h"

#include "os/os.h"
#include "pool/fork.h"
#include "pool/stats.h"
#include "report_json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[4096] RARELY_USED;
static bool to_path;                  /* ZEROPOOL_STATS=FILE */
static int inherited = -1;            /* ZEROPOOL_STATS=fd:N */
static struct stat inherited_status;  /* what it was at start: the program may use the number for something else */
static char text[REPORT_BYTES] RARELY_USED;

char report_command[32] = "?";
uint64_t report_started_ns;

static void configure_descriptor(const char *digits)
{
    size_t n = 0;
    bool good = options_parse_size(digits, &n) && n > 2 && n < 1 << 20 && fstat((int)n, &inherited_status) == 0;
    if (!good) {
        warn_parts("ZEROPOOL_STATS=fd:", digits, ": not an open descriptor above 2", "; no statistics are written");
        return;
    }
    inherited = (int)n;
    stats_wanted = true;
}

void report_configure(char *const *environment)
{
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

static size_t describe(void)
{
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
    /* A child that has done nothing slow since the fork still has its parent's counts. */
    if (shim_pool.ready) fork_pass();
    return report_json(text, sizeof text, &process);
}

/* One line per process, in one write, so that the lines of a process tree do not mix. */
static void write_line(int fd, const char *where, size_t length)
{
    if (write(fd, text, length) != (ssize_t)length)
        warn_parts("cannot write statistics to ", where, ": ", errno ? strerrordesc_np(errno) : "short write");
}

__attribute__((destructor)) static void report(void)
{
    if (!to_path && inherited < 0) return;
    int saved = errno;
    size_t length = describe();
    errno = 0;
    if (inherited >= 0) {
        struct stat now;
        if (fstat(inherited, &now) == 0 && now.st_dev == inherited_status.st_dev && now.st_ino == inherited_status.st_ino)
            write_line(inherited, "the descriptor", length);
        errno = saved;
        return;
    }
    /* Never through a symbolic link, never readable for others. */
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        warn_parts("cannot write statistics to ", path, ": ", strerrordesc_np(errno));
    } else {
        write_line(fd, path, length);
        close(fd);
    }
    errno = saved;
}
