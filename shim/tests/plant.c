/* SPDX-License-Identifier: MIT */
/* plant.c: preloaded before the library under test: puts a symbolic link in the way, in the last moment,
 * where a file whose name contains PLANT_AT is about to be made. For names that nobody can guess. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int open(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "open");
    const char *at = getenv("PLANT_AT"), *target = getenv("PLANT_TARGET");
    if (at && target && (flags & O_CREAT) && strstr(path, at) && symlink(target, path)) return -1;
    va_list arguments;
    va_start(arguments, flags);
    unsigned mode = flags & O_CREAT ? va_arg(arguments, unsigned) : 0;
    va_end(arguments);
    return real(path, flags, mode);
}
