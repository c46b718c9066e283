/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of hmvisord/core/heatmap.c: the arithmetic of heat, the histogram that goes with it, changing
 * ranges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/heatmap.h"

#define PAGES 1500 /* not a multiple of a block, a chunk or a word */

static uint8_t counters[PAGES];

static RangeFacts one_range(uint64_t gfn) {
        return (RangeFacts){ .gfn = gfn, .n_pages = PAGES, .cell = 3, .counters = counters };
}

/* The histogram is what one would count. */
static void assert_counted(const Heatmap *m) {
        uint64_t expected[CELLS_MAX][HEAT_VALUES] = { 0 };

        for (size_t i = 0; i < m->n_ranges; i++)
                for (uint64_t k = 0; k < m->ranges[i].n_pages; k++)
                        expected[m->ranges[i].slot][m->ranges[i].heat[k]]++;
        assert_memory_equal(expected, m->histogram, sizeof(expected));
}

static void heat_after(uint8_t counter, uint32_t samples, unsigned epochs, uint8_t *ret) {
        RangeFacts r = one_range(0);
        Heatmap m = { 0 };

        memset(counters, counter, sizeof(counters));
        assert_int_equal(heatmap_set_ranges(&m, &r, 1), 0);
        for (unsigned i = 0; i < epochs; i++)
                heatmap_update(&m, &r, samples);
        for (uint64_t i = 0; i < PAGES; i++)
                assert_int_equal(m.ranges[0].heat[i], m.ranges[0].heat[0]);
        assert_counted(&m);
        *ret = m.ranges[0].heat[0];
        heatmap_done(&m);
}

/* A steady writer ends at its share of samples exactly; one that stops ends at 0. */
static void test_heat_is_the_share_of_samples(void **state) {
        static const uint32_t samples[] = { 1, 2, 3, 7, 10, 100, 254, 255, 1000, UINT32_MAX };

        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                uint32_t bound = MIN(samples[i], 255U);
                uint8_t heat;

                heat_after((uint8_t) bound, samples[i], 60, &heat);
                assert_int_equal(heat, 255);
                heat_after(255, samples[i], 60, &heat); /* more than there were samples: no more than all */
                assert_int_equal(heat, 255);
                heat_after(1, samples[i], 300, &heat);
                assert_in_range(heat, 255 / bound, 255 / bound + 1);
                heat_after(1, samples[i], 1, &heat);
                assert_in_range(heat, heat_of_one_sighting(samples[i]),
                                heat_of_one_sighting(samples[i]) + 1);
                heat_after(0, samples[i], 3, &heat);
                assert_int_equal(heat, 0);
        }
}

static void test_heat_decays_to_nothing(void **state) {
        RangeFacts r = one_range(0);
        Heatmap m = { 0 };
        int last = 255;

        memset(counters, 0, sizeof(counters));
        assert_int_equal(heatmap_set_ranges(&m, &r, 1), 0);
        heatmap_set_heat(&m, 0, PAGES, 255);
        for (unsigned i = 0; i < 90; i++) {
                heatmap_update(&m, &r, 10);
                assert_true(heatmap_get_heat(&m, 7) < last || last <= HEAT_TAIL);
                assert_in_range(heatmap_get_heat(&m, 7), MAX(last - 32, 0), last);
                last = heatmap_get_heat(&m, 7);
                if (i == 5)
                        assert_in_range(last, 100, 140); /* half after five to six epochs */
                if (i == 60)
                        assert_in_range(last, 1, HEAT_TAIL / 2); /* the tail is long, and then it ends */
        }
        assert_int_equal(last, 0);
        assert_counted(&m);
        heatmap_done(&m);
}

/* Against the plain formula, for arbitrary bytes: nothing depends on where in a block a page lies. */
static void test_update_of_arbitrary_counters(void **state) {
        RangeFacts r = one_range(5);
        uint8_t expected[PAGES] = { 0 };
        Heatmap m = { 0 };
        uint32_t random = 1;

        assert_int_equal(heatmap_set_ranges(&m, &r, 1), 0);
        for (uint32_t epoch = 0; epoch < 60; epoch++) {
                uint32_t samples = epoch % 17 + 1, scale = (255 * 256 + samples - 1) / samples;

                for (size_t i = 0; i < PAGES; i++) {
                        uint32_t c;

                        random = random * 1664525 + 1013904223;
                        counters[i] = random >> 28 < 3 && (i / 100) % 3 == epoch % 3
                                              ? (uint8_t) (random >> 16)
                                              : 0;
                        c = MIN(counters[i], samples);
                        if (c > 0 || expected[i] > HEAT_TAIL || (epoch + 1) % HEAT_TAIL_EPOCHS == 0)
                                expected[i] =
                                        (uint8_t) ((expected[i] * 7U + (c * scale >> 8) + (c ? 7 : 0)) / 8);
                }
                heatmap_update(&m, &r, samples);
                assert_memory_equal(m.ranges[0].heat, expected, PAGES);
                assert_counted(&m);
        }
        heatmap_done(&m);
}

static uint64_t warm_pages(const Heatmap *m, size_t slot) {
        uint64_t n = 0;

        for (size_t heat = 1; heat < HEAT_VALUES; heat++)
                n += m->histogram[slot][heat];
        return n;
}

/* A cell may have several ranges, and samples may leave out any. */
static void test_ranges_without_counters_keep_their_heat(void **state) {
        RangeFacts r[3] = { { .gfn = 0, .n_pages = 500, .cell = 0, .counters = counters },
                            { .gfn = 500, .n_pages = 300, .cell = 0, .counters = counters + 500 },
                            { .gfn = 800, .n_pages = 700, .cell = 1, .counters = counters + 800 } };
        Heatmap m = { 0 };
        HeatLook look;

        memset(counters, 10, sizeof(counters));
        assert_int_equal(heatmap_set_ranges(&m, r, 3), 0);
        heatmap_update(&m, r, 10);
        r[1].counters = NULL;
        look = heatmap_update(&m, r, 10);
        assert_int_equal(look.sightings, 12000);
        assert_int_equal(look.left_pages, 300);
        assert_int_equal(look.left_warm_pages, 300);
        assert_counted(&m);
        r[0].counters = NULL;
        look = heatmap_update(&m, r, 10);
        assert_int_equal(look.sightings, 7000);
        assert_int_equal(look.pages, 700);
        assert_int_equal(look.warm_pages, 700);
        assert_int_equal(look.left_pages, 500); /* 300 were left before */
        assert_counted(&m);
        assert_true(heatmap_get_heat(&m, 499) > heatmap_get_heat(&m, 500));
        assert_true(heatmap_get_heat(&m, 800) > heatmap_get_heat(&m, 499));
        assert_int_equal(warm_pages(&m, 0), 800);
        assert_int_equal(warm_pages(&m, 1), 700);
        heatmap_done(&m);
}

static void test_ranges_change(void **state) {
        RangeFacts before[2] = { { .gfn = 0, .n_pages = 1000, .cell = 0 },
                                 { .gfn = 1000, .n_pages = 500, .cell = 1 } };
        RangeFacts after[3] = { { .gfn = 100, .n_pages = 600, .cell = 0 },
                                { .gfn = 900, .n_pages = 200, .cell = 1 },
                                { .gfn = 1400, .n_pages = 1000, .cell = 1 } };
        Heatmap m = { 0 };

        assert_int_equal(heatmap_set_ranges(&m, before, 2), 0);
        heatmap_set_heat(&m, 0, 1500, 9);
        assert_int_equal(heatmap_set_ranges(&m, after, 3), 0);
        assert_int_equal(heatmap_get_heat(&m, 99), -ENOENT); /* left */
        assert_int_equal(heatmap_get_heat(&m, 100), 9);      /* stayed */
        assert_int_equal(heatmap_get_heat(&m, 699), 9);
        assert_int_equal(heatmap_get_heat(&m, 700), -ENOENT);
        assert_int_equal(heatmap_get_heat(&m, 950), 0); /* is in another cell now: another page */
        assert_int_equal(heatmap_get_heat(&m, 1050), 9);
        assert_int_equal(heatmap_get_heat(&m, 1499), 9);
        assert_int_equal(heatmap_get_heat(&m, 1500), 0); /* new */
        assert_counted(&m);
        assert_int_equal(heatmap_set_ranges(&m, NULL, 0), 0);
        assert_int_equal(m.n_ranges, 0);
        heatmap_done(&m);
}

/* A large range beside one that changes is not copied: its heat would be there twice for a while. */
static void test_range_that_stays_is_handed_over(void **state) {
        RangeFacts before[2] = { { .gfn = 0, .n_pages = 1000, .cell = 0 },
                                 { .gfn = 1000, .n_pages = 500, .cell = 1 } };
        RangeFacts after[2] = { before[0], { .gfn = 1000, .n_pages = 700, .cell = 1 } };
        const uint8_t *heat;
        Heatmap m = { 0 };

        assert_int_equal(heatmap_set_ranges(&m, before, 2), 0);
        heatmap_set_heat(&m, 0, 1500, 9);
        heat = m.ranges[0].heat;
        assert_int_equal(heatmap_set_ranges(&m, after, 2), 0);
        assert_ptr_equal(m.ranges[0].heat, heat);
        assert_int_equal(heatmap_get_heat(&m, 999), 9);
        assert_int_equal(heatmap_get_heat(&m, 1499), 9);
        assert_int_equal(heatmap_get_heat(&m, 1500), 0);
        assert_counted(&m);
        heatmap_done(&m);
}

static void test_bar(void **state) {
        PageRange frames[] = { { 40, 5 }, { 0, 12 }, { 30, 10 } },
                  more[] = { { 100, 1 }, { 10, 6 }, { 42, 1 } };
        RangeFacts r = one_range(10);
        Heatmap m = { 0 };

        assert_int_equal(heatmap_set_ranges(&m, &r, 1), 0);
        assert_false(heatmap_is_barred(&m, 11));
        assert_int_equal(heatmap_bar(&m, frames, ELEMENTSOF(frames)), 0);
        assert_int_equal(heatmap_bar(&m, more, ELEMENTSOF(more)), 0);
        assert_int_equal(heatmap_bar(&m, NULL, 0), 0);
        assert_int_equal(m.n_barred, 3); /* [0, 16), [30, 45), 100 */
        for (uint64_t gfn = 0; gfn < 120; gfn++)
                assert_int_equal(heatmap_is_barred(&m, gfn),
                                 gfn < 16 || (gfn >= 30 && gfn < 45) || gfn == 100);
        heatmap_unbar(&m);
        assert_false(heatmap_is_barred(&m, 11));
        heatmap_done(&m);
}

/* What is left of any heat is what updates leave of it, and below the tail never less. */
static void test_rest(void **state) {
        uint8_t unwritten[HEAT_VALUES] = { 0 };
        RangeFacts r = { .gfn = 0, .n_pages = HEAT_VALUES, .cell = 0, .counters = unwritten };
        Heatmap m = { 0 };

        (void) state;
        assert_int_equal(heatmap_set_ranges(&m, &r, 1), 0);
        for (unsigned heat = 0; heat < HEAT_VALUES; heat++)
                heatmap_set_heat(&m, heat, 1, (uint8_t) heat);
        for (unsigned epochs = 1; epochs <= 40; epochs++) {
                heatmap_update(&m, &r, 2);
                for (unsigned heat = 0; heat < HEAT_VALUES; heat++) {
                        unsigned left = heat_after_rest(heat, epochs),
                                 is = (unsigned) heatmap_get_heat(&m, heat);

                        assert_true(left > HEAT_TAIL ? is == left : is <= left);
                }
        }
        heatmap_done(&m);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_heat_is_the_share_of_samples),
                cmocka_unit_test(test_heat_decays_to_nothing),
                cmocka_unit_test(test_update_of_arbitrary_counters),
                cmocka_unit_test(test_ranges_without_counters_keep_their_heat),
                cmocka_unit_test(test_ranges_change),
                cmocka_unit_test(test_range_that_stays_is_handed_over),
                cmocka_unit_test(test_bar),
                cmocka_unit_test(test_rest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
