/* SPDX-License-Identifier: MIT */
/* alone.c: an ordinary program counts its threads, its children and its descriptors: there must be none it
 * did not make. usage: alone small|large [THREADS_ALLOWED] */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>

static int count_entries(const char *path) {
    DIR *directory = opendir(path);
    int n = 0;
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        n += entry->d_name[0] != '.';
    closedir(directory);
    return n;
}

/* Sees also what wait does not: children made without a signal. */
static bool has_children(void) {
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool some = fgets(text, sizeof text, file) != NULL && text[0] != '\0';
    fclose(file);
    return some;
}

int main(int argc, char **argv) {
    require_shim();
    bool large = argc > 1 && strcmp(argv[1], "large") == 0;
    CHECK(argc == 2 && (large || strcmp(argv[1], "small") == 0));
    int n_descriptors = count_entries("/proc/self/fd");
    void *blocks[2000];
    for (int i = 0; i < 2000; i++)
        blocks[i] = get((size_t)(i % 1000) * (large ? 200 : 1) + 1);
    if (large) {
        for (int i = 0; i < 2000; i++)
            memset(blocks[i], 1, 1);
        void *big = get(200 * MIB);
        memset(big, 1, 200 * MIB);
        free(big);
    }
    for (int i = 0; i < 2000; i++)
        free(blocks[i]);
    usleep(100000);
    CHECK(__libc_single_threaded); /* stdio would begin to lock */
    errno = 0;
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    CHECK(count_entries("/proc/self/fd") == n_descriptors);
    if (large) return 0;
    /* Without large blocks nothing at all may have been started. */
    CHECK(count_entries("/proc/self/task") == 1);
    CHECK(!has_children());
    return 0;
}
