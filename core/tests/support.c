/* SPDX-License-Identifier: MIT */
/* support.c: see support.h. Uses nothing of the pool, so that it can judge it. */
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STRIDE 4096

static uint64_t word_at(size_t offset, uint64_t tag) {
    uint64_t x = (tag + 1) * 0x9e3779b97f4a7c15u ^ offset * 0xff51afd7ed558ccdu;
    return x ^ (x >> 29);
}

static void put_word(char *p, size_t n_bytes, size_t offset, uint64_t tag) {
    uint64_t word = word_at(offset, tag);
    memcpy(p + offset, &word, n_bytes - offset < sizeof word ? n_bytes - offset : sizeof word);
}

static bool same_word(const char *p, size_t n_bytes, size_t offset, uint64_t tag) {
    uint64_t word = word_at(offset, tag);
    return memcmp(p + offset, &word, n_bytes - offset < sizeof word ? n_bytes - offset : sizeof word) == 0;
}

void pattern_fill(void *p, size_t n_bytes, uint64_t tag) {
    for (size_t at = 0; at < n_bytes; at += STRIDE)
        put_word(p, n_bytes, at, tag);
    if (n_bytes >= 8) put_word(p, n_bytes, n_bytes - 8, tag);
}

size_t pattern_check(const void *p, size_t n_bytes, uint64_t tag) {
    size_t last = n_bytes >= 8 ? n_bytes - 8 : n_bytes;
    for (size_t at = 0; at < n_bytes; at += STRIDE) {
        /* The word at the very end may have been written over this one. */
        if (at + 8 > last && at != last) continue;
        if (!same_word(p, n_bytes, at, tag)) return at;
    }
    if (n_bytes >= 8 && !same_word(p, n_bytes, last, tag)) return last;
    return n_bytes;
}

size_t pattern_check_front(const void *p, size_t n_bytes, size_t n_whole, uint64_t tag) {
    for (size_t at = 0; at + 8 <= n_bytes; at += STRIDE) {
        if (at + 16 > n_whole && at + 8 != n_whole) continue; /* under the word at the end */
        if (!same_word(p, n_bytes, at, tag)) return at;
    }
    return n_bytes;
}

size_t first_nonzero(const void *p, size_t n_bytes) {
    const unsigned char *bytes = p;
    size_t at = 0;
    for (uint64_t word; at + 8 <= n_bytes; at += 8) {
        memcpy(&word, bytes + at, 8);
        if (word) break;
    }
    while (at < n_bytes && bytes[at] == 0)
        at++;
    return at;
}

struct child_result run_child(int (*body)(void *), void *argument) {
    struct child_result result = {-1, 0, ""};
    int ends[2];
    if (pipe(ends)) return result;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        /* The framework's handlers would turn the abort we look for into something else. */
        for (int signal_number = 1; signal_number < 32; signal_number++)
            signal(signal_number, SIG_DFL);
        alarm(10);
        _exit(body(argument));
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t n; (n = read(ends[0], result.text + used, sizeof result.text - 1 - used)) != 0;) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        used += (size_t)n;
    }
    close(ends[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
    return result;
}

uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

size_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    size_t size = 0, resident = 0;
    if (file) {
        if (fscanf(file, "%zu %zu", &size, &resident) != 2) resident = 0;
        fclose(file);
    }
    return resident * 4096;
}

bool limit_resource(int resource, size_t n) {
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit)) return false;
    limit.rlim_cur = n < limit.rlim_max ? n : limit.rlim_max;
    return setrlimit((__rlimit_resource_t)resource, &limit) == 0;
}
