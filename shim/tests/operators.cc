// SPDX-License-Identifier: MIT
// operators.cc: operators new and delete in all forms. usage: operators CASE [PLUGIN]
//
// Built in several kinds: as it is; with OWN, a program that defines two of the operators itself, with a
// header before each block; with PLUGIN, a library that a program without a C++ runtime opens. Runs with
// other allocators behind the library.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <unistd.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                          \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

namespace {

const std::size_t sizes[] = {0, 1, 24, 4096, 40000, 300000, 1 << 20, 5 << 20, 40 << 20};

#if defined(OWN) || defined(PASSED_BY)
const bool served = false; // by whom is the program's business
#else
const bool served = !getenv("NOT_SERVED");
#endif

bool in_pool(const void *p) {
    return (uintptr_t)p >> 40 >= 22 && (uintptr_t)p >> 40 < 43;
}

// The compiler may drop a pair of calls.
void *keep(void *p) {
    __asm__ __volatile__("" : "+r"(p)::"memory");
    return p;
}

void check_block(void *p, std::size_t size, std::size_t alignment = 16) {
    CHECK(p && (uintptr_t)p % (size < 32 && alignment == 16 ? 8 : alignment) == 0);
    if (served && size >= 40000) CHECK(in_pool(p));
    memset(p, 0x5a, size);
}

void forms() {
    using operator_size = std::size_t;
    for (operator_size n : sizes) {
        void *p = keep(operator new(n));
        check_block(p, n);
        operator delete(p);
        p = keep(operator new[](n));
        check_block(p, n);
        operator delete[](p);
        p = keep(operator new(n));
        operator delete(p, n);
        p = keep(operator new[](n));
        operator delete[](p, n);
        p = keep(operator new(n, std::nothrow));
        check_block(p, n);
        operator delete(p, std::nothrow);
        p = keep(operator new[](n, std::nothrow));
        check_block(p, n);
        operator delete[](p, std::nothrow);
        for (operator_size a = 16; a <= 2 << 20; a *= 8) {
            std::align_val_t alignment{a};
            p = keep(operator new(n, alignment));
            check_block(p, n, a);
            operator delete(p, alignment);
            p = keep(operator new[](n, alignment));
            check_block(p, n, a);
            operator delete[](p, n, alignment);
            p = keep(operator new(n, alignment, std::nothrow));
            check_block(p, n, a);
            operator delete(p, alignment, std::nothrow);
            p = keep(operator new[](n, alignment, std::nothrow));
            check_block(p, n, a);
            operator delete[](p, alignment, std::nothrow);
            p = keep(operator new(n, alignment));
            operator delete(p, n, alignment);
            p = keep(operator new[](n, alignment));
            operator delete[](p, alignment);
        }
    }
    operator delete(nullptr);
    operator delete[](nullptr, std::align_val_t{64});
}

int n_handled;
void *reserve;

const std::size_t impossible = (std::size_t)1 << 47;

void give_up_on_third() {
    free(reserve);
    reserve = nullptr;
    if (++n_handled == 3) std::set_new_handler(nullptr);
}

void handler() {
    if (getenv("HANDLER_ABORTS")) return; // mimalloc built for C ends the program
    for (int round = 0; round < 4; round++) {
        n_handled = 0;
        reserve = malloc(1 << 20);
        std::set_new_handler(give_up_on_third);
        bool thrown = false;
        void *p = &thrown;
        try {
            if (round == 0) p = keep(operator new(impossible));
            if (round == 1) p = keep(operator new[](impossible));
            if (round == 2) p = keep(operator new(impossible, std::nothrow));
            if (round == 3) p = keep(operator new (impossible, std::align_val_t{4096}));
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        CHECK(n_handled == 3);
        CHECK(thrown == (round != 2) && (thrown || !p));
    }
}

void impossible_sizes() {
    if (getenv("HANDLER_ABORTS")) return;
    for (std::size_t n :
         {impossible, (std::size_t)PTRDIFF_MAX - 100, ~(std::size_t)0, ~(std::size_t)0 - 4096}) {
        int n_thrown = 0;
        for (int form = 0; form < 3; form++) {
            try {
                if (form == 0) keep(operator new(n));
                if (form == 1) keep(operator new[](n));
                // The runtime rounds the size up, and past the largest number.
                if (form == 2) keep(operator new (n & ~(std::size_t)63, std::align_val_t{64}));
            } catch (const std::bad_alloc &) {
                n_thrown++;
            }
        }
        CHECK(n_thrown == 3);
        CHECK(!keep(operator new(n, std::nothrow)) && !keep(operator new[](n, std::nothrow)));
        CHECK(!keep(operator new (n & ~(std::size_t)255, std::align_val_t{256}, std::nothrow)));
    }
}

struct Large {
    static int n_made;
    char bytes[200000];
    Large() {
        bytes[199999] = 1;
        if (++n_made == 3) throw std::runtime_error("third");
    }
    ~Large() { n_made--; }
};
int Large::n_made;

void constructors() {
    bool thrown = false;
    try {
        delete[](Large *) keep(new Large[5]);
    } catch (const std::runtime_error &) {
        thrown = true;
    }
    CHECK(thrown);
    Large::n_made = 0;
    Large *one = new Large;
    delete (Large *)keep(one);
    CHECK(Large::n_made == 0);
}

} // namespace

#ifdef OWN
// The runtime makes the other forms of these two, so every block has a header.
static long n_live;

void *operator new(std::size_t size) {
    for (;;) {
        char *p = size <= PTRDIFF_MAX ? (char *)malloc(size + 16) : nullptr;
        if (p) {
            n_live++;
            return p + 16;
        }
        std::new_handler handler = std::get_new_handler();
        if (!handler) throw std::bad_alloc();
        handler();
    }
}

void operator delete(void *p) noexcept {
    if (!p) return;
    n_live--;
    free((char *)p - 16);
}

static void count() {
    for (std::size_t n : {(std::size_t)100, (std::size_t)100000, (std::size_t)10 << 20}) {
        long before = n_live;
        char *a = (char *)keep(new char[n]);
        void *b = keep(operator new(n, std::nothrow));
        CHECK(n_live == before + 2);
        operator delete[](a, n);
        operator delete(b, std::nothrow);
        CHECK(n_live == before);
    }
}
#else
static void count() {}
#endif

extern "C" int run_case(const char *name) {
    const struct {
        const char *name;
        void (*run)();
    } cases[] = {{"forms", forms},
                 {"handler", handler},
                 {"impossible", impossible_sizes},
                 {"constructors", constructors},
                 {"count", count}};
    for (const auto &one : cases)
        if (strcmp(name, "all") == 0 || strcmp(name, one.name) == 0) one.run();
    return 0;
}

#ifndef PLUGIN
int main(int argc, char **argv) {
    run_case(argc > 1 ? argv[1] : "all");
    puts("good");
}
#endif
