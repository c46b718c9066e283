/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of what core_step() makes of orders whose pages are written again, and of orders whose pages are
 * not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "step-rig.h"

#define AT_ONCE 5 /* steps until an order that need not wait: heat settles, and new pages get hot */
#define FIRST_PAUSE (PAYOFF_PAUSE_USEC / USEC_PER_SEC << 1)

/* Other slow pages are hot from now on, and nothing else is, but for so many DRAM frames. */
static void write_other_pages(Rig *g, unsigned n, unsigned dram_from, unsigned n_dram) {
        static unsigned from;

        from = (from + HOT) % (SLOW / 2);
        memset(g->counters, 0, sizeof(g->counters));
        memset(g->counters + DRAM + from, 10, n);
        memset(g->counters + dram_from, 10, n_dram);
}

/* The order under way has promoted all it named, to where as many frames were demoted from. */
static void carry_out(Rig *g) {
        g->ack.promoted_pages = g->ack.demoted_pages = g->decision.promote_pages;
        acknowledge(g, g->order, ACK_DONE);
}

/* Its pages are not written again. */
static void first_order_in_vain(Rig *g) {
        assert_int_equal(steps_until_order(g, 3), 3);
        write_other_pages(g, HOT, 0, 0);
        carry_out(g);
}

static void test_written_again(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        write_other_pages(g, HOT, 0, HOT);
        carry_out(g);
        assert_in_range(steps_until_order(g, 20), 1, AT_ONCE);
}

/* As few as one in PAYOFF_PART are enough. */
static void test_some_written_again(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        write_other_pages(g, HOT, HOT / 2, HOT / PAYOFF_PART);
        carry_out(g);
        assert_in_range(steps_until_order(g, 20), 1, AT_ONCE);
}

/* Less often than before. */
static void test_written_less(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        write_other_pages(g, HOT, 0, 0);
        memset(g->counters, 2, HOT);
        carry_out(g);
        assert_in_range(steps_until_order(g, 20), 1, AT_ONCE);
}

static void test_in_vain(void **state) {
        Rig *g = *state;
        char text[512];
        unsigned pause;

        first_order_in_vain(g);
        pause = steps_until_order(g, 30);
        assert_in_range(pause, FIRST_PAUSE, FIRST_PAUSE + AT_ONCE);

        /* Again and again, and it says so. */
        for (unsigned i = 2; i < 8; i++) {
                write_other_pages(g, HOT, 0, 0);
                carry_out(g);
                for (unsigned k = 0; k < AT_ONCE; k++)
                        step(g);
                assert_int_equal(g->decision.verdict, VERDICT_VAIN);
                (void) decision_describe(&g->decision, text, sizeof(text));
                assert_non_null(strstr(text, "next to nothing was written again (7"));
                pause = AT_ONCE + steps_until_order(g, 200);
                assert_in_range(pause, FIRST_PAUSE << (MIN(i, (unsigned) PAYOFF_BACKOFF_MAX) - 1),
                                (FIRST_PAUSE << (MIN(i, (unsigned) PAYOFF_BACKOFF_MAX) - 1)) + AT_ONCE);
        }

        /* One that pays ends it. */
        write_other_pages(g, HOT, 0, DRAM / 2);
        carry_out(g);
        assert_in_range(steps_until_order(g, 100), 1, AT_ONCE);
}

static void test_more_than_that_does_not_wait(void **state) {
        Rig *g = *state;

        first_order_in_vain(g);
        assert_true(steps_until_order(g, 30) > 0);
        write_other_pages(g, HOT, 0, 0);
        carry_out(g);
        for (unsigned i = 0; i < AT_ONCE; i++)
                step(g);
        assert_int_equal(g->decision.verdict, VERDICT_VAIN);
        memset(g->counters + DRAM + SLOW / 2, 10, PAYOFF_LARGER * HOT);
        assert_in_range(steps_until_order(g, 20), 1, AT_ONCE);
}

/* Where nothing is wanted meanwhile it is judged before heat has forgotten it. */
static void test_judged_in_time(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        write_other_pages(g, 0, 0, 0);
        carry_out(g);
        assert_int_equal(steps_until_order(g, HEAT_MEMORY + 1), 0);
        write_other_pages(g, HOT, 0, DRAM / 2); /* too late for the last one's pages */
        assert_in_range(steps_until_order(g, 20), FIRST_PAUSE - AT_ONCE, FIRST_PAUSE);
}

/* Pages that went to frames that were free are anywhere: nothing follows from such an order, neither after
 * others that paid nor after one in vain. */
static void test_unknown_frames_are_not_judged(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        write_other_pages(g, HOT, 0, 0);
        g->ack.promoted_pages = HOT;
        g->ack.skipped_pages[SKIP_FREE] = HOT;
        acknowledge(g, g->order, ACK_DONE);
        assert_in_range(steps_until_order(g, 20), 1, AT_ONCE);

        g->ack.skipped_pages[SKIP_FREE] = 0;
        write_other_pages(g, HOT, 0, 0);
        carry_out(g);
        assert_in_range(steps_until_order(g, 20), FIRST_PAUSE, FIRST_PAUSE + AT_ONCE);
        write_other_pages(g, HOT, 0, 0);
        g->ack.promoted_pages = HOT;
        g->ack.demoted_pages = 0;
        g->ack.skipped_pages[SKIP_FREE] = HOT;
        acknowledge(g, g->order, ACK_DONE);
        assert_true(steps_until_order(g, 20) > 0);
        g->ack.skipped_pages[SKIP_FREE] = 0;
        write_other_pages(g, HOT, 0, 0);
        carry_out(g);
        assert_in_range(steps_until_order(g, 40), FIRST_PAUSE << 1, (FIRST_PAUSE << 1) + AT_ONCE);
}

/* What a guest claims is bounded by what was ordered, and an order that is lost is not judged. */
static void test_lost(void **state) {
        Rig *g = *state;

        assert_int_equal(steps_until_order(g, 3), 3);
        write_other_pages(g, HOT, 0, 0);
        g->now += ORDER_TIMEOUT_USEC;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_SETTLING);
        assert_in_range(steps_until_order(g, 20), 1, 2 * AT_ONCE);
}

/* So many pages were promoted, and so many of them are written again after an epoch. */
static void order_ends(Payoff *p, Heatmap *m, uint64_t promoted, uint64_t kept, usec_t now) {
        PageList list = { .ranges = calloc(1, sizeof(PageRange)), .n_ranges = 1, .n_pages = DRAM };

        assert_non_null(list.ranges);
        list.ranges[0] = (PageRange){ .gfn = 0, .n_pages = DRAM };
        heatmap_set_heat(m, 0, promoted, 87); /* seven eighths of 100 */
        heatmap_set_heat(m, 0, kept, 120);
        payoff_begin(p, &list, promoted, promoted, 100);
        assert_null(list.ranges);
        payoff_pass_epoch(p);
        payoff_judge(p, m, 10, true, now);
}

static void test_account(void **state) {
        RangeFacts r = { .gfn = 0, .n_pages = DRAM, .cell = 0 };
        Heatmap m = { 0 };
        Payoff p = { 0 };

        (void) state;
        assert_int_equal(heatmap_set_ranges(&m, &r, 1), 0);
        order_ends(&p, &m, 800, 0, USEC_PER_SEC);
        order_ends(&p, &m, 800, 99, USEC_PER_SEC); /* of each 800, 100 would do */
        assert_true(payoff_pauses(&p, 1600, 16 * USEC_PER_SEC));
        assert_false(payoff_pauses(&p, 1601, 16 * USEC_PER_SEC));
        assert_false(payoff_pauses(&p, 1600, 17 * USEC_PER_SEC));
        order_ends(&p, &m, 800, 800, 2 * USEC_PER_SEC);
        assert_false(payoff_pauses(&p, 1, 2 * USEC_PER_SEC));

        /* It stays good for a while, and then all begins anew. */
        order_ends(&p, &m, 80, 0, 3 * USEC_PER_SEC);
        order_ends(&p, &m, 80, 0, 3 * USEC_PER_SEC);
        assert_false(payoff_pauses(&p, 1, 3 * USEC_PER_SEC));
        for (unsigned i = 0; p.backoff == 0; i++) {
                assert_in_range(i, 0, 8);
                order_ends(&p, &m, 80, 0, 3 * USEC_PER_SEC);
        }
        assert_true(payoff_pauses(&p, 160, 10 * USEC_PER_SEC));
        assert_false(payoff_pauses(&p, 161, 10 * USEC_PER_SEC));
        assert_false(payoff_pauses(&p, 160, 11 * USEC_PER_SEC));
        payoff_done(&p);
        heatmap_done(&m);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_RIG(test_written_again),
                WITH_RIG(test_some_written_again),
                WITH_RIG(test_written_less),
                WITH_RIG(test_in_vain),
                WITH_RIG(test_more_than_that_does_not_wait),
                WITH_RIG(test_judged_in_time),
                WITH_RIG(test_unknown_frames_are_not_judged),
                WITH_RIG(test_lost),
                cmocka_unit_test(test_account),
        };

        return cmocka_run_group_tests_name("payoff", tests, NULL, NULL);
}
