/* SPDX-License-Identifier: MIT */
/* options.c: reads the table of options.h from an environment. */
#include "sync/options.h"

#include "sync/fatal.h"

#include <string.h>

enum kind { SIZE, COUNT, WORD };

struct row {
    const char *variable;
    enum kind kind;
    size_t field_offset;
    size_t value, low, high;
    const char *words;
};

static const struct row rows[] = {
#define NUMBER_ROW(field, variable, kind, value, low, high, help)                                            \
    {variable, kind, offsetof(struct options, field), value, low, high, NULL},
#define CHOICE_ROW(field, variable, value, words, help)                                                      \
    {variable, WORD, offsetof(struct options, field), value, 0, 0, words},
    OPTIONS_TABLE(NUMBER_ROW, CHOICE_ROW)};

static void store(struct options *options, const struct row *row, size_t value) {
    char *field = (char *)options + row->field_offset;
    if (row->kind == WORD)
        *(unsigned *)field = (unsigned)value;
    else
        *(size_t *)field = value;
}

void options_defaults(struct options *options) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        store(options, &rows[i], rows[i].value);
}

const char *options_lookup(char *const *environment, const char *variable) {
    size_t length = strlen(variable);
    /* The first letter tells most variables apart without a call: every start of a program comes through
     * here. */
    for (; environment && *environment; environment++)
        if (**environment == *variable && strncmp(*environment, variable, length) == 0 &&
            (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

bool options_parse_size(const char *text, size_t *value) {
    size_t n = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (size_t)(*c - '0'), &n))
            return false;
    if (c == text) return false;
    unsigned shift = 0;
    switch (*c) {
    case 'k':
    case 'K':
        shift = 10;
        c++;
        break;
    case 'm':
    case 'M':
        shift = 20;
        c++;
        break;
    case 'g':
    case 'G':
        shift = 30;
        c++;
        break;
    case 't':
    case 'T':
        shift = 40;
        c++;
        break;
    default:
        break;
    }
    if (shift && *c == 'i') c++;
    if (*c == 'B' || *c == 'b') c++;
    if (*c || n > (SIZE_MAX >> shift)) return false;
    *value = n << shift;
    return true;
}

/* The index of text among words separated by '|', or -1. */
static int find_word(const char *words, const char *text) {
    size_t length = strlen(text);
    for (int index = 0; words; index++) {
        const char *end = strchr(words, '|');
        size_t n = end ? (size_t)(end - words) : strlen(words);
        if (n == length && memcmp(words, text, n) == 0) return index;
        words = end ? end + 1 : NULL;
    }
    return -1;
}

static void warn_bad_value(const struct row *row, const char *text) {
    char expected[160] = " is not accepted; expected ", digits[24], shown[64];
    if (row->kind == WORD) {
        strcat(expected, row->words);
    } else {
        strcat(expected, row->kind == SIZE ? "a size from " : "a number from ");
        strcat(expected, format_decimal(digits, row->low));
        strcat(expected, " to ");
        strcat(expected, format_decimal(digits, row->high));
        if (row->kind == SIZE) strcat(expected, " (suffixes K, M, G, T)");
    }
    strcat(expected, "; keeping the default");
    /* The value is the user's, and may be long or hold control characters. */
    size_t n = 0;
    for (; text[n] && n < sizeof shown - 1; n++)
        shown[n] = text[n] >= ' ' && text[n] < 127 ? text[n] : '?';
    shown[n] = '\0';
    warn_parts(row->variable, "=", shown, expected);
}

void options_from_environment(struct options *options, char *const *environment) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        const char *text = options_lookup(environment, row->variable);
        if (!text) continue;
        size_t value = 0;
        bool good;
        if (row->kind == WORD) {
            int index = find_word(row->words, text);
            good = index >= 0;
            value = (size_t)index;
        } else {
            good = options_parse_size(text, &value) && value >= row->low && value <= row->high;
        }
        if (good)
            store(options, row, value);
        else
            warn_bad_value(row, text);
    }
}
