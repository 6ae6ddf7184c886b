/* SPDX-License-Identifier: MIT */
/* secure.c: linked with the preload library, so that it has it also where LD_PRELOAD is ignored. Prints
 * whether the kernel has marked the process as one with raised rights, and how much of a block of 100001
 * bytes may be used: more in the default mode only. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

int main(void) {
    char *p = malloc(100001);
    printf("%lu %zu\n", getauxval(AT_SECURE), malloc_usable_size(p));
    free(p);
    return 0;
}
