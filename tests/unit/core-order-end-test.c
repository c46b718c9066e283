/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of what core_step() makes of an order that the guest could not carry out: when it asks again, and
 * for what.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "step-rig.h"

/* A guest that moves nothing is asked less and less often; one that never answers times out. */
static void test_back_off(void **state) {
        Rig *g = *state;
        unsigned pause, last = 0;
        DomainTotals t;

        assert_int_equal(steps_until_order(g, 3), 3);
        for (unsigned i = 0; i < 8; i++) {
                g->ack.skipped_pages[SKIP_NO_ROOM] = HOT;
                acknowledge(g, g->order, ACK_DONE);
                pause = steps_until_order(g, 1000);
                assert_true(pause > 0);
                assert_true(i >= 6 ? pause == last : pause > last);
                last = pause;
        }
        assert_int_equal(last, 2 << BACKOFF_MAX);
        g->now += ORDER_TIMEOUT_USEC;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_SETTLING);
        assert_int_equal(core_get_totals(g->core, 7, &t), 0);
        assert_int_equal(t.failed_orders, 1);
}

static void test_refused_pages_are_barred(void **state) {
        Rig *g = *state;
        unsigned pause;

        assert_int_equal(steps_until_order(g, 3), 3);
        g->ack.skipped_pages[SKIP_PINNED] = HOT;
        acknowledge(g, g->order, ACK_DONE);
        pause = steps_until_order(g, 1000);
        assert_in_range(pause, BAR_EPOCHS - 2, BAR_EPOCHS + 2);
}

/* Time passes for them while tracking rests, too. */
static void test_refused_pages_are_barred_for_a_while(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        g->ack.skipped_pages[SKIP_PINNED] = HOT;
        acknowledge(g, g->order, ACK_DONE);
        g->facts.samples = 0;
        assert_int_equal(steps_until_order(g, BAR_EPOCHS), 0);
        g->facts.samples = 10;
        assert_in_range(steps_until_order(g, 10), 1, 3);
}

/* All of DRAM is hot but for frames that the guest cannot move: it is at rest without them, not backed off,
 * and the next order comes as soon as something else gets cold. */
static void test_stuck_pages_give_no_room(void **state) {
        Rig *g = *state;

        memset(g->counters, 10, DRAM - HOT);
        assert_int_equal(steps_until_order(g, 3), 3);
        g->ack.skipped_pages[SKIP_NO_ROOM] = g->ack.skipped_pages[SKIP_UNMOVABLE] = HOT;
        acknowledge(g, g->order, ACK_DONE);
        assert_int_equal(steps_until_order(g, 20), 0);
        assert_int_equal(g->decision.verdict, VERDICT_BALANCED);
        memset(g->counters, 0, 200);
        assert_in_range(steps_until_order(g, 20), 5, 15);
        assert_true(g->decision.promote_pages <= 200);

        /* The same once more explains nothing: it is asked again, but later. */
        g->ack.skipped_pages[SKIP_NO_ROOM] = g->decision.promote_pages;
        acknowledge(g, g->order, ACK_DONE);
        step(g);
        assert_int_equal(g->order, 0);
        assert_int_equal(g->decision.verdict, VERDICT_SETTLING);
        assert_in_range(steps_until_order(g, 20), 1, 4);
}

/* Where some pages found no room, more are demoted beside those of the next order; not when all found some.
 * Before anything was promoted, as many more as the guest's kernel may have of DRAM. */
static void test_lack_of_room(void **state) {
        Rig *g = *state;
        uint64_t lack = DRAM / DRAM_RESERVE, no_room = 5; /* few: DRAM is not much more than is demoted */

        assert_int_equal(steps_until_order(g, 3), 3);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(g->decision.demote_pages,
                                 (g->decision.promote_pages + lack) * DEMOTE_OVERPROVISION);
                g->ack.promoted_pages = g->decision.promote_pages - no_room;
                g->ack.skipped_pages[SKIP_NO_ROOM] = no_room;
                lack = i == 0 ? LACK_FACTOR * no_room : 0;
                if (i == 1)
                        g->ack.skipped_pages[SKIP_NO_ROOM] = 0;
                acknowledge(g, g->order, ACK_DONE);
                assert_true(steps_until_order(g, 40) > 0);
        }
        assert_int_equal(g->decision.demote_pages, g->decision.promote_pages * DEMOTE_OVERPROVISION);
}

/* They are asked for again: memory that was pinned may be free by now. */
static void test_stuck_pages_are_tried_again(void **state) {
        Rig *g = *state;

        memset(g->counters, 10, DRAM - HOT);
        assert_int_equal(steps_until_order(g, 3), 3);
        g->ack.skipped_pages[SKIP_NO_ROOM] = g->ack.skipped_pages[SKIP_PINNED] = HOT;
        acknowledge(g, g->order, ACK_DONE);
        assert_in_range(steps_until_order(g, 1000), BAR_EPOCHS - 2, BAR_EPOCHS + 2);
}

static uint64_t warm_dram_pages(const Rig *g) {
        HeatHistogram h;
        uint64_t n = 0;

        assert_int_equal(core_get_heat(g->core, 7, &h), 0);
        for (unsigned band = heat_band(HEAT_TAIL); band < HEAT_BANDS; band++)
                n += h.cells[0].pages[band];
        return n;
}

/* Frames of the demote list take the heat of the pages that came; where nearly all of the list was skipped
 * it does not make all of DRAM look warm. */
static void test_heat_of_frames_that_were_demoted_from(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        g->ack.promoted_pages = g->ack.demoted_pages = HOT;
        acknowledge(g, g->order, ACK_DONE);
        assert_int_equal(warm_dram_pages(g), HOT);
}

static void test_heat_of_frames_that_were_skipped(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        g->ack.promoted_pages = g->ack.demoted_pages = HOT / 10;
        g->ack.skipped_pages[SKIP_UNMOVABLE] = g->decision.demote_pages - HOT / 10;
        acknowledge(g, g->order, ACK_DONE);
        assert_int_equal(warm_dram_pages(g), 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                WITH_RIG(test_back_off),
                WITH_RIG(test_refused_pages_are_barred),
                WITH_RIG(test_refused_pages_are_barred_for_a_while),
                WITH_RIG(test_stuck_pages_give_no_room),
                WITH_RIG(test_lack_of_room),
                WITH_RIG(test_stuck_pages_are_tried_again),
                WITH_RIG(test_heat_of_frames_that_were_demoted_from),
                WITH_RIG(test_heat_of_frames_that_were_skipped),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
