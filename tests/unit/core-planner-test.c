/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of hmvisord/core/planner.c and pacer.c: how many pages, which, in what order, and how fast.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/pacer.h"
#include "core/planner.h"

#define DRAM 1600 /* frames 0..1599 in cell 0, the rest in cell 1 */
#define SLOW 3200

static Heatmap map;

static int set_up(void **state) {
        RangeFacts ranges[2] = { { .gfn = 0, .n_pages = DRAM, .cell = 0 },
                                 { .gfn = DRAM, .n_pages = SLOW, .cell = 1 } };

        return heatmap_set_ranges(&map, ranges, 2);
}

static int tear_down(void **state) {
        heatmap_done(&map);
        return 0;
}

static PlanQuestion question(void) {
        return (PlanQuestion){
                .heatmap = &map,
                .dram_cell = 0,
                .dram_pages = DRAM,
                .slow_cells = { 1 },
                .n_slow_cells = 1,
                .hysteresis = 8,
                .samples = 10,
        };
}

static void test_cold_guest(void **state) {
        PlanQuestion q = question();
        Plan p;

        plan_compute(&q, &p);
        assert_int_equal(p.pages, 0);
        assert_int_equal(p.hot_slow_pages, 0);
}

/* A page seen in one sample is not hot, whatever the policy says; in two it is. */
static void test_one_sighting(void **state) {
        static const uint32_t samples[] = { 1, 4, 10, 255 };

        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                PlanQuestion q = question();
                Plan p;

                q.samples = samples[i];
                q.hysteresis = 0;
                heatmap_set_heat(&map, DRAM, 500, (uint8_t) heat_of_one_sighting(samples[i]));
                for (unsigned k = 0; k < 4; k++) {
                        if (k == 2)
                                heatmap_set_heat(&map, DRAM, 500,
                                                 (uint8_t) (2 * heat_of_one_sighting(samples[i])));
                        q.hot_heat = k % 2;
                        plan_compute(&q, &p);
                        assert_int_equal(p.pages, k < 2 ? 0 : 500);
                }
        }
}

static void test_threshold_follows_size(void **state) {
        PlanQuestion q = question();
        Plan p;

        for (unsigned i = 0; i < 32; i++) /* 100 pages each of heat 100, 104, ... */
                heatmap_set_heat(&map, DRAM + 100 * i, 100, (uint8_t) (100 + 4 * i));
        plan_compute(&q, &p);
        assert_int_equal(p.threshold, 100 + 4 * 17); /* 15 * 100 fit 1600 less a sixteenth: 168 up to 224 */
        assert_int_equal(p.hot_slow_pages, 1500);
        assert_int_equal(p.pages, 1500);
        q.dram_pages /= 2;
        plan_compute(&q, &p);
        assert_true(p.threshold > 168);
        assert_in_range(p.pages, 700, 800);
        q.hot_heat = 220;
        plan_compute(&q, &p);
        assert_int_equal(p.threshold, 220);
        assert_int_equal(p.pages, 200);
}

/* More hot pages than DRAM, all alike: DRAM is full of them, and nothing moves. */
static void test_equal_pages_stay(void **state) {
        for (unsigned heat = 1; heat < HEAT_VALUES; heat++) {
                PlanQuestion q = question();
                Plan p;

                q.hysteresis = 0;
                heatmap_set_heat(&map, 0, DRAM + SLOW, (uint8_t) heat);
                plan_compute(&q, &p);
                assert_int_equal(p.pages, 0);
                heatmap_set_heat(&map, DRAM, SLOW, (uint8_t) MIN(heat + 8, 255U)); /* nor a little hotter */
                plan_compute(&q, &p);
                assert_int_equal(p.pages, 0);
        }
}

/* Few hot pages beside many: they change little, so they are left alone; alone they are everything. But how
 * hot a page is that is found written each time, heat does not tell. */
static void test_gain_must_be_felt(void **state) {
        PlanQuestion q = question();
        Plan p;

        heatmap_set_heat(&map, DRAM, 3, STEADY_HEAT - 1);
        plan_compute(&q, &p);
        assert_int_equal(p.pages, 3);
        assert_int_equal(p.steady_pages, 0);
        heatmap_set_heat(&map, 0, DRAM - 3, 255);
        plan_compute(&q, &p);
        assert_int_equal(p.pages, 0);
        heatmap_set_heat(&map, DRAM + 1, 1, 255);
        plan_compute(&q, &p);
        assert_int_equal(p.pages, 1);
        assert_int_equal(p.steady_pages, 1);
}

static void test_lists(void **state) {
        PlanQuestion q = question();
        PageList promote, demote;
        uint8_t least;
        Plan p;

        heatmap_set_heat(&map, 0, 300, 200);         /* stay */
        heatmap_set_heat(&map, 300, 100, 3);         /* band 2: demoted after those of heat 0 */
        heatmap_set_heat(&map, DRAM + 10, 20, 100);  /* band 7 */
        heatmap_set_heat(&map, DRAM + 500, 30, 210); /* band 8 */
        heatmap_set_heat(&map, DRAM + 530, 2, 250);  /* adjacent, same band: one range */
        heatmap_set_heat(&map, DRAM + 600, 50, 99);
        assert_int_equal(heatmap_bar(&map, &(PageRange){ DRAM + 600, 50 }, 1), 0);
        plan_compute(&q, &p);
        assert_int_equal(p.pages, 52); /* those barred are not counted */
        assert_int_equal(plan_list(&q, &p, 52, 1000, &promote, &demote, &least), 0);
        assert_int_equal(promote.target_cell, 0);
        assert_int_equal(promote.n_pages, 52);
        assert_int_equal(promote.n_ranges, 2);
        assert_int_equal(promote.ranges[0].gfn, DRAM + 500);
        assert_int_equal(promote.ranges[0].n_pages, 32);
        assert_int_equal(promote.ranges[1].gfn, DRAM + 10);
        assert_int_equal(promote.ranges[1].n_pages, 20);
        assert_int_equal(least, 100);
        assert_int_equal(demote.target_cell, 1);
        assert_int_equal(demote.n_pages, 4 * 52);
        assert_int_equal(demote.ranges[0].gfn, 1000); /* where the last list ended */
        free(promote.ranges);
        free(demote.ranges);

        /* Fewer than there are: the hottest. And a demote list that wraps, then turns to warmer pages. */
        heatmap_set_heat(&map, 400, DRAM - 440,
                         200); /* leaves 40 of heat 0, [1560, 1600), and 100 of heat 3 */
        plan_compute(&q, &p);
        assert_int_equal(plan_list(&q, &p, 32, 1580, &promote, &demote, &least), 0);
        assert_int_equal(promote.n_ranges, 1);
        assert_int_equal(promote.n_pages, 32);
        assert_int_equal(least, 210);
        assert_int_equal(demote.n_ranges, 3);
        assert_int_equal(demote.ranges[0].gfn, 1580);
        assert_int_equal(demote.ranges[0].n_pages, 20);
        assert_int_equal(demote.ranges[1].gfn, 1560);
        assert_int_equal(demote.ranges[1].n_pages, 20);
        assert_int_equal(demote.ranges[2].gfn, 300);
        assert_int_equal(demote.ranges[2].n_pages, 4 * 32 - 40);
        free(promote.ranges);
        free(demote.ranges);
}

/* Lists stay within what the protocol carries. */
static void test_list_limits(void **state) {
        RangeFacts ranges[2] = { { .gfn = 0, .n_pages = 200000, .cell = 0 },
                                 { .gfn = 200000, .n_pages = 200000, .cell = 1 } };
        PageList promote, demote;
        Heatmap large = { 0 };
        PlanQuestion q = question();
        uint8_t least;
        Plan p;

        assert_int_equal(heatmap_set_ranges(&large, ranges, 2), 0);
        q.heatmap = &large;
        q.dram_pages = 200000;
        heatmap_set_heat(&large, 200000, 100000, 255);
        plan_compute(&q, &p);
        assert_int_equal(p.pages, 100000);
        assert_int_equal(plan_list(&q, &p, p.pages, 0, &promote, &demote, &least), 0);
        assert_int_equal(promote.n_pages, ORDER_PAGES_MAX);
        assert_int_equal(demote.n_pages, ORDER_PAGES_MAX);
        free(promote.ranges);
        free(demote.ranges);

        for (uint64_t i = 0; i < 100000; i += 2)
                heatmap_set_heat(&large, 200000 + i, 1, 0); /* every second page only */
        plan_compute(&q, &p);
        assert_int_equal(plan_list(&q, &p, p.pages, 0, &promote, &demote, &least), 0);
        assert_int_equal(promote.n_ranges, ORDER_RANGES_MAX);
        assert_int_equal(promote.n_pages, ORDER_RANGES_MAX);
        free(promote.ranges);
        free(demote.ranges);
        heatmap_done(&large);
}

/* The plain way to pick: frame by frame, so many of each heat, laid out by band. */
static size_t pick_plainly(const Heatmap *m, uint64_t first, uint64_t n, uint64_t wanted[HEAT_VALUES],
                           bool hottest_first, bool skip_barred, uint64_t *ret) {
        uint64_t left[HEAT_VALUES];
        size_t found = 0;

        for (unsigned i = 0; i < HEAT_BANDS; i++) {
                unsigned band = hottest_first ? HEAT_BANDS - 1 - i : i;

                memcpy(left, wanted, sizeof(left));
                for (uint64_t gfn = first; gfn < first + n; gfn++) {
                        unsigned heat = (unsigned) heatmap_get_heat(m, gfn);

                        if (heat_band(heat) != band || left[heat] == 0 ||
                            (skip_barred && heatmap_is_barred(m, gfn)))
                                continue;
                        left[heat]--;
                        ret[found++] = gfn;
                }
        }
        return found;
}

static void assert_listed(const PageList *l, const uint64_t *gfns, size_t n) {
        size_t at = 0;

        assert_int_equal(l->n_pages, n);
        for (size_t i = 0; i < l->n_ranges; i++)
                for (uint64_t k = 0; k < l->ranges[i].n_pages; k++)
                        assert_int_equal(l->ranges[i].gfn + k, gfns[at++]);
        assert_int_equal(at, n);
}

/* Chunks that are passed over together hide nothing: against the plain way, on arbitrary heat. */
static void test_lists_are_as_picked_plainly(void **state) {
        static uint64_t gfns[DRAM + SLOW];
        uint32_t random = 1, orders = 0;

        for (unsigned round = 0; round < 200; round++) {
                uint64_t wanted[HEAT_VALUES] = { 0 }, left;
                PlanQuestion q = question();
                PageList promote, demote;
                uint8_t least;
                Plan p;

                q.hysteresis = 1 + round % 40;
                heatmap_unbar(&map);
                for (uint64_t gfn = 0; gfn < DRAM + SLOW; gfn++) {
                        random = random * 1664525 + 1013904223;
                        heatmap_set_heat(&map, gfn, 1,
                                         random >> 24 < round && (gfn / 100 + round) % 3 == 0
                                                 ? (uint8_t) (random >> 16)
                                                 : 0);
                }
                for (unsigned i = 0; i < round % 5; i++)
                        assert_int_equal(heatmap_bar(&map, &(PageRange){ DRAM + 300 * i + 31, 70 }, 1), 0);
                plan_compute(&q, &p);
                assert_int_equal(plan_list(&q, &p, p.pages / 2, 0, &promote, &demote, &least), 0);
                left = p.pages / 2;
                for (unsigned h = HEAT_VALUES; h-- > 0 && left > 0; left -= wanted[h])
                        wanted[h] = MIN(p.slow[h], left);
                assert_listed(&promote, gfns,
                              pick_plainly(&map, DRAM, SLOW, wanted, true, true, gfns));
                memset(wanted, 0, sizeof(wanted));
                left = promote.n_pages * DEMOTE_OVERPROVISION;
                for (unsigned h = 0; h < HEAT_VALUES && heat_to_displace(h, p.hysteresis) <= least;
                     left -= wanted[h++])
                        wanted[h] = MIN(p.dram[h], left);
                if (promote.n_pages > 0)
                        assert_listed(&demote, gfns,
                                      pick_plainly(&map, 0, DRAM, wanted, false, false, gfns));
                orders += promote.n_pages > 0;
                free(promote.ranges);
                free(demote.ranges);
        }
        assert_true(orders > 100);
}

/* Over any time, a bucket lets through its burst and its rate, to the byte. */
static void test_pacer_is_exact(void **state) {
        Pacer p = { 0 };
        uint64_t taken = 0;
        usec_t now = 12345;

        pacer_refill(&p, 1000003, 5000, now);
        assert_int_equal(p.tokens, 5000); /* full */
        taken += p.tokens;
        pacer_take(&p, p.tokens);
        for (unsigned i = 0; i < 100000; i++) {
                now += 7 + i % 13;
                pacer_refill(&p, 1000003, 5000, now);
                taken += p.tokens;
                pacer_take(&p, p.tokens);
        }
        assert_int_equal(taken, 5000 + rate_over(1000003, now - 12345));
}

static void test_pacer_extremes(void **state) {
        Pacer p = { 0 };

        pacer_refill(&p, UINT64_MAX, UINT64_MAX, 0);
        pacer_take(&p, UINT64_MAX);
        pacer_refill(&p, UINT64_MAX, UINT64_MAX, UINT64_MAX);
        assert_true(p.tokens == UINT64_MAX);
        pacer_refill(&p, UINT64_MAX, 10, 5); /* back in time, and a smaller bucket */
        assert_int_equal(p.tokens, 10);
        pacer_take(&p, 11);
        assert_int_equal(p.tokens, 0);
        pacer_refill(&p, 0, 0, UINT64_MAX);
        assert_int_equal(p.tokens, 0);
        assert_true(rate_over(UINT64_MAX, UINT64_MAX) == UINT64_MAX);
}

#define WITH_MAP(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                WITH_MAP(test_cold_guest),
                WITH_MAP(test_one_sighting),
                WITH_MAP(test_threshold_follows_size),
                WITH_MAP(test_equal_pages_stay),
                WITH_MAP(test_gain_must_be_felt),
                WITH_MAP(test_lists),
                WITH_MAP(test_lists_are_as_picked_plainly),
                cmocka_unit_test(test_list_limits),
                cmocka_unit_test(test_pacer_is_exact),
                cmocka_unit_test(test_pacer_extremes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
