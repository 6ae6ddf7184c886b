/* SPDX-License-Identifier: MIT */
/* os_limits.c: how much more this process may map, and how much its control group lets it use. See os.h for
 * the contract.
 *
 * Texts are read into one buffer for all threads, not onto stacks, which may be small (alternate stacks,
 * coroutines); who does not get it at once is told -EBUSY.
 */
#include "os/os.h"
#include "os/os_call.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Longer names of groups are passed over: `path` has room for this and for a file's name. */
#define GROUP_MAX 500

static struct {
    _Atomic bool taken;
    char groups[2048]; /* /proc/self/cgroup, then paths made of it */
    char path[640];
    char text[4096];
} scratch;

static bool take_scratch(void) {
    return !atomic_exchange_explicit(&scratch.taken, true, memory_order_acquire);
}
static void drop_scratch(void) {
    atomic_store_explicit(&scratch.taken, false, memory_order_release);
}

void os_limits_fork_child(void) {
    drop_scratch();
}

/* --- addresses --- */

static size_t limit_as = SIZE_MAX, limit_data = SIZE_MAX; /* as last seen; all writers write true values */

static size_t resource_limit(int resource) {
    struct rlimit64 limit;
    long failed = OS_CALL4(SYS_prlimit64, 0, resource, NULL, &limit);
    return failed || limit.rlim_cur == RLIM64_INFINITY ? SIZE_MAX : limit.rlim_cur;
}

size_t os_address_limit(void) {
    if (!os_restricted) {
        WRITE_RELAXED(limit_as, resource_limit(RLIMIT_AS));
        WRITE_RELAXED(limit_data, resource_limit(RLIMIT_DATA));
    }
    return min_size(READ_RELAXED(limit_as), READ_RELAXED(limit_data));
}

/* The n-th number of a text, from 0 on; SIZE_MAX if there is none, or one that is too large. */
static size_t number_at(const char *text, int n) {
    for (; n && text; n--) {
        text = strchr(text, ' ');
        if (text) text++;
    }
    if (!text || *text < '0' || *text > '9') return SIZE_MAX;
    size_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        size_t digit = (size_t)(*text - '0');
        if (value > (SIZE_MAX - digit) / 10) return SIZE_MAX;
        value = value * 10 + digit;
    }
    return value;
}

size_t os_read_number(const char *path) {
    char text[32];
    return os_read_file(path, text, sizeof text) > 0 ? number_at(text, 0) : SIZE_MAX;
}

static size_t left_of(size_t limit, size_t pages) {
    size_t bytes = pages << PAGE_SHIFT;
    return limit == SIZE_MAX ? SIZE_MAX : limit > bytes ? limit - bytes : 0;
}

int os_read_address_room(size_t *room) {
    *room = SIZE_MAX;
    if (os_address_limit() == SIZE_MAX) return 0;
    if (os_restricted) return -EPERM;
    char text[160]; /* seven numbers */
    long n = os_read_file("/proc/self/statm", text, sizeof text);
    if (n <= 0) return n ? (int)n : -EIO;
    size_t all = number_at(text, 0), data = number_at(text, 5);
    if (all == SIZE_MAX || data == SIZE_MAX) return -EIO;
    *room = min_size(left_of(READ_RELAXED(limit_as), all), left_of(READ_RELAXED(limit_data), data));
    return 0;
}

/* The number behind a word that begins a line, in KiB, in bytes; SIZE_MAX if it is not there. */
static size_t field_kib(const char *text, const char *name) {
    const char *at = os_find_field(text, name);
    if (!at) return SIZE_MAX;
    at += strspn(at, " \t");
    size_t kib = number_at(at, 0);
    return kib == SIZE_MAX ? SIZE_MAX : kib << 10;
}

/* Of a file that holds one number of KiB, the bytes; what the kernel has by default where it cannot be
 * read. */
static size_t reserve_bytes(const char *path, size_t otherwise) {
    size_t kib = os_read_number(path);
    return kib > SIZE_MAX >> 10 ? otherwise : kib << 10;
}

/* What the kernel keeps from a process beside what others have: for who administers the machine, for the user
 * to end a process that has grown (a share of its size), and its own count may lag behind the exact one by a
 * share of the memory for all processors together. */
static size_t kept_from_us(size_t ram_bytes) {
    char text[160];
    size_t pages = os_read_file("/proc/self/statm", text, sizeof text) > 0 ? number_at(text, 0) : 0;
    size_t user = reserve_bytes("/proc/sys/vm/user_reserve_kbytes", 128 * MIB);
    size_t admin = reserve_bytes("/proc/sys/vm/admin_reserve_kbytes", 8 * MIB);
    return admin + min_size(user, pages << (PAGE_SHIFT - 5)) + ram_bytes / 1024;
}

/* 0, 1 for strict, or a negative errno. */
static int commit_is_strict(void) {
    if (os_restricted) return -EPERM;
    char mode[8];
    long n = os_read_file("/proc/sys/vm/overcommit_memory", mode, sizeof mode);
    return n > 0 ? mode[0] == '2' : n ? (int)n : -EIO;
}

bool os_commit_may_be_strict(void) {
    int strict = commit_is_strict();
    return strict == 1 || strict == -EBUSY;
}

int os_read_commit_room(size_t *room) {
    *room = SIZE_MAX;
    int strict = commit_is_strict();
    if (strict != 1) return strict;
    if (!take_scratch()) return -EBUSY;
    int error = 0;
    long n = os_read_file("/proc/meminfo", scratch.text, sizeof scratch.text);
    size_t limit = n > 0 ? field_kib(scratch.text, "CommitLimit:") : SIZE_MAX;
    size_t used = n > 0 ? field_kib(scratch.text, "Committed_AS:") : SIZE_MAX;
    size_t ram = n > 0 ? field_kib(scratch.text, "MemTotal:") : SIZE_MAX;
    if (used != SIZE_MAX) used += kept_from_us(ram == SIZE_MAX ? 0 : ram);
    if (limit == SIZE_MAX || used == SIZE_MAX)
        error = -EIO;
    else
        *room = limit > used ? limit - used : 0;
    drop_scratch();
    return error;
}

int os_read_lock_room(size_t *room) {
    *room = SIZE_MAX;
    if (os_restricted) return -EPERM;
    size_t limit = resource_limit(RLIMIT_MEMLOCK);
    if (limit == SIZE_MAX) return 0;
    if (!take_scratch()) return -EBUSY;
    size_t locked = os_read_file("/proc/self/status", scratch.text, sizeof scratch.text) > 0
                        ? field_kib(scratch.text, "\nVmLck:")
                        : SIZE_MAX;
    drop_scratch();
    if (locked == SIZE_MAX) return -EIO;
    *room = limit > locked ? limit - locked : 0;
    return 0;
}

/* --- the memory control group --- */

char *os_next_group(char **lines, const char *controller, bool *is_v2) {
    for (char *line = *lines, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        *lines = end + 1;
        /* "0::/group" is version 2, "4:memory:/group" version 1. */
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        *is_v2 = controllers[1] == '\0';
        if (!*is_v2 && !strstr(controllers + 1, controller)) continue;
        return strcmp(group, "/") == 0 ? group + 1 : group;
    }
    return NULL;
}

/* A decimal number, or SIZE_MAX for "max", for nothing, and for version 1's huge "no limit" values. */
static size_t limit_of(const char *text) {
    size_t value = number_at(text, 0);
    return value >= (SIZE_MAX >> 2) ? SIZE_MAX : value;
}

/* The names of one version's files. */
struct group_files {
    const char *mount, *limit, *high, *usage, *inactive;
};
static const struct group_files version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", NULL,
                                             "memory.usage_in_bytes", "\ntotal_inactive_file "};
static const struct group_files version_2 = {"/sys/fs/cgroup", "memory.max", "memory.high", "memory.current",
                                             "\ninactive_file "};

/* A number of a group's file, SIZE_MAX where that is absent. 0 or -EBUSY. */
static int read_number(const struct group_files *files, const char *group, const char *file, size_t *value) {
    *value = SIZE_MAX;
    if (!file) return 0;
    stpcpy(stpcpy(stpcpy(stpcpy(scratch.path, files->mount), group), "/"), file);
    long n = os_read_file(scratch.path, scratch.text, sizeof scratch.text);
    if (n == -EBUSY) return -EBUSY;
    if (n > 0) *value = limit_of(scratch.text);
    return 0;
}

/* What a group uses, without droppable files; SIZE_MAX if it cannot be told. */
static int read_usage(const struct group_files *files, const char *group, size_t *used) {
    int error = read_number(files, group, files->usage, used);
    if (error || *used == SIZE_MAX) return error;
    stpcpy(stpcpy(stpcpy(scratch.path, files->mount), group), "/memory.stat");
    if (os_read_file(scratch.path, scratch.text, sizeof scratch.text) <= 0) return 0;
    size_t inactive = number_at(os_find_field(scratch.text, files->inactive), 0);
    if (inactive != SIZE_MAX) *used -= min_size(*used, inactive);
    return 0;
}

/* From the group up to the root, since the limits of parents bind too. 0 or -EBUSY. */
static int add_levels(const struct group_files *files, char *group, struct os_group_memory *memory) {
    for (;;) {
        size_t limit, high, used;
        int error = read_number(files, group, files->limit, &limit);
        if (!error) error = read_number(files, group, files->high, &high);
        if (error) return error;
        limit = min_size(limit, high);
        if (limit != SIZE_MAX) {
            error = read_usage(files, group, &used);
            if (error) return error;
            memory->limit_bytes = min_size(memory->limit_bytes, limit);
            if (used != SIZE_MAX)
                memory->room_bytes = min_size(memory->room_bytes, limit > used ? limit - used : 0);
        }
        char *slash = strrchr(group, '/');
        if (!slash || group[0] == '\0') return 0;
        *slash = '\0';
    }
}

int os_read_group_memory(struct os_group_memory *memory) {
    *memory = (struct os_group_memory){SIZE_MAX, SIZE_MAX};
    if (os_restricted) return -EPERM;
    if (!take_scratch()) return -EBUSY;
    long n = os_read_file("/proc/self/cgroup", scratch.groups, sizeof scratch.groups);
    int error = n == -EBUSY ? -EBUSY : 0;
    if (n <= 0) scratch.groups[0] = '\0';
    char *lines = scratch.groups, *group;
    bool is_v2;
    while (!error && (group = os_next_group(&lines, "memory", &is_v2)))
        if (strlen(group) <= GROUP_MAX) error = add_levels(is_v2 ? &version_2 : &version_1, group, memory);
    drop_scratch();
    return error;
}

int os_read_cgroup_limit(size_t *limit) {
    struct os_group_memory memory;
    int error = os_read_group_memory(&memory);
    if (error == -EBUSY) return error;
    *limit = memory.limit_bytes;
    return 0;
}
