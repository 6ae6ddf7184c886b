/* SPDX-License-Identifier: MIT */
/* rest_slow_lib.c: makes giving memory back slow, so that much happens meanwhile. */
#include "../../core/tests/portable.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int madvise(void *start, size_t length, int advice) {
    struct timespec pause = {.tv_nsec = 20000000};
    if (advice == MADV_DONTNEED || advice == MADV_FREE) syscall(SYS_nanosleep, &pause, NULL);
    return (int)syscall(SYS_madvise, start, length, advice);
}
