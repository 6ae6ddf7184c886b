/* SPDX-License-Identifier: MIT */
/* unwind.c: the unwinder against chains of calls that are known, or that the C library walks, too.
 * Compiled without frame pointers. usage: unwind CASE */
#include "check.h"

#include "unwind.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

int main(int argc, char **argv);

static struct unwinder *unwinder;
static __thread struct unwind_thread self;
static uint64_t frames[UNWIND_DEPTH];
static unsigned n_frames;
static bool is_cut;
static const struct unwind_stop *stop;

static uintptr_t address_of(uint64_t frame) {
    unsigned module = (unsigned)(frame >> UNWIND_ADDRESS_BITS);
    uintptr_t bias = module == UNWIND_NO_MODULE ? 0 : unwinder->modules.table[module].bias;
    return bias + (frame & (((uint64_t)1 << UNWIND_ADDRESS_BITS) - 1));
}

/* The function of frame i, by the dynamic symbols. */
static void *function_of(unsigned i) {
    Dl_info info;
    return i < n_frames && dladdr((void *)address_of(frames[i]), &info) ? info.dli_saddr : NULL;
}

__attribute__((noinline)) int walk(void) {
    int saved = errno = 77;
    n_frames = unwind_walk(unwinder, &self, NULL, stop, frames, UNWIND_DEPTH, &is_cut);
    CHECK(errno == saved);
    CHECK(n_frames >= 2);
    return (int)n_frames;
}

/* Does the chain hold these functions, one after the other, from the first frame of `first` on? */
static void expect(unsigned n, void *const *functions) {
    unsigned at = 0;
    while (at < n_frames && function_of(at) != functions[0])
        at++;
    for (unsigned i = 0; i < n; i++)
        CHECK(function_of(at + i) == functions[i]);
}
#define EXPECT(...) expect(sizeof((void *[]){__VA_ARGS__}) / sizeof(void *), (void *[]){__VA_ARGS__})

/* --- frames of all kinds; not static, so that dladdr knows them --- */

__attribute__((noinline)) int plain(void) {
    return walk() + 1;
}

__attribute__((noinline)) int large(void) {
    volatile char room[100000];
    room[sizeof room - 1] = 1;
    return plain() + room[sizeof room - 1];
}

__attribute__((noinline)) int variable(size_t n) {
    volatile char *room = __builtin_alloca(n);
    room[0] = 1;
    return large() + room[0];
}

/* All registers that a function must keep are used. */
__attribute__((noinline)) int busy(size_t n) {
    long a = (long)n, b = a * 3, c = b ^ 5, d = c + a, e = d * b, f = e - 7;
    __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    int result = variable(n);
    __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    return result + (int)(a + b + c + d + e + f);
}

static int kinds(void) {
    for (int i = 0; i < 3; i++) { /* by the tables, then by the cache */
        int result = busy(1000 + (size_t)i * 512);
        CHECK(result != -1);
        EXPECT((void *)walk, (void *)plain, (void *)large, (void *)variable, (void *)busy);
        CHECK(!is_cut);
    }
    struct unwind_stop before_large = {.start = (uintptr_t)large};
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    CHECK(dladdr1((void *)large, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol);
    before_large.end = before_large.start + symbol->st_size;
    stop = &before_large;
    CHECK(busy(10) != -1);
    CHECK(function_of(n_frames - 1) == (void *)plain);
    stop = NULL;
    return 0;
}

/* --- through the C library --- */

__attribute__((noinline)) int compare(const void *a, const void *b) {
    void *theirs[UNWIND_DEPTH];
    if (n_frames) return *(const int *)a - *(const int *)b;
    int n = backtrace(theirs, UNWIND_DEPTH);
    walk();
    /* Ours begin at unwind_walk and walk, theirs at compare. */
    unsigned first = 2;
    CHECK((unsigned)n + first == n_frames);
    for (int i = 1; i < n; i++)
        CHECK(address_of(frames[first + (unsigned)i]) == (uintptr_t)theirs[i] - 1);
    return *(const int *)a - *(const int *)b;
}

static int library(void) {
    int numbers[20];
    for (int i = 0; i < 20; i++)
        numbers[i] = 20 - i;
    n_frames = 0;
    qsort(numbers, 20, sizeof *numbers, compare);
    EXPECT((void *)walk, (void *)compare);
    CHECK(n_frames > 5);
    return 0;
}

/* --- depth --- */

__attribute__((noinline)) int recurse(int depth) {
    int result = depth ? recurse(depth - 1) : walk();
    __asm__ volatile("" : "+r"(result));
    return result + 1;
}

static int depth(void) {
    recurse(5000);
    CHECK(n_frames == UNWIND_DEPTH && is_cut);
    for (unsigned i = 2; i < n_frames; i++)
        CHECK(function_of(i) == (void *)recurse);
    recurse(UNWIND_DEPTH - 20);
    CHECK(!is_cut && n_frames > UNWIND_DEPTH - 20 && n_frames < UNWIND_DEPTH);
    return 0;
}

/* --- signals --- */

static volatile sig_atomic_t handled;

__attribute__((noinline)) void handler(int number) {
    (void)number;
    walk();
    handled = 1;
}

__attribute__((noinline)) int interrupted(void) {
    CHECK(raise(SIGUSR1) == 0);
    return handled;
}

/* Its own instruction is what is interrupted. */
__attribute__((noinline)) int trapped(void) {
    __asm__ volatile("int3");
    return handled;
}

static void handle(int number, int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(number, &action, NULL) == 0);
}

static bool holds(void *function) {
    for (unsigned i = 0; i < n_frames; i++)
        if (function_of(i) == function) return true;
    return false;
}

static int signals(void) {
    char *stack = malloc(SIGSTKSZ * 2);
    CHECK(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = SIGSTKSZ * 2}, NULL) == 0);
    for (int on_its_own = 0; on_its_own < 2; on_its_own++) {
        handle(SIGUSR1, on_its_own ? SA_ONSTACK : 0);
        handle(SIGTRAP, on_its_own ? SA_ONSTACK : 0);
        handled = 0;
        CHECK(interrupted());
        CHECK(holds((void *)handler) && holds((void *)interrupted) && !is_cut);
        handled = 0;
        CHECK(trapped());
        CHECK(function_of(2) == (void *)handler);
        CHECK(function_of(4) == (void *)trapped);
        CHECK(holds((void *)main));
    }
    return 0;
}

/* --- other stacks --- */

__attribute__((noinline)) void *in_thread(void *argument) {
    int result = busy(3000);
    EXPECT((void *)walk, (void *)plain, (void *)large, (void *)variable, (void *)busy, (void *)in_thread);
    CHECK(n_frames < 12 && !is_cut);
    return (char *)argument + (result == -1);
}

static int threads(void) {
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    return 0;
}

static ucontext_t here, there;

__attribute__((noinline)) void coroutine(void) {
    int result = busy(200);
    EXPECT((void *)walk, (void *)plain, (void *)large, (void *)variable, (void *)busy, (void *)coroutine);
    CHECK(result != -1);
}

/* Also where the chain ends in memory that nobody can read. */
static int coroutines(void) {
    walk();
    for (int i = 0; i < 3; i++) {
        size_t size = 256 * KIB;
        char *stack = mmap(NULL, size + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(stack != MAP_FAILED);
        CHECK(mprotect(stack, 4096, PROT_NONE) == 0 && mprotect(stack + 4096 + size, 4096, PROT_NONE) == 0);
        CHECK(getcontext(&there) == 0);
        there.uc_stack = (stack_t){.ss_sp = stack + 4096, .ss_size = size};
        there.uc_link = &here;
        makecontext(&there, coroutine, 0);
        CHECK(swapcontext(&here, &there) == 0);
        CHECK(munmap(stack, size + 8192) == 0);
    }
    return 0;
}

/* --- objects that come and go --- */

static const char *folder;

__attribute__((noinline)) int from_plugin(void) {
    return plain() - 1;
}

static void through(const char *name) {
    char path[4096];
    CHECK(strlen(folder) + strlen(name) + 2 < sizeof path);
    strcpy(path, folder);
    strcat(path, "/");
    strcat(path, name);
    void *library = dlopen(path, RTLD_NOW);
    CHECK(library);
    int (*function)(int (*)(void)) = NULL;
    *(void **)&function = dlsym(library, "unwind_through");
    CHECK(function && function(from_plugin) > 0);
    EXPECT((void *)walk, (void *)plain, (void *)from_plugin, *(void **)&function);
    CHECK(holds((void *)main));
    CHECK(dlclose(library) == 0);
}

static int plugins(void) {
    for (int i = 0; i < 10; i++) {
        through("libshim-tests-unwind-small.so");
        through("libshim-tests-unwind-large.so");
    }
    return 0;
}

/* --- damaged tables: no answer or a wrong one, but no fault --- */

static int damaged(void) {
    walk();
    const struct module *module = &unwinder->modules.table[frames[0] >> UNWIND_ADDRESS_BITS];
    CHECK(module->cfi.header);
    size_t size = module->cfi.end - module->cfi.lowest, mapped = (size + 4095) / 4096 * 4096;
    char *copy = mmap(NULL, mapped + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(copy != MAP_FAILED && mprotect(copy + 4096, mapped, PROT_READ | PROT_WRITE) == 0);
    char *at = copy + 4096 + mapped - size;
    uintptr_t moved = (uintptr_t)at - module->cfi.lowest;
    struct cfi cfi = {module->cfi.header + moved, (uintptr_t)at, (uintptr_t)at + size};
    /* The addresses in the tables are relative, so the copy describes code as far away. */
    uintptr_t pc = address_of(frames[1]) + moved;
    memcpy(at, (void *)module->cfi.lowest, size);
    CHECK(cfi_find(&cfi, pc).kind == CFI_FRAME);
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        if (i % 50 == 0) memcpy(at, (void *)module->cfi.lowest, size);
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size_t from = cfi.header - cfi.lowest;
        at[from + random % (size - from)] = (char)(random >> 40);
        cfi_find(&cfi, pc);
        struct cfi cut = {cfi.header, cfi.lowest, cfi.end - (random >> 20) % (size - from)};
        cfi_find(&cut, pc);
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"kinds", kinds},     {"library", library}, {"depth", depth},     {"signals", signals},
        {"threads", threads}, {"plugins", plugins}, {"damaged", damaged}, {"coroutines", coroutines},
    };
    void *memory = mmap(NULL, sizeof *unwinder, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    unwinder = memory;
    folder = getenv("ZP_TEST_FOLDER");
    if (!unwind_prepare()) return SKIP; /* an older C library */
    return RUN_CASE("unwind", cases);
}
