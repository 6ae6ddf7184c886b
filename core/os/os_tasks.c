/* SPDX-License-Identifier: MIT */
/* os_tasks.c: how many tasks the process has, and whether there is room for one more. See os.h for the
 * contract.
 *
 * Paths lead through /proc/self, never through the process's number: a /proc of another pid namespace, as
 * `unshare -pf` leaves it, knows us under another one, and has somebody else under ours.
 */
#include "os/os.h"
#include "os/os_call.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* So many tasks must be left to the program, wherever there is a limit. */
#define PLACES_NEEDED 256

/* Absent before glibc 2.32. */
extern char __libc_single_threaded __attribute__((weak));

bool os_single_threaded(void) {
    const volatile char *flag = &__libc_single_threaded;
    return flag && *flag;
}

int os_task_count(void) {
    struct stat status;
    if (OS_CALL4(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &status, 0) < 0) return 0;
    return status.st_nlink > 2 ? (int)status.st_nlink - 2
                               : 0; /* one link for each task beside "." and ".." */
}

/* The limits from a group up to the root: each binds. `path` holds the group's folder, with room for a file's
 * name. */
static bool group_has_room(char *path, size_t mount_bytes) {
    for (;;) {
        char *end = path + strlen(path);
        strcpy(end, "/pids.max");
        size_t most = os_read_number(path);
        if (most != SIZE_MAX) {
            strcpy(end, "/pids.current");
            size_t now = os_read_number(path);
            if (now == SIZE_MAX) now = 0; /* not to be told */
            if (most < now || most - now < PLACES_NEEDED) return false;
        }
        *end = '\0';
        if (end == path + mount_bytes) return true;
        *strrchr(path, '/') = '\0'; /* a container may see itself as the root: its limit then stands there */
    }
}

/* The group seen through this mount. */
static bool has_room_at(const char *mount, const char *group, char *path) {
    strcpy(stpcpy(path, mount), group);
    return group_has_room(path, strlen(mount));
}

/* The thread that starts ours, or ours, is alone; the former may have little stack. */
static char scratch[4 * KIB] __attribute__((section(".lbss")));

bool os_room_for_task(void) {
    struct rlimit limit;
    if (OS_CALL4(SYS_prlimit64, 0, RLIMIT_NPROC, NULL, &limit) == 0 && limit.rlim_cur < PLACES_NEEDED)
        return false;
    size_t half = sizeof scratch / 2; /* the second one takes the longest group's name and a file's */
    if (os_read_file("/proc/self/cgroup", scratch, half - 64) <= 0) return true;
    char *lines = scratch, *path = scratch + half, *group;
    bool is_v2;
    while ((group = os_next_group(&lines, "pids", &is_v2))) {
        if (*group && *group != '/') continue;
        if (!is_v2 && !has_room_at("/sys/fs/cgroup/pids", group, path)) return false;
        if (is_v2 && (!has_room_at("/sys/fs/cgroup", group, path) ||
                      !has_room_at("/sys/fs/cgroup/unified", group, path)))
            return false;
    }
    return true;
}
