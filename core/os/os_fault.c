/* SPDX-License-Identifier: MIT */
/* os_fault.c: makes chosen kernel calls fail, in builds with -DZP_FAULT. Elsewhere this file is empty. */
#ifdef ZP_FAULT
#include "os/os.h"

#include <stdatomic.h>

static _Atomic long n_calls;
static long fail_at_call = -1;
static int fail_errno;
static unsigned random_one_in_n;
static _Atomic uint64_t random_state;
static unsigned lock_one_in_n;
static _Atomic uint64_t lock_state;

void os_fault_configure(long fail_at, int error, unsigned random_one_in, uint64_t seed)
{
    atomic_store(&n_calls, 0);
    fail_at_call = fail_at;
    fail_errno = error;
    random_one_in_n = random_one_in;
    atomic_store(&random_state, seed);
}

long os_fault_count(void) { return atomic_load(&n_calls); }

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 27);
}

void os_fault_locks(unsigned random_one_in, uint64_t seed)
{
    lock_one_in_n = random_one_in;
    atomic_store(&lock_state, seed);
}

bool os_fault_lock(void)
{
    if (!lock_one_in_n) return false;
    return mix(atomic_fetch_add(&lock_state, 0x9e3779b97f4a7c15u)) % lock_one_in_n == 0;
}

int os_fault(enum os_call call)
{
    (void)call;
    long index = atomic_fetch_add(&n_calls, 1);
    if (index == fail_at_call) return fail_errno;
    if (!random_one_in_n) return 0;
    return mix(atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u)) % random_one_in_n == 0 ? fail_errno : 0;
}
#else
typedef int os_fault_is_empty_in_normal_builds;
#endif
