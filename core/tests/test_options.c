/* SPDX-License-Identifier: MIT */
/* test_options.c: the option table: defaults, good values, bad values, and what is said about them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sync/options.h"
#include "support.h"

/* Applies one NAME=VALUE and returns what was written to stderr. */
static const char *apply(struct options *options, const char *assignment) {
    static char text[2048];
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    char *environment[] = {"PATH=/bin", (char *)assignment, NULL};
    options_from_environment(options, environment);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    size_t n = fread(text, 1, sizeof text - 1, file);
    text[n] = '\0';
    fclose(file);
    return text;
}

static unsigned count_lines(const char *text) {
    unsigned n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* Padding included, so that two sets of options can be compared whole. */
static struct options defaults_of_table(void) {
    struct options options;
    memset(&options, 0, sizeof options);
    options_defaults(&options);
    return options;
}

/* One row of the table, as data. */
struct row {
    const char *variable;
    size_t offset, width, low, high;
    const char *words;
};
static const struct row rows[] = {
#define NUMBER_ROW(field, variable, kind, value, low, high, help)                                            \
    {variable, offsetof(struct options, field), sizeof(size_t), low, high, NULL},
#define CHOICE_ROW(field, variable, value, words, help)                                                      \
    {variable, offsetof(struct options, field), sizeof(unsigned), 0, 0, words},
    OPTIONS_TABLE(NUMBER_ROW, CHOICE_ROW)};
#define N_ROWS (sizeof rows / sizeof rows[0])

static size_t value_of(const struct options *options, const struct row *row) {
    size_t value = 0;
    memcpy(&value, (const char *)options + row->offset, row->width);
    return value;
}

Test(options, defaults_lie_in_their_ranges) {
    struct options options;
    memset(&options, 0xff, sizeof options);
    options_defaults(&options);
#define CHECK_NUMBER(field, variable, kind, value, low, high, help)                                          \
    cr_assert_eq(options.field, (size_t)(value), variable);                                                  \
    cr_assert(options.field + 1 > (size_t)(low) && options.field <= (size_t)(high), variable);
#define CHECK_CHOICE(field, variable, value, words, help)                                                    \
    cr_assert_eq(options.field, (unsigned)(value), variable);
    OPTIONS_TABLE(CHECK_NUMBER, CHECK_CHOICE)
}

Test(options, parses_sizes) {
    static const struct {
        const char *text;
        size_t value;
    } good[] = {{"0", 0},
                {"1", 1},
                {"4096", 4096},
                {"4k", 4096},
                {"4K", 4096},
                {"4KiB", 4096},
                {"4kB", 4096},
                {"3M", 3 * MIB},
                {"2g", 2 * GIB},
                {"1T", 1024 * GIB},
                {"17B", 17},
                {"16777215T", (size_t)16777215 << 40},
                {"18446744073709551615", SIZE_MAX},
                {"000000000000000000000000000012", 12}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        size_t value = 77;
        cr_assert(options_parse_size(good[i].text, &value), "%s", good[i].text);
        cr_assert_eq(value, good[i].value, "%s", good[i].text);
    }
}

Test(options, refuses_what_is_not_a_size) {
    static const char *const bad[] = {"",
                                      " ",
                                      "k",
                                      "-1",
                                      "+1",
                                      "0x10",
                                      "1.5G",
                                      "4 k",
                                      " 4",
                                      "4 ",
                                      "4kk",
                                      "4KiBx",
                                      "4i",
                                      "4iB",
                                      "1e3",
                                      "4P",
                                      "18446744073709551616",
                                      "16777216T",
                                      "18014398509481984K",
                                      "99999999999999999999999999999999999999",
                                      "٣",
                                      "4\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t value = 77;
        cr_assert_not(options_parse_size(bad[i], &value), "'%s' gave %zu", bad[i], value);
        cr_assert_eq(value, 77, "'%s' was refused but changed the value", bad[i]);
    }
}

Test(options, every_variable_accepts_its_whole_range_silently) {
    for (size_t i = 0; i < N_ROWS; i++) {
        struct options options;
        char text[200];
        options_defaults(&options);
        if (rows[i].words) {
            char words[200], *rest = NULL;
            strcpy(words, rows[i].words);
            size_t index = 0;
            for (char *word = strtok_r(words, "|", &rest); word; word = strtok_r(NULL, "|", &rest), index++) {
                snprintf(text, sizeof text, "%s=%s", rows[i].variable, word);
                cr_assert_str_eq(apply(&options, text), "", "%s", text);
                cr_assert_eq(value_of(&options, &rows[i]), index, "%s", text);
            }
            continue;
        }
        size_t ends[2] = {rows[i].low, rows[i].high};
        for (int end = 0; end < 2; end++) {
            snprintf(text, sizeof text, "%s=%zu", rows[i].variable, ends[end]);
            cr_assert_str_eq(apply(&options, text), "", "%s", text);
            cr_assert_eq(value_of(&options, &rows[i]), ends[end], "%s", text);
        }
    }
}

Test(options, a_bad_value_warns_once_names_the_range_and_keeps_the_default) {
    static const char *const bad[] = {"", "banana", "-1", "18446744073709551616", "999999999T", "1 2"};
    for (size_t i = 0; i < N_ROWS; i++) {
        for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
            struct options options = defaults_of_table(), defaults = defaults_of_table();
            char assignment[200], digits[40];
            snprintf(assignment, sizeof assignment, "%s=%s", rows[i].variable, bad[b]);
            const char *text = apply(&options, assignment);
            cr_assert_eq(count_lines(text), 1, "%s: '%s'", assignment, text);
            cr_assert_eq(strncmp(text, "zeropool: ZEROPOOL_", 19), 0, "%s", text);
            cr_assert(strstr(text, assignment), "the message does not name '%s': %s", assignment, text);
            cr_assert(strstr(text, "keeping the default"), "%s", text);
            if (rows[i].words) {
                cr_assert(strstr(text, rows[i].words), "%s", text);
            } else {
                snprintf(digits, sizeof digits, "from %zu to %zu", rows[i].low, rows[i].high);
                cr_assert(strstr(text, digits), "'%s' not in: %s", digits, text);
            }
            cr_assert_eq(memcmp(&options, &defaults, sizeof options), 0, "%s changed something", assignment);
        }
    }
}

Test(options, just_outside_the_range_is_refused) {
    for (size_t i = 0; i < N_ROWS; i++) {
        if (rows[i].words) continue;
        struct options options = defaults_of_table(), defaults = defaults_of_table();
        char text[200];
        snprintf(text, sizeof text, "%s=%zu", rows[i].variable, rows[i].high + 1);
        cr_assert_neq(*apply(&options, text), '\0', "%s", text);
        if (rows[i].low) {
            snprintf(text, sizeof text, "%s=%zu", rows[i].variable, rows[i].low - 1);
            cr_assert_neq(*apply(&options, text), '\0', "%s", text);
        }
        cr_assert_eq(memcmp(&options, &defaults, sizeof options), 0, "%s", text);
    }
}

Test(options, hostile_values_are_shown_safely) {
    struct options options;
    options_defaults(&options);
    char long_value[4000] = "ZEROPOOL_THRESHOLD=";
    memset(long_value + 19, 'x', sizeof long_value - 20);
    long_value[sizeof long_value - 1] = '\0';
    const char *text = apply(&options, long_value);
    cr_assert_eq(count_lines(text), 1);
    cr_assert_lt(strlen(text), 512);
    text = apply(&options, "ZEROPOOL_THRESHOLD=\033[2J\nzeropool: forged");
    cr_assert_eq(count_lines(text), 1, "a value must not start a line of its own");
    cr_assert_null(strchr(text, '\033'));
}

Test(options, looks_up_whole_names_only) {
    char *environment[] = {"ZEROPOOL_RETAINX=1",
                           "ZEROPOOL_RETAI=2",
                           "XZEROPOOL_RETAIN=3",
                           "ZEROPOOL_RETAIN",
                           "ZEROPOOL_RETAIN=4",
                           "ZEROPOOL_RETAIN=5",
                           NULL};
    const char *found = options_lookup(environment, "ZEROPOOL_RETAIN");
    cr_assert(found);
    cr_assert_str_eq(found, "4", "the first one counts, as with getenv");
    cr_assert_null(options_lookup(NULL, "ZEROPOOL_RETAIN"));
    cr_assert_null(options_lookup(environment, "ZEROPOOL_ABSENT"));
    struct options options;
    options_defaults(&options);
    options_from_environment(&options, NULL);
    options_from_environment(&options, environment);
    cr_assert_eq(options.retain_bytes, 4);
}
