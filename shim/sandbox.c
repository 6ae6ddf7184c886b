/* SPDX-License-Identifier: MIT */
/* sandbox.c: notices seccomp filters. See sandbox.h. */
#include "sandbox.h"

#include "os/os.h"
#include "process/fork.h"
#include "process/helper.h"
#include "pool/limits.h"

#include <linux/seccomp.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* The background thread may be giving back much memory, and a filter for all threads would end the program in
 * the middle of that. */
#define LEAVE_MS 2000
/* A handler may have interrupted the thread that asks. */
#define LEARN_NS 100000000u

static _Atomic bool in_force;
static _Atomic unsigned n_about; /* calls that are being made */

static void learn(void) {
    if (os_read_filter_state() == FILTER_NONE) {
        os_learn_machine();
        return;
    }
    limits_learn(); /* reads files, as the question before did: not possible later */
    atomic_store(&in_force, true);
    os_restricted = true;
}

void sandbox_learn(void) {
    static _Atomic int state; /* 0 not yet, 1 in progress, 2 done */
    int none = 0;
    if (atomic_compare_exchange_strong(&state, &none, 1)) {
        learn();
        atomic_store(&state, 2);
    }
    for (uint64_t end_ns = os_clock_ns() + LEARN_NS; atomic_load(&state) != 2 && os_clock_ns() < end_ns;)
        cpu_pause();
}

bool sandbox_is_filter_call(long number, long a) {
    if (number == SYS_prctl) return (int)a == PR_SET_SECCOMP;
    return number == SYS_seccomp &&
           ((unsigned)a == SECCOMP_SET_MODE_STRICT || (unsigned)a == SECCOMP_SET_MODE_FILTER);
}

/* The last chance to read files, and to take from other threads' caches. */
static void before_restriction(void) {
    limits_learn();
    if (tcache_tls.entered || !fork_pass()) return;
    tcache_tls.entered = IN_SLOW_PATH;
    pool_flush_caches(&shim_pool);
    tcache_tls.entered = 0;
}

void sandbox_before_filter(void) {
    if (!os_is_own_process()) return; /* a vfork child: the filter is not for the owner of this memory */
    sandbox_learn();
    if (!os_restricted && shim_pool.ready) before_restriction();
    atomic_fetch_add(&n_about, 1);
    os_restricted = true;
    if (!atomic_load(&in_force)) helper_dismiss(LEAVE_MS);
}

void sandbox_after_filter(bool installed) {
    if (!atomic_load(&n_about)) return; /* a vfork child */
    if (installed) atomic_store(&in_force, true);
    if (atomic_fetch_sub(&n_about, 1) != 1 || atomic_load(&in_force)) return;
    os_restricted = false;
    /* Another thread may have begun meanwhile. */
    if (atomic_load(&n_about) || atomic_load(&in_force)) os_restricted = true;
}
