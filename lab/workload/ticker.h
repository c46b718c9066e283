/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * How long the program ever stood still: a thread that sleeps 10 ms over and over and records by how much
 * later it woke. One thread writes, others read.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TICKER_BUCKETS 20000    /* of 1 ms; the last one holds all that is longer */

typedef struct Ticker {
        _Atomic uint64_t longest_usec;
        _Atomic uint32_t by_ms[TICKER_BUCKETS];
        _Atomic bool restart;           /* a reader asks for a new record */
        const atomic_bool *stopping;
} Ticker;

uint64_t now_usec(void);        /* CLOCK_MONOTONIC */

void *ticker_run(void *ticker); /* a thread's function */

/* The least time in ms that so many of 10,000 gaps were no longer than; 0 before the first tick. */
uint32_t ticker_quantile_ms(const Ticker *t, unsigned permyriad);
