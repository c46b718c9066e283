/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Which page is written next: uniformly at random, or by Zipf's law over pages in a random order; and where
 * the hot set lies in a larger range, in which it may move. Everything follows from the seed.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pageset.h"

typedef struct Pattern {
        PageSet range;                  /* all that was placed */
        uint64_t hot_size;              /* bytes of it that are hot, at most range.size */
        _Atomic uint64_t hot_offset;    /* where they begin */
        uint64_t seed;                  /* of the places that it moves to */
        struct PatternAlias *alias;     /* one for each hot page; NULL: uniform */
        double *share;                  /* of all writes, by hot page; NULL: all alike */
} Pattern;

/* skew: Zipf's exponent, 0 for uniform. 0 or -errno; free it with pattern_free(). */
int pattern_init(Pattern *p, uint64_t hot_size, double skew, uint64_t seed);
void pattern_free(Pattern *p);

/* Moves the hot set to another place of the range: a multiple of its size, not the one where it is. */
void pattern_move(Pattern *p);

/* A page of the hot set, 0 for the first. */
uint64_t pattern_next_page(const Pattern *p, uint64_t *state);

/* The hot set as it lies now, to locate its pages. */
PageSet pattern_hot(const Pattern *p);

/* xorshift64*; the state is never 0. */
uint64_t random_next(uint64_t *state);
