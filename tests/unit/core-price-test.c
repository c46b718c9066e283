/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A price that changes while memory is held at it: who gives first, who waits, what stops it, and that it
 * comes to rest. That no state of it oversells the host is tests/sim/settlement-model's to show.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "trade-rig.h"

/* VM 0 has sold two lots, one to each of the others. A step of the price is one block of 2 MiB a lot. */
static int setup(void **state) {
        Rig *r = rig_new(128 * MIB, 1152 * MIB);

        r->policy.settle_usec = 60 * USEC_PER_SEC;
        r->policy.dram_price_min = 3;
        r->policy.dram_price_max = 5;
        for (unsigned i = 0; i < VMS; i++) {
                r->facts[i].entitled_bytes[TIER_DRAM] = 256 * MIB;
                r->facts[i].entitled_bytes[TIER_SLOW] = 512 * MIB;
        }
        r->facts[0].wish = -2;
        r->facts[1].wish = r->facts[2].wish = 1;
        run(r, 8);
        r->facts[0].wish = r->facts[1].wish = r->facts[2].wish = 0;
        run(r, 40);
        r->policy.moving_price = true;
        *state = r;
        return 0;
}

static uint32_t lot(const Rig *r) {
        return trade_ledger(r->trade)->terms.lot_slow_blocks;
}

static uint64_t slow_asked(const Rig *r, unsigned i) {
        return r->facts[i].seen.cells[TIER_SLOW].requested_bytes / MIB;
}

static void assert_slow(const Rig *r, uint64_t a, uint64_t b, uint64_t c) {
        assert_int_equal(slow_asked(r, 0), a);
        assert_int_equal(slow_asked(r, 1), b);
        assert_int_equal(slow_asked(r, 2), c);
}

static bool told(const Rig *r, SettleEventType type) {
        for (size_t k = 0; k < r->out.n_events; k++)
                if (r->out.events[k].type == type)
                        return true;
        return false;
}

/* Until the price is about to change. */
static void run_to(Rig *r, TradePrice price) {
        for (unsigned i = 0; trade_price(r->trade, NULL) != price; i++) {
                assert_true(i < 40);
                run(r, 1);
        }
}

static void want_dram(Rig *r) {
        r->facts[1].wish = 1;
        run_to(r, PRICE_CHANGES);
}

static void test_nothing_wanted_nothing_moves(void **state) {
        Rig *r = *state;

        run(r, 50);
        assert_int_equal(lot(r), 64);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_STANDS);
        r->policy.moving_price = false;
        r->facts[1].wish = 1;
        run(r, 50);
        assert_int_equal(lot(r), 64);
        assert_slow(r, 768, 384, 384);
}

/* Buyers of DRAM owe more slow memory for it when it becomes dearer, and give it first. */
static void test_those_who_owe_give_first(void **state) {
        Rig *r = *state;
        Terms next;

        r->facts[1].wish = 1;
        while (trade_price(r->trade, NULL) != PRICE_CHANGES)
                tick(r);
        assert_true(r->out.changed);
        assert_int_equal(trade_price(r->trade, &next), PRICE_CHANGES);
        assert_int_equal(next.lot_slow_blocks, 65);
        assert_slow(r, 768, 382, 382);
        for (unsigned i = 0; i < 5; i++) { /* not before the host has seen both */
                tick(r);
                assert_int_equal(lot(r), 64);
                assert_slow(r, 768, 382, 382);
        }
        obey(r, 1);
        tick(r);
        assert_int_equal(lot(r), 64);
        obey(r, 2);
        r->facts[2].seen.cells[TIER_SLOW].resident_bytes = 383 * MIB; /* "shrunk", and still there */
        tick(r);
        assert_int_equal(lot(r), 64);
        r->facts[2].seen.cells[TIER_SLOW].resident_bytes = 300 * MIB;
        tick(r);
        assert_int_equal(lot(r), 65);
        assert_true(told(r, SETTLE_REPRICED) && r->out.changed);
        assert_slow(r, 772, 382, 382);
        for (unsigned i = 0; i < VMS; i++) {
                const TradeView v = view(r, i);
                const Terms *t = &trade_ledger(r->trade)->terms;

                assert_true(terms_value(t, v.owned_bytes[TIER_DRAM], v.owned_bytes[TIER_SLOW]) ==
                            terms_value(t, 256 * MIB, 512 * MIB));
        }
}

/* And get some back when it becomes cheaper, from who sold it. */
static void test_the_other_way(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -1;
        run_to(r, PRICE_CHANGES);
        assert_slow(r, 764, 384, 384);
        run(r, 2);
        assert_int_equal(lot(r), 63);
        assert_slow(r, 764, 386, 386);
}

/* One step a clearing, as far as it may go. */
static void test_bounds_of_the_price(void **state) {
        Rig *r = *state;

        r->facts[1].wish = 1;
        run(r, 20);
        assert_in_range(lot(r), 65, 66);
        run(r, 16 * 12);
        assert_int_equal(lot(r), 80);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_STANDS);
        assert_slow(r, 832, 352, 352);
        r->policy.dram_price_max = 4; /* a bound that is elsewhere now */
        r->facts[1].wish = 0;
        run(r, 3600);
        assert_int_equal(lot(r), 64);
        assert_slow(r, 768, 384, 384);
}

static void test_one_that_does_not_give(void **state) {
        Rig *r = *state;
        usec_t began;

        r->unwilling[1] = true;
        want_dram(r);
        began = r->now;
        run(r, 2);
        assert_slow(r, 768, 382, 382);
        assert_int_equal(trade_command(r->trade, id_of(2), TRADE_LOTS, 1), 0);
        run(r, 50);
        assert_int_equal(view(r, 2).account.command, 1); /* nothing is cleared meanwhile */
        for (unsigned i = 0; !told(r, SETTLE_PRICE_KEPT); i++) {
                assert_true(i < 70);
                run(r, 1);
        }
        assert_in_range(r->now - began, 60 * USEC_PER_SEC, 61 * USEC_PER_SEC);
        assert_true(told(r, SETTLE_KEPT));
        assert_slow(r, 768, 384, 384);
        assert_int_equal(lot(r), 64);
        assert_int_equal(view(r, 1).account.refusals, 1);
        assert_int_equal(view(r, 2).account.refusals, 0);
        run(r, 11);
        assert_int_equal(view(r, 2).account.command, 0); /* the market goes on */
        assert_int_equal(trade_price(r->trade, NULL), PRICE_WAITS_TIME);
        run(r, 100);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_WAITS_TIME);
        run(r, 10);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_CHANGES);
        run(r, 70);
        assert_int_equal(trade_ledger(r->trade)->repricing.holds, 2); /* twice as long again */
        run(r, 220);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_WAITS_TIME);
        r->unwilling[1] = false;
        run_to(r, PRICE_CHANGES);
        run(r, 2);
        assert_int_equal(lot(r), 65);
        assert_int_equal(trade_ledger(r->trade)->repricing.holds, 0);
}

/* Nothing can be asked of it; who only receives is waited for by nobody. */
static void test_frozen(void **state) {
        Rig *r = *state;

        r->facts[1].seen.frozen = true;
        r->facts[2].wish = 1;
        run_to(r, PRICE_WAITS_FROZEN);
        assert_return_code(trade_command(r->trade, id_of(2), TRADE_LOTS, 1), 0);
        run(r, 20);
        assert_int_equal(view(r, 2).account.command, 0); /* the market goes on */
        r->facts[1].seen.frozen = false;
        r->facts[0].seen.frozen = true;
        run_to(r, PRICE_CHANGES);
        run(r, 2);
        assert_int_equal(lot(r), 65);
        assert_slow(r, 768, 382, 382);
        r->facts[0].seen.frozen = false;
        run(r, 1);
        assert_slow(r, 772, 382, 382);
}

/* In the midst of it: it is nobody's fault, and the price stays. */
static void test_frozen_meanwhile(void **state) {
        Rig *r = *state;

        r->unwilling[1] = true;
        want_dram(r);
        r->unwilling[1] = false;
        r->facts[1].seen.cells[TIER_SLOW].size_bytes = 384 * MIB;
        r->facts[1].seen.frozen = true;
        for (unsigned i = 0; i < 62; i++) {
                tick(r);
                obey(r, 2);
        }
        assert_int_equal(lot(r), 64);
        assert_int_equal(view(r, 1).account.refusals, 0);
        assert_int_equal(slow_asked(r, 2), 384);
        r->facts[1].seen.frozen = false;
        run(r, 2);
        assert_slow(r, 768, 384, 384);
}

/* Its position is the pool's, which need not give what is free already. */
static void test_gone_meanwhile(void **state) {
        Rig *r = *state;

        r->unwilling[2] = true;
        want_dram(r);
        run(r, 2);
        assert_int_equal(lot(r), 64);
        r->n = 2; /* the last one, which did not give */
        run(r, 1);
        assert_int_equal(lot(r), 65);
        assert_int_equal(trade_ledger(r->trade)->pool.position, 1);
        run(r, 1);
        assert_int_equal(slow_asked(r, 0), 772);
        assert_int_equal(slow_asked(r, 1), 382);
}

static void test_a_holding_at_its_bound(void **state) {
        Rig *r = *state;

        r->facts[2].floor_bytes[TIER_SLOW] = 384 * MIB;
        r->facts[1].wish = 1;
        run_to(r, PRICE_WAITS_BOUNDS);
        assert_return_code(trade_command(r->trade, id_of(1), TRADE_LOTS, 1), 0);
        run(r, 12);
        assert_int_equal(lot(r), 64);
        assert_int_equal(view(r, 1).account.command, 0); /* the market goes on */
        r->facts[2].floor_bytes[TIER_SLOW] = 0;
        run_to(r, PRICE_CHANGES);
        r->facts[2].floor_bytes[TIER_SLOW] = 384 * MIB; /* before it has given */
        r->facts[2].seen.cells[TIER_SLOW].size_bytes = 384 * MIB;
        run(r, 2);
        assert_int_equal(lot(r), 64);
        assert_slow(r, 768, 384, 384);
}

/* What the pool sold, it owes slow memory for, as everybody. */
static void test_the_room_of_the_pool(void **state) {
        Rig *r = *state;

        r->first = 1; /* the seller is gone, but not what it gave */
        r->n = 2;
        r->capacity[TIER_DRAM] = 576 * MIB;
        r->policy.use_pool = true; /* it keeps it */
        r->capacity[TIER_SLOW] = 768 * MIB;
        run(r, 1);
        assert_int_equal(trade_ledger(r->trade)->pool.position, -2);
        r->facts[1].wish = -1; /* DRAM becomes cheaper: they get slow memory back */
        run_to(r, PRICE_WAITS_ROOM);
        assert_int_equal(lot(r), 64);
        r->capacity[TIER_SLOW] = 772 * MIB;
        run(r, 3);
        assert_int_equal(lot(r), 63);
        assert_int_equal(slow_asked(r, 1), 386);
        assert_int_equal(slow_asked(r, 2), 386);
}

/* It waits for trades that are open, and none begins meanwhile. */
static void test_open_trades(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -2;
        r->facts[1].wish = 1;
        r->unwilling[0] = true;
        run_to(r, PRICE_WAITS_TRADES);
        r->facts[2].wish = 1;
        for (unsigned i = 0; i < 30; i++) {
                run(r, 1);
                assert_int_equal(view(r, 2).account.ticket.lots, 0);
                assert_int_equal(trade_price(r->trade, NULL), PRICE_WAITS_TRADES);
        }
        r->unwilling[0] = false;
        run(r, 5);
        assert_true(lot(r) == 63 || trade_price(r->trade, NULL) == PRICE_CHANGES);
}

/* A price that was configured is gone to at once, as far as is to be given in time. Positions stay what they
 * are. */
static void test_a_price_that_was_configured(void **state) {
        Rig *r = *state;
        Terms next;

        r->policy.moving_price = false;
        r->policy.dram_price = 5;
        assert_int_equal(trade_set_terms(r->trade, &r->policy), 0);
        run(r, 1);
        assert_int_equal(trade_price(r->trade, &next), PRICE_CHANGES);
        assert_int_equal(next.lot_slow_blocks, 80);
        run(r, 3);
        assert_int_equal(trade_set_terms(r->trade, &r->policy), 1);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_STANDS);
        assert_slow(r, 832, 352, 352);
        assert_int_equal(view(r, 0).account.position, -2);

        r->policy.dram_price = 3; /* far away, for small steps: in changes of 8 blocks a lot, 16 for VM 0 */
        r->policy.step_bytes = 4 * MIB;
        for (uint32_t i = 0, before = lot(r); lot(r) != 48; i++, before = lot(r)) {
                assert_true(i < 60);
                run(r, 1);
                assert_true(lot(r) == before || lot(r) == before - 8);
        }
        run(r, 3);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_STANDS);
        assert_slow(r, 704, 416, 416);

        r->policy.min_trade_bytes = 64 * MIB; /* other lots: no position can stay */
        run(r, 20);
        assert_int_equal(trade_price(r->trade, &next), PRICE_WAITS_POSITIONS);
        assert_int_equal(next.lot_dram_blocks, 32);
        for (unsigned i = 0; i < VMS; i++)
                assert_return_code(trade_command(r->trade, id_of(i), TRADE_WITHDRAW, 0), 0);
        run(r, 60);
        assert_int_equal(trade_ledger(r->trade)->terms.lot_dram_blocks, 32);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_STANDS);
        assert_slow(r, 512, 512, 512);
}

/* Lots that were asked for are lots of what they were. */
static void test_commands_keep_their_lots(void **state) {
        Rig *r = *state;

        r->policy.moving_price = false;
        for (unsigned i = 0; i < VMS; i++)
                assert_return_code(trade_command(r->trade, id_of(i), TRADE_WITHDRAW, 0), 0);
        run(r, 60);
        assert_slow(r, 512, 512, 512);
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_LOTS, 1), 0);
        r->policy.min_trade_bytes = 64 * MIB;
        assert_int_equal(trade_set_terms(r->trade, &r->policy), 0);
        run(r, 12);
        assert_int_equal(trade_set_terms(r->trade, &r->policy), 1);
}

/* When its VM is entitled to something else meanwhile, that waits. */
static void test_entitled_anew_meanwhile(void **state) {
        Rig *r = *state;

        r->unwilling[1] = true;
        want_dram(r);
        r->facts[1].wish = 0;
        r->facts[2].entitled_bytes[TIER_SLOW] = 500 * MIB;
        run(r, 20);
        assert_int_equal(view(r, 2).account.entitlement_blocks[TIER_SLOW], 256);
        r->unwilling[1] = false;
        run(r, 3);
        assert_int_equal(lot(r), 65);
        assert_int_equal(view(r, 2).account.entitlement_blocks[TIER_SLOW], 250);
        assert_slow(r, 772, 382, 370);
}

/* The host has less to give than when it began. */
static void test_room_that_went_meanwhile(void **state) {
        Rig *r = *state;

        want_dram(r);
        r->facts[1].wish = 0;
        r->capacity[TIER_SLOW] -= 4 * MIB;
        run(r, 5);
        assert_int_equal(lot(r), 64);
        assert_slow(r, 768, 382, 382);
        r->capacity[TIER_SLOW] += 4 * MIB;
        run(r, 2);
        assert_int_equal(lot(r), 65);
        assert_slow(r, 772, 382, 382);
}

/* It goes on from where it was, and its time begins anew. */
static void test_a_crash_meanwhile(void **state) {
        Rig *r = *state;

        r->unwilling[1] = true;
        want_dram(r);
        r->facts[1].wish = 0;
        run(r, 30);
        crash(r, r->now + 1000 * USEC_PER_SEC); /* it was away for long */
        run(r, 40);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_CHANGES);
        assert_slow(r, 768, 382, 382);
        crash(r, 5 * USEC_PER_SEC); /* the host was booted anew */
        r->unwilling[1] = false;
        run(r, 2);
        assert_int_equal(lot(r), 65);
        assert_slow(r, 772, 382, 382);
        crash(r, r->now);
        run(r, 30);
        assert_int_equal(lot(r), 65); /* what moves is not set back to what is configured */
        r->unwilling[1] = true;
        want_dram(r);
        for (unsigned i = 0; !told(r, SETTLE_PRICE_KEPT); i++) {
                assert_true(i < 70);
                run(r, 1);
        }
        run(r, 60);
        crash(r, r->now + 1000 * USEC_PER_SEC);
        run(r, 30);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_WAITS_TIME); /* in full */
        run(r, 80);
        assert_int_equal(trade_price(r->trade, NULL), PRICE_WAITS_TIME);
}

/* Where one price is too low and the next one too high, it rests longer on each. */
static void test_a_price_that_swings_comes_to_rest(void **state) {
        Rig *r = *state;
        unsigned swings = 0;
        uint32_t before;

        for (unsigned i = 0; i < 3 * 3600; i++) {
                before = lot(r);
                r->facts[0].wish = lot(r) > 64 ? -1 : 0;
                r->facts[1].wish = lot(r) > 64 ? 0 : 1;
                run(r, 1);
                assert_in_range(lot(r), 64, 65);
                swings += lot(r) != before;
        }
        assert_in_range(swings, 5, 9); /* in three hours: after 2, 4, ... 64 minutes */
}

static void test_what_cannot_begin(void **state) {
        Rig *r = *state;
        Ledger *l = (Ledger *) trade_ledger(r->trade);
        const uint64_t slow = r->capacity[TIER_SLOW];
        SettleFacts seen[VMS];

        for (unsigned i = 0; i < VMS; i++)
                seen[i] = r->facts[i].seen;
        assert_int_equal(settlement_reprice(l, 0, seen, VMS, slow, r->now), -EINVAL);
        assert_int_equal(settlement_reprice(l, 64, seen, VMS, slow, r->now), -EINVAL);
        assert_int_equal(settlement_reprice(l, UINT32_MAX, seen, VMS, slow, r->now), -EINVAL);
        assert_int_equal(settlement_reprice(l, 257, seen, VMS, slow, r->now), -ERANGE); /* of 256 blocks */
        assert_int_equal(settlement_reprice(l, 65, seen, VMS, slow - MIB, r->now), -ENOSPC);
        seen[1].frozen = true;
        assert_int_equal(settlement_reprice(l, 65, seen, VMS, slow, r->now), -EAGAIN);
        assert_return_code(settlement_open(l, id_of(0), 1, r->now), 0);
        assert_int_equal(settlement_reprice(l, 63, seen, VMS, slow, r->now), -EBUSY);
        ledger_find(l, id_of(0))->ticket = (Ticket) { 0 };
        l->pool.ticket.lots = 1;
        assert_int_equal(settlement_reprice(l, 63, seen, VMS, slow, r->now), -EBUSY);
        l->pool.ticket.lots = 0;
        assert_return_code(settlement_reprice(l, 63, seen, VMS, slow, r->now), 0);
        assert_int_equal(settlement_reprice(l, 65, seen, VMS, slow, r->now), -EAGAIN);
        seen[1].frozen = false;
        assert_int_equal(settlement_reprice(l, 65, seen, VMS, slow, r->now), -EBUSY);
        assert_int_equal(settlement_open(l, id_of(0), 1, r->now), -EBUSY);
}

static void assert_fault(const Ledger *l, const char *expected) {
        const char *what;

        assert_int_equal(ledger_check(l, &what), expected ? -EINVAL : 0);
        if (expected)
                assert_string_equal(what, expected);
}

static void test_check_finds(void **state) {
        Rig *r = *state;
        Ledger *l = (Ledger *) trade_ledger(r->trade);

        l->repricing.lot_slow_blocks = 64;
        assert_fault(l, "the price to come is none");
        l->repricing.lot_slow_blocks = UINT32_MAX;
        assert_fault(l, "the price to come is none");
        l->repricing.lot_slow_blocks = 257;
        assert_fault(l, "a position is more than its entitlement is worth at the price to come");
        l->repricing.lot_slow_blocks = 65;
        assert_fault(l, NULL);
        l->accounts[0].ticket.lots = 1;
        assert_fault(l, "a trade is open while the price changes");
        l->accounts[0].ticket.lots = 0;
        l->pool.ticket.lots = 1;
        assert_fault(l, "a trade is open while the price changes");
        l->pool.ticket.lots = 0;
        l->repricing.holds = HOLDS_MAX + 1;
        assert_fault(l, "a price moved in no direction, or waits too long");
        l->repricing.holds = 0;
        l->repricing.last_direction = -2;
        assert_fault(l, "a price moved in no direction, or waits too long");
        l->repricing = (Repricing) { 0 };
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                TEST(test_nothing_wanted_nothing_moves),
                TEST(test_those_who_owe_give_first),
                TEST(test_the_other_way),
                TEST(test_bounds_of_the_price),
                TEST(test_one_that_does_not_give),
                TEST(test_frozen),
                TEST(test_frozen_meanwhile),
                TEST(test_gone_meanwhile),
                TEST(test_a_holding_at_its_bound),
                TEST(test_the_room_of_the_pool),
                TEST(test_open_trades),
                TEST(test_a_price_that_was_configured),
                TEST(test_commands_keep_their_lots),
                TEST(test_entitled_anew_meanwhile),
                TEST(test_room_that_went_meanwhile),
                TEST(test_a_crash_meanwhile),
                TEST(test_a_price_that_swings_comes_to_rest),
                TEST(test_what_cannot_begin),
                TEST(test_check_finds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
