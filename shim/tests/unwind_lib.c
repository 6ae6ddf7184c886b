/* SPDX-License-Identifier: MIT */
/* unwind_lib.c: a function between two of the program's, in an object that can be unloaded. Compiled
 * twice, with frames of different sizes at the same address. */
#include <stddef.h>

int unwind_through(int (*function)(void));

__attribute__((noinline)) int unwind_through(int (*function)(void)) {
    volatile char room[FRAME_BYTES];
    room[0] = 1;
    int result = function();
    return result + room[0] - 1;
}
