/* SPDX-License-Identifier: MIT */
/* forks.c: what a forked child keeps of the memory that its parent had idle.
 * usage: forks HOW BLOCK_MIB COUNT     the child's private memory is read from outside, 1.5 s after the fork
 * and once more later */
#include "invisible.h"

#include <malloc.h>
#include <pthread.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

/* A child has its first second; a busy machine gets a half more. */
#define FIRST_SECOND_US 1500000

static size_t block_mib, n_blocks;
static volatile unsigned sink;

static void use_and_free(void) {
    use_blocks(block_mib * n_blocks, block_mib);
}

static void computes(void) {
    for (unsigned i = 0;; i++)
        sink += i * i;
}

static void sleeps(void) {
    for (;;)
        sleep(1);
}

static void waits_in_poll(void) {
    for (;;)
        poll(NULL, 0, 60000);
}

static void waits_in_read(void) {
    int ends[2];
    char byte;
    if (pipe(ends) || read(ends[0], &byte, 1)) _exit(1);
}

static void small_blocks(void) {
    void *kept[100] = {NULL};
    for (size_t i = 0;; i = (i + 1) % 100) {
        free(kept[i]);
        kept[i] = get(100 + i * 40);
        if (i == 0) usleep(20000);
    }
}

/* Now and then one block of the pool, far smaller than what the parent had. */
static void one_large_block(void) {
    for (;;) {
        use_once(200 * KIB);
        usleep(50000);
    }
}

static double child_mib(int pid) {
    return (double)status_of(pid, "RssAnon") / 1024;
}

static void watch(const char *name, int pid) {
    char later[64];
    snprintf(later, sizeof later, "%s-later", name);
    usleep(FIRST_SECOND_US);
    report(name, child_mib(pid));
    sleep(4);
    report(later, child_mib(pid));
}

static void end(int pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int forked(void (*life)(void)) {
    int pid = fork();
    if (pid == 0) {
        alarm(30);
        life();
    }
    return pid;
}

static const struct {
    const char *name;
    void (*life)(void);
} lives[] = {{"computes", computes},   {"sleeps", sleeps},      {"polls", waits_in_poll},
             {"reads", waits_in_read}, {"small", small_blocks}, {"large", one_large_block}};

static int child_of_main(size_t life) {
    use_and_free();
    int pid = forked(lives[life].life);
    watch("child", pid);
    end(pid);
    return 0;
}

/* The child forks before it does anything: both must let go. */
static int grandchild(void) {
    int ends[2], inner = 0;
    use_and_free();
    if (pipe(ends)) return 2;
    int pid = fork();
    if (pid == 0) {
        alarm(30);
        inner = forked(sleeps);
        if (write(ends[1], &inner, sizeof inner) != (ssize_t)sizeof inner) _exit(1);
        sleeps();
    }
    if (read(ends[0], &inner, sizeof inner) != (ssize_t)sizeof inner) return 2;
    usleep(FIRST_SECOND_US);
    report("child", child_mib(pid));
    report("grandchild", child_mib(inner));
    kill(inner, SIGKILL);
    end(pid);
    return 0;
}

static void *fork_from_thread(void *pid) {
    use_and_free();
    *(int *)pid = forked(small_blocks);
    return NULL;
}

static int child_of_thread(void) {
    int pid = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, fork_from_thread, &pid);
    pthread_join(thread, NULL);
    watch("child", pid);
    end(pid);
    return 0;
}

static volatile int stop;

static void *frees_all_the_time(void *unused) {
    while (!stop)
        use_and_free();
    return NULL;
}

/* Another thread holds blocks and frees at the moment of the fork: what it held is the child's, and lost; the
 * idle is not. Its blocks are half of the memory at most: the parent's main thread has had them all. */
static int while_another_frees(void) {
    pthread_t thread;
    double worst = 0;
    use_and_free();
    n_blocks = 2;
    pthread_create(&thread, NULL, frees_all_the_time, NULL);
    for (int i = 0; i < 4; i++) {
        int pid = forked(i % 2 ? small_blocks : sleeps);
        usleep(FIRST_SECOND_US);
        double mib = child_mib(pid) - (double)(n_blocks * block_mib);
        if (mib > worst) worst = mib;
        end(pid);
    }
    stop = 1;
    pthread_join(thread, NULL);
    report("child", worst);
    return 0;
}

/* Forks at every moment while the parent's memory goes back to the kernel; each child trims and tells. */
static int while_going_back(void) {
    double worst = 0;
    int n_forks = 0;
    use_and_free();
    double until = clock_us(CLOCK_MONOTONIC) + 7e6;
    while (clock_us(CLOCK_MONOTONIC) < until) {
        int ends[2];
        double mib = 1e9;
        if (pipe(ends)) return 2;
        int pid = fork();
        if (pid == 0) {
            use_once(MIB);
            malloc_trim(0);
            mib = child_mib(getpid());
            if (write(ends[1], &mib, sizeof mib) != (ssize_t)sizeof mib) _exit(1);
            _exit(0);
        }
        if (read(ends[0], &mib, sizeof mib) != (ssize_t)sizeof mib) return 2;
        close(ends[0]);
        close(ends[1]);
        waitpid(pid, NULL, 0);
        if (mib > worst) worst = mib;
        n_forks++;
        usleep(5000);
    }
    report("child", worst);
    return n_forks < 20;
}

/* A child that only becomes another program costs the parent nothing: its warm memory is still there. */
static int spawn_costs_nothing(bool by_vfork) {
    size_t n = block_mib * MIB;
    char *arguments[] = {(char *)"true", NULL};
    use_once(n);
    use_once(n);
    double worst = 0;
    for (int i = 0; i < 20; i++) {
        int pid = -1, status = 1;
        if (by_vfork) {
            pid = vfork();
            if (pid == 0) {
                execv("/bin/true", arguments);
                _exit(1);
            }
        } else if (posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ)) {
            return 2;
        }
        waitpid(pid, &status, 0);
        if (status) return 1;
        double start = clock_us(CLOCK_PROCESS_CPUTIME_ID);
        use_once(n);
        double us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - start;
        if (i == 0 || us < worst) worst = us;
    }
    report("refill-us", worst);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const char *how = argv[1];
    block_mib = number(argv, 2);
    n_blocks = number(argv, 3);
    for (size_t i = 0; i < sizeof lives / sizeof *lives; i++)
        if (strcmp(how, lives[i].name) == 0) return child_of_main(i);
    if (strcmp(how, "grandchild") == 0) return grandchild();
    if (strcmp(how, "from-thread") == 0) return child_of_thread();
    if (strcmp(how, "while-freeing") == 0) return while_another_frees();
    if (strcmp(how, "going-back") == 0) return while_going_back();
    if (strcmp(how, "vfork") == 0) return spawn_costs_nothing(true);
    return strcmp(how, "spawn") == 0 ? spawn_costs_nothing(false) : 2;
}
