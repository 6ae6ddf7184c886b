/* SPDX-License-Identifier: MIT */
/* resource.c: the calls by which a program sets its own limits, interposed so that small calls know when a
 * failure must be looked at (limits_seen).
 *
 * The note comes before the limit, so that no call of this thread, and none that begins later elsewhere,
 * fails unseen. A limit that is set by another process, or past these symbols, is found when limits are read
 * (limits_refresh): until then a small call may fail that would succeed once idle memory is given back.
 */
#undef _FILE_OFFSET_BITS /* it would merge setrlimit and setrlimit64 */
#include "resource.h"

#include "os/os.h"
#include "shim.h"
#include "system.h"

#include <sys/resource.h>
#include <sys/syscall.h>

/* The limit is not read: its address may be invalid. Locked memory counts from mlockall on, and mlockall
 * notes it. */
static void sets(int resource, const void *limit) {
    if (limit && (resource == RLIMIT_AS || resource == RLIMIT_DATA)) shim_note_limit();
}

/* Under a filter the process id is not asked of the kernel. */
static void sets_of(pid_t pid, int resource, const void *limit) {
    if (pid == 0 || os_restricted || pid == os_process_id()) sets(resource, limit);
}

void resource_before_syscall(long number, long a, long b, long c) {
    if (number == SYS_setrlimit) sets((int)a, (const void *)b);
    if (number == SYS_prlimit64) sets_of((pid_t)a, (int)b, (const void *)c);
}

EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
    sets((int)resource, limit);
    return system_calls.setrlimit(resource, limit);
}

EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) {
    sets((int)resource, limit);
    return system_calls.setrlimit64(resource, limit);
}

EXPORT int prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit,
                   struct rlimit *before) {
    sets_of(pid, (int)resource, limit);
    return system_calls.prlimit(pid, resource, limit, before);
}

EXPORT int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit,
                     struct rlimit64 *before) {
    sets_of(pid, (int)resource, limit);
    return system_calls.prlimit64(pid, resource, limit, before);
}
