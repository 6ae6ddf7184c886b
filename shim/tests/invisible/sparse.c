/* SPDX-License-Identifier: MIT */
/* sparse.c: blocks of which the program touches little, made of fresh memory and of memory that was filled
 * before. usage: sparse HOW NUMBER... */
#include "invisible.h"

/* Blocks that are kept; one in so many is filled, of the others the first page is touched. */
static int few_filled(size_t kib, size_t count, size_t one_in, bool at_random, bool zeroed) {
    uint64_t state = 99;
    double written = 0;
    for (size_t i = 0; i < count; i++) {
        char *p = zeroed ? calloc(1, kib * KIB) : malloc(kib * KIB);
        KEEP(p);
        bool filled = (at_random ? rng_next(&state) % one_in : i % one_in) == 0;
        written += filled ? (double)kib : 4;
        if (filled)
            memset(p, 1, kib * KIB);
        else
            *p = 1;
    }
    report("written", written / 1024);
    rest_and_report();
    return 0;
}

static int periodic(char **a) {
    return few_filled(number(a, 0), number(a, 1), number(a, 2), false, false);
}
static int at_random(char **a) {
    return few_filled(number(a, 0), number(a, 1), number(a, 2), true, false);
}
static int zeroed(char **a) {
    return few_filled(number(a, 0), number(a, 1), number(a, 2), true, true);
}

/* FILLED_MIB BLOCK_MIB TABLE_MIB STEP_KIB [calloc]: memory that was filled becomes one sparse table. */
static int warm(char **a) {
    size_t n = number(a, 2) * MIB;
    use_blocks(number(a, 0), number(a, 1));
    char *table = a[4] ? calloc(1, n) : malloc(n);
    KEEP(table);
    touch_each(table, n, number(a, 3) * KIB);
    rest_and_report();
    return table == NULL;
}

/* FILLED_MIB BLOCK_MIB COUNT KIB ONE_IN: memory that was filled becomes blocks of which one in so many is
 * filled. */
static int warm_blocks(char **a) {
    use_blocks(number(a, 0), number(a, 1));
    return few_filled(number(a, 3), number(a, 2), number(a, 4), true, false);
}

/* TABLE_MIB STEP_KIB ROUNDS: a sparse table, a filled one of the same size, in turns. */
static int in_turns(char **a) {
    size_t n = number(a, 0) * MIB;
    for (size_t i = 0; i < number(a, 2); i++) {
        use_once(n);
        char *table = get(n);
        touch_each(table, n, number(a, 1) * KIB);
        free(table);
    }
    char *table = get(n);
    touch_each(table, n, number(a, 1) * KIB);
    rest_and_report();
    return table == NULL;
}

int main(int argc, char **argv) {
    static const struct named cases[] = {
        {"periodic", periodic},       {"random", at_random},  {"calloc", zeroed}, {"warm", warm},
        {"warm-blocks", warm_blocks}, {"in-turns", in_turns}, {NULL, NULL}};
    return run_named(cases, argv);
}
