/* SPDX-License-Identifier: MIT */
/* filter.h: seccomp filters for tests: what becomes of some system calls, and what of all others. */
#ifndef ZP_TESTS_FILTER_H
#define ZP_TESTS_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define FILTER_MOST 80
/* Of an array of calls. */
#define FILTER_LENGTH(calls) (sizeof(calls) / sizeof *(calls))

struct filter {
    struct sock_filter code[FILTER_MOST];
    unsigned short n;
};

static inline void filter_add(struct filter *filter, struct sock_filter instruction) {
    filter->code[filter->n++] = instruction;
}

/* The end of a filter: the n calls are treated in one way (SECCOMP_RET_...), all others in the other. */
static inline void filter_calls(struct filter *filter, const int *calls, size_t n, unsigned listed,
                                unsigned otherwise) {
    filter_add(filter,
               (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    for (size_t i = 0; i < n; i++)
        filter_add(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i],
                                                        (unsigned char)(n - i), 0));
    filter_add(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise));
    filter_add(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, listed));
}

static inline struct sock_fprog filter_program(struct filter *filter) {
    return (struct sock_fprog){filter->n, filter->code};
}

/* For this thread and those that it starts. False where filters are not allowed. */
static inline bool filter_install(struct filter *filter) {
    struct sock_fprog program = filter_program(filter);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

#endif
