/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Settlement with VMs that are not there all the time: started anew, gone, or frozen in mid-trade.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "settlement-rig.h"

/* A VM that was started anew in mid-trade has again what it had given: it is neither paid for it, nor is
 * that of the other side at stake. */
static void started_anew(Rig *r, bool paused) {
        open_trade(r, 1, 1);
        step(r);
        obey(r, 0);
        step(r);
        assert_int_equal(ticket_escrow(&vm(r, 0)->ticket), 1);
        r->facts[0].cells[TIER_DRAM].size_bytes = r->facts[0].cells[TIER_DRAM].requested_bytes = 256 * MIB;
        r->facts[0].frozen = paused;
        for (int i = 0; i < 4; i++) {
                obey(r, 1);
                step(r);
                if (i == 0)
                        assert_true(told(r, SETTLE_TAKEN_BACK, 0, 1) && told(r, SETTLE_ENDED, 0, 0));
        }
        assert_int_equal(vm(r, 0)->position, 0);
        assert_int_equal(vm(r, 1)->position, 0);
        assert_sizes(r, 0, 256, 512);
        assert_sizes(r, 1, 256, 512);
}

static void test_started_anew(void **state) {
        started_anew(*state, false);
}

static void test_started_anew_and_paused(void **state) {
        started_anew(*state, true);
}

/* With a position it comes back at its entitlement's sizes: it gets to its own, but holds at no time more
 * than they are worth, even if it never shrinks. */
static void test_back_at_configured_sizes(void **state) {
        Rig *r = *state;

        trade_once(r);
        r->capacity[TIER_DRAM] += 512 * MIB;
        r->capacity[TIER_SLOW] += 512 * MIB;
        r->facts[0].cells[TIER_DRAM].size_bytes = r->facts[0].cells[TIER_DRAM].requested_bytes = 256 * MIB;
        r->facts[0].cells[TIER_SLOW].size_bytes = r->facts[0].cells[TIER_SLOW].requested_bytes = 512 * MIB;
        step(r);
        step(r);
        assert_sizes(r, 0, 224, 512);
        obey(r, 0);
        step(r);
        assert_sizes(r, 0, 224, 640);
}

static void test_gone(void **state) {
        Rig *r = *state;

        open_trade(r, 1, 1);
        step(r);
        obey(r, 0);
        step(r);
        assert_int_equal(ticket_escrow(&vm(r, 0)->ticket), 1);
        r->n_facts = 1; /* the other one disconnects in mid-trade */
        step(r);
        assert_null(vm(r, 1));
        assert_true(told(r, SETTLE_GONE, 1, 1) && told(r, SETTLE_RETURNED, 0, 1));
        assert_sizes(r, 0, 256, 512);
        assert_int_equal(r->ledger.pool.position, 0);
}

static void test_gone_with_a_position(void **state) {
        Rig *r = *state;

        trade_once(r);
        r->n_facts = 1;
        step(r);
        assert_int_equal(r->ledger.pool.position, 1);
        assert_int_equal(vm(r, 0)->position, -1);
        assert_return_code(ledger_check(&r->ledger, NULL), 0);
}

static void test_frozen(void **state) {
        Rig *r = *state;

        open_trade(r, 1, 1);
        r->facts[0].frozen = true;
        step(r);
        assert_sizes(r, 0, 256, 512);
        r->facts[0].cells[TIER_DRAM].size_bytes = 0; /* as it may look in a migration */
        step(r);
        assert_int_equal(vm(r, 0)->ticket.delivered, 0);
        r->now += r->policy.settle_usec;
        step(r);
        assert_int_equal(vm(r, 0)->ticket.lots, 0); /* others do not wait for ever */
        assert_int_equal(vm(r, 1)->ticket.lots, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_RIG(test_started_anew),
                WITH_RIG(test_started_anew_and_paused),
                WITH_RIG(test_back_at_configured_sizes),
                WITH_RIG(test_gone),
                WITH_RIG(test_gone_with_a_position),
                WITH_RIG(test_frozen),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
