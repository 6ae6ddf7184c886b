/* SPDX-License-Identifier: MIT */
/* own_malloc.c: a program that defines malloc itself, out of one array, and whose free looks at nothing. The
 * functions that it does not define come from elsewhere, and their blocks meet its free as well. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char area[256 << 20] __attribute__((aligned(4096)));
static size_t used;
static int n_ours, n_strangers;

__attribute__((visibility("default"))) void *malloc(size_t size) {
    size_t at = __atomic_fetch_add(&used, ((size + 15) & ~(size_t)15) + 16, __ATOMIC_RELAXED);
    if (at + size + 16 > sizeof area) return NULL;
    memcpy(area + at, &size, sizeof size);
    n_ours++;
    return area + at + 16;
}

__attribute__((visibility("default"))) void free(void *p) {
    if (p && ((char *)p < area || (char *)p >= area + sizeof area)) n_strangers++;
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size) {
    void *p = malloc(n * size);
    return p ? memset(p, 0, n * size) : p;
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size) {
    size_t had = 0;
    void *q = malloc(size);
    if (p) memcpy(&had, (char *)p - 16, sizeof had);
    if (p && q) memcpy(q, p, had < size ? had : size);
    return q;
}

int main(void) {
    void *volatile kept[10];
    for (int i = 0; i < 10; i++) {
        kept[i] = malloc((size_t)(i + 1) << 18);
        memset(kept[i], i, (size_t)(i + 1) << 18);
    }
    for (int i = 0; i < 10; i++) {
        kept[i] = realloc(kept[i], (size_t)(i + 2) << 18);
        if (*(char *)kept[i] != i) puts("lost");
        free(kept[i]);
    }
    void *aligned = NULL;
    if (posix_memalign(&aligned, 4096, 1 << 20) == 0) memset(aligned, 1, 1 << 20);
    /* glibc has a header before its block, and a program may look at it where its own header would be. */
    size_t before = aligned ? ((size_t *)aligned)[-1] != 0 : 1;
    free(aligned);
    printf("%d strangers, a header %d, ours %d\n", n_strangers, (int)before, n_ours >= 20);
    return 0;
}
