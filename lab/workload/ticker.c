/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Gaps between ticks of 10 ms: see ticker.h.
 */

#include "ticker.h"

#include <time.h>

#define TICK_USEC 10000

uint64_t now_usec(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void record_clear(Ticker *t) {
        atomic_store(&t->longest_usec, 0);
        for (unsigned i = 0; i < TICKER_BUCKETS; i++)
                atomic_store_explicit(t->by_ms + i, 0, memory_order_relaxed);
}

void *ticker_run(void *ticker) {
        Ticker *t = ticker;
        uint64_t last = now_usec();

        while (!atomic_load_explicit(t->stopping, memory_order_relaxed)) {
                uint64_t now, gap;

                nanosleep(&(struct timespec) { .tv_nsec = TICK_USEC * 1000L }, NULL);
                now = now_usec();
                gap = now - last;
                last = now;
                if (atomic_exchange(&t->restart, false))
                        record_clear(t);
                if (gap > atomic_load(&t->longest_usec))
                        atomic_store(&t->longest_usec, gap);
                gap /= 1000;
                atomic_fetch_add_explicit(t->by_ms + (gap < TICKER_BUCKETS ? gap : TICKER_BUCKETS - 1), 1,
                                          memory_order_relaxed);
        }
        return NULL;
}

uint32_t ticker_quantile_ms(const Ticker *t, unsigned permyriad) {
        uint64_t total = 0, seen = 0;

        for (unsigned i = 0; i < TICKER_BUCKETS; i++)
                total += atomic_load_explicit(t->by_ms + i, memory_order_relaxed);
        for (unsigned i = 0; i < TICKER_BUCKETS; i++) {
                seen += atomic_load_explicit(t->by_ms + i, memory_order_relaxed);
                if (seen * 10000 >= total * permyriad)
                        return total > 0 ? i : 0;
        }
        return 0;
}
