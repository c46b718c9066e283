/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The budget of faults, held against a guest that is played: each page written costs it a fault when it is
 * protected, and what tracking thus costs must stay below the limit, whatever the guest writes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/core.h"
#include "core/tracking.h"

#define GUEST_PAGES (UINT64_C(1) << 18)
#define UNTRACKED UINT64_MAX

/* One epoch that cost so many faults, or rested. */
static void look(TrackingBudget *b, uint64_t limit, uint64_t faults, uint64_t warm_pages, uint64_t pages,
                 uint64_t second) {
        HeatLook l = { .pages = pages, .warm_pages = warm_pages };

        tracking_step(b, limit, faults, faults == UNTRACKED ? NULL : &l, second * USEC_PER_SEC);
}

/* What a guest that writes `hot` pages all the time, and a few others by and by, pays within so many
 * seconds, with two samples an epoch while it may be tracked; QEMU itself collects once a second. */
static uint64_t play(uint64_t limit, uint64_t hot, uint64_t seconds, uint64_t *ret_epochs) {
        TrackingBudget b = { 0 };
        uint64_t faults = 0;
        bool on = true;

        *ret_epochs = 0;
        for (uint64_t s = 0; s < seconds; s++) {
                bool was_on = on;
                uint64_t warm = MIN(2 * hot, GUEST_PAGES);

                if (on) {
                        faults += 3 * hot;
                        ++*ret_epochs;
                }
                look(&b, limit, on ? tracking_faults(2 * hot, true) : UNTRACKED, warm, GUEST_PAGES, s);
                on = tracking_is_affordable(&b);
                if (was_on && !on)
                        faults += warm + GUEST_PAGES / 512;
        }
        return faults;
}

static void test_limit_holds(void **state) {
        static const uint64_t limits[] = { 200, 850, 5000, 25000, 1000000 };
        static const uint64_t hots[] = { 0, 10, 1000, 12288, 100000, GUEST_PAGES };

        for (size_t i = 0; i < ELEMENTSOF(limits); i++)
                for (size_t k = 0; k < ELEMENTSOF(hots); k++) {
                        uint64_t seconds = 100000, epochs,
                                 faults = play(limits[i], hots[k], seconds, &epochs);
                        uint64_t turn = 5 * hots[k] + GUEST_PAGES / 512; /* one epoch, and its end */

                        assert_true(faults <= limits[i] * (seconds + 30) + turn);
                        assert_true(epochs > 0);
                        /* and it is made use of: what is not tracked was paid for (nine tenths, for
                         * rounding) */
                        if (epochs < seconds)
                                assert_true(faults + turn >= limits[i] * seconds / 10 * 9);
                }
}

static void test_small_sets_are_always_tracked(void **state) {
        uint64_t epochs;

        play(5000, 1000, 1000, &epochs);
        assert_int_equal(epochs, 1000);
        play(0, GUEST_PAGES, 1000, &epochs);
        assert_int_equal(epochs, 1000);
}

static void test_starts_with_an_advance(void **state) {
        TrackingBudget b = { 0 };
        unsigned epochs = 0;

        do
                look(&b, 1000, 3000, 1000, 0, epochs);
        while (tracking_is_affordable(&b) && ++epochs < 100);
        assert_int_equal(epochs, 14); /* 30,000, and 1,000 a second: 3,000 an epoch are spent by then */
}

/* What is left after a turn's end is not spent on the next one before that is worth its own end. */
static void test_turns_are_worth_their_end(void **state) {
        TrackingBudget b = { 0 };
        unsigned rest = 0, turn = 0;

        for (unsigned s = 0; s < 40; s++) /* 30,000, and 1,000 a second: 6,000 an epoch are spent */
                look(&b, 1000, 6000, 10000, 0, s);
        for (; !tracking_is_affordable(&b); rest++)
                look(&b, 1000, UNTRACKED, 0, 0, 40 + rest);
        assert_int_equal(b.fault_usec / USEC_PER_SEC, 10000);
        for (; tracking_is_affordable(&b); turn++)
                look(&b, 1000, 6000, 10000, 0, 40 + rest + turn);
        assert_int_equal(turn, 3);
}

/* What is no longer looked at has its end while the turn goes on; not where it had that already. */
static void test_what_is_left_out_is_paid_for(void **state) {
        TrackingBudget b = { 0 };
        HeatLook part = {
                .pages = 512 * 400, .warm_pages = 200, .left_pages = 512 * 200, .left_warm_pages = 9800
        };

        look(&b, 1000, 3000, 10000, 512 * 600, 0);
        assert_int_equal(b.fault_usec / USEC_PER_SEC, 30000 - 3000);
        tracking_step(&b, 1000, 0, &part, 0);
        assert_int_equal(b.fault_usec / USEC_PER_SEC, 30000 - 3000 - (9800 + 200));
        look(&b, 1000, UNTRACKED, 0, 0, 0);
        assert_int_equal(b.fault_usec / USEC_PER_SEC, 30000 - 3000 - (9800 + 200) - (200 + 400));
        tracking_step(&b, 1000, 0, &part, 0);
        assert_int_equal(b.fault_usec / USEC_PER_SEC, 30000 - 3000 - (9800 + 200) - (200 + 400));
}

/* The guest's counters are any bytes, and its clock is ours, but might be set back. */
static void test_extremes(void **state) {
        HeatLook all = { UINT64_MAX / 2, UINT64_MAX / 2, UINT64_MAX / 2, UINT64_MAX / 2, UINT64_MAX };
        TrackingBudget b = { 0 };

        for (unsigned i = 0; i < 1000; i++)
                tracking_step(&b, 1, tracking_faults(UINT64_MAX, i % 2), &all, i);
        assert_false(tracking_is_affordable(&b));
        tracking_step(&b, TRACKING_FAULTS_MAX, 0, NULL, UINT64_MAX / 2);
        assert_false(tracking_is_affordable(&b));
        tracking_step(&b, TRACKING_FAULTS_MAX, 0, NULL, 0);
        tracking_step(&b, UINT64_MAX, 0, NULL, 0);
        assert_true(tracking_is_affordable(&b));
}

/* By way of the seam: what the heatmap counts is what the budget is charged, of that domain alone, and with
 * a ring half as much again. */
static void test_core_counts_sightings(void **state) {
        static uint8_t counters[4096];
        RangeFacts range = { .gfn = 0, .n_pages = 4096, .cell = 0, .counters = counters };
        DomainFacts facts[2] = {
                { .domain = 1,
                  .policy = domain_policy_default(),
                  .ranges = &range,
                  .n_ranges = 1,
                  .cells = { { .cell = 0, .tier = TIER_DRAM, .size_bytes = sizeof(counters) * 4096 } },
                  .n_cells = 1,
                  .samples = 2,
                  .has_ring = true,
                  .faults_per_sec = 250 },
                { .domain = 2,
                  .policy = domain_policy_default(),
                  .ranges = &range,
                  .n_ranges = 1,
                  .cells = { { .cell = 0, .tier = TIER_DRAM, .size_bytes = sizeof(counters) * 4096 } },
                  .n_cells = 1,
                  .samples = 2,
                  .faults_per_sec = 250 },
        };
        Inputs in = { .policy = host_policy_default(), .domains = facts, .n_domains = 2 };
        _cleanup_(core_freep) Core *c = NULL;
        DomainTotals totals;
        OrderList list;

        for (size_t i = 0; i < 4000; i++)
                counters[i] = 1 + i % 2; /* 6,000 */
        assert_int_equal(core_new(&c), 0);
        assert_true(core_may_track(c, 1));
        assert_int_equal(core_step(c, &in, USEC_PER_SEC, &list), 0);
        order_list_done(&list);
        assert_int_equal(core_get_totals(c, 1, &totals), 0);
        assert_int_equal(totals.sightings, 6000);
        assert_false(core_may_track(c, 1)); /* 9,000 of 7,500 */
        assert_true(core_may_track(c, 2));  /* 6,000 */
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_limit_holds),
                cmocka_unit_test(test_small_sets_are_always_tracked),
                cmocka_unit_test(test_starts_with_an_advance),
                cmocka_unit_test(test_turns_are_worth_their_end),
                cmocka_unit_test(test_what_is_left_out_is_paid_for),
                cmocka_unit_test(test_extremes),
                cmocka_unit_test(test_core_counts_sightings),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
