/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a tick of the core (heat, plan and the lists of an order) costs per page, against merely reading the
 * counters, timed in turn in one run: guests of three sizes, the largest of 1 TiB, and parts of them that
 * are written. Every tick makes an order, in a dry run. Prints; fails only on errors.
 *
 *     core-tick-bench [GIB [RUN]]     the largest guest, and the pages that are written side by side
 */
#include <time.h>

#include "core/core.h"

#define GIB_PAGES (UINT64_C(1) << 18)
#define ROUNDS 12
#define SAMPLES 2 /* per epoch, as the daemon's defaults have it */

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

static uint64_t random_next(uint64_t *x) {
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        return *x;
}

/* Counts a part of the pages as written, in runs spread over all of them, each in one or two samples. */
static void counters_fill(uint8_t *counters, uint64_t n, uint64_t run, unsigned permyriad) {
        uint64_t random = 88172645463325252;

        memset(counters, 0, n);
        for (uint64_t i = 0; i < n; i += run)
                if (random_next(&random) % 10000 < permyriad)
                        for (uint64_t k = i; k < MIN(i + run, n); k++)
                                counters[k] = 1 + (random_next(&random) >> 32) % SAMPLES;
}

static int bench(const uint8_t *counters, uint64_t n, unsigned permyriad) {
        _cleanup_(core_freep) Core *c = NULL;
        RangeFacts ranges[2] = {
                { .gfn = 0, .n_pages = n / 4, .cell = 0, .counters = counters },
                { .gfn = n / 4, .n_pages = n / 4 * 3, .cell = 1, .counters = counters + n / 4 },
        };
        DomainFacts facts = {
                .domain = 1,
                .policy = domain_policy_default(),
                .agent_ready = true,
                .ranges_generation = 1,
                .cells = { { .cell = 0, .tier = TIER_DRAM, .size_bytes = n / 4 * 4096 },
                           { .cell = 1, .tier = TIER_SLOW, .size_bytes = n / 4 * 3 * 4096 } },
                .n_cells = 2,
                .ranges = ranges,
                .n_ranges = 2,
                .samples = SAMPLES,
        };
        Inputs in = { .policy = host_policy_default(), .domains = &facts, .n_domains = 1 };
        uint64_t read = UINT64_MAX, tick = UINT64_MAX, ordered = 0, t;
        volatile uint64_t sink;

        facts.policy.managed = facts.policy.dry_run = true;
        facts.policy.settle_epochs = 0;
        if (core_new(&c) < 0)
                return -ENOMEM;
        for (unsigned i = 0; i < ROUNDS; i++) {
                OrderList list;
                int r;

                t = now_ns();
                sink = counters_sum(counters, n);
                read = MIN(read, now_ns() - t);
                t = now_ns();
                r = core_step(c, &in, i * USEC_PER_SEC, &list);
                if (r < 0)
                        return r;
                if (i >= 4) { /* before, heat is faulted in, and the guest warms up */
                        tick = MIN(tick, now_ns() - t);
                        ordered += list.n_orders;
                }
                order_list_done(&list);
        }
        (void) sink;
        printf("%5llu GiB, written %3u.%02u%%: read %.3f ns/page, tick %.3f ns/page, ratio %.2f; %llu "
               "orders in %u ticks\n",
               (unsigned long long) (n / GIB_PAGES), permyriad / 100, permyriad % 100,
               (double) read / (double) n, (double) tick / (double) n, (double) tick / (double) read,
               (unsigned long long) ordered, ROUNDS - 4);
        return 0;
}

int main(int argc, char *argv[]) {
        static const unsigned parts[] = { 0, 10, 100, 1000, 2500, 10000 };
        uint64_t gib = argc > 1 ? strtoull(argv[1], NULL, 10) : 1024;
        uint64_t run = argc > 2 ? strtoull(argv[2], NULL, 10) : 8;
        _cleanup_free_ uint8_t *counters = NULL;

        if (gib < 16 || gib > 65536 || run == 0) {
                fputs("core-tick-bench: give 16 to 65536 GiB, and a run of at least 1 page\n", stderr);
                return 2;
        }
        counters = malloc(gib * GIB_PAGES);
        if (!counters)
                return 1;
        for (uint64_t size = gib / 16; size <= gib; size *= 4)
                for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                        counters_fill(counters, size * GIB_PAGES, run, parts[i]);
                        if (bench(counters, size * GIB_PAGES, parts[i]) < 0)
                                return 1;
                }
        return 0;
}
