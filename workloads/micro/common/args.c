// SPDX-License-Identifier: MIT
// Parsing of `--name value` and `--name=value`.
#include "args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/fail.h"

_Noreturn void args_refuse(const char *message) {
    fail_exit(FAIL_USAGE, "%s (see --help)", message);
}

void args_check_blocks(uint64_t low, uint64_t high) {
    if (low < 1 || low > high) args_refuse("--low must be at least 1 and at most --high");
}

bool args_is(const char *value, const char *word) {
    return strcmp(value, word) == 0;
}

static void args_help(const char *purpose, const struct args_entry *table) {
    printf("usage: %s [options]\n\n%s\nPrints one line of JSON.\n\n", fail_program(), purpose);
    for (const struct args_entry *e = table; e->name != NULL; e++) {
        printf("  --%-12s %s (", e->name, e->help);
        if (e->kind == ARGS_REAL)
            printf("%g)\n", *(const double *)e->value);
        else if (e->kind == ARGS_WORD)
            printf("%s; one of: %s)\n", *(const char *const *)e->value, e->words);
        else
            printf("%llu)\n", (unsigned long long)*(const uint64_t *)e->value);
    }
}

// Does the list `words`, separated by blanks, hold `text`?
static bool args_accepts(const char *words, const char *text) {
    size_t length = strlen(text);
    for (const char *at = words; length > 0 && (at = strstr(at, text)) != NULL; at += length) {
        bool begins = at == words || at[-1] == ' ';
        if (begins && (at[length] == ' ' || at[length] == '\0')) return true;
    }
    return false;
}

static bool args_number(const struct args_entry *e, const char *text) {
    char *end = NULL;
    if (e->kind == ARGS_REAL) {
        *(double *)e->value = strtod(text, &end);
        return end != text && *end == '\0' && *(double *)e->value >= 0;
    }
    if (*text < '0' || *text > '9') return false;
    unsigned long long n = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (e->kind == ARGS_BYTES && *end != '\0') {
        const char *suffix = strchr("KMG", *end);
        if (suffix == NULL) return false;
        shift = 10 * (unsigned)(suffix - "KMG" + 1);
        end++;
    }
    if (*end != '\0' || n > UINT64_MAX >> shift) return false;
    *(uint64_t *)e->value = (uint64_t)n << shift;
    return true;
}

static void args_set(const struct args_entry *e, const char *text) {
    if (e->kind == ARGS_WORD) {
        if (!args_accepts(e->words, text))
            fail_exit(FAIL_USAGE, "--%s: '%s' is none of: %s", e->name, text, e->words);
        *(const char **)e->value = text;
    } else if (!args_number(e, text)) {
        fail_exit(FAIL_USAGE, "--%s: '%s' is no %s", e->name, text,
                  e->kind == ARGS_BYTES ? "size such as 65536, 64K, 8M or 1G" : "number");
    }
}

void args_parse(const char *program, const char *purpose, const struct args_entry *table, int argc,
                char **argv) {
    fail_set_program(program);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            args_help(purpose, table);
            exit(fflush(stdout) == 0 ? FAIL_NONE : FAIL_RUN);
        }
        const char *name = strncmp(argv[i], "--", 2) == 0 ? argv[i] + 2 : "";
        size_t length = strcspn(name, "=");
        const struct args_entry *e = table;
        while (e->name != NULL && (strlen(e->name) != length || strncmp(e->name, name, length) != 0))
            e++;
        if (e->name == NULL) fail_exit(FAIL_USAGE, "unknown option '%s' (see --help)", argv[i]);
        const char *text = name[length] == '=' ? name + length + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (text == NULL) fail_exit(FAIL_USAGE, "--%s needs a value", e->name);
        args_set(e, text);
    }
}
