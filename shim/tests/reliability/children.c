/* SPDX-License-Identifier: MIT */
/* children.c: the other ways to make a child: from signal handlers, vfork, posix_spawn, raw clone, daemons,
 * system. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile sig_atomic_t n_good, n_bad;

static void reap(pid_t pid) {
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pid > 0 && status == 0)
        n_good = n_good + 1;
    else
        n_bad = n_bad + 1;
}

/* Only large blocks on both sides: glibc maps those, so the interrupted call leaves nothing half done in its
 * own lists. */
static void fork_in_handler(int sig) {
    (void)sig;
    int saved = errno;
    pid_t pid = fork();
    if (pid == 0) {
        /* A child that hangs is to end, and to be told from a parent that does: in a handler its own signal
         * is blocked. */
        sigset_t alarms;
        sigemptyset(&alarms);
        sigaddset(&alarms, SIGALRM);
        signal(SIGALRM, SIG_DFL);
        sigprocmask(SIG_UNBLOCK, &alarms, NULL);
        alarm(20);
        for (int i = 0; i < 20; i++) {
            void *p = get((1 + (size_t)i % 5) * 40 * MIB);
            if (!p) _exit(3);
            free(p);
        }
        _exit(0);
    }
    reap(pid);
    signal_after_us(2 * 1000);
    errno = saved;
}

static void handler(void) {
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    signal_after_us(2 * 1000);
    for (unsigned i = 0; n_good + n_bad < 150; i++) {
        size_t size = (1 + i % 3) * 33 * MIB;
        void *a = get(size), *b = get(34 * MIB);
        a = realloc(a, size + 33 * MIB);
        free(b);
        free(a);
    }
    signal(SIGALRM, SIG_IGN);
    say("150 forks inside handlers", n_bad == 0);
}

/* A handler that allocates and frees, while its thread is inside the allocator. */
static void allocate_in_handler(int sig) {
    (void)sig;
    int saved = errno;
    void *p = get(48 * MIB), *q = get(80 * MIB);
    if (!p || !q || !good(p, 48 * MIB)) n_bad = n_bad + 1;
    free(p);
    free(q);
    n_good = n_good + 1;
    signal_after_us(1 * 1000);
    errno = saved;
}

static void signals(void) {
    struct sigaction action = {.sa_handler = allocate_in_handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    signal_after_us(1 * 1000);
    int bad = 0;
    for (unsigned i = 0; n_good < 400; i++) {
        size_t size = (1 + i % 3) * 33 * MIB;
        void *p = get(size);
        bad |= !p || !good(p, size);
        p = realloc(p, size * 2);
        bad |= !p || *(size_t *)p == 0;
        free(p);
    }
    signal(SIGALRM, SIG_IGN);
    say("400 handlers that allocate", !bad && n_bad == 0);
}

static void spawn(void) {
    warm_up();
    extern char **environ;
    char *const argv[] = {"sh", "-c", "exit 0", NULL};
    for (int i = 0; i < 40; i++) {
        pid_t pid;
        if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ))
            n_bad = n_bad + 1;
        else
            reap(pid);
        free(get_filled((size_t)(i + 1) * MIB));
    }
    say("40 posix_spawn", n_bad == 0);
}

static void vfork_exec(void) {
    warm_up();
    char *volatile kept = get_filled(20 * MIB);
    for (int i = 0; i < 40; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(9);
        }
        reap(pid);
    }
    /* Not allowed by POSIX, done by real programs: allocate between vfork and exec. */
    for (int i = 0; i < 20; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            free(get((size_t)64 * MIB));
            execl("/bin/true", "true", (char *)NULL);
            _exit(9);
        }
        reap(pid);
    }
    say("parent's block", kept[0] == 0x5a && kept[20 * MIB - 1] == 0x5a);
    free(kept);
    warm_up();
    say("60 vfork", n_bad == 0);
}

/* fork by system call: no atfork handlers run, glibc's caches of the thread are stale. */
static void raw_clone(void) {
    warm_up();
    for (int i = 0; i < 40; i++) {
        void *inherited = get(2 * MIB);
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) {
            alarm(20);
            for (int k = 0; k < 100; k++) {
                void *p = get((1 + (size_t)k % 9) * MIB);
                if (!p) _exit(3);
                free(p);
            }
            if (!good(inherited, 2 * MIB)) _exit(4);
            free(inherited);
            _exit(0);
        }
        reap(pid);
        free(inherited);
    }
    say("40 raw clones", n_bad == 0);
}

static int on_own_stack(void *ignored) {
    (void)ignored;
    for (int k = 0; k < 50; k++)
        free(get((1 + (size_t)k % 9) * 40 * MIB));
    return 0;
}

/* A task that shares the memory and waits for nothing: glibc's clone, as sandboxes use it. The parent waits
 * meanwhile. */
static void shared_clone(void) {
    warm_up();
    char *stack = malloc(256 * KIB);
    for (int i = 0; i < 20; i++)
        reap(clone(on_own_stack, stack + 256 * KIB, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
    free(stack);
    warm_up();
    say("20 clones that share the memory", n_bad == 0);
}

static void daemon_twice(void) {
    warm_up();
    int ends[2];
    char text[64] = "";
    if (pipe(ends)) exit(1);
    void *inherited = get(3 * MIB);
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        if (fork() == 0) {
            close(ends[0]);
            warm_up();
            int fine = good(inherited, 3 * MIB);
            free(inherited);
            usleep(20000); /* the parents have gone */
            warm_up();
            dprintf(ends[1], "daemon %s", fine ? "works" : "is broken");
            exit(0);
        }
        exit(0);
    }
    close(ends[1]);
    reap(pid);
    ssize_t n = 0, more;
    while ((more = read(ends[0], text + n, sizeof text - 1 - (size_t)n)) > 0)
        n += more;
    say(text, n_bad == 0);
}

static void shells(void) {
    for (int i = 0; i < 10; i++) {
        free(get_filled(20 * MIB));
        if (system("exit 7") != 7 << 8) n_bad = n_bad + 1;
        FILE *pipe = popen("echo out", "r");
        char line[32] = "";
        if (!pipe || !fgets(line, sizeof line, pipe) || strcmp(line, "out\n") != 0 || pclose(pipe))
            n_bad = n_bad + 1;
    }
    say("system and popen", n_bad == 0);
}

/* The generations of a pre-forking server: every child warms up, forks the next and waits for it. */
static void generations(void) {
    char *block = get_filled(5 * MIB);
    for (int depth = 0; depth < 12; depth++) {
        pid_t pid = fork();
        if (pid) {
            int status = -1;
            waitpid(pid, &status, 0);
            if (depth == 0) say("12 generations", status == 0);
            exit(status != 0);
        }
        warm_up();
        block = realloc(block, (5 + (size_t)depth) * MIB);
        if (!block || block[0] != 0x5a) _exit(1);
    }
    _exit(0);
}

static const struct test_case cases[] = {
    {"handler", handler},
    {"signals", signals},
    {"spawn", spawn},
    {"vfork", vfork_exec},
    {"raw-clone", raw_clone},
    {"shared-clone", shared_clone},
    {"daemon", daemon_twice},
    {"shells", shells},
    {"generations", generations},
    {NULL, NULL},
};

int main(int argc, char **argv) {
    return run_case(cases, argc, argv);
}
