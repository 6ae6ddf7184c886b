/* SPDX-License-Identifier: MIT */
/* sites_write.c: writes the profile of allocation sites as text, at the end of the process.
 *
 *   zeropool-sites-1
 *   process PID PARENT COMMAND             then the totals, one a line: name and number
 *   module NUMBER ADDRESS BUILD-ID PATH    what was added to addresses of the file
 *   python NUMBER LINE FUNCTION FILE       a place in Python's code; line 0 is unknown
 *   columns NAME...
 *   stack VALUE... FRAME...                innermost first; NUMBER+ADDRESS, ADDRESS, @PYTHON; "...": cut off
 *   lost VALUE...                          what found no place among the stacks
 *   end N                                  the number of stacks; a file without it is cut
 *
 * Numbers of addresses are hexadecimal. Bytes of a name that are no plain visible characters are written
 * \ooo. Other threads may still be running, so the sums of a stack need not agree to the last call.
 */
#include "sites.h"

#include "base/bits.h"
#include "os/os.h"
#include "report.h"
#include "report_write.h"
#include "shim.h"
#include "sites_look.h"
#include "sync/fatal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct writer {
    int fd;
    const char *why; /* of the first failure; after that nothing is written */
    size_t n;
    char text[4096];
};

static void flush(struct writer *writer) {
    if (!writer->why) writer->why = report_piece(writer->fd, writer->text, writer->n);
    writer->n = 0;
}

static void put(struct writer *writer, const char *text) {
    for (; *text; text++) {
        if (writer->n == sizeof writer->text) flush(writer);
        writer->text[writer->n++] = *text;
    }
}

static void put_number(struct writer *writer, const char *before, uint64_t value) {
    char digits[24];
    put(writer, before);
    put(writer, format_decimal(digits, value));
}

static void put_hex(struct writer *writer, const char *before, uint64_t value) {
    char digits[24];
    put(writer, before);
    const char *text = format_hex(digits, value);
    put(writer, text[0] == '0' && text[1] == 'x' ? text + 2 : text);
}

static void put_name(struct writer *writer, const char *name) {
    if (!*name) put(writer, "-");
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        char octal[5] = {'\\', (char)('0' + (c >> 6)), (char)('0' + (c >> 3 & 7)), (char)('0' + (c & 7)), 0};
        put(writer, c > ' ' && c < 127 && c != '\\' ? (char[2]){(char)c, 0} : octal);
    }
}

static void put_modules(struct writer *writer) {
    static char program[4096] RARELY_USED; /* the loader has no name for it */
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) program[0] = '\0';
    for (unsigned i = 0; i < MODULES_MAX; i++) {
        const struct module *module = &sites->unwinder.modules.table[i];
        if (atomic_load_explicit(&module->state, memory_order_acquire) != 2) continue;
        put_number(writer, "module ", i);
        put_hex(writer, " ", module->bias);
        put(writer, module->n_build_id ? " " : " -");
        for (unsigned k = 0; k < module->n_build_id; k++) {
            static const char digits[] = "0123456789abcdef";
            put(writer, (char[3]){digits[module->build_id[k] >> 4], digits[module->build_id[k] & 15], 0});
        }
        put(writer, " ");
        put_name(writer, module->path_at ? sites->unwinder.modules.paths + module->path_at : program);
        put(writer, "\n");
    }
}

static void put_python(struct writer *writer) {
    const struct python *python = &sites->python;
    for (unsigned i = 0; i <= PYTHON_PLACES; i++) {
        bool is_rest = i == PYTHON_PLACES; /* those that found no room */
        const struct python_place *place = &python->places[is_rest ? 0 : i];
        if (!is_rest && !atomic_load_explicit(&place->state, memory_order_acquire)) continue;
        put_number(writer, "python ", i);
        put_number(writer, " ", is_rest ? 0 : place->line);
        put(writer, " ");
        put_name(writer, is_rest ? "" : python->strings + place->name_at);
        put(writer, " ");
        put_name(writer, is_rest ? "" : python->strings + place->file_at);
        put(writer, "\n");
    }
}

static void put_sums(struct writer *writer, const struct sites_stack *stack) {
    const uint64_t one = SITES_ONE, half = SITES_ONE / 2;
    put_number(writer, " ", (stack->calls + half) / one);
    put_number(writer, " ", stack->bytes);
    put_number(writer, " ", stack->live_bytes);
    put_number(writer, " ", sites_at_peak(sites, stack));
    put_number(writer, " ", (stack->freed + half) / one);
    put_number(writer, " ", (stack->foreign + half) / one);
    put_number(writer, " ", stack->life_ns);
    put_number(writer, " ", stack->allocating_ns);
    put_number(writer, " ", stack->mapped_bytes);
    put_number(writer, " ", stack->looked_pages);
    put_number(writer, " ", stack->touched_pages);
    put_number(writer, " ", stack->faulted_pages);
}
#define COLUMNS                                                                                              \
    "columns calls bytes live peak freed foreign life_ns allocating_ns mapped looked touched faulted\n"

static void put_frames(struct writer *writer, const struct sites_stack *stack, uint32_t at) {
    for (unsigned i = 0; i < stack->n_frames; i++) {
        uint64_t frame = sites->frames[at + i], module = frame >> UNWIND_ADDRESS_BITS;
        uint64_t address = frame & (((uint64_t)1 << UNWIND_ADDRESS_BITS) - 1);
        if (module == SITES_PYTHON) {
            put_number(writer, " @", address);
        } else if (module == UNWIND_NO_MODULE) {
            put_hex(writer, " ", address);
        } else {
            put_number(writer, " ", module);
            put_hex(writer, "+", address);
        }
    }
    if (stack->is_cut) put(writer, " ...");
}

static void put_stacks(struct writer *writer) {
    uint64_t n_stacks = 0;
    put(writer, COLUMNS);
    for (unsigned i = 0; i < SITES_STACKS; i++) {
        const struct sites_stack *stack = &sites->stacks[i];
        uint32_t at = atomic_load_explicit(&stack->frames_at, memory_order_acquire);
        if (!stack->calls) continue;
        put(writer, "stack");
        put_sums(writer, stack);
        if (at) put_frames(writer, stack, at - 1);
        put(writer, "\n");
        n_stacks++;
    }
    put(writer, "lost");
    put_sums(writer, &sites->stacks[SITES_STACKS]);
    put_number(writer, "\nend ", n_stacks);
    put(writer, "\n");
}

/* Blocks that are still there have not been looked at. */
static void look_at_live(void) {
    for (unsigned i = 0; i < SITES_BLOCKS; i++) {
        uint64_t key = atomic_load_explicit(&sites->keys[i], memory_order_acquire);
        struct sites_block block = key ? sites->blocks[i] : (struct sites_block){.look = 0};
        if (block.look && block.stack <= SITES_STACKS) sites_look_end(sites, (void *)key, &block);
    }
}

static void put_all(struct writer *writer) {
    put_number(writer, "zeropool-sites-1\nprocess ", (uint64_t)getpid());
    put_number(writer, " ", (uint64_t)getppid());
    put(writer, " ");
    put_name(writer, report_command);
    put_number(writer, "\nwall_ns ", os_clock_ns() - sites_setup.started_ns);
    put_number(writer, "\nleast_bytes ", sites_setup.least_bytes);
    put_number(writer, "\nrate_bytes ", sites_setup.rate_bytes);
    put_number(writer, "\nhas_pool ", shim_sizes.threshold != SIZE_MAX);
    put_number(writer, "\npeak_bytes ", sites->peak_bytes);
    put_number(writer, "\nnot_followed ", sites->n_not_followed);
    put(writer, "\n");
    put_modules(writer);
    put_python(writer);
    put_stacks(writer);
    flush(writer);
}

/* FILE.PID, or %p in it replaced. */
static void name_file(char *out, const char *path) {
    char digits[24];
    const char *number = format_decimal(digits, (uint64_t)getpid()), *mark = strstr(path, "%p");
    size_t length = mark ? (size_t)(mark - path) : strlen(path);
    memcpy(out, path, length);
    strcpy(out + length, mark ? "" : ".");
    strcat(out, number);
    if (mark) strcat(out, mark + 2);
}

/* NULL, or why it was not written. */
static const char *write_file(const char *path) {
    char name[4096];
    struct writer writer = {.fd = -1};
    name_file(name, path);
    writer.why = report_replace(name, &writer.fd);
    if (writer.why) return writer.why;
    /* A limit on the size of files would end the program by a signal. One that was pending is the
     * program's. */
    sigset_t size_signal, before, pending;
    sigemptyset(&size_signal);
    sigaddset(&size_signal, SIGXFSZ);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &size_signal, &before);
    look_at_live();
    put_all(&writer);
    if (writer.why && !sigismember(&pending, SIGXFSZ))
        sigtimedwait(&size_signal, NULL, &(struct timespec){0, 0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(writer.fd);
    return writer.why;
}

void sites_finish(void) {
    int saved = errno;
    const char *why = write_file(sites_setup.path);
    if (why) warn_parts("cannot write the profile to ", sites_setup.path, ": ", why);
    errno = saved;
}
