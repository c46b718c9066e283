/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What clearing 10,000 offers costs, against merely sorting as many keys, both timed in one run. Prints;
 * fails only on errors.
 */
#include <time.h>

#include "market-random.h"

#define OFFERS 10000
#define ROUNDS 40
#define LOTS_MOST 4096 /* 128 GiB in lots of 32 MiB */

static uint64_t now_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static int key_compare(const void *a, const void *b) {
        const uint64_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

static void offers_fill(Offer offers[], unsigned percent_buyers, unsigned percent_back) {
        Random r = { 1 };

        for (size_t i = 0; i < OFFERS; i++) {
                bool buys = random_chance(&r, percent_buyers);
                int64_t wish = random_between(&r, 0, LOTS_MOST) * (buys ? 1 : -1);
                bool back = random_chance(&r, percent_back);

                offers[i] = (Offer){
                        .key = random_next(&r),
                        .wish = wish,
                        .low = -LOTS_MOST,
                        .high = LOTS_MOST,
                        .position = back ? -wish : random_between(&r, -LOTS_MOST, LOTS_MOST),
                        .withdraw = back,
                };
        }
}

static int bench(const char *name, unsigned percent_buyers, unsigned percent_back) {
        _cleanup_free_ Offer *offers = calloc(OFFERS, sizeof(*offers));
        _cleanup_free_ int64_t *lots = calloc(OFFERS, sizeof(*lots));
        _cleanup_free_ uint64_t *keys = calloc(OFFERS, sizeof(*keys));
        uint64_t sorting = UINT64_MAX, clearing = UINT64_MAX, worst = 0, t;
        Clearing c = { 0 };

        if (!offers || !lots || !keys)
                return -ENOMEM;
        offers_fill(offers, percent_buyers, percent_back);
        for (uint64_t round = 0; round < ROUNDS; round++) {
                for (size_t i = 0; i < OFFERS; i++)
                        keys[i] = offers[i].key * (2 * round + 1);
                t = now_ns();
                qsort(keys, OFFERS, sizeof(*keys), key_compare);
                sorting = MIN(sorting, now_ns() - t);
                t = now_ns();
                if (market_clear(offers, OFFERS, NULL, round, lots, &c) < 0)
                        return -EINVAL;
                t = now_ns() - t;
                clearing = MIN(clearing, t);
                worst = MAX(worst, t);
        }
        printf("%-30s %u offers, traded %llu, recalled %llu: %.2f ms (at most %.2f), ratio to sorting "
               "%.2f\n",
               name, OFFERS, (unsigned long long) c.traded, (unsigned long long) c.recalled,
               (double) clearing / 1e6, (double) worst / 1e6, (double) clearing / (double) sorting);
        return 0;
}

int main(void) {
        return bench("balanced:", 50, 0) < 0 || bench("short of DRAM:", 90, 0) < 0 ||
               bench("everybody wants to go back:", 90, 60) < 0;
}
