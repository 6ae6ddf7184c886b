/* SPDX-License-Identifier: MIT */
/* misuse.c: commits one misuse of memory, chosen by its arguments: KIND SIZE SEED. The driver looks at how it
 * ends. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t rng_state;

static size_t rng(size_t below) {
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (rng_state >> 33) % below;
}

/* So that the compiler does not see what is done to a freed pointer. */
static char *hide(void *p) {
    char *volatile hidden = p;
    return hidden;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const char *kind = argv[1];
    size_t size = strtoul(argv[2], NULL, 10);
    rng_state = strtoul(argv[3], NULL, 10);
    /* Some life before: blocks that come and go, so that the victim lies somewhere else each time. */
    char *others[16];
    for (int i = 0; i < 16; i++) {
        others[i] = hide(malloc(32768 + rng(1 << 20)));
        memset(others[i], 1, 4096);
    }
    char *p = hide(malloc(size));
    memset(p, 2, size < 4096 ? size : 4096);
    for (int i = 0; i < 16; i += 2)
        free(others[i]);
    fprintf(stdout, "%p\n", (void *)p);
    fflush(stdout);
    if (strcmp(kind, "double") == 0) {
        free(p);
        free(hide(p));
    } else if (strcmp(kind, "late-double") == 0) { /* after the block has been merged with its neighbours */
        free(p);
        for (int i = 1; i < 16; i += 2)
            free(others[i]);
        malloc_trim(0);
        free(hide(p));
    } else if (strcmp(kind, "interior") == 0) {
        free(hide(p + 4096 * (1 + rng(size / 4096 - 1))));
    } else if (strcmp(kind, "misaligned") == 0) {
        free(hide(p + 16 * (1 + rng(255))));
    } else if (strcmp(kind, "realloc-freed") == 0) {
        free(p);
        p = hide(realloc(hide(p), 2 * size));
    } else if (strcmp(kind, "usable-freed") == 0) {
        free(p);
        printf("%zu\n", malloc_usable_size(hide(p)));
    } else {
        return 2;
    }
    puts("nothing happened");
    return 0;
}
