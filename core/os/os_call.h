/* SPDX-License-Identifier: MIT */
/* os_call.h: a system call as the kernel sees it: no errno, no cancellation, and nobody's interposed function
 * in between (the preload library itself interposes syscall and prctl). For the files of this folder. */
#ifndef ZP_OS_OS_CALL_H
#define ZP_OS_OS_CALL_H

#include <sys/syscall.h>

/* The result, or a negative errno. */
static inline long os_call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define OS_CALL0(number) os_call(number, 0, 0, 0, 0, 0, 0)
#define OS_CALL1(number, a) os_call(number, (long)(a), 0, 0, 0, 0, 0)
#define OS_CALL2(number, a, b) os_call(number, (long)(a), (long)(b), 0, 0, 0, 0)
#define OS_CALL3(number, a, b, c) os_call(number, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define OS_CALL4(number, a, b, c, d) os_call(number, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define OS_CALL5(number, a, b, c, d, e)                                                                      \
    os_call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

#endif
