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

/* -1: none ("max"), or the file cannot be read. */
static long read_number(const char *path) {
    char text[32];
    if (os_read_file(path, text, sizeof text) <= 0 || text[0] < '0' || text[0] > '9') return -1;
    long value = 0;
    for (const char *c = text; *c >= '0' && *c <= '9' && value < (1l << 40); c++)
        value = value * 10 + (*c - '0');
    return value;
}

/* The limits from a group up to the root: each binds. `path` holds the group's folder, with room for a file's
 * name. */
static bool group_has_room(char *path, size_t mount_bytes) {
    for (;;) {
        char *end = path + strlen(path);
        strcpy(end, "/pids.max");
        long most = read_number(path);
        if (most >= 0) {
            strcpy(end, "/pids.current");
            long now = read_number(path);
            if (most < PLACES_NEEDED || (now >= 0 && most - now < PLACES_NEEDED)) return false;
        }
        *end = '\0';
        if (end == path + mount_bytes) return true;
        *strrchr(path, '/') = '\0'; /* a container may see itself as the root: its limit then stands there */
    }
}

static bool line_has_room(char *line, char *path) {
    static const char v1[] = "/sys/fs/cgroup/pids", v2[] = "/sys/fs/cgroup",
                      hybrid[] = "/sys/fs/cgroup/unified";
    /* "0::/group" is version 2, "4:pids:/group" version 1. */
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group || group[1] != '/') return true;
    *group++ = '\0';
    if (group[1] == '\0') group++; /* the root */
    bool is_v2 = controllers[1] == '\0';
    if (!is_v2 && !strstr(controllers + 1, "pids")) return true;
    for (int i = 0; i < 2; i++) {
        const char *mount = is_v2 ? (i ? hybrid : v2) : v1;
        strcpy(stpcpy(path, mount), group);
        if (!group_has_room(path, strlen(mount))) return false;
        if (!is_v2) break;
    }
    return true;
}

/* The thread that starts ours, or ours, is alone; the former may have little stack. */
static char scratch[4 * KIB] __attribute__((section(".lbss")));

bool os_room_for_task(void) {
    struct rlimit limit;
    if (OS_CALL4(SYS_prlimit64, 0, RLIMIT_NPROC, NULL, &limit) == 0 && limit.rlim_cur < PLACES_NEEDED)
        return false;
    size_t half = sizeof scratch / 2; /* the second one takes the longest group's name and a file's */
    if (os_read_file("/proc/self/cgroup", scratch, half - 64) <= 0) return true;
    for (char *line = scratch, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        if (!line_has_room(line, scratch + half)) return false;
    }
    return true;
}
