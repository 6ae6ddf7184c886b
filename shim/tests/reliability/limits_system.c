/* SPDX-License-Identifier: MIT */
/* limits_system.c: limits that belong to the machine rather than to the process: locked memory, strict
 * overcommit, control groups, core dumps. Each is set before the first large block and after many. What
 * cannot be set here is skipped. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* What fits into 200 MiB if nobody keeps what was freed; every page is touched. */
static void rounds_within_200_mib(int n_rounds) {
    for (int round = 0; round < n_rounds; round++) {
        void *a = get_filled(150 * MIB);
        say("150", a != NULL);
        free(a);
        a = get_filled(80 * MIB);
        void *b = get_filled(80 * MIB);
        say("80 + 80", a && b);
        free(a);
        a = get_filled(105 * MIB);
        say("105 beside 80", a != NULL);
        a = realloc(a, 50 * MIB);
        free(b);
        a = realloc(a, 140 * MIB);
        say("grown to 140", a != NULL);
        if (a) memset(a, 1, 140 * MIB);
        free(a);
        size_t *zeroed = hide(calloc(1, 150 * MIB));
        say("zeroed 150", zeroed && zeroed[0] == 0 && zeroed[150 * MIB / 8 - 1] == 0 && zeroed[1000000] == 0);
        if (zeroed) memset(zeroed, 2, 150 * MIB);
        free(zeroed);
    }
}

static void within_200_mib(void) {
    rounds_within_200_mib(3);
}
static void once_within_200_mib(void) {
    rounds_within_200_mib(1);
}

/* --- locked memory --- */

static void lock_everything(void) {
    /* Where it cannot be raised, root locks without a limit. */
    bool raised = limit_locked();
    if (!raised && geteuid() != 0) skip("the limit of locked memory cannot be raised");
    if (raised) become_lonely();
    say("mlockall", mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0);
}

static void locked_before(void) {
    lock_everything();
    within_200_mib();
}

static void locked_during(void) {
    warm_up();
    void *kept = get_filled(10 * MIB);
    lock_everything();
    within_200_mib();
    free(kept);
}

/* --- strict overcommit: the whole machine is concerned, so only where that is wished, and for a moment
 * --- */

#define OVERCOMMIT "/proc/sys/vm/overcommit_memory"

static int set_overcommit(const char *value) {
    int fd = open(OVERCOMMIT, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    int done = write(fd, value, 1) == 1;
    close(fd);
    return done;
}

/* A child does the work, and this process puts the mode back whatever becomes of it. */
static void overcommit(void (*work)(void)) {
    char before[2] = "";
    int fd = open(OVERCOMMIT, O_RDONLY | O_CLOEXEC), status = -1;
    if (!getenv("ZP_SYSTEM_LIMITS")) skip("changes the whole machine: only with ZP_SYSTEM_LIMITS=1");
    if (fd < 0 || read(fd, before, 1) != 1) skip("the overcommit mode cannot be read");
    close(fd);
    if (!set_overcommit("2")) skip("the overcommit mode cannot be set");
    pid_t pid = fork();
    if (pid == 0) {
        alarm(50);
        work();
        fflush(stdout);
        _exit(0);
    }
    if (pid > 0) waitpid(pid, &status, 0);
    set_overcommit(before);
    printf("strict overcommit: %d\n", status);
}

static void overcommit_before(void) {
    overcommit(within_200_mib);
}

static void overcommit_during(void) {
    warm_up();
    overcommit(within_200_mib);
}

/* --- a control group of our own --- */

static bool write_in(const char *folder, const char *file, size_t value) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return write_number(path, value);
}

/* Version 1 and 2 name things differently; a limit that reclaims but does not refuse is memory.high or the
 * soft limit. */
static void grouped(const char *limit_v2, const char *limit_v1, void (*work)(void)) {
    static const char *const roots[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
    for (int i = 0; i < 3; i++) {
        char folder[200];
        snprintf(folder, sizeof folder, "%s/zeropool-test-%d", roots[i], (int)getpid());
        if (mkdir(folder, 0755)) continue;
        int limited = write_in(folder, limit_v2, 260 * MIB) || write_in(folder, limit_v1, 260 * MIB);
        int status = -1, group = 0;
        pid_t pid = limited ? fork() : -1;
        if (pid == 0) {
            group = write_in(folder, "cgroup.procs", (size_t)getpid());
            if (!group) _exit(77);
            work();
            fflush(stdout);
            _exit(0);
        }
        if (pid > 0) waitpid(pid, &status, 0);
        for (int tries = 0; rmdir(folder) && tries < 100; tries++)
            usleep(10000);
        if (!limited || (WIFEXITED(status) && WEXITSTATUS(status) == 77)) continue;
        printf("in the group: %d\n", status);
        return;
    }
    skip("no control group of our own can be made");
}

static void group_max_before(void) {
    grouped("memory.max", "memory.limit_in_bytes", once_within_200_mib);
}

static void group_max_rounds(void) {
    grouped("memory.max", "memory.limit_in_bytes", within_200_mib);
}

static void group_max_during(void) {
    warm_up();
    grouped("memory.max", "memory.limit_in_bytes", once_within_200_mib);
}

static void group_high_before(void) {
    grouped("memory.high", "memory.soft_limit_in_bytes", once_within_200_mib);
}

static void group_high_during(void) {
    warm_up();
    grouped("memory.high", "memory.soft_limit_in_bytes", once_within_200_mib);
}

/* --- core dumps --- */

/* The blocks of the dump on disk, in bytes; 0 where none is written into the working folder. */
static size_t dumped(void (*work)(void)) {
    char folder[] = "/tmp/zeropool-core-XXXXXX", name[64];
    struct stat file;
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    if (!mkdtemp(folder) || chdir(folder)) return 0;
    if (setrlimit(RLIMIT_CORE, &all)) skip("core dumps cannot be allowed");
    pid_t pid = fork();
    if (pid == 0) {
        work();
        abort();
    }
    waitpid(pid, NULL, 0);
    snprintf(name, sizeof name, "core.%d", (int)pid);
    size_t bytes = stat("core", &file) == 0 || stat(name, &file) == 0 ? (size_t)file.st_blocks * 512 : 0;
    unlink("core");
    unlink(name);
    if (chdir("/") || rmdir(folder)) return 0;
    return bytes;
}

static void *held;

static void hold_60_of_80(void) {
    held = get_filled(60 * MIB);
    free(get_filled(20 * MIB));
}

/* Freed long ago. Written to disk, it would be what a user waits for. */
static void hold_60_after_rest(void) {
    held = get_filled(60 * MIB);
    free(get_filled(200 * MIB));
    struct timespec rest = {10, 0}; /* a few seconds until a cache counts as idle, then five of decay */
    nanosleep(&rest, NULL);
}

static void core_dump(void) {
    size_t bytes = dumped(hold_60_of_80);
    if (!bytes) skip("no core dump is written here");
    say("a dump of little more than what lives", bytes >= 60 * MIB && bytes < 90 * MIB);
    bytes = dumped(hold_60_after_rest);
    say("idle memory is not in it after a rest", bytes >= 60 * MIB && bytes < 75 * MIB);
}

static const struct test_case cases[] = {
    {"locked-before", locked_before},
    {"locked-during", locked_during},
    {"overcommit-before", overcommit_before},
    {"overcommit-during", overcommit_during},
    {"group-max-before", group_max_before},
    {"group-max-during", group_max_during},
    {"group-high-before", group_high_before},
    {"group-high-during", group_high_during},
    {"group-max-rounds", group_max_rounds},
    {"core-dump", core_dump},
    {NULL, NULL},
};

int main(int argc, char **argv) {
    return run_case(cases, argc, argv);
}
