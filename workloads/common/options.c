// SPDX-License-Identifier: MIT
// Parsing, help and report of the option tables.
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

struct options_common options_common;

enum { OPTIONS_MOST = 32 };

static const struct options_program *options_of; // set by options_parse
static struct options_entry options_shared[] = {
    // --scale's default and help are the program's; options_parse fills them in.
    {"scale", OPTIONS_REAL, &options_common.scale, NULL, "1", 1e-4, 16, NULL},
    {"full", OPTIONS_FLAG, &options_common.full, NULL, NULL, 0, 0,
     "the full-size run: --scale 1 and the defaults marked below"},
    {"seed", OPTIONS_COUNT, &options_common.seed, "1", NULL, 0, 1e15,
     "same seed, same operations, same checksum"},
    {"sample", OPTIONS_COUNT, &options_common.sample, "1", NULL, 0, 1e9,
     "time every Nth allocator call; 0 times none"},
    {"json", OPTIONS_FLAG, &options_common.json, NULL, NULL, 0, 0,
     "print one line of JSON instead of the table"},
    {"checksum-only", OPTIONS_FLAG, &options_common.checksum_only, NULL, NULL, 0, 0,
     "print only what does not depend on time or allocator"},
    {"help", OPTIONS_FLAG, &options_common.help, NULL, NULL, 0, 0, "print this and exit"},
    {"inject-corruption", OPTIONS_FLAG, &options_common.inject_corruption, NULL, NULL, 0, 0, NULL},
    {NULL, OPTIONS_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};
static bool options_seen[2][OPTIONS_MOST];

static const struct options_entry *options_table(unsigned which) {
    return which == 0 ? options_of->own : options_shared;
}

static const struct options_entry *options_find(const char *name, size_t length, bool **seen) {
    for (unsigned t = 0; t < 2; t++) {
        const struct options_entry *table = options_table(t);
        for (unsigned i = 0; table[i].name != NULL; i++) {
            if (strlen(table[i].name) != length || memcmp(table[i].name, name, length) != 0) continue;
            *seen = &options_seen[t][i];
            return &table[i];
        }
    }
    return NULL;
}

bool options_given(const char *name) {
    bool *seen;
    return options_find(name, strlen(name), &seen) != NULL && *seen;
}

void options_usage_error(const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail_exit(FAIL_USAGE, "%s (see %s --help)", text, fail_program());
}

// "64K" and the like. Leaves *end after the number and its suffix.
static double options_number(const struct options_entry *entry, const char *text, char **end) {
    errno = 0;
    double number = strtod(text, end);
    if (*end == text || errno == ERANGE) return NAN;
    if (entry->kind == OPTIONS_BYTES && **end != '\0') {
        static const char suffixes[] = "KMG";
        const char *suffix = strchr(suffixes, **end);
        if (suffix != NULL) {
            number = ldexp(number, 10 * (int)(suffix - suffixes + 1));
            (*end)++;
        }
    }
    return number;
}

static void options_set(const struct options_entry *entry, const char *text) {
    if (entry->kind == OPTIONS_TEXT) {
        *(const char **)entry->value = text;
        return;
    }
    if (entry->kind == OPTIONS_FLAG) {
        *(bool *)entry->value = text != NULL;
        return;
    }
    char *end;
    double number = options_number(entry, text, &end);
    bool whole = entry->kind != OPTIONS_REAL;
    // Written so that NaN fails.
    if (!(number >= entry->low && number <= entry->high) || *end != '\0' ||
        (whole && number != floor(number)))
        options_usage_error("--%s: '%s' is not a %s from %.15g to %.15g", entry->name, text,
                            whole ? "whole number" : "number", entry->low, entry->high);
    if (whole)
        *(uint64_t *)entry->value = (uint64_t)number;
    else
        *(double *)entry->value = number;
}

static const char *options_meta(enum options_kind kind) {
    switch (kind) {
    case OPTIONS_FLAG:
        return "";
    case OPTIONS_COUNT:
        return " N";
    case OPTIONS_BYTES:
        return " BYTES";
    case OPTIONS_REAL:
        return " X";
    case OPTIONS_TEXT:
        return " TEXT";
    }
    return "";
}

static void options_help(void) {
    printf("Usage: %s [OPTION]...\n%s\n\nOptions:\n", options_of->name, options_of->purpose);
    for (unsigned t = 0; t < 2; t++) {
        for (const struct options_entry *e = options_table(t); e->name != NULL; e++) {
            if (e->help == NULL) continue;
            char left[40];
            snprintf(left, sizeof left, "--%s%s", e->name, options_meta(e->kind));
            printf("  %-30s %s", left, e->help);
            if (e->initial != NULL) printf(" (default %s", e->initial);
            if (e->initial != NULL && e->full != NULL) printf(", with --full %s", e->full);
            puts(e->initial != NULL ? ")" : "");
        }
    }
    puts("\nExit status: 0 all contents intact, 1 corruption, I/O failure or no memory, 2 wrong usage.");
}

static void options_defaults(void) {
    for (unsigned t = 0; t < 2; t++) {
        for (const struct options_entry *e = options_table(t); e->name != NULL; e++)
            if (e->initial != NULL || e->kind == OPTIONS_TEXT || e->kind == OPTIONS_FLAG)
                options_set(e, e->initial);
    }
}

// --full changes defaults only: what was given explicitly stays.
static void options_apply_full(void) {
    for (unsigned t = 0; t < 2; t++) {
        const struct options_entry *table = options_table(t);
        for (unsigned i = 0; table[i].name != NULL; i++)
            if (table[i].full != NULL && !options_seen[t][i]) options_set(&table[i], table[i].full);
    }
}

void options_parse(const struct options_program *program, int argc, char **argv) {
    fail_set_program(program->name);
    options_of = program;
    options_shared[0].initial = program->initial_scale;
    options_shared[0].help = program->scale_help;
    memset(options_seen, 0, sizeof options_seen);
    options_defaults();

    for (int i = 1; i < argc; i++) {
        const char *word = strcmp(argv[i], "-h") == 0 ? "--help" : argv[i];
        if (strncmp(word, "--", 2) != 0 || word[2] == '\0')
            options_usage_error("unexpected argument '%s'", word);
        const char *name = word + 2;
        size_t length = strcspn(name, "=");
        bool *seen = NULL;
        const struct options_entry *entry = options_find(name, length, &seen);
        if (entry == NULL) options_usage_error("unknown option '%.*s'", (int)(length + 2), word);
        const char *text = name[length] == '=' ? name + length + 1 : NULL;
        if (entry->kind == OPTIONS_FLAG && text != NULL)
            options_usage_error("--%s takes no value", entry->name);
        if (entry->kind == OPTIONS_FLAG) text = "yes";
        if (text == NULL && i + 1 < argc) text = argv[++i];
        if (text == NULL) options_usage_error("--%s needs a value", entry->name);
        options_set(entry, text);
        *seen = true;
    }
    if (options_common.help) {
        options_help();
        exit(fflush(stdout) == 0 ? FAIL_NONE : FAIL_RUN);
    }
    if (options_common.full) options_apply_full();
}

void options_print_json(FILE *to) {
    const char *separator = "";
    for (const struct options_entry *e = options_of->own; e->name != NULL; e++) {
        if (e->help == NULL) continue;
        const char *text = e->kind == OPTIONS_TEXT ? *(const char *const *)e->value : NULL;
        fprintf(to, "%s\"%s\":", separator, e->name);
        separator = ",";
        switch (e->kind) {
        case OPTIONS_FLAG:
            fputs(*(const bool *)e->value ? "true" : "false", to);
            break;
        case OPTIONS_COUNT:
        case OPTIONS_BYTES:
            fprintf(to, "%llu", (unsigned long long)*(const uint64_t *)e->value);
            break;
        case OPTIONS_REAL:
            fprintf(to, "%.9g", *(const double *)e->value);
            break;
        case OPTIONS_TEXT:
            if (text == NULL) {
                fputs("null", to);
                break;
            }
            fputc('"', to);
            for (; *text != '\0'; text++) {
                unsigned char c = (unsigned char)*text;
                if (c < 0x20 || c == '"' || c == '\\')
                    fprintf(to, "\\u%04x", c);
                else
                    fputc(c, to);
            }
            fputc('"', to);
            break;
        }
    }
}
