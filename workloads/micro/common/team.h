// SPDX-License-Identifier: MIT
// The same work on 1 to TEAM_MOST threads, started together.
#ifndef MICRO_TEAM_H
#define MICRO_TEAM_H

#include <pthread.h>
#include <stdint.h>

enum { TEAM_MOST = 64 };

// Where the members of teams run: "none" leaves that to the kernel, "one" keeps all on the first processor
// that the process may use, "spread" keeps each on one, in turn. TEAM_PIN is the option --pin, for
// args_parse.
#define TEAM_PIN(pin)                                                                                        \
    { "pin", ARGS_WORD, pin, "where the threads run", "none one spread" }
void team_pin(const char *where);

// Refuses a number of threads, of an option --threads, that no team has.
void team_check(uint64_t threads);

// Calls work(0) .. work(n-1) at once and returns when all are done. One member runs in the calling thread
// itself: a program that asks for one thread never creates a second, and allocators have a faster path for
// such programs.
void team_run(unsigned n, void (*work)(unsigned index));

// All n members of the running team wait here for each other.
void team_meet(void);

// Of the clock on the wall, and of the process's processor time.
struct team_time {
    uint64_t ns, cpu_ns;
};

// All members meet, do a part of their work, and meet again: team_end says what has passed since team_begin.
struct team_time team_begin(void);
struct team_time team_end(struct team_time begin);

#endif
