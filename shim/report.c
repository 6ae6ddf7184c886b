/* SPDX-License-Identifier: MIT */
/* report.c: writes the statistics at exit: to a file made for it, never into the program's own output. */
#include "report.h"

#include "shim.h"
#include "zeropool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static char path[4096];

void report_configure(char *const *environment)
{
    const char *value = getauxval(AT_SECURE) ? NULL : options_lookup(environment, "ZEROPOOL_STATS");
    if (!value || !*value) return;
    if (strlen(value) >= sizeof path) {
        warn_parts("ZEROPOOL_STATS: the file name is too long; no statistics are written", NULL, NULL, NULL);
        return;
    }
    strcpy(path, value);
}

static int format(char *text, size_t size, const zp_stats *s)
{
    return snprintf(text, size,
                    "{\"pid\": %d, \"gets\": %llu, \"tcache_hits\": %llu, \"shard_hits\": %llu, \"steals\": %llu, "
                    "\"heap_dirty\": %llu, \"heap_fresh\": %llu, \"refused\": %llu, \"evictions\": %llu, "
                    "\"purges\": %llu, \"bytes_purged\": %llu, \"bytes_fresh\": %llu, \"bytes_live\": %zu, "
                    "\"bytes_cached\": %zu, \"bytes_dirty\": %zu, \"bytes_mapped\": %zu, \"bytes_live_peak\": %zu}\n",
                    (int)getpid(), (unsigned long long)s->n_gets, (unsigned long long)s->n_tcache_hits,
                    (unsigned long long)s->n_shard_hits, (unsigned long long)s->n_steals,
                    (unsigned long long)s->n_heap_dirty, (unsigned long long)s->n_heap_fresh,
                    (unsigned long long)s->n_refused, (unsigned long long)s->n_evictions,
                    (unsigned long long)s->n_purges, (unsigned long long)s->bytes_purged,
                    (unsigned long long)s->bytes_fresh, s->bytes_live, s->bytes_cached, s->bytes_dirty,
                    s->bytes_mapped, s->bytes_live_peak);
}

__attribute__((destructor)) static void report(void)
{
    if (!path[0]) return;
    int saved = errno;
    zp_stats stats;
    memset(&stats, 0, sizeof stats);
    if (shim_pool.ready) pool_stats(&shim_pool, &stats);
    char text[1024];
    int length = format(text, sizeof text, &stats);
    /* One line per process, appended whole; never through a symbolic link, never readable for others. */
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        warn_parts("cannot write statistics to ", path, ": ", strerrordesc_np(errno));
    } else {
        if (write(fd, text, (size_t)length) != length)
            warn_parts("cannot write statistics to ", path, ": ", "short write");
        close(fd);
    }
    errno = saved;
}
