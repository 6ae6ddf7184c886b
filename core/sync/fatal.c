/* SPDX-License-Identifier: MIT */
/* fatal.c: messages without stdio, since stdio allocates and locks. */
#include "sync/fatal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *format_hex(char *buffer, uint64_t value) {
    char *p = buffer + 23;
    *p = '\0';
    do {
        *--p = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value);
    *--p = 'x';
    *--p = '0';
    return p;
}

char *format_decimal(char *buffer, uint64_t value) {
    char *p = buffer + 23;
    *p = '\0';
    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return p;
}

static size_t append(char *line, size_t used, size_t size, const char *text) {
    while (text && *text && used < size)
        line[used++] = *text++;
    return used;
}

static void write_line(const char *line, size_t length) {
    int saved = errno;
    while (length) {
        ssize_t n = write(STDERR_FILENO, line, length);
        if (n <= 0) break; /* a closed stderr is no reason to fail */
        line += n;
        length -= (size_t)n;
    }
    errno = saved;
}

void warn_parts(const char *a, const char *b, const char *c, const char *d) {
    char line[512];
    size_t n = append(line, 0, sizeof line - 1, "zeropool: ");
    n = append(line, n, sizeof line - 1, a);
    n = append(line, n, sizeof line - 1, b);
    n = append(line, n, sizeof line - 1, c);
    n = append(line, n, sizeof line - 1, d);
    line[n++] = '\n';
    write_line(line, n);
}

void fatal_pointer(const char *kind, const void *pointer) {
    char digits[24], closed[28];
    strcpy(closed, format_hex(digits, (uintptr_t)pointer));
    strcat(closed, ")");
    warn_parts("fatal: ", kind, " (ptr=", closed);
    abort();
}
