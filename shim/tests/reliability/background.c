/* SPDX-License-Identifier: MIT */
/* background.c: everything by which a program could notice that somebody gives memory back in the background:
 * joins, waits, namespaces, identities, descriptors, job control, exec and ends of every kind.
 *
 * prctl, unshare and the like are called by number: a program that imports them would get no background
 * thread, or another one. */
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <time.h>

static pthread_t main_thread;

/* Not sleep(): alarm may be set. */
static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR) {
    }
}

/* Large blocks used and one kept, so that there is something to look after. */
static void *busy(void) {
    warm_up();
    void *kept = get_filled(40 * MIB);
    pause_ms(50);
    return kept;
}

static void *joins_main(void *ignored) {
    pthread_join(main_thread, NULL);
    say("main was joined", 1);
    busy();
    exit(0);
    return ignored;
}

static void join_main(void) {
    main_thread = pthread_self();
    busy();
    pthread_t thread;
    pthread_create(&thread, NULL, joins_main, NULL);
    pause_ms(200);
    pthread_exit(NULL);
}

static void *returns(void *ignored) {
    pause_ms(100);
    return ignored;
}

/* The last thread of the C library returns: the process ends, with exit status 0. */
static void last_thread(void) {
    busy();
    pthread_t thread;
    pthread_create(&thread, NULL, returns, NULL);
    pthread_detach(thread);
    say("leaving", 1);
    pthread_exit(NULL);
}

/* exit of one thread by system call, the only one there is: the process is over. */
static void raw_exit(void) {
    busy();
    say("leaving", 1);
    syscall(SYS_exit, 0);
}

static void wait_all(void) {
    busy();
    for (int i = 0; i < 3; i++)
        if (fork() == 0) _exit(0);
    int n = 0;
    while (waitpid(-1, NULL, __WALL) > 0)
        n++;
    printf("%d children\n", n);
}

/* As init of a container or a session: every child that leaves in a hurry, and nobody else, is reaped. */
static void reaper(void) {
    syscall(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            busy();
            if (i % 2) _exit(0);
            raise(SIGKILL);
        }
    }
    int n_known = 0, n_unknown = 0;
    pid_t pid;
    while ((pid = wait(NULL)) > 0) {
        int known = 0;
        for (int i = 0; i < 4; i++)
            known |= pid == children[i];
        n_known += known;
        n_unknown += !known;
    }
    printf("%d known, %d unknown children\n", n_known, n_unknown);
}

static int n_entries(const char *path) {
    int n = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir) closedir(dir);
    return n - 2;
}

/* What the program becomes has neither children nor threads that it did not make. */
static void exec(void) {
    if (getenv("ZP_TEST_AGAIN")) {
        pause_ms(100);
        char line[64] = "";
        FILE *file = fopen("/proc/thread-self/children", "r");
        if (file && !fgets(line, sizeof line, file)) line[0] = '\0';
        printf("%d threads, children '%s'\n", n_entries("/proc/self/task"), line);
        return;
    }
    busy();
    setenv("ZP_TEST_AGAIN", "1", 1);
    char *argv[] = {"background", "exec", NULL};
    execv("/proc/self/exe", argv);
    exit(1);
}

static void *execs(void *ignored) {
    exec();
    return ignored;
}

/* exec on another thread: the kernel ends all others first. */
static void exec_elsewhere(void) {
    busy();
    pthread_t thread;
    pthread_create(&thread, NULL, execs, NULL);
    pthread_join(thread, NULL);
}

static void pid_namespace(void) {
    if (geteuid() != 0) skip("needs root for a namespace");
    free(get_filled(4 * MIB));
    if (syscall(SYS_unshare, CLONE_NEWPID)) skip("no process namespaces here");
    void *kept = busy();
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            busy();
            _exit(getpid());
        }
        int status = -1;
        if (pid > 0) waitpid(pid, &status, 0);
        printf("child %d is %d\n", i, pid < 0 ? -errno : WEXITSTATUS(status));
        if (i == 0) break; /* the first process of the namespace has ended, and the namespace with it */
    }
    free(kept);
}

/* Are there threads of ours with another user than ours? */
static int strangers(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[300];
        struct stat status;
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%s", entry->d_name);
        if (stat(path, &status) == 0 && status.st_uid != geteuid()) n++;
    }
    if (dir) closedir(dir);
    return n;
}

static void set_user(void) {
    if (geteuid() != 0) skip("needs root to become somebody else");
    void *kept = busy();
    printf("groups: %s\n", setgroups(0, NULL) ? strerror(errno) : "ok");
    printf("group: %s\n", setgid(54321) ? strerror(errno) : "ok");
    printf("user: %s\n", setuid(54321) ? strerror(errno) : "ok");
    free(kept);
    pause_ms(2500);
    printf("%d threads of another user after 2.5 s\n", strangers());
    printf("and back: %s\n", setuid(0) ? "refused" : "ok");
    busy();
}

static void change_root(void) {
    if (geteuid() != 0) skip("needs root");
    busy();
    char name[] = "/tmp/zeropool-root-XXXXXX";
    if (!mkdtemp(name) || chdir(name)) exit(1);
    printf("chroot: %s\n", chroot(".") ? strerror(errno) : "ok");
    void *kept = busy();
    pause_ms(1200);
    pid_t pid = fork();
    if (pid == 0) {
        busy();
        _exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    say("a child in there", status == 0);
    free(kept);
    chdir("/");
    for (int i = 0; i < 20; i++)
        chdir("..");
}

/* What the program closes is closed: the reader sees the end, the lock is free, the port too. */
static void descriptors(void) {
    int ends[2];
    char name[] = "/tmp/zeropool-lock-XXXXXX", byte;
    if (pipe(ends)) exit(1);
    int fd = mkstemp(name);
    flock(fd, LOCK_EX);
    busy();
    close(ends[1]);
    say("end of file", read(ends[0], &byte, 1) == 0);
    close(fd);
    fd = open(name, O_RDWR);
    say("lock", flock(fd, LOCK_EX | LOCK_NB) == 0);
    unlink(name);
    int next = dup(fd);
    printf("descriptors go on at %d\n", next - fd);
}

static volatile sig_atomic_t n_signals;
static void count(int sig) {
    (void)sig;
    if (pthread_equal(pthread_self(), main_thread)) n_signals = n_signals + 1;
}

/* Signals to the process reach the program's thread, whether it waits, blocks or sleeps. */
static void signals(void) {
    main_thread = pthread_self();
    busy();
    signal(SIGUSR1, count);
    for (int i = 0; i < 50; i++)
        kill(getpid(), SIGUSR1);
    printf("%d signals\n", (int)n_signals);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR2);
    pause_ms(20);
    sigset_t pending;
    sigpending(&pending);
    printf("pending: %d\n", sigismember(&pending, SIGUSR2));
    int sig = 0;
    sigwait(&set, &sig);
    printf("waited for: %d\n", sig == SIGUSR2);
    /* A sleep of the program is not cut short by what goes on in the background. */
    free(get_filled(200 * MIB));
    struct timespec nap = {1, 500000000}, left = {0, 0};
    printf("sleep: %d\n", nanosleep(&nap, &left));
}

/* Stopped and continued, as by Ctrl-Z and fg. */
static void job_control(void) {
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            free(busy());
            raise(SIGSTOP);
            free(busy());
            exit(5);
        }
        int status = -1;
        pid_t seen = waitpid(pid, &status, WUNTRACED);
        printf("stopped: %d\n", seen == pid && WIFSTOPPED(status));
        kill(pid, SIGCONT);
        waitpid(pid, &status, 0);
        printf("ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
}

/* However the program ends, its parent learns of it at once and as without us. */
static void ends(void) {
    static const int ways[] = {SIGKILL, SIGTERM, SIGSEGV, SIGABRT, SIGHUP, 0, -1};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct itimerval none = {{0, 0}, {0, 0}};
            setitimer(ITIMER_REAL, &none, NULL);
            syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0); /* no core file */
            busy();
            if (ways[i] == 0) exit(3);
            if (ways[i] < 0) _exit(4);
            raise(ways[i]);
        }
        int status = -1;
        waitpid(pid, &status, 0);
        printf("status 0x%x\n", status & ~0x80);
    }
}

/* fork again and again while memory is being given back, so that some hit the moments when a lock is held. */
static void forks(void) {
    int bad = 0;
    for (int i = 0; i < 60; i++) {
        for (int k = 0; k < 6; k++)
            free(get_filled((4 + (size_t)(i + k) % 5) * MIB));
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20);
            for (int k = 0; k < 20; k++)
                free(get((size_t)(k + 1) * MIB));
            _exit(0);
        }
        int status = -1;
        waitpid(pid, &status, 0);
        bad += status != 0;
        pause_ms(20);
    }
    say("60 forks", bad == 0);
}

static const struct test_case cases[] = {
    {"join-main", join_main},
    {"last-thread", last_thread},
    {"raw-exit", raw_exit},
    {"wait-all", wait_all},
    {"reaper", reaper},
    {"exec", exec},
    {"exec-elsewhere", exec_elsewhere},
    {"pid-namespace", pid_namespace},
    {"set-user", set_user},
    {"change-root", change_root},
    {"descriptors", descriptors},
    {"signals", signals},
    {"job-control", job_control},
    {"ends", ends},
    {"forks", forks},
    {NULL, NULL},
};

int main(int argc, char **argv) {
    alarm(25);
    return run_case(cases, argc, argv);
}
