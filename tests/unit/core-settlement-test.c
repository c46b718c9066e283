/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Settlement, rule by rule, with guests that are scripted by hand. All interleavings are in
 * ../sim/settlement-model.c; the ledger by itself is in core-ledger-test.c, VMs that go away in
 * core-settlement-away-test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "settlement-rig.h"

static void test_trade(void **state) {
        trade_once(*state);
}

static void test_refusal(void **state) {
        Rig *r = *state;

        open_trade(r, 2, 2);
        step(r);
        for (int i = 0; i < 10; i++) {
                obey(r, 0); /* the other one gives nothing, ever */
                step(r);
        }
        assert_int_equal(ticket_escrow(&vm(r, 0)->ticket), 2);
        assert_sizes(r, 0, 192, 512);
        assert_sizes(r, 1, 256, 448);
        r->now += r->policy.settle_usec;
        step(r);
        assert_true(told(r, SETTLE_LATE, 1, 2) && told(r, SETTLE_RETURNED, 0, 2) &&
                    told(r, SETTLE_ENDED, 1, 0));
        assert_int_equal(vm(r, 0)->position, 0);
        assert_sizes(r, 0, 256, 512);
        assert_sizes(r, 1, 256, 512);
        assert_int_equal(vm(r, 0)->ended_at, r->now);
        assert_int_equal(vm(r, 0)->last_direction, 0);
        assert_int_equal(vm(r, 0)->refusals, 0);
        assert_int_equal(vm(r, 1)->refusals, 1);
}

/* Tickets of VM 1 that run out of time, while it does nothing. */
static void refuse(Rig *r, unsigned times) {
        for (unsigned i = 0; i < times; i++) {
                open_trade(r, 1, 1);
                step(r);
                obey(r, 0);
                r->now += r->policy.settle_usec;
                step(r);
                assert_true(told(r, SETTLE_LATE, 1, 1));
                obey(r, 0);
        }
}

/* Counted while nothing comes; whatever comes ends it, and who could not give is not blamed. */
static void test_refusals(void **state) {
        Rig *r = *state;

        refuse(r, 3);
        assert_int_equal(vm(r, 1)->refusals, 3);
        refuse(r, 10);
        assert_int_equal(vm(r, 1)->refusals, REFUSALS_MAX);
        open_trade(r, 2, 2);
        for (unsigned i = 0; i < 4; i++) { /* one lot of two, and no more */
                step(r);
                obey(r, 0);
                r->facts[1].cells[TIER_SLOW].size_bytes =
                        MAX(r->facts[1].cells[TIER_SLOW].requested_bytes, 384 * MIB);
        }
        assert_int_equal(vm(r, 1)->ticket.delivered, 1);
        assert_int_equal(vm(r, 1)->refusals, 0);
        r->now += r->policy.settle_usec;
        step(r);
        assert_int_equal(vm(r, 1)->refusals, 0);
        assert_int_equal(vm(r, 1)->ticket.lots, 0);

        r->facts[0].frozen = true;
        open_trade(r, 1, 1);
        for (unsigned i = 0; i < 4; i++) {
                step(r);
                obey(r, 1);
        }
        r->now += r->policy.settle_usec;
        step(r);
        assert_true(told(r, SETTLE_LATE, 0, 1));
        assert_int_equal(vm(r, 0)->refusals, 0);

        r->facts[0].frozen = false; /* nor whose partner had nothing to give */
        r->capacity[TIER_DRAM] = 0;
        assert_return_code(settlement_open(&r->ledger, id_of(1), 1, r->now), 0);
        assert_return_code(settlement_open(&r->ledger, r->ledger.pool.id, -1, r->now), 0);
        step(r);
        assert_int_equal(vm(r, 1)->ticket.lots, 0);
        assert_int_equal(vm(r, 1)->refusals, 0);
        assert_int_equal(r->ledger.pool.refusals, 0);
}

static void test_partial(void **state) {
        Rig *r = *state;

        open_trade(r, 2, 2);
        step(r);
        for (int i = 0; i < 10; i++) {
                obey(r, 0);
                r->facts[1].cells[TIER_SLOW].size_bytes =
                        MAX(r->facts[1].cells[TIER_SLOW].requested_bytes, 360 * MIB);
                step(r);
        }
        r->now += r->policy.settle_usec;
        step(r);
        assert_int_equal(vm(r, 0)->position, -1);
        assert_int_equal(vm(r, 1)->position, 1);
        assert_sizes(r, 0, 224, 640);
        assert_sizes(r, 1, 288, 384); /* 24 MiB short of the second lot: it gets them back */
}

/* What a guest says is nothing: only what QEMU's device and process hold counts. */
static void test_resident_memory_counts(void **state) {
        Rig *r = *state;

        open_trade(r, 1, 1);
        step(r);
        for (int i = 0; i < 4; i++) {
                obey(r, 0);
                obey(r, 1);
                r->facts[0].cells[TIER_DRAM].resident_bytes = 256 * MIB; /* "shrunk", and still there */
                step(r);
        }
        assert_int_equal(vm(r, 0)->ticket.delivered, 0);
        assert_int_equal(vm(r, 1)->ticket.delivered, 1);
        assert_int_equal(vm(r, 1)->position, 0);
        r->facts[0].cells[TIER_DRAM].resident_bytes = 100 * MIB;
        step(r);
        assert_int_equal(vm(r, 1)->position, 1);
}

/* A guest may plug up to what it was asked for: what it gives up by itself, before it was asked, is not
 * given. */
static void test_unasked_memory_does_not_count(void **state) {
        Rig *r = *state;

        open_trade(r, 4, 1); /* 128 MiB of DRAM, in steps of 64 */
        step(r);
        assert_sizes(r, 0, 192, 512);
        r->facts[0].cells[TIER_DRAM].size_bytes = 128 * MIB;
        step(r);
        assert_int_equal(vm(r, 0)->ticket.delivered, 2);
        assert_sizes(r, 0, 128, 512);
        step(r);
        assert_int_equal(vm(r, 0)->ticket.delivered, 4);
}

/* The next step is asked for when the host has seen the last one done, not while it is under way. */
static void test_steps_wait(void **state) {
        Rig *r = *state;

        open_trade(r, 4, 1);
        step(r);
        assert_sizes(r, 0, 192, 512);
        r->facts[0].cells[TIER_DRAM].size_bytes = 194 * MIB;
        step(r);
        assert_sizes(r, 0, 192, 512);
        obey(r, 0);
        step(r);
        assert_sizes(r, 0, 128, 512);
}

/* A guest that says it has little left is not asked for another step, finishes the one under way, and is let
 * off from what is left of that when it has less than it always keeps. The other side waits no longer for
 * it. */
static void test_guest_without_room(void **state) {
        Rig *r = *state;

        open_trade(r, 4, 4);
        r->facts[0].lacks_bytes = 1;
        step(r);
        assert_sizes(r, 0, 256, 512);
        r->facts[0].lacks_bytes = 0;
        step(r);
        assert_sizes(r, 0, 192, 512);
        r->facts[0].cells[TIER_DRAM].size_bytes = 226 * MIB;
        r->facts[0].lacks_bytes = 64 * MIB;
        step(r);
        assert_sizes(r, 0, 192, 512);
        r->facts[0].lacks_bytes = 64 * MIB + 1;
        step(r);
        assert_sizes(r, 0, 226, 512);
        r->now += r->policy.settle_usec;
        step(r);
        assert_true(told(r, SETTLE_LATE, 0, 4));
        step(r);
        assert_sizes(r, 0, 256, 512);
}

/* Tickets of later clearings cannot keep a lot in escrow for ever. */
static void test_later_tickets_do_not_hold_escrow(void **state) {
        Rig *r = *state;

        open_trade(r, 1, 1);
        step(r);
        obey(r, 0);
        r->now += r->policy.settle_usec / 2;
        r->n_facts = 3;
        r->capacity[TIER_DRAM] += 256 * MIB;
        r->capacity[TIER_SLOW] += 512 * MIB;
        assert_return_code(ledger_add(&r->ledger, id_of(2), (const uint64_t[]){ 128, 256 }, NULL), 0);
        assert_return_code(settlement_open(&r->ledger, id_of(2), 1, r->now), 0); /* it, too, never gives */
        step(r);
        assert_int_equal(ticket_escrow(&vm(r, 0)->ticket), 1);
        r->now += r->policy.settle_usec / 2;
        step(r);
        assert_true(told(r, SETTLE_RETURNED, 0, 1) && told(r, SETTLE_LATE, 1, 1));
        assert_int_equal(vm(r, 0)->ticket.lots, 0);
        assert_sizes(r, 0, 256, 512);
        step(r);
        assert_true(told(r, SETTLE_ENDED, 2, 0)); /* nobody is left who gives */
}

/* Who was paid least is paid next; among equals the smaller id. */
static void test_who_is_paid_first(void **state) {
        Rig *r = *state;
        SettleCell *slow = &r->facts[3].cells[TIER_SLOW];

        r->n_facts = 4;
        r->capacity[TIER_DRAM] *= 2;
        r->capacity[TIER_SLOW] *= 2;
        slow->boot_bytes = 0;
        for (unsigned i = 2; i < 4; i++)
                assert_return_code(ledger_add(&r->ledger, id_of(i), vm(r, 0)->entitlement_blocks, NULL), 0);
        assert_return_code(settlement_open(&r->ledger, id_of(0), -3, r->now), 0);
        assert_return_code(settlement_open(&r->ledger, id_of(1), -1, r->now), 0);
        assert_return_code(settlement_open(&r->ledger, id_of(2), -1, r->now), 0);
        assert_return_code(settlement_open(&r->ledger, id_of(3), 4, r->now), 0);
        step(r);
        obey(r, 0);
        step(r);
        obey(r, 0);
        slow->size_bytes = slow->requested_bytes = 256 * MIB; /* two lots */
        step(r);
        assert_int_equal(vm(r, 0)->ticket.paid, 2); /* there is nobody else yet */
        obey(r, 1);
        obey(r, 2);
        slow->size_bytes = slow->requested_bytes = 128 * MIB;
        step(r);
        assert_int_equal(vm(r, 0)->ticket.paid, 2);
        assert_int_equal(vm(r, 1)->position, -1);
        assert_int_equal(vm(r, 2)->ticket.paid, 0);
        slow->size_bytes = slow->requested_bytes = 0;
        step(r);
        assert_int_equal(vm(r, 0)->position, -2);
        assert_int_equal(vm(r, 2)->position, -1);
        assert_int_equal(vm(r, 3)->position, 4);
}

/* What a VM owns and has not plugged is not free. */
static void test_pool_does_not_sell_what_is_owned(void **state) {
        Rig *r = *state;
        AccountId pool = { { 0 } };

        r->facts[0].cells[TIER_DRAM].size_bytes = r->facts[0].cells[TIER_DRAM].requested_bytes = 128 * MIB;
        assert_int_equal(settlement_free(&r->ledger, r->facts, 2, TIER_DRAM, r->capacity[TIER_DRAM]), 0);
        assert_return_code(settlement_open(&r->ledger, id_of(1), 1, r->now), 0);
        assert_return_code(settlement_open(&r->ledger, pool, -1, r->now), 0);
        step(r);
        assert_int_equal(r->ledger.pool.ticket.lots, 0);
        step(r);
        assert_true(told(r, SETTLE_ENDED, 1, 0) || vm(r, 1)->ticket.lots == 0);
        assert_int_equal(vm(r, 1)->position, 0);
}

/* Something else took the pool's memory between its promise and the exchange. */
static void test_pool_that_dwindles(void **state) {
        Rig *r = *state;
        AccountId pool = { { 0 } };

        r->capacity[TIER_SLOW] += 256 * MIB; /* two lots */
        assert_return_code(settlement_open(&r->ledger, id_of(0), -2, r->now), 0);
        assert_return_code(settlement_open(&r->ledger, pool, 2, r->now), 0);
        step(r);
        assert_int_equal(ticket_escrow(&r->ledger.pool.ticket), 2);
        r->capacity[TIER_SLOW] -= 128 * MIB;
        for (int i = 0; i < 4; i++) {
                obey(r, 0);
                step(r);
        }
        assert_int_equal(r->ledger.pool.position, 1);
        assert_sizes(r, 0, 224, 640);
}

/* Neither beyond the device nor below boot memory, and whole blocks of the device, whatever the ledger says.
 */
static void test_sizes_of_the_device(void **state) {
        Rig *r = *state;
        SettleCell *dram = &r->facts[0].cells[TIER_DRAM], *slow = &r->facts[0].cells[TIER_SLOW];

        dram->device_max_bytes = 100 * MIB; /* with boot memory, 228 of the 256 that it is entitled to */
        slow->boot_bytes = 257 * MIB + 4096;
        r->capacity[TIER_SLOW] += 512 * MIB;
        step(r);
        assert_sizes(r, 0, 228, 511);
        assert_int_equal((slow->requested_bytes - slow->boot_bytes) % (2 * MIB), 0);
        dram->boot_bytes = 384 * MIB;
        step(r);
        assert_sizes(r, 0, 384, 511);
}

/* Figures that no device can have stop nobody else, and do not make room by wrapping around. */
static void test_hostile_figures(void **state) {
        Rig *r = *state;

        open_trade(r, 1, 1);
        r->n_facts = 3; /* one without an account */
        r->facts[2].cells[TIER_DRAM].boot_bytes = UINT64_MAX;
        r->facts[2].cells[TIER_DRAM].device_max_bytes = UINT64_MAX;
        r->facts[2].cells[TIER_DRAM].size_bytes = UINT64_MAX - 100 * MIB;
        r->facts[2].cells[TIER_SLOW] = (SettleCell) { 0 };
        for (int i = 0; i < 4; i++) {
                step(r);
                obey(r, 0);
                obey(r, 1);
        }
        assert_int_equal(vm(r, 0)->position, -1);
        assert_sizes(r, 0, 224, 640);
        assert_sizes(r, 1, 256, 384); /* no DRAM is free */
        r->n_facts = 2;
        r->facts[0].cells[TIER_DRAM].boot_bytes = UINT64_MAX - 1;
        r->facts[0].cells[TIER_DRAM].size_bytes = UINT64_MAX - 1;
        step(r);
        assert_sizes(r, 0, 224, 640); /* it is left alone */
        assert_sizes(r, 1, 256, 384);
}

/* A clock that is behind a ticket's is no time-out. */
static void test_clock_that_starts_anew(void **state) {
        Rig *r = *state;

        open_trade(r, 1, 1);
        vm(r, 0)->ticket.opened_at = vm(r, 1)->ticket.opened_at = r->now + 1000 * USEC_PER_SEC;
        step(r);
        assert_int_equal(vm(r, 0)->ticket.lots, -1);
}

static void test_refused_facts(void **state) {
        Rig *r = *state;
        Settlement out;

        r->facts[1].id = r->facts[0].id;
        assert_int_equal(settlement_step(&r->ledger, &r->policy, r->facts, 2, r->capacity, r->now, &out),
                         -EINVAL);
        r->facts[1].id = id_of(1);
        r->policy.step_bytes = MIB;
        assert_int_equal(settlement_step(&r->ledger, &r->policy, r->facts, 2, r->capacity, r->now, &out),
                         -EINVAL);
        assert_int_equal(r->ledger.n_accounts, 2);
}

static void test_pool(void **state) {
        Rig *r = *state;
        AccountId pool = { { 0 } };

        r->capacity[TIER_SLOW] += 128 * MIB; /* one lot */
        assert_return_code(settlement_open(&r->ledger, id_of(0), -2, r->now), 0);
        assert_return_code(settlement_open(&r->ledger, pool, 2, r->now), 0);
        for (int i = 0; i < 4; i++) {
                step(r);
                obey(r, 0);
        }
        assert_int_equal(vm(r, 0)->position, -1);
        assert_int_equal(r->ledger.pool.position, 1);
        assert_sizes(r, 0, 224, 640);
        assert_int_equal(r->ledger.pool.ticket.lots, 0);
}

/* Even where the ledger says that it owns more: no growth before the host has the room. */
static void test_growth_waits_for_room(void **state) {
        Rig *r = *state;

        trade_once(*state);
        r->capacity[TIER_SLOW] -= 128 * MIB; /* a node went away, say */
        r->facts[0].cells[TIER_SLOW].size_bytes = r->facts[0].cells[TIER_SLOW].requested_bytes = 512 * MIB;
        step(r);
        assert_sizes(r, 0, 224, 512);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_RIG(test_trade),
                WITH_RIG(test_refusal), WITH_RIG(test_refusals),
                WITH_RIG(test_partial),
                WITH_RIG(test_resident_memory_counts),
                WITH_RIG(test_unasked_memory_does_not_count),
                WITH_RIG(test_steps_wait),
                WITH_RIG(test_guest_without_room),
                WITH_RIG(test_later_tickets_do_not_hold_escrow),
                WITH_RIG(test_who_is_paid_first),
                WITH_RIG(test_pool_that_dwindles), WITH_RIG(test_pool_does_not_sell_what_is_owned),
                WITH_RIG(test_sizes_of_the_device),
                WITH_RIG(test_hostile_figures),
                WITH_RIG(test_clock_that_starts_anew),
                WITH_RIG(test_refused_facts),
                WITH_RIG(test_pool),
                WITH_RIG(test_growth_waits_for_room),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
