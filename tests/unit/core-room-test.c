/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of room made in DRAM for pages to come: from the guest's count of pages that found none to orders.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "step-rig.h"

#define LACKED (DRAM / 16)

/* A guest in which nothing is hot, and nothing is free in DRAM. */
static int set_up_full(void **state) {
        if (set_up(state) < 0)
                return -1;
        Rig *g = *state;

        memset(g->counters, 0, sizeof(g->counters));
        return 0;
}

static void steps(Rig *g, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                step(g);
                assert_int_equal(g->order, 0);
        }
}

static void test_as_many_as_were_lacked(void **state) {
        Rig *g = *state;
        char text[512];
        OrderList list;

        steps(g, 20);
        g->facts.cells[0].guest_foreign_pages += LACKED;
        step_list(g, &list);
        assert_int_equal(list.n_orders, 1);
        assert_int_equal(list.orders[0].promote.n_pages, 0);
        assert_int_equal(list.orders[0].demote.n_pages, LACKED * DEMOTE_OVERPROVISION);
        assert_int_equal(list.orders[0].demote.target_cell, 1);
        assert_int_equal(list.orders[0].demote_most, LACKED);
        assert_int_equal(list.n_decisions, 1);
        (void) decision_describe(&list.decisions[0], text, sizeof(text));
        assert_string_equal(text, "ordered up to 256 cold pages demoted (order 1), to make room: 256 new "
                                  "pages of the guest found none in DRAM");
        order_list_done(&list);
}

/* What one order cannot hold, or its rate does not allow, is ordered soon after, up to an eighth of the
 * cell. */
static void test_in_parts(void **state) {
        Rig *g = *state;
        uint64_t left = DRAM / ROOM_PART;
        OrderList list;

        steps(g, 20);
        g->facts.policy.migrate_bytes_per_sec = 200 * 2 * PAGE_BYTES; /* 200 pages an order */
        g->facts.cells[0].guest_foreign_pages += DRAM;
        g->facts.samples = 0;
        for (unsigned i = 0; i < 60 && left > 0; i++) {
                step_list(g, &list);
                g->facts.ack = NULL;
                if (list.n_orders > 0) {
                        assert_in_range(list.orders[0].demote_most, 1, MIN(left, 200U));
                        left -= list.orders[0].demote_most;
                        g->ack = (AckFacts){ .order = list.orders[0].order, .state = ACK_DONE };
                        g->facts.ack = &g->ack;
                }
                order_list_done(&list);
        }
        assert_int_equal(left, 0);
        step(g);
        steps(g, 15);
}

/* Every other page is cold: a list holds fewer of them than are wanted, and no more are asked for. */
static void test_scattered(void **state) {
        enum { PAGES = 1 << 18 };
        _cleanup_free_ uint8_t *counters = calloc(PAGES, 1);
        Rig *g = *state;
        OrderList list;

        for (size_t i = 0; i < PAGES; i += 2)
                counters[i] = 10;
        g->ranges[0].n_pages = PAGES;
        g->ranges[0].counters = counters;
        g->facts.cells[0].size_bytes = PAGES * PAGE_BYTES;
        g->facts.policy.migrate_bytes_per_sec = g->in.policy.migrate_bytes_per_sec = UINT64_C(1) << 32;
        steps(g, 20);
        g->facts.cells[0].guest_foreign_pages += PAGES;
        step_list(g, &list);
        assert_int_equal(list.n_orders, 1);
        assert_int_equal(list.orders[0].demote.n_pages, ORDER_RANGES_MAX);
        assert_int_equal(list.orders[0].demote_most, ORDER_RANGES_MAX);
        order_list_done(&list);
}

static void test_not_without_need(void **state) {
        Rig *g = *state;

        steps(g, 20);
        g->facts.cells[0].guest_foreign_pages += DRAM / ROOM_LEAST_PART - 1;
        steps(g, 30);
        g->facts.cells[0].guest_foreign_pages = 0; /* it started anew */
        steps(g, 30);
        /* What is free now is room already, but for what its kernel keeps. */
        g->facts.cells[0].guest_free_bytes = (DRAM / ROOM_RESERVE_PART + LACKED) * PAGE_BYTES;
        g->facts.cells[0].guest_foreign_pages += LACKED;
        steps(g, 30);
        g->facts.cells[0].guest_free_bytes = DRAM / ROOM_RESERVE_PART * PAGE_BYTES;
        assert_int_equal(steps_until_order(g, 1), 1);
}

static void test_not_known(void **state) {
        Rig *g = *state;

        g->facts.cells[0].guest_foreign_pages = UINT64_MAX;
        steps(g, 30);
        g->facts.cells[0].guest_foreign_pages = 1 << 20; /* of which all may be old */
        steps(g, 30);
}

static void test_only_what_is_managed(void **state) {
        Rig *g = *state;

        steps(g, 20);
        g->facts.policy.managed = false;
        g->facts.cells[0].guest_foreign_pages += LACKED;
        steps(g, 30);
        g->facts.policy.managed = true;
        g->facts.frozen = true;
        steps(g, 30);
        g->facts.frozen = false;
        g->facts.agent_ready = false;
        steps(g, 30);
        g->facts.agent_ready = true;
        assert_int_equal(steps_until_order(g, 1), 1);
}

/* While tracking rests, too. Where it does not, an order would end its turn: it waits a while. */
static void test_at_rest(void **state) {
        Rig *g = *state;

        steps(g, 20);
        g->facts.samples = 0;
        g->facts.cells[0].guest_foreign_pages += LACKED;
        assert_int_equal(steps_until_order(g, 1), 1);
        acknowledge(g, g->order, ACK_DONE);
        g->facts.samples = 10;
        g->facts.cells[0].guest_foreign_pages += LACKED;
        assert_in_range(steps_until_order(g, 60), 25, 35);
}

/* A guest that always lacks room, since it reads files once, is asked less and less often. */
static void test_back_off(void **state) {
        Rig *g = *state;
        unsigned pause = 0, last = 0;

        g->facts.samples = 0;
        steps(g, 3);
        g->facts.samples = 10;
        steps(g, 3);
        g->facts.samples = 0;
        for (unsigned i = 0; i < 9; i++, last = pause) {
                g->facts.cells[0].guest_foreign_pages += DRAM;
                pause = steps_until_order(g, 2000);
                assert_true(pause > 0);
                if (i > 0)
                        assert_true(i > ROOM_BACKOFF_MAX ? pause == last : pause > last);
                g->ack.demoted_pages = DRAM / ROOM_PART;
                acknowledge(g, g->order, ACK_DONE);
        }
        /* And soon again after a long time without need. */
        steps(g, 3000);
        g->facts.cells[0].guest_foreign_pages += DRAM;
        assert_int_equal(steps_until_order(g, 1), 1);
        acknowledge(g, g->order, ACK_DONE);
        g->facts.cells[0].guest_foreign_pages += DRAM;
        assert_in_range(steps_until_order(g, 100), 15, 25);
}

static void test_whatever_it_says(void **state) {
        static const uint64_t says[] = { UINT64_MAX - 1, 0, UINT64_C(1) << 53, 1, UINT64_MAX, 7 };
        Rig *g = *state;
        DomainTotals t;
        OrderList list;

        steps(g, 20);
        g->facts.cells[0].guest_free_bytes = UINT64_MAX;
        for (unsigned i = 0; i < 3000; i++) {
                g->facts.cells[0].guest_foreign_pages = says[i % ELEMENTSOF(says)];
                step_list(g, &list);
                if (list.n_orders > 0) {
                        assert_int_equal(list.orders[0].demote_most, DRAM / ROOM_PART);
                        g->ack = (AckFacts){ .order = list.orders[0].order, .state = ACK_DONE };
                        g->facts.ack = &g->ack;
                }
                order_list_done(&list);
        }
        assert_int_equal(core_get_totals(g->core, 7, &t), 0);
        assert_in_range(t.orders, 8, 12);
}

/* It says nothing of how promotions go, and the next list starts where this one ended. */
static void test_beside_promotion(void **state) {
        Rig *g = *state;
        DomainTotals t;
        OrderList list;

        steps(g, 20);
        g->facts.cells[0].guest_foreign_pages += LACKED;
        assert_int_equal(steps_until_order(g, 1), 1);
        g->ack.demoted_pages = LACKED;
        acknowledge(g, g->order, ACK_DONE);
        assert_int_equal(core_get_totals(g->core, 7, &t), 0);
        assert_int_equal(t.demoted_pages, LACKED);
        memset(g->counters + DRAM, 10, HOT);
        for (unsigned i = 0; i < 10; i++) {
                step_list(g, &list);
                if (list.n_orders > 0)
                        break;
                order_list_done(&list);
        }
        assert_int_equal(list.n_orders, 1);
        assert_int_equal(list.orders[0].promote.n_pages, HOT);
        assert_int_equal(list.orders[0].demote_most, 0);
        assert_int_equal(list.orders[0].demote.ranges[0].gfn, LACKED * DEMOTE_OVERPROVISION);
        order_list_done(&list);
}

/* Nothing is cold: nothing is ordered. */
static void test_all_is_hot(void **state) {
        Rig *g = *state;

        memset(g->counters, 10, DRAM);
        steps(g, 20);
        g->facts.cells[0].guest_foreign_pages += LACKED;
        steps(g, 30);
}

#define WITH_FULL(f) cmocka_unit_test_setup_teardown(f, set_up_full, tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_FULL(test_as_many_as_were_lacked),
                WITH_FULL(test_in_parts),
                WITH_FULL(test_scattered),
                WITH_FULL(test_not_without_need),
                WITH_FULL(test_not_known),
                WITH_FULL(test_only_what_is_managed),
                WITH_FULL(test_at_rest),
                WITH_FULL(test_back_off),
                WITH_FULL(test_whatever_it_says),
                WITH_FULL(test_beside_promotion),
                WITH_FULL(test_all_is_hot),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
