/* SPDX-License-Identifier: MIT */
/* os_fault.c: makes chosen kernel calls fail, in builds with -DZP_FAULT. Elsewhere this file is empty.
 *
 * A test that is linked with it calls os_fault_configure. Programs that it is preloaded into are told by
 * their environment:
 *   ZP_FAULT_AT=K      the K-th call (from 0) fails           ZP_FAULT_ERRNO=E   with this number
 *   ZP_FAULT_ONE_IN=N  one call in N fails, by chance         ZP_FAULT_SEED=S    which chance
 *   ZP_FAULT_CALL=C    only calls of this kind (enum os_call) are counted and fail
 *   ZP_FAULT_COUNT=F   the largest number of calls that one process made is written into this file of 8 bytes
 *
 * The configuration is written before there is a second thread; the counters are atomic, and the word in the
 * file is shared by processes and only ever raised.
 */
#ifdef ZP_FAULT
#include "os/os.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic long n_calls;
static _Atomic long *most_calls;
static long fail_at_call = -1;
static int fail_errno;
static int only_call = -1;
static unsigned random_one_in_n;
static _Atomic uint64_t random_state;
static unsigned lock_one_in_n;
static _Atomic uint64_t lock_state;

void os_fault_configure(long fail_at, int error, unsigned random_one_in, uint64_t seed) {
    atomic_store(&n_calls, 0);
    fail_at_call = fail_at;
    fail_errno = error;
    random_one_in_n = random_one_in;
    atomic_store(&random_state, seed);
}

long os_fault_count(void) {
    return atomic_load(&n_calls);
}

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 27);
}

void os_fault_locks(unsigned random_one_in, uint64_t seed) {
    lock_one_in_n = random_one_in;
    atomic_store(&lock_state, seed);
}

bool os_fault_lock(void) {
    if (!lock_one_in_n) return false;
    return mix(atomic_fetch_add(&lock_state, 0x9e3779b97f4a7c15u)) % lock_one_in_n == 0;
}

static long number_of(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

static void count_into(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *word =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *most_calls, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (word != MAP_FAILED) most_calls = word;
    if (fd >= 0) close(fd);
}

/* Before the constructor of whoever we are linked into. */
__attribute__((constructor(101))) static void configure_from_environment(void) {
    const char *file = getenv("ZP_FAULT_COUNT");
    if (file) count_into(file);
    if (!getenv("ZP_FAULT_ERRNO")) return;
    only_call = (int)number_of("ZP_FAULT_CALL", -1);
    os_fault_configure(number_of("ZP_FAULT_AT", -1), (int)number_of("ZP_FAULT_ERRNO", 0),
                       (unsigned)number_of("ZP_FAULT_ONE_IN", 0), (uint64_t)number_of("ZP_FAULT_SEED", 0));
}

static void note_count(long count) {
    long seen = atomic_load(most_calls);
    while (seen < count && !atomic_compare_exchange_weak(most_calls, &seen, count)) {
    }
}

int os_fault(enum os_call call) {
    if (only_call >= 0 && call != (enum os_call)only_call) return 0;
    long index = atomic_fetch_add(&n_calls, 1);
    if (most_calls) note_count(index + 1);
    if (index == fail_at_call) return fail_errno;
    if (!random_one_in_n) return 0;
    return mix(atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u)) % random_one_in_n == 0 ? fail_errno : 0;
}
#else
typedef int os_fault_is_empty_in_normal_builds;
#endif
