/* SPDX-License-Identifier: MIT */
/* test_cgroups.c: the memory limit of a control group, from files made for it in a mount namespace of the
 * test's own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/resource.h>

#include "cgroup_world.h"
#include "os/os.h"
#include "pool/limits.h"
#include "pool_fixture.h"
#include "support.h"

/* What a process in these groups sees. */
static size_t limit_in(const char *groups) {
    size_t limit = 0;
    return world_write(WORLD "/self", groups) && os_read_cgroup_limit(&limit) == 0 ? limit : 0;
}

/* Who cannot open a file now must not believe that there is no limit, and asks again. */
static int without_descriptors(void) {
    static struct pool pool;
    struct pool_setup setup = fixture_setup();
    if (fixture_init(&pool, &setup) || !helper_add_pool(&pool)) return wrong("no pool", 0);
    world_write(WORLD "/self", "0::/a\n");
    size_t got = 0;
    if (!limit_resource(RLIMIT_NOFILE, 0)) return wrong("no limit", 0);
    int error = os_read_cgroup_limit(&got);
    if (error != -EBUSY) return wrong("not -EBUSY", (size_t)-error);
    limits_learn();
    limits_prepare(&pool);
    if (pool.heap.limit_bytes != SIZE_MAX) return wrong("learned without descriptors", pool.heap.limit_bytes);
    if (!limit_resource(RLIMIT_NOFILE, 100)) return wrong("no limit", 100);
    limits_learn();
    limits_prepare(&pool);
    if (pool.heap.limit_bytes != 400000000) return wrong("never asked again", pool.heap.limit_bytes);
    return 0;
}

static int in_child(void *ignored) {
    if (!world_make()) return NOT_ALLOWED;
    mkdir(WORLD "/a", 0755);
    mkdir(WORLD "/a/b", 0755);
    mkdir(WORLD "/memory", 0755);
    mkdir(WORLD "/memory/m", 0755);
    size_t got;
    if ((got = limit_in("")) != SIZE_MAX) return wrong("an empty file", got);
    if ((got = limit_in("0::/a/b\n")) != SIZE_MAX) return wrong("no limit files", got);
    world_write(WORLD "/a/b/memory.max", "max\n");
    if ((got = limit_in("0::/a/b\n")) != SIZE_MAX) return wrong("max", got);
    world_write(WORLD "/a/memory.max", "400000000\n");
    if ((got = limit_in("0::/a/b\n")) != 400000000) return wrong("a parent's limit binds", got);
    world_write(WORLD "/a/b/memory.max", "300000000\n");
    if ((got = limit_in("0::/a/b\n")) != 300000000) return wrong("the smaller one binds", got);
    if ((got = limit_in("0::/\n")) != SIZE_MAX) return wrong("the root has none", got);
    world_write(WORLD "/a/b/memory.max", "99999999999999999999999\n");
    if ((got = limit_in("0::/a/b\n")) != 400000000) return wrong("a number too large is none", got);
    world_write(WORLD "/a/b/memory.max", "18446744073709551619\n");
    if ((got = limit_in("0::/a/b\n")) != 400000000) return wrong("a number just too large is none", got);
    world_write(WORLD "/a/b/memory.max", "");
    if ((got = limit_in("0::/a/b\n")) != 400000000) return wrong("an empty limit is none", got);
    world_write(WORLD "/a/b/memory.max", "-1\n");
    if ((got = limit_in("0::/a/b\n")) != 400000000) return wrong("minus one is none", got);
    world_write(WORLD "/memory/m/memory.limit_in_bytes", "200000000\n");
    if ((got = limit_in("4:memory:/m\n3:cpu:/a\n0::/a/b\n")) != 200000000)
        return wrong("version 1 beside version 2", got);
    world_write(WORLD "/memory/m/memory.limit_in_bytes", "9223372036854771712\n");
    if ((got = limit_in("4:cpu,memory:/m\n")) != SIZE_MAX) return wrong("version 1 without a limit", got);
    if ((got = limit_in("nonsense\n1:also\n0::/a\n")) != 400000000)
        return wrong("lines of another form", got);
    char deep[700] = "0::/";
    memset(deep + 4, 'x', 600);
    if ((got = limit_in(deep)) != SIZE_MAX) return wrong("a path longer than any buffer", got);
    return without_descriptors();
}

Test(cgroups, limits, .timeout = 30) {
    world_run(in_child);
}
