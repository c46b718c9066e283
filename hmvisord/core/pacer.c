/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The token bucket: integers with a carried remainder, so that a cap is exact over any time.
 */
#include "core/pacer.h"

uint64_t rate_over(uint64_t bytes_per_sec, usec_t usec) {
        unsigned __int128 bytes = (unsigned __int128) bytes_per_sec * usec / USEC_PER_SEC;

        return bytes > UINT64_MAX ? UINT64_MAX : (uint64_t) bytes;
}

void pacer_refill(Pacer *p, uint64_t bytes_per_sec, uint64_t burst_bytes, usec_t now) {
        if (!p->started) {
                *p = (Pacer){ .tokens = burst_bytes, .last = now, .started = true };
                return;
        }
        if (now > p->last) {
                /* Below 2^128: 2^64 * 2^64 at most, less what the subtraction of 1 leaves for the remainder.
                 */
                unsigned __int128 earned =
                        (unsigned __int128) bytes_per_sec * (now - p->last) + p->remainder;
                unsigned __int128 tokens = earned / USEC_PER_SEC + p->tokens;

                p->remainder = (uint64_t) (earned % USEC_PER_SEC);
                p->tokens = tokens > UINT64_MAX ? UINT64_MAX : (uint64_t) tokens;
                p->last = now;
        }
        if (p->tokens >= burst_bytes) {
                p->tokens = burst_bytes;
                p->remainder = 0;
        }
}

void pacer_take(Pacer *p, uint64_t bytes) {
        p->tokens -= MIN(bytes, p->tokens);
}
