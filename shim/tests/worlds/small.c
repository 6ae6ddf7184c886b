/* SPDX-License-Identifier: MIT */
/* small.c: linked statically, or started with more rights than its caller: the library cannot get in, and
 * must not be missed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    char *p = malloc(5 << 20);
    memset(p, 7, 5 << 20);
    p = realloc(p, 9 << 20);
    printf("%d\n", p[(5 << 20) - 1]);
    free(p);
    return 0;
}
