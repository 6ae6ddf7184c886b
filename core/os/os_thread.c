/* SPDX-License-Identifier: MIT */
/* os_thread.c: the background thread's start and sleep, and the asymmetric barrier. See os.h for the contract. */
#include "os/os.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int membarrier(int command)
{
    int fault = os_fault(OS_MEMBARRIER);
    if (fault) return -fault;
    int saved = errno;
    int result = syscall(SYS_membarrier, command, 0, 0) < 0 ? -errno : 0;
    errno = saved;
    return result;
}

int os_membarrier_register(void) { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }

int os_membarrier(void) { return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED); }

int os_thread_start(void *(*entry)(void *), void *argument)
{
    int fault = os_fault(OS_THREAD);
    if (fault) return -fault;
    int saved = errno;
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error) return -error;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, max_size((size_t)PTHREAD_STACK_MIN, 256 * KIB));
    /* The new thread inherits this mask: the program's handlers must never run on our stack. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    error = pthread_create(&thread, &attributes, entry, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!error) pthread_setname_np(thread, "zeropool");
    errno = saved;
    return -error;
}

void os_sleep_on(uint32_t *word, uint32_t expected, unsigned timeout_ms)
{
    struct timespec timeout = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ms == UINT_MAX ? NULL : &timeout, NULL, 0);
    errno = saved;
}

void os_wake(uint32_t *word)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved;
}
