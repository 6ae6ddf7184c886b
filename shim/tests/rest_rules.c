/* SPDX-License-Identifier: MIT */
/* rest_rules.c: waiting calls keep their rules where the library waits in steps: handlers, timeouts, masks,
 * cancellation, jumps. usage: rest_rules interrupted|giving-back|timeouts|masks|cancelled|jumps */
#include "rest_table.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/select.h>

static volatile sig_atomic_t n_handled;
static volatile uint64_t mask_inside;

static void count(int signal) {
    (void)signal;
    n_handled++;
    mask_inside = mask_now();
}

/* --- interrupted: at a random moment a handler runs; the call fails then, or goes on until there is
 * something --- */

static void bring_data(int signal) {
    count(signal);
    if (n_handled < 3) { /* the timer comes three times: twice to be survived */
        after_us(random_us() / 4);
        return;
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to;
    socklen_t length = sizeof to;
    CHECK(write(empty[1], "", 1) == 1 && write(connection[1], "", 1) == 1);
    CHECK(getsockname(listener, (struct sockaddr *)&to, &length) == 0 &&
          connect(fd, (struct sockaddr *)&to, length) == 0);
    close(fd);
}

static void drain(void) {
    int fd;
    CHECK(fcntl(empty[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(listener, F_SETFL, O_NONBLOCK) == 0);
    while (read(empty[0], &byte, 1) == 1) {
    }
    while (recv(connection[0], &byte, 1, MSG_DONTWAIT) == 1) {
    }
    while ((fd = accept(listener, NULL, NULL)) >= 0)
        close(fd);
    CHECK(fcntl(empty[0], F_SETFL, 0) == 0 && fcntl(listener, F_SETFL, 0) == 0);
}

static void interrupted(size_t which) {
    const struct call *call = &calls[which];
    int64_t late[ROUNDS];
    int n_missed = 0;
    prepare();
    if (call->wait == in_sigwaitinfo || call->wait == in_sigtimedwait) sigprocmask(SIG_BLOCK, &usr1, NULL);
    uint64_t mask = mask_now();
    for (int i = 0; i < ROUNDS; i++) {
        bool restarts = call->kind == RESTARTED && (random_next() & 1);
        handle(SIGALRM, restarts ? bring_data : count, random_next() & 1 || restarts ? SA_RESTART : 0);
        if (call->kind == RESTARTED && !restarts) handle(SIGALRM, count, 0);
        handle(SIGUSR2, random_next() & 1 ? count : SIG_DFL, SA_RESTART); /* does not come, but might */
        n_handled = 0;
        make_idle();
        int64_t us = random_us(), start = now_us();
        after_us(us);
        int result = call->wait(LONG_S * 1000000);
        late[i] = now_us() - start - us;
        if (restarts) {
            CHECK(result == 1 && n_handled == 3);
            late[i] = 0;
            drain();
        } else {
            CHECK(result == -1 && errno == EINTR);
            after_us(0);
            if (n_handled > 1) n_missed++, late[i] = 0;
        }
        CHECK(mask_now() == mask && mask_inside == (mask | (uint64_t)1 << (SIGALRM - 1)));
    }
    CHECK(n_missed <= MISSED_MAX);
    check_late(call->name, late, ROUNDS);
}

/* --- giving-back: the same while memory goes back, which another library makes slow --- */

static void giving_back(size_t which) {
    int n_missed = 0;
    prepare();
    if (calls[which].wait == in_sigwaitinfo || calls[which].wait == in_sigtimedwait)
        sigprocmask(SIG_BLOCK, &usr1, NULL);
    handle(SIGALRM, count, 0);
    char *blocks[16];
    for (int i = 0; i < 16; i++)
        memset(blocks[i] = get(2 * MIB), 1, 2 * MIB);
    for (int i = 0; i < 16; i++)
        free(blocks[i]);
    for (int64_t end = now_us() + 5500000; now_us() < end;) {
        int64_t us = 1000 + (int64_t)(random_next() % 300000), start = now_us();
        n_handled = 0;
        after_us(us);
        CHECK(calls[which].wait(LONG_S * 1000000) == -1 && errno == EINTR);
        after_us(0);
        n_missed += n_handled > 1;
        CHECK(now_us() - start >= us && now_us() - start < us + LATE_US);
    }
    CHECK(n_missed <= MISSED_MAX);
}

/* --- timeouts: not shorter, not much longer, also with a handler that keeps coming --- */

static void timeouts(size_t which) {
    const struct call *call = &calls[which];
    int64_t late[ROUNDS];
    prepare();
    if (call->wait == in_sigtimedwait) sigprocmask(SIG_BLOCK, &usr1, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        make_idle();
        int64_t us = random_us() / 1000 * 1000, start = now_us();
        errno = 77;
        CHECK(call->wait(us) == 0);
        late[i] = now_us() - start - us;
        CHECK(errno == 77 || call->wait == in_clock_nanosleep || call->wait == in_absolute ||
              call->wait == in_sigtimedwait);
    }
    check_late(call->name, late, ROUNDS);
    handle(SIGALRM, count, 0);
    CHECK(setitimer(ITIMER_REAL, &(struct itimerval){{0, 7000}, {0, 7000}}, NULL) == 0);
    make_idle();
    n_handled = 0;
    int64_t start = now_us(), end = start + 400000, n_interrupted = 0;
    for (int64_t now; (now = now_us()) < end;)
        n_interrupted += call->wait(end - now) < 0;
    int64_t took = now_us() - start;
    CHECK(took >= 400000 && took < 400000 + LATE_US);
    CHECK(n_handled >= took / 7000 - 20 && n_interrupted >= n_handled - 20);
}

/* --- masks: what is pending comes in by the call's mask, and only by that --- */

static int masked_ppoll(const sigset_t *mask) {
    return ppoll(NULL, 0, &(struct timespec){0, 60000000}, mask);
}
static int masked_pselect(const sigset_t *mask) {
    return pselect(0, NULL, NULL, NULL, &(struct timespec){0, 60000000}, mask);
}
static int masked_epoll(const sigset_t *mask) {
    return epoll_pwait(events, &(struct epoll_event){0}, 1, 60, mask);
}
static int masked_suspend(const sigset_t *mask) {
    return sigsuspend(mask);
}
static int (*const masked[])(const sigset_t *) = {masked_ppoll, masked_pselect, masked_epoll, masked_suspend};

static int masks(void) {
    prepare();
    handle(SIGUSR1, count, SA_RESTART);
    handle(SIGALRM, count, 0);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    uint64_t mask = mask_now();
    for (int i = 0; i < 20; i++)
        for (size_t k = 0; k < sizeof masked / sizeof masked[0]; k++) {
            n_handled = 0;
            make_idle();
            raise(SIGUSR1);
            if (masked[k] != masked_suspend)
                CHECK(masked[k](NULL) == 0 && masked[k](&usr1) == 0 && n_handled == 0);
            CHECK(masked[k](&none) == -1 && errno == EINTR && n_handled == 1 && mask_now() == mask);
            CHECK(mask_inside == (uint64_t)1 << (SIGUSR1 - 1));
        }
    printf("masks: ok\n");
    return 0;
}

/* --- cancelled: in the middle of a wait, of one thread or two --- */

static _Atomic uint64_t mask_at_end;

static void note_mask(void *ignored) {
    (void)ignored;
    mask_at_end = mask_now();
}

static void *wait_there(void *call) {
    pthread_cleanup_push(note_mask, NULL);
    for (;;)
        ((const struct call *)call)->wait(LONG_S * 1000000);
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(size_t which) {
    prepare();
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    uint64_t mask = mask_now();
    for (int i = 0; i < ROUNDS / 2; i++) {
        pthread_t thread;
        void *result;
        mask_at_end = 0;
        make_idle();
        CHECK(pthread_create(&thread, NULL, wait_there, (void *)&calls[which]) == 0);
        if (i & 1)
            calls[which % N_TIMED].wait(random_us());
        else
            usleep((useconds_t)random_us());
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
        CHECK(result == PTHREAD_CANCELED);
        /* But for the signal by which the C library cancels: it may be in its handler. sigsuspend ends under
         * its own mask. */
        CHECK((mask_at_end & ~((uint64_t)1 << 31)) == mask || calls[which].wait == in_sigsuspend);
    }
}

/* --- jumps: a handler leaves the call for good --- */

static sigjmp_buf back;

static void jump(int signal) {
    siglongjmp(back, signal);
}

static void jumps(size_t which) {
    prepare();
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    uint64_t mask = mask_now();
    handle(SIGALRM, jump, 0);
    for (volatile int i = 0; i < ROUNDS; i++) {
        make_idle();
        if (sigsetjmp(back, 1) == 0) {
            after_us(random_us());
            calls[which].wait(LONG_S * 1000000);
            CHECK(!"it has returned");
        }
        after_us(0);
        CHECK(mask_now() == mask);
    }
    free(get(MIB));
}

int main(int argc, char **argv) {
    const char *test = argc > 1 ? argv[1] : "";
    if (strcmp(test, "interrupted") == 0) return in_children(N_CALLS, N_CALLS, name_of, interrupted);
    if (strcmp(test, "giving-back") == 0) return in_children(N_CALLS, N_CALLS, name_of, giving_back);
    if (strcmp(test, "timeouts") == 0) return in_children(N_TIMED, N_TIMED, name_of, timeouts);
    if (strcmp(test, "masks") == 0) return masks();
    if (strcmp(test, "cancelled") == 0) return in_children(N_CALLS, N_CALLS, name_of, cancelled);
    if (strcmp(test, "jumps") == 0) return in_children(N_CALLS, N_CALLS, name_of, jumps);
    return 2;
}
