/* SPDX-License-Identifier: MIT */
/* resting.c: uses memory, tells how many tasks were made for it, and rests. The driver reads what is resident
 * from outside, because this program may see the /proc of others or none. usage: resting MIB BLOCK_MIB
 * [THREADS] */
#include "invisible.h"

#include <pthread.h>
#include <sys/wait.h>

static void *sleeper(void *unused) {
    pause();
    return NULL;
}

/* Numbers are given in turn in a namespace of its own. */
static int next_number(void) {
    int pid = fork();
    if (pid == 0) _exit(0);
    waitpid(pid, NULL, 0);
    return pid;
}

int main(int argc, char **argv) {
    pthread_t thread;
    if (argc < 3) return 2;
    use_once(16 * MIB);
    for (size_t i = 0; argc > 3 && i < number(argv, 3); i++)
        if (pthread_create(&thread, NULL, sleeper, NULL)) return 2;
    use_blocks(number(argv, 1), number(argv, 2));
    int before = next_number();
    for (int i = 0; i < 20000; i++) {
        size_t n = (size_t)(300 + i % 2 * 400) * KIB;
        char *p = get(n);
        memset(p, 1, 200 * KIB);
        KEEP(p);
        free(p);
    }
    report("made", next_number() - before - 1);
    puts("resting");
    fflush(stdout);
    sleep(REST_S + 20);
    return 0;
}
