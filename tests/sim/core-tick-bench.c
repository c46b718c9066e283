/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a tick of the core costs per page, against merely reading the counters, both timed in one run: a
 * guest of 16 GiB that is cold, and one of which 1%, 10% and all is written. Prints; fails only on errors.
 */
#include <time.h>

#include "core/core.h"

#define PAGES (UINT64_C(1) << 22)
#define ROUNDS 24

static uint64_t now_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

/* The sum of all counters: the least that anyone who looks at them must do. */
static uint64_t counters_sum(const uint8_t *counters, uint64_t n) {
        uint64_t sum = 0;

        for (uint64_t i = 0; i < n; i += 8) {
                uint64_t word;

                memcpy(&word, counters + i, sizeof(word));
                sum += word;
        }
        return sum;
}

/* Writes a part of the counters, in runs of 8 pages, spread over all of them. */
static void counters_fill(uint8_t *counters, uint64_t n, unsigned permyriad) {
        uint64_t random = 88172645463325252;

        memset(counters, 0, n);
        for (uint64_t i = 0; i < n; i += 8) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if (random % 10000 < permyriad)
                        memset(counters + i, 10, 8);
        }
}

static int bench(const uint8_t *counters, unsigned permyriad) {
        _cleanup_(core_freep) Core *c = NULL;
        RangeFacts ranges[2] = {
                { .gfn = 0, .n_pages = PAGES / 4, .cell = 0, .counters = counters },
                { .gfn = PAGES / 4, .n_pages = PAGES / 4 * 3, .cell = 1, .counters = counters + PAGES / 4 },
        };
        DomainFacts facts = {
                .domain = 1,
                .policy = domain_policy_default(),
                .agent_ready = true,
                .ranges_generation = 1,
                .cells = { { .cell = 0, .tier = TIER_DRAM, .size_bytes = PAGES / 4 * 4096 },
                           { .cell = 1, .tier = TIER_SLOW, .size_bytes = PAGES / 4 * 3 * 4096 } },
                .n_cells = 2,
                .ranges = ranges,
                .n_ranges = 2,
                .samples = 10,
        };
        Inputs in = { .policy = host_policy_default(), .domains = &facts, .n_domains = 1 };
        uint64_t read = UINT64_MAX, tick = UINT64_MAX, t;
        volatile uint64_t sink;

        if (core_new(&c) < 0)
                return -ENOMEM;
        for (unsigned i = 0; i < ROUNDS; i++) {
                OrderList list;
                int r;

                t = now_ns();
                sink = counters_sum(counters, PAGES);
                read = MIN(read, now_ns() - t);
                t = now_ns();
                r = core_step(c, &in, i * USEC_PER_SEC, &list);
                tick = i < 4 ? tick : MIN(tick, now_ns() - t); /* the first ones fault the heat in */
                if (r < 0)
                        return r;
                order_list_done(&list);
        }
        (void) sink;
        printf("written %3u.%02u%%: read %.3f ns/page, tick %.3f ns/page, ratio %.2f\n", permyriad / 100,
               permyriad % 100, (double) read / PAGES, (double) tick / PAGES, (double) tick / (double) read);
        return 0;
}

int main(void) {
        static const unsigned parts[] = { 0, 10, 100, 1000, 10000 };
        _cleanup_free_ uint8_t *counters = malloc(PAGES);

        if (!counters)
                return 1;
        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                counters_fill(counters, PAGES, parts[i]);
                if (bench(counters, parts[i]) < 0)
                        return 1;
        }
        return 0;
}
