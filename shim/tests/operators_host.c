/* SPDX-License-Identifier: MIT */
/* operators_host.c: a program without a C++ runtime that opens a library in C++, for itself only. usage:
 * operators_host PLUGIN CASE */
#include "check.h"

#include <stdio.h>

int main(int argc, char **argv) {
    CHECK(argc == 3);
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!plugin) {
        puts(dlerror());
        return 1;
    }
    int (*run_case)(const char *);
    *(void **)&run_case = dlsym(plugin, "run_case");
    CHECK(run_case);
    run_case(argv[2]);
    puts("good");
    return 0;
}
