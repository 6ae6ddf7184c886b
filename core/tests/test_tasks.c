/* SPDX-License-Identifier: MIT */
/* test_tasks.c: how many tasks there are, and how many more there may be, in control groups made of plain
 * files. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup_world.h"
#include "os/os.h"
#include "support.h"

static bool room_in(const char *groups) {
    return world_write(WORLD "/self", groups) && os_room_for_task();
}

#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "line %d: " #condition "\n", __LINE__);                                          \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

static int in_child(void *ignored) {
    (void)ignored;
    if (!world_make()) return NOT_ALLOWED;
    mkdir(WORLD "/a", 0755);
    mkdir(WORLD "/a/b", 0755);
    mkdir(WORLD "/pids", 0755);
    mkdir(WORLD "/pids/p", 0755);
    EXPECT(room_in(""));
    EXPECT(room_in("0::/a/b\n"));
    world_write(WORLD "/a/b/pids.max", "max\n");
    EXPECT(room_in("0::/a/b\n"));
    world_write(WORLD "/a/pids.max", "1000\n");
    world_write(WORLD "/a/pids.current", "744\n");
    EXPECT(room_in("0::/a/b\n"));
    world_write(WORLD "/a/pids.current", "745\n");
    EXPECT(!room_in("0::/a/b\n")); /* a parent's limit binds */
    EXPECT(room_in("0::/\n"));
    world_write(WORLD "/pids/p/pids.max", "8\n");
    EXPECT(!room_in("4:cpu,pids:/p\n"));
    EXPECT(!room_in("3:cpu:/a\n4:pids:/p/not/here\n0::/\n")); /* a name from outside the container */
    EXPECT(room_in("4:memory:/p\n"));
    world_write(WORLD "/pids.max", "10\n");
    EXPECT(!room_in("0::/\n")); /* the root of a container */
    EXPECT(room_in("nonsense\n1:also\n"));
    unlink(WORLD "/pids.max");
    char deep[3000] = "0::/";
    memset(deep + 4, 'x', sizeof deep - 5);
    EXPECT(room_in(deep));
    EXPECT(room_in("0::/\n") && limit_resource(RLIMIT_NPROC, 255) && !room_in("0::/\n"));
    return 0;
}

Test(tasks, room, .timeout = 30) {
    world_run(in_child);
}

static void *waits(void *barrier) {
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    return NULL;
}

Test(tasks, are_counted, .timeout = 30) {
    pthread_barrier_t barrier;
    pthread_t threads[3];
    int before = os_task_count();
    cr_assert_geq(before, 1);
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, waits, &barrier), 0);
    pthread_barrier_wait(&barrier);
    cr_assert_eq(os_task_count(), before + 3);
    cr_assert_not(os_single_threaded());
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}
