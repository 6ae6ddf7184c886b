/* SPDX-License-Identifier: MIT */
/* strict.c: a machine that promises no more memory than it has (vm.overcommit_memory=2), with ROOM_MIB left
 * when a case begins, and memory locked whole. Changes the whole machine: only with ZP_SYSTEM_LIMITS=1. What
 * is expected is what glibc does, which unmaps what is freed. */
#include "../reliability/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

#define ROOM_MIB 260

extern char **environ;
static char *self;

static void allow_all(void) {
    write_number("/proc/sys/vm/overcommit_memory", 0);
}

/* From now on the machine has so much to promise. */
static void leave_room(size_t mib) {
    if (!getenv("ZP_SYSTEM_LIMITS")) skip("changes the whole machine: only with ZP_SYSTEM_LIMITS=1");
    atexit(allow_all);
    size_t kib = (field_bytes("/proc/meminfo", "Committed_AS") + mib * MIB) / KIB;
    if (!write_number("/proc/sys/vm/overcommit_kbytes", kib) ||
        !write_number("/proc/sys/vm/overcommit_memory", 2))
        skip("the overcommit mode cannot be set");
}

static void rounds_within(void) {
    for (int round = 0; round < 3; round++) {
        void *a = get_filled(170 * MIB);
        say("170", a != NULL);
        free(a);
        void *blocks[80];
        int n = 0;
        while (n < 80 && (blocks[n] = get_filled(2 * MIB)))
            n++;
        say("80 of 2", n == 80);
        while (n)
            free(blocks[--n]);
        void *zeroed = hide(calloc(1, 180 * MIB));
        say("zeroed 180", zeroed != NULL);
        free(zeroed);
        void *mapped = mmap(NULL, 180 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        say("mapped 180", mapped != MAP_FAILED);
        if (mapped != MAP_FAILED) munmap(mapped, 180 * MIB);
        a = get_filled(60 * MIB);
        a = realloc(a, 110 * MIB);
        say("grown to 110", a != NULL);
        free(a);
    }
}

static void rounds(void) {
    leave_room(ROOM_MIB);
    rounds_within();
}

static void rounds_warm(void) {
    warm_up();
    leave_room(ROOM_MIB);
    rounds_within();
}

/* Filled until refused, then half of it freed: what is free can be had again, in another shape. */
static void refused(void) {
    leave_room(ROOM_MIB);
    static void *blocks[1000];
    int n = 0;
    say("more than there is", get(400 * MIB) != NULL);
    while (n < 1000 && (blocks[n] = get_filled(MIB)))
        n++;
    say("refused at last", n < 1000);
    say("more than 200", n > 200);
    for (int i = 0; i < n; i += 2) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    void *block = get_filled(90 * MIB);
    say("90 where 100 were freed", block != NULL);
    free(block);
    for (int i = 1; i < n; i += 2)
        free(blocks[i]);
    block = get_filled(200 * MIB);
    say("200 where all was freed", block != NULL);
    free(block);
}

static void *nothing(void *argument) {
    return argument;
}

static void use_and_free(size_t mib) {
    void *block = get_filled(mib * MIB);
    say("used", block != NULL);
    free(block);
}

static bool thread_works(size_t stack_mib) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_mib * MIB);
    return pthread_create(&thread, &attributes, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static void threads(void) {
    leave_room(ROOM_MIB);
    use_and_free(200);
    for (int i = 0; i < 8; i++)
        say("thread", thread_works(8));
}

static void large_stack(void) {
    leave_room(ROOM_MIB);
    use_and_free(200);
    say("thread with a stack of 150", thread_works(150));
}

static int status_of(pid_t pid) {
    int status = -1;
    return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

/* A fork is charged for all that is mapped. */
static void forks(void) {
    leave_room(ROOM_MIB);
    void *kept = get_filled(50 * MIB);
    use_and_free(150);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) _exit(0);
        say("forked", pid > 0 && status_of(pid) == 0);
    }
    free(kept);
}

static bool spawned(const char *how) {
    /* Without the library: another program, which knows nothing of ours. */
    char *arguments[] = {self, (char *)(size_t)how, NULL}, *environment[] = {NULL};
    pid_t pid;
    return posix_spawn(&pid, self, NULL, NULL, arguments, environment) == 0 && status_of(pid) == 0;
}

static void spawns(void) {
    leave_room(ROOM_MIB);
    void *kept = get_filled(50 * MIB);
    use_and_free(150);
    for (int i = 0; i < 3; i++)
        say("spawned", spawned("take-1"));
    free(kept);
}

/* --- freed memory does not stop others --- */

static void take(size_t mib) {
    void *block = get_filled(mib * MIB);
    if (!block) exit(3);
    free(block);
}

static void take_1(void) {
    take(1);
}
static void take_180(void) {
    take(180);
}

static void nap(void) {
    struct timespec time = {0, 200000000};
    nanosleep(&time, NULL);
}

/* The next mapping of the program itself finds the room; another program has to wait until what was freed is
 * at rest. */
static void others_after_rest(void) {
    leave_room(ROOM_MIB);
    use_and_free(200);
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    bool good = false;
    double seconds = 0;
    while (!good && seconds < 15) {
        good = spawned("take-180");
        clock_gettime(CLOCK_MONOTONIC, &now);
        seconds = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9;
        if (!good) nap();
    }
    printf("measured another program had 180 MiB after %.1f s\n", seconds);
    say("another program, within 15 s", good);
}

static void others_trimmed(void) {
    leave_room(ROOM_MIB);
    use_and_free(200);
    malloc_trim(0);
    say("another program after malloc_trim", spawned("take-180"));
}

/* --- everything locked, by a user who may not lock without a limit --- */

static void lock_whole(void) {
    if (!limit_locked()) skip("the limit of locked memory cannot be set");
    become_lonely();
    say("mlockall", mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
}

static void locked_rounds(void) {
    for (int round = 0; round < 3; round++) {
        void *a = get_filled(150 * MIB);
        say("150", a != NULL);
        free(a);
        a = get_filled(80 * MIB);
        void *b = get_filled(80 * MIB);
        say("80 + 80", a && b);
        free(a);
        free(b);
        void *mapped = mmap(NULL, 150 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        say("mapped 150", mapped != MAP_FAILED);
        if (mapped != MAP_FAILED) munmap(mapped, 150 * MIB);
    }
    say("more than may be locked", get(250 * MIB) != NULL);
}

static void locked_whole(void) {
    lock_whole();
    locked_rounds();
}

static void locked_then_freed(void) {
    warm_up();
    void *kept = get_filled(20 * MIB);
    lock_whole();
    free(kept);
    locked_rounds();
}

static const struct test_case cases[] = {
    {"rounds", rounds},
    {"rounds-warm", rounds_warm},
    {"refused", refused},
    {"threads", threads},
    {"large-stack", large_stack},
    {"forks", forks},
    {"spawns", spawns},
    {"others-after-rest", others_after_rest},
    {"others-trimmed", others_trimmed},
    {"take-1", take_1},
    {"take-180", take_180},
    {"locked-whole", locked_whole},
    {"locked-then-freed", locked_then_freed},
    {NULL, NULL},
};

int main(int argc, char **argv) {
    self = argv[0];
    return run_case(cases, argc, argv);
}
