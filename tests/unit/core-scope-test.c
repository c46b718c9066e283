/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of what tracking looks at: DRAM is left out where nothing is to be moved, keeps its heat meanwhile,
 * and is looked at again when that may no longer be true.
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
        g->ranges[0].counters = core_skips_dram(g->core, 7) ? NULL : g->counters;
        step(g);
}

static unsigned looks_until(Rig *g, bool narrow, unsigned most) {
        for (unsigned i = 1; i <= most; i++) {
                look(g);
                if (core_skips_dram(g->core, 7) == narrow)
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

        assert_false(core_skips_dram(g->core, 7));
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
        assert_true(core_skips_dram(g->core, 7));
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
                assert_true(core_skips_dram(g->core, 7));
                look(g);
        }
        assert_int_not_equal(g->order, 0);
        assert_int_equal(g->decision.promote_pages, HOT / SCOPE_NEWS - 1);
        assert_false(core_skips_dram(g->core, 7));
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
        assert_false(core_skips_dram(g->core, 8)); /* not known */
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
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
