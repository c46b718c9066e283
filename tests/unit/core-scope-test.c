/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of what tracking looks at: DRAM is left out where nothing is to be moved, keeps its heat meanwhile,
 * and is looked at again when that may no longer be true; and memory that would cost too much at once is
 * looked at in parts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "step-rig.h"

/* A guest whose hot pages all lie in DRAM. */
static int set_up_placed(void **state) {
        if (set_up(state) < 0)
                return -1;
        Rig *g = *state;

        memset(g->counters, 0, sizeof(g->counters));
        memset(g->counters, 10, HOT);
        return 0;
}

/* As the daemon does: what is left out has no counters. */
static void look(Rig *g) {
        g->ranges[0].counters = core_get_scope(g->core, 7)->slow_only ? NULL : g->counters;
        step(g);
}

static unsigned looks_until(Rig *g, bool narrow, unsigned most) {
        for (unsigned i = 1; i <= most; i++) {
                look(g);
                if (core_get_scope(g->core, 7)->slow_only == narrow)
                        return i;
        }
        return 0;
}

static uint64_t pages_of_band(Rig *g, uint32_t cell, unsigned band) {
        HeatHistogram h;

        assert_int_equal(core_get_heat(g->core, 7, &h), 0);
        for (size_t i = 0; i < h.n_cells; i++)
                if (h.cells[i].cell == cell)
                        return h.cells[i].pages[band];
        fail();
        return 0;
}

static void test_narrow_when_calm(void **state) {
        Rig *g = *state;

        assert_false(core_get_scope(g->core, 7)->slow_only);
        assert_int_equal(looks_until(g, true, 100), g->facts.policy.warmup_epochs + SCOPE_CALM_EPOCHS - 1);
}

static void test_dram_keeps_its_heat(void **state) {
        Rig *g = *state;
        DomainTotals before, after;
        uint64_t hot;

        assert_int_not_equal(looks_until(g, true, 100), 0);
        hot = pages_of_band(g, 0, 8);
        assert_int_equal(hot, HOT);
        memset(g->counters, 0, HOT); /* not seen */
        assert_int_equal(core_get_totals(g->core, 7, &before), 0);
        for (unsigned i = 0; i < 30; i++)
                look(g);
        assert_int_equal(core_get_totals(g->core, 7, &after), 0);
        assert_true(core_get_scope(g->core, 7)->slow_only);
        assert_int_equal(pages_of_band(g, 0, 8), hot);
        assert_int_equal(after.epochs, before.epochs + 30);
        assert_int_equal(after.sightings, before.sightings);
}

/* What turns hot in slow memory is promoted at once, in the place of what was cold when last looked at. */
static void test_orders_from_what_is_known(void **state) {
        Rig *g = *state;

        assert_int_not_equal(looks_until(g, true, 100), 0);
        memset(g->counters + DRAM, 10, HOT / SCOPE_NEWS - 1);
        for (unsigned i = 0; i < 20 && g->order == 0; i++) {
                assert_true(core_get_scope(g->core, 7)->slow_only);
                look(g);
        }
        assert_int_not_equal(g->order, 0);
        assert_int_equal(g->decision.promote_pages, HOT / SCOPE_NEWS - 1);
        assert_false(core_get_scope(g->core, 7)->slow_only);
}

/* Where DRAM is full of what was hot, there is nothing to displace until it is looked at again; much more
 * written in slow memory than before is a reason. */
static void test_news_widen(void **state) {
        Rig *g = *state;

        memset(g->counters, 10, DRAM);
        assert_int_not_equal(looks_until(g, true, 100), 0);
        memset(g->counters, 0, DRAM);
        memset(g->counters + DRAM, 10, HOT / 10);
        assert_int_equal(looks_until(g, false, 20), 0);
        memset(g->counters + DRAM, 10, HOT);
        assert_in_range(looks_until(g, false, 20), 2, 8);
        assert_int_equal(g->order, 0);
        for (unsigned i = 0; i < 20 && g->order == 0; i++)
                look(g);
        assert_int_not_equal(g->order, 0);
}

static void test_looks_again_in_time(void **state) {
        Rig *g = *state;

        assert_int_not_equal(looks_until(g, true, 100), 0);
        assert_int_equal(looks_until(g, false, 1000), SCOPE_USEC / USEC_PER_SEC);
        assert_int_equal(looks_until(g, true, 100), SCOPE_CALM_EPOCHS);
}

static void test_never_of_who_trades_or_is_not_managed(void **state) {
        Rig *g = *state;

        assert_int_not_equal(looks_until(g, true, 100), 0);
        g->facts.policy.trading = true;
        look(g);
        assert_int_equal(looks_until(g, true, 100), 0);
        g->facts.policy.trading = false;
        assert_int_not_equal(looks_until(g, true, 100), 0);
        g->facts.policy.managed = false;
        look(g);
        assert_int_equal(looks_until(g, true, 100), 0);
        assert_false(core_get_scope(g->core, 8)->slow_only); /* not known */
}

/* A guest that writes `pages` all over its memory in each epoch: as many of them are seen as are looked at.
 */
static void play(Scope *s, uint64_t pages, uint64_t affordable, uint32_t n_pieces, unsigned epochs) {
        for (unsigned i = 0; i < epochs; i++)
                scope_look(s, pages >> s->parts_shift, affordable, n_pieces);
}

static void test_parts_as_small_as_they_must_be(void **state) {
        static const struct {
                uint64_t pages;
                uint32_t n_pieces;
                unsigned shift;
        } cases[] = { { 0, 48, 0 },        { 8000, 48, 0 },   { 8007, 48, 0 },
                      { 8008, 48, 1 },     { 20000, 48, 2 },  { 100000, 48, 4 },
                      { 100000000, 48, 4 }, { 100000, 15, 3 }, { 100000, 3, 1 },
                      { 100000, 1, 0 },    { 100000, 0, 0 } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (unsigned epochs = 20; epochs < 120; epochs++) {
                        Scope s = { 0 };

                        play(&s, cases[i].pages, 1000, cases[i].n_pieces, epochs);
                        assert_int_equal(s.parts_shift, cases[i].shift);
                }
}

static void test_each_part_has_its_turn(void **state) {
        unsigned seen[_TIER_MAX][48] = { 0 };
        Scope s = { 0 };

        play(&s, 100000, 1000, 48, 20);
        while (s.part_epochs > 0)
                play(&s, 100000, 1000, 48, 1);
        for (unsigned epoch = 0; epoch < 16 * SCOPE_PART_EPOCHS; epoch++) {
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        for (uint32_t n = 0; n < 48; n++)
                                seen[tier][n] += scope_has_piece(&s, tier, n);
                play(&s, 100000, 1000, 48, 1);
        }
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                for (uint32_t n = 0; n < 48; n++)
                        assert_int_equal(seen[tier][n], SCOPE_PART_EPOCHS);
        s.slow_only = true;
        for (uint32_t n = 0; n < 48; n++)
                assert_false(scope_has_piece(&s, TIER_DRAM, n));
}

static void test_parts_grow_again(void **state) {
        Scope s = { 0 };

        play(&s, 100000, 1000, 48, 20);
        assert_int_equal(s.parts_shift, 4);
        play(&s, 5000, 1000, 48, 40);
        assert_int_equal(s.parts_shift, 1); /* all at once might be too much again: 4,000 would not */
        play(&s, 3999, 1000, 48, 40);
        assert_int_equal(s.parts_shift, 0);
        play(&s, 100000, 1000, 48, 20);
        play(&s, 100000, 0, 48, 1); /* no limit any more */
        assert_int_equal(s.parts_shift, 0);
        assert_int_equal(s.part, 0);
        for (unsigned i = 0; i < 100; i++)
                scope_look(&s, UINT64_MAX, UINT64_C(1000000000) * 3600, UINT32_MAX);
        assert_int_equal(s.parts_shift, SCOPE_PARTS_SHIFT_MOST);
}

#define LIMIT ((DRAM + SLOW) / 64)

/* By way of the seam: the budget pays for the end of the part that was left. */
static void test_a_guest_that_writes_much(void **state) {
        Rig *g = *state;
        RangeFacts pieces[8];
        DomainTotals totals;

        memset(g->counters, 2, sizeof(g->counters));
        for (size_t i = 0; i < ELEMENTSOF(pieces); i++)
                pieces[i] = i < 4 ? (RangeFacts){ .gfn = i * DRAM / 4, .n_pages = DRAM / 4, .cell = 0 }
                                  : (RangeFacts){ .gfn = (1 << 20) + (i - 4) * SLOW / 4,
                                                  .n_pages = SLOW / 4,
                                                  .cell = 1 };
        g->facts.ranges = pieces;
        g->facts.n_ranges = ELEMENTSOF(pieces);
        g->facts.n_pieces = 4;
        g->facts.faults_per_sec = LIMIT;
        for (unsigned epoch = 0; epoch < 1000; epoch++) {
                for (size_t i = 0; i < ELEMENTSOF(pieces); i++) {
                        Tier tier = pieces[i].cell == 0 ? TIER_DRAM : TIER_SLOW;
                        const Scope *scope = core_get_scope(g->core, 7);

                        pieces[i].counters =
                                core_may_track(g->core, 7) && scope_has_piece(scope, tier, i % 4)
                                        ? g->counters
                                        : NULL;
                }
                step(g);
        }
        assert_int_equal(core_get_scope(g->core, 7)->parts_shift, 2);
        assert_int_equal(core_get_totals(g->core, 7, &totals), 0);
        /* two sightings and an end of each page, as often as 1,030 s pay for */
        assert_in_range(totals.sightings, LIMIT * 1030 / 2, LIMIT * 1030);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_narrow_when_calm, set_up_placed, tear_down),
                cmocka_unit_test_setup_teardown(test_dram_keeps_its_heat, set_up_placed, tear_down),
                cmocka_unit_test_setup_teardown(test_orders_from_what_is_known, set_up_placed, tear_down),
                cmocka_unit_test_setup_teardown(test_news_widen, set_up_placed, tear_down),
                cmocka_unit_test_setup_teardown(test_looks_again_in_time, set_up_placed, tear_down),
                cmocka_unit_test_setup_teardown(test_never_of_who_trades_or_is_not_managed, set_up_placed,
                                                tear_down),
                cmocka_unit_test(test_parts_as_small_as_they_must_be),
                cmocka_unit_test(test_each_part_has_its_turn),
                cmocka_unit_test(test_parts_grow_again),
                cmocka_unit_test_setup_teardown(test_a_guest_that_writes_much, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
