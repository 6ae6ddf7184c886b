/* SPDX-License-Identifier: MIT */
/* test_os_limits.c: what is read of control groups, of limits of addresses and of strict accounting, from
 * files made up for it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "cgroup_world.h"
#include "os/os.h"
#include "support.h"

/* What a process in these groups sees; SIZE_MAX - 1 if it cannot be told. */
static struct os_group_memory memory_in(const char *groups) {
    struct os_group_memory memory;
    if (!world_write(WORLD "/self", groups) || os_read_group_memory(&memory))
        return (struct os_group_memory){SIZE_MAX - 1, SIZE_MAX - 1};
    return memory;
}

#define WRITE(path, text) (void)world_write(WORLD path, text)
#define STRING_OF(x) #x
#define STRING_OF_VALUE(x) STRING_OF(x)
#define LINE STRING_OF_VALUE(__LINE__)
#define LIMIT(groups, n)                                                                                     \
    do {                                                                                                     \
        size_t got = memory_in(groups).limit_bytes;                                                          \
        if (got != (n)) return wrong("line " LINE ": limit", got);                                           \
    } while (0)
#define ROOM(groups, n)                                                                                      \
    do {                                                                                                     \
        size_t got = memory_in(groups).room_bytes;                                                           \
        if (got != (n)) return wrong("line " LINE ": room", got);                                            \
    } while (0)
static int group_memory(void *ignored) {
    if (!world_make()) return NOT_ALLOWED;
    mkdir(WORLD "/a", 0755);
    mkdir(WORLD "/a/b", 0755);
    mkdir(WORLD "/memory", 0755);
    mkdir(WORLD "/memory/m", 0755);
    mkdir(WORLD "/memory/m/n", 0755);
    WRITE("/a/b/memory.max", "500000000\n");
    ROOM("0::/a/b\n", SIZE_MAX); /* its use cannot be told */
    WRITE("/a/b/memory.current", "100000000\n");
    ROOM("0::/a/b\n", 400000000);
    WRITE("/a/b/memory.stat", "anon 5\nfile 7\ninactive_file 30000000\nactive_file 1\n");
    ROOM("0::/a/b\n", 430000000); /* files that the kernel can drop */
    WRITE("/a/b/memory.stat", "anon 5\nxinactive_file 1000\ninactive_file 900000000\n");
    ROOM("0::/a/b\n", 500000000); /* more than is in use: as if nothing were */
    WRITE("/a/b/memory.stat", "anon 5\n");
    ROOM("0::/a/b\n", 400000000);
    WRITE("/a/b/memory.high", "300000000\n");
    LIMIT("0::/a/b\n", 300000000);
    ROOM("0::/a/b\n", 200000000);
    WRITE("/a/b/memory.high", "max\n");
    LIMIT("0::/a/b\n", 500000000);
    /* The parent has more, but others use most of it. */
    WRITE("/a/memory.max", "800000000\n");
    WRITE("/a/memory.current", "750000000\n");
    LIMIT("0::/a/b\n", 500000000);
    ROOM("0::/a/b\n", 50000000);
    WRITE("/a/memory.current", "900000000\n");
    ROOM("0::/a/b\n", 0);
    WRITE("/a/memory.max", "max\n");
    WRITE("/a/memory.high", "200000000\n");
    LIMIT("0::/a/b\n", 200000000);
    ROOM("0::/a/b\n", 0);
    ROOM("0::/\n", SIZE_MAX);
    /* Version 1, whose parent binds as well. */
    WRITE("/memory/m/n/memory.limit_in_bytes", "200000000\n");
    WRITE("/memory/m/n/memory.usage_in_bytes", "150000000\n");
    WRITE("/memory/m/n/memory.stat", "cache 1\ninactive_file 90000000\ntotal_inactive_file 20000000\n");
    LIMIT("7:cpu:/x\n4:memory:/m/n\n", 200000000);
    ROOM("4:memory:/m/n\n", 70000000);
    WRITE("/memory/m/memory.limit_in_bytes", "100000000\n");
    WRITE("/memory/m/memory.usage_in_bytes", "90000000\n");
    LIMIT("4:memory:/m/n\n", 100000000);
    ROOM("4:memory:/m/n\n", 10000000);
    LIMIT("4:memory:/m/n\n0::/a/b\n", 100000000); /* both: the lower one */
    os_restricted = true;
    struct os_group_memory memory;
    if (os_read_group_memory(&memory) != -EPERM) return wrong("a file was read under a filter", 0);
    return 0;
}

static int addresses(void *ignored) {
    size_t room;
    if (!world_make()) return NOT_ALLOWED;
    char statm[64];
    snprintf(statm, sizeof statm, "/proc/%d/statm", (int)getpid());
    if (!world_replace(statm, "statm", "100000 50 40 30 0 20000 0\n")) return NOT_ALLOWED;
    if (os_address_limit() != SIZE_MAX || os_read_address_room(&room) || room != SIZE_MAX)
        return wrong("no limit", room);
    if (!limit_resource(RLIMIT_AS, GIB)) return wrong("RLIMIT_AS", 0);
    if (os_address_limit() != GIB) return wrong("limit", os_address_limit());
    if (os_read_address_room(&room) || room != GIB - 100000 * PAGE_BYTES) return wrong("room", room);
    if (!limit_resource(RLIMIT_DATA, 100 * MIB)) return wrong("RLIMIT_DATA", 0);
    if (os_address_limit() != 100 * MIB) return wrong("the lower limit", os_address_limit());
    if (os_read_address_room(&room) || room != 100 * MIB - 20000 * PAGE_BYTES)
        return wrong("room for data", room);
    WRITE("/statm", "100000 50 40 30 0 30000 0\n");
    if (os_read_address_room(&room) || room != 0) return wrong("beyond the limit", room);
    WRITE("/statm", "100000 50 40\n");
    if (os_read_address_room(&room) == 0) return wrong("too few numbers", room);
    WRITE("/statm", "");
    if (os_read_address_room(&room) == 0) return wrong("no numbers", room);
    WRITE("/statm", "none 50 40 30 0 30000 0\n");
    if (os_read_address_room(&room) == 0) return wrong("no number", room);
    os_restricted = true;
    setrlimit(RLIMIT_DATA, &(struct rlimit){50 * MIB, 50 * MIB});
    if (os_address_limit() != 100 * MIB) return wrong("asked under a filter", os_address_limit());
    if (os_read_address_room(&room) != -EPERM) return wrong("read under a filter", room);
    return 0;
}

static int strict_accounting(void *ignored) {
    size_t room;
    if (!world_make() || !world_replace("/proc/sys/vm/overcommit_memory", "mode", "0\n") ||
        !world_replace("/proc/meminfo", "meminfo",
                       "MemTotal: 0 kB\nCommitLimit:    3000 kB\nCommitted_AS:   1000 kB\n"))
        return NOT_ALLOWED;
    if (!world_replace("/proc/sys/vm/user_reserve_kbytes", "user", "0\n") ||
        !world_replace("/proc/sys/vm/admin_reserve_kbytes", "admin", "0\n"))
        return NOT_ALLOWED;
    if (os_read_commit_room(&room) || room != SIZE_MAX) return wrong("mode 0", room);
    WRITE("/mode", "2\n");
    if (os_read_commit_room(&room) || room != 2000 * KIB) return wrong("mode 2", room);
    WRITE("/meminfo", "CommitLimit:    3000 kB\nCommitted_AS:   4000 kB\n");
    if (os_read_commit_room(&room) || room != 0) return wrong("beyond the limit", room);
    WRITE("/meminfo", "CommitLimit:    3000 kB\n");
    if (os_read_commit_room(&room) == 0) return wrong("half the numbers", room);
    WRITE("/meminfo", "CommitLimit:    3000 kB\nCommitted_AS: 1000 kB\n");
    if (os_read_commit_room(&room) || room != 2000 * KIB) return wrong("after a failure", room);
    /* What the kernel keeps back. */
    WRITE("/admin", "300\n");
    if (os_read_commit_room(&room) || room != 1700 * KIB) return wrong("for who administers", room);
    WRITE("/user", "50\n"); /* this process is larger than 32 times that */
    if (os_read_commit_room(&room) || room != 1650 * KIB) return wrong("for the user", room);
    WRITE("/meminfo", "MemTotal: 102400 kB\nCommitLimit:    3000 kB\nCommitted_AS: 1000 kB\n");
    if (os_read_commit_room(&room) || room != 1550 * KIB)
        return wrong("for what the kernel counts late", room);
    return 0;
}

static int locked(void *ignored) {
    size_t room;
    if (!limit_resource(RLIMIT_MEMLOCK, MIB)) return NOT_ALLOWED;
    if (os_read_lock_room(&room) || room != MIB) return wrong("nothing is locked", room);
    static char block[3 * PAGE_BYTES];
    if (mlock((char *)align_up((size_t)block, PAGE_BYTES), 2 * PAGE_BYTES)) return NOT_ALLOWED;
    if (os_read_lock_room(&room) || room != MIB - 2 * PAGE_BYTES) return wrong("two pages are", room);
    os_restricted = true;
    if (os_read_lock_room(&room) != -EPERM) return wrong("read under a filter", room);
    return 0;
}

TestSuite(os_limits, .timeout = 30);

Test(os_limits, of_control_groups) {
    world_run(group_memory);
}
Test(os_limits, of_addresses) {
    world_run(addresses);
}
Test(os_limits, of_locked_memory, .disabled = UNDER_ASAN) {
    world_run(locked);
}
Test(os_limits, of_strict_accounting) {
    world_run(strict_accounting);
}
