/* SPDX-License-Identifier: MIT */
/* habit.h: are the blocks of one kind filled by who gets them, or touched sparsely?
 *
 * A habit is what was seen last, so that a change is noticed at once, and how often that was wrong: a program
 * that fills one block in eight at random has no habit, and a filled block says nothing about the next. So
 * blocks filled in a row are wanted before a kind is believed to be filled, twice as many each time such a
 * belief was wrong. One that held for HABIT_RUN blocks was not wrong, it came to its end: then the least is
 * wanted again.
 *
 * Blocks served as if they were going to be filled are resident whatever becomes of them, so the kernel
 * cannot tell whether they were written. What they hold can: they were zero when they were handed out. Where
 * nothing but zeros is found the next block is served on trial, as if it were to be sparse, which the kernel
 * can tell. Programs also write zeros: after each trial that found a filled block, twice as many such blocks
 * in a row are wanted for another.
 *
 * Plain relaxed fields, without a lock: a lost update is harmless.
 */
#ifndef ZP_LEARN_HABIT_H
#define ZP_LEARN_HABIT_H

#include "base/bits.h"

#define HABIT_MAX 3
#define HABIT_PENALTY_MAX 15
#define HABIT_RUN 4
#define HABIT_DOUBT_MAX 63

struct habit {
    int8_t filled;    /* > 0 they are filled, < 0 they are touched sparsely */
    uint8_t penalty;  /* so many filled blocks in a row, and one more, are wanted after a sparse one */
    uint8_t n_right;  /* seen filled in a row while that was believed, at most HABIT_RUN */
    uint8_t n_zero;   /* found to hold zeros only in a row */
    uint8_t doubt;    /* so many of these, and one more, are wanted for a trial */
    bool is_seen;     /* contents have been looked at since a block was served as if it were to be filled */
    bool is_on_trial; /* a block is out that was served on trial */
    bool is_known;    /* something has been seen */
};

static inline int habit_filled(const struct habit *habit) {
    return READ_RELAXED(habit->filled);
}

/* A block was seen to be filled, or not; after that at least so much is the penalty. */
static inline void habit_learn(struct habit *habit, bool filled, uint8_t least_penalty) {
    int value = habit_filled(habit);
    uint8_t penalty = READ_RELAXED(habit->penalty), n_right = READ_RELAXED(habit->n_right);
    if (filled) {
        if (value > 0) WRITE_RELAXED(habit->n_right, (uint8_t)min_size(n_right + 1u, HABIT_RUN));
        value = value < HABIT_MAX ? value + 1 : HABIT_MAX;
    } else {
        if (value > 0 && n_right < HABIT_RUN)
            penalty = (uint8_t)min_size(2 * penalty + 1u, HABIT_PENALTY_MAX);
        else if (value > 0)
            penalty = least_penalty;
        penalty = (uint8_t)max_size(penalty, least_penalty);
        WRITE_RELAXED(habit->penalty, penalty);
        WRITE_RELAXED(habit->n_right, 0);
        WRITE_RELAXED(habit->n_zero, 0);
        value = -penalty;
    }
    WRITE_RELAXED(habit->filled, (int8_t)value);
    WRITE_RELAXED(habit->is_known, true);
}

/* The kernel was asked about a block that it can tell of. */
static inline void habit_saw(struct habit *habit, bool filled, uint8_t least_penalty) {
    if (READ_RELAXED(habit->is_on_trial)) {
        unsigned doubt = READ_RELAXED(habit->doubt);
        WRITE_RELAXED(habit->doubt, (uint8_t)(filled ? min_size(2 * doubt + 1, HABIT_DOUBT_MAX) : doubt / 2));
        WRITE_RELAXED(habit->is_on_trial, false);
    }
    habit_learn(habit, filled, least_penalty);
}

/* A block that was served as if it were going to be filled: was anything found in it? */
static inline void habit_saw_contents(struct habit *habit, bool written, uint8_t least_penalty) {
    if (written) habit_learn(habit, true, least_penalty);
    WRITE_RELAXED(habit->is_seen, true);
    WRITE_RELAXED(habit->n_zero,
                  written ? 0 : (uint8_t)min_size(READ_RELAXED(habit->n_zero) + 1u, UINT8_MAX));
}

/* Is the next block to be served on trial? */
static inline bool habit_wants_trial(struct habit *habit) {
    return READ_RELAXED(habit->n_zero) > READ_RELAXED(habit->doubt);
}
static inline void habit_begin_trial(struct habit *habit) {
    WRITE_RELAXED(habit->n_zero, 0);
    WRITE_RELAXED(habit->is_on_trial, true);
}

#endif
