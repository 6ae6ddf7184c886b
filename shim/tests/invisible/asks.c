/* SPDX-License-Identifier: MIT */
/* asks.c: programs that ask for more than they touch, and programs that load the same things twice. They
 * report their peak. usage: asks HOW NUMBER... */
#include "invisible.h"

/* ROUNDS TEXT_MIB ASKED_MIB TOUCHED_MIB [calloc]: a text is copied, and taken apart into a table of which a
 * part is used. */
static int apart(char **a) {
    size_t text = number(a, 1) * MIB, asked = number(a, 2) * MIB, touched = number(a, 3) * MIB;
    char *source = get_touched(text);
    for (size_t i = 0; i < number(a, 0); i++) {
        char *copy = get(text);
        memcpy(copy, source, text);
        char *table = a[4] ? calloc(1, asked) : malloc(asked);
        KEEP(table);
        touch_each(table, touched, PAGE);
        char *kept = get_touched(touched / 16);
        free(table);
        free(kept);
        free(copy);
    }
    report_mib("peak", "VmHWM");
    return 0;
}

/* ROUNDS TEXT_MIB END_MIB: an array grows by halves up to the end, and is used up to a tenth beyond its last
 * size but one. */
static int grows(char **a) {
    size_t text = number(a, 1) * MIB, end = number(a, 2) * MIB;
    char *source = get_touched(text);
    for (size_t i = 0; i < number(a, 0); i++) {
        char *copy = get_touched(text), *array = NULL;
        size_t capacity = 64 * KIB, used = 0;
        while (capacity < end) {
            capacity += capacity / 2;
            array = realloc(array, capacity);
            size_t wanted = capacity / 3 * 2 + capacity / 30;
            touch_each(array + used, wanted - used, PAGE);
            used = wanted;
        }
        free(copy);
        free(array);
    }
    free(source);
    report_mib("peak", "VmHWM");
    return 0;
}

static size_t size_of(size_t i, size_t step) {
    return (4 + i * 5 % 13) * step * KIB;
}

/* COUNT STEP_KIB EPOCHS ORDER: all blocks of an epoch are held together, dropped, and loaded again.
 * ORDER: 0 the same, 1 backwards, 2 sizes that differ a little each time, 3 the old are dropped one by one
 * after the new ones came */
static int loads(char **a) {
    size_t count = number(a, 0), step = number(a, 1), order = number(a, 3);
    void **blocks = calloc(count, sizeof *blocks);
    for (size_t epoch = 0; epoch < number(a, 2); epoch++) {
        for (size_t i = 0; i < count; i++) {
            size_t which = order == 1 && epoch % 2 ? count - 1 - i : i;
            size_t n = size_of(which, step) + (order == 2 ? epoch * 40 * KIB + i * PAGE : 0);
            void *fresh = get_touched(n);
            if (order == 3) free(blocks[i]);
            blocks[i] = fresh;
        }
        for (size_t i = 0; i < count && order != 3; i++)
            free(blocks[i]);
    }
    report_mib("peak", "VmHWM");
    return 0;
}

int main(int argc, char **argv) {
    static const struct named cases[] = {{"apart", apart}, {"grows", grows}, {"loads", loads}, {NULL, NULL}};
    return run_named(cases, argv);
}
