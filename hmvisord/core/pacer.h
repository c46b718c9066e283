/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A token bucket in bytes. Owns the arithmetic of a rate cap; never knows what the bytes are spent on.
 */
#pragma once

#include "base/cleanup.h"

/* All zero is a new bucket: it starts full. */
typedef struct Pacer {
        uint64_t tokens;    /* bytes that may be spent now */
        uint64_t remainder; /* of the last refill: byte * usec below USEC_PER_SEC */
        usec_t last;
        bool started;
} Pacer;

/* Adds what bytes_per_sec brought since the last refill, up to burst_bytes. Over any time t, what is taken
 * is at most burst_bytes + t * bytes_per_sec. Time that goes back adds nothing. */
void pacer_refill(Pacer *p, uint64_t bytes_per_sec, uint64_t burst_bytes, usec_t now);

/* Takes bytes; what is not there is not owed (callers look at tokens first). */
void pacer_take(Pacer *p, uint64_t bytes);

/* bytes_per_sec over a time, saturating. */
uint64_t rate_over(uint64_t bytes_per_sec, usec_t usec);
