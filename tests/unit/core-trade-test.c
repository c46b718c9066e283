/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The market over time: clearings, tickets, commands, rests, and a life after a crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "trade-rig.h"

static int setup(void **state) {
        *state = rig_new(256 * MIB, 1024 * MIB);
        return 0;
}

/* The host was booted anew, too. */
#define BOOTED (5 * USEC_PER_SEC)

static void assert_sizes(Rig *r, unsigned i, uint64_t dram_mib, uint64_t slow_mib) {
        assert_int_equal(r->facts[i].seen.cells[TIER_DRAM].size_bytes / MIB, dram_mib);
        assert_int_equal(r->facts[i].seen.cells[TIER_SLOW].size_bytes / MIB, slow_mib);
}

static void test_wishes_are_traded(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -2;
        r->facts[1].wish = 1;
        r->facts[2].wish = 0;
        run(r, 12);
        assert_sizes(r, 0, 224, 640); /* the short side decides: one lot */
        assert_sizes(r, 1, 288, 384);
        assert_sizes(r, 2, 256, 512);
        assert_int_equal(trade_last_clearing(r->trade)->traded, 0); /* of the next epoch: all rest */
        assert_int_equal(view(r, 0).standing, STANDING_COOLING);
        assert_int_equal(view(r, 2).standing, STANDING_WISH);
        assert_int_equal(trade_history(r->trade, 0)->got + trade_history(r->trade, 1)->got, 0);
        assert_null(trade_history(r->trade, 2));
        run(r, 60);
        assert_sizes(r, 0, 192, 768); /* rested, they trade on */
        assert_sizes(r, 1, 320, 256);
        run(r, 60);
        assert_sizes(r, 1, 320, 256); /* at its boot memory: no more to give */
        assert_int_equal(view(r, 1).standing, STANDING_AT_BOUND);
}

static void test_turning_round_takes_longer(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -1;
        r->facts[1].wish = 1;
        run(r, 5);
        assert_sizes(r, 0, 224, 640);
        r->facts[0].wish = 1;
        r->facts[1].wish = -1;
        run(r, 60);
        assert_int_equal(view(r, 0).standing, STANDING_DWELLING);
        assert_sizes(r, 0, 224, 640);
        run(r, 75);
        assert_sizes(r, 0, 256, 512);
}

static void test_withdrawal_is_a_right(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -2;
        r->facts[1].wish = 1;
        r->facts[2].wish = 1;
        run(r, 12);
        assert_sizes(r, 0, 192, 768);
        assert_sizes(r, 1, 288, 384);
        r->facts[0].wish = 0;
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_WITHDRAW, 0), 0);
        run(r, 60); /* nobody wants to sell: it is recalled from both */
        assert_sizes(r, 0, 256, 512);
        assert_sizes(r, 1, 256, 512);
        assert_sizes(r, 2, 256, 512);
        assert_int_equal(view(r, 0).account.position, 0);
}

static void test_commands(void **state) {
        Rig *r = *state;

        run(r, 1);
        assert_int_equal(trade_command(r->trade, id_of(9), TRADE_LOTS, 1), -ENOENT);
        assert_int_equal(trade_command(r->trade, id_of(0), TRADE_LOTS, 0), -ERANGE);
        assert_int_equal(trade_command(r->trade, id_of(0), TRADE_LOTS, 3),
                         -ERANGE); /* 384 MiB of 256 slow */
        assert_int_equal(trade_command(r->trade, id_of(0), TRADE_LOTS, INT64_MIN), -ERANGE);
        r->facts[0].trading = r->facts[1].trading = false; /* a user's command does not need it */
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_LOTS, -2), 0);
        assert_return_code(trade_command(r->trade, id_of(1), TRADE_LOTS, 2), 0);
        run(r, 25);
        assert_sizes(r, 0, 192, 768);
        assert_int_equal(view(r, 0).standing, STANDING_OFF);
        run(r, 60);
        assert_sizes(r, 0, 192, 768); /* once */
}

static void test_pool(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -4;
        r->capacity[TIER_SLOW] += 300 * MIB; /* two lots and a bit */
        run(r, 30);
        assert_sizes(r, 0, 256, 512); /* the host's free memory is not for sale unless it says so */
        r->policy.use_pool = true;
        run(r, 30);
        assert_sizes(r, 0, 192, 768);
        assert_int_equal(trade_ledger(r->trade)->pool.position, 2);
        r->facts[0].wish = 0;
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_WITHDRAW, 0), 0);
        run(r, 40);
        assert_sizes(r, 0, 256, 512);
        assert_int_equal(trade_ledger(r->trade)->pool.position, 0);
}

static void test_bounds_and_frozen(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -4;
        r->facts[0].floor_bytes[TIER_DRAM] = 224 * MIB;
        r->facts[1].wish = 4;
        r->facts[1].ceiling_bytes[TIER_DRAM] = 300 * MIB;
        r->facts[2].wish = 4;
        r->facts[2].seen.frozen = true;
        run(r, 12);
        assert_sizes(r, 0, 224, 640);
        assert_sizes(r, 1, 288, 384);
        assert_sizes(r, 2, 256, 512);
        assert_int_equal(view(r, 2).standing, STANDING_FROZEN);
        assert_int_equal(view(r, 0).low, -1);
}

static void test_prices_wait(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -1;
        r->facts[1].wish = 1;
        run(r, 12);
        r->policy.dram_price = 8;
        assert_int_equal(trade_set_terms(r->trade, &r->policy), 0);
        r->facts[0].wish = r->facts[1].wish = 0;
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_WITHDRAW, 0), 0);
        run(r, 40);
        assert_int_equal(trade_set_terms(r->trade, &r->policy), 1);
        assert_int_equal(trade_ledger(r->trade)->terms.lot_slow_blocks, 128);
        r->policy.dram_price = 0;
        assert_int_equal(trade_set_terms(r->trade, &r->policy), -EINVAL);
}

static void test_entitlements(void **state) {
        Rig *r = *state;

        r->facts[0].entitled_bytes[TIER_DRAM] = 192 * MIB;
        r->facts[0].entitled_bytes[TIER_SLOW] = 512 * MIB;
        run(r, 3);
        assert_sizes(r, 0, 192, 512); /* it had more than it is entitled to */
        r->facts[0].entitled_bytes[TIER_DRAM] = 256 * MIB;
        run(r, 3);
        assert_sizes(r, 0, 256, 512);
}

static unsigned told(const Rig *r, SettleEventType type, unsigned i) {
        const AccountId id = id_of(i);
        unsigned n = 0;

        for (size_t k = 0; k < r->out.n_events; k++)
                n += r->out.events[k].type == type && memcmp(&r->out.events[k].id, &id, sizeof(id)) == 0;
        return n;
}

static void entitle(Rig *r, unsigned i, uint64_t dram_mib, uint64_t slow_mib) {
        r->facts[i].entitled_bytes[TIER_DRAM] = dram_mib * MIB;
        r->facts[i].entitled_bytes[TIER_SLOW] = slow_mib * MIB;
}

/* What the host does not have beside what others are entitled to opens no account; the others go on. */
static void test_entitled_beyond_the_host(void **state) {
        Rig *r = *state;
        TradeView v;

        entitle(r, 0, 256, 512);
        entitle(r, 1, 256, 512);
        entitle(r, 2, 258, 512);
        r->facts[0].wish = -1;
        r->facts[1].wish = 1;
        r->facts[2].wish = 1;
        run(r, 1);
        assert_int_equal(told(r, SETTLE_REFUSED, 2), 1);
        assert_int_equal(told(r, SETTLE_REFUSED, 0) + told(r, SETTLE_REFUSED, 1), 0);
        assert_true(trade_is_refused(r->trade, id_of(2)));
        assert_false(trade_is_refused(r->trade, id_of(1)));
        assert_int_equal(trade_view(r->trade, id_of(2), &v), -ENOENT);
        assert_int_equal(trade_command(r->trade, id_of(2), TRADE_LOTS, 1), -ENOENT);
        run(r, 1);
        assert_int_equal(told(r, SETTLE_REFUSED, 2), 0); /* once */
        run(r, 10);
        assert_sizes(r, 0, 224, 640);
        assert_sizes(r, 1, 288, 384);
        assert_sizes(r, 2, 256, 512);
        r->capacity[TIER_DRAM] += 2 * MIB;
        run(r, 1);
        assert_false(trade_is_refused(r->trade, id_of(2)));
        assert_int_equal(view(r, 2).account.entitlement_blocks[TIER_DRAM], 129);
}

/* One that has an account keeps what it was entitled to. What a VM has when it comes is there. */
static void test_entitled_to_more_later(void **state) {
        const uint64_t none[_TIER_MAX] = { 0, 0 };
        Rig *r = *state;

        entitle(r, 0, 256, 512);
        run(r, 1);
        entitle(r, 0, 256, 514);
        run(r, 1);
        assert_int_equal(told(r, SETTLE_REFUSED, 0), 1);
        assert_int_equal(view(r, 0).account.entitlement_blocks[TIER_SLOW], 256);
        entitle(r, 0, 256, 512);
        run(r, 1);
        assert_false(trade_is_refused(r->trade, id_of(0)));
        entitle(r, 0, 256, 514);
        run(r, 1);
        assert_int_equal(told(r, SETTLE_REFUSED, 0), 1); /* anew */
        entitle(r, 1, 256, 510);
        run(r, 2);
        assert_false(trade_is_refused(r->trade, id_of(0)));
        assert_int_equal(view(r, 0).account.entitlement_blocks[TIER_SLOW], 257);
        settlement_done(&r->out); /* whoever has it already is not asked again */
        r->now += USEC_PER_SEC;
        assert_return_code(trade_step(r->trade, &r->policy, r->facts, r->n, none, r->now, &r->out), 0);
        assert_int_equal(r->out.n_events, 0);
        entitle(r, 0, UINT64_MAX / MIB, UINT64_MAX / MIB);
        run(r, 1);
        assert_true(trade_is_refused(r->trade, id_of(0)));
}

static void test_life_after_a_crash(void **state) {
        Rig *r = *state;
        Ledger ledger;
        Trade *next;

        r->facts[0].wish = -2;
        r->facts[1].wish = 2;
        for (unsigned at = 1; at < 12; at++) {
                run(r, 1);
                crash(r, BOOTED);
        }
        r->facts[0].wish = r->facts[1].wish = 0;
        run(r, 100);
        assert_int_equal(view(r, 0).account.position + view(r, 1).account.position, 0);
        assert_int_equal(view(r, 0).account.ticket.lots, 0);
        for (unsigned i = 0; i < VMS; i++)
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        assert_int_equal(view(r, i).owned_bytes[tier],
                                         r->facts[i].seen.cells[tier].size_bytes);
        ledger_copy(trade_ledger(r->trade), &ledger);
        ledger.accounts[0].position++;
        assert_int_equal(trade_resume(&r->policy, &ledger, 0, &next), -EINVAL);
        ledger_done(&ledger);
}

/* It counts from the new life's beginning, also where the new clock is behind the old one. */
static void test_no_rest_is_cut_short(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -1;
        r->facts[1].wish = 1;
        run(r, 20);
        assert_sizes(r, 0, 224, 640);
        crash(r, BOOTED);
        run(r, 28);
        assert_int_equal(view(r, 0).standing, STANDING_COOLING);
        assert_int_equal(view(r, 2).standing, STANDING_WISH); /* it had none to make up for */
        assert_sizes(r, 0, 224, 640);
        run(r, 12);
        assert_sizes(r, 0, 192, 768);
        r->facts[0].wish = 1;
        r->facts[1].wish = -1;
        crash(r, BOOTED);
        run(r, 110);
        assert_int_equal(view(r, 0).standing, STANDING_DWELLING); /* the direction is not forgotten */
        run(r, 30);
        assert_sizes(r, 0, 224, 640);
}

/* From when the user is told that it is taken. */
static void test_no_command_is_lost(void **state) {
        Rig *r = *state;

        run(r, 1);
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_LOTS, -2), 0);
        assert_return_code(trade_command(r->trade, id_of(1), TRADE_LOTS, 2), 0);
        run(r, 1);
        assert_true(r->out.changed); /* and so is written, though nothing was traded */
        assert_sizes(r, 0, 256, 512);
        crash(r, BOOTED);
        run(r, 15);
        assert_sizes(r, 0, 192, 768);
        crash(r, BOOTED);
        run(r, 15);
        assert_sizes(r, 0, 192, 768); /* once */

        r->facts[1].seen.frozen = true; /* so that it takes its time */
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_WITHDRAW, 0), 0);
        run(r, 1);
        assert_true(r->out.changed);
        for (unsigned i = 0; i < 3; i++) {
                crash(r, BOOTED);
                run(r, 12);
                assert_true(view(r, 0).account.withdraws);
        }
        r->facts[1].seen.frozen = false;
        run(r, 90);
        assert_sizes(r, 0, 256, 512);
        assert_false(view(r, 0).account.withdraws);
}

/* One that its bounds do not allow any more had its clearing all the same. */
static void test_commands_at_a_bound(void **state) {
        Rig *r = *state;

        run(r, 1);
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_LOTS, -2), 0);
        assert_return_code(trade_command(r->trade, id_of(1), TRADE_LOTS, 2), 0);
        r->facts[0].floor_bytes[TIER_DRAM] = 256 * MIB;
        run(r, 12);
        assert_int_equal(view(r, 0).standing, STANDING_AT_BOUND);
        assert_int_equal(view(r, 0).account.command, 0);
        r->facts[0].floor_bytes[TIER_DRAM] = 0;
        run(r, 30);
        assert_sizes(r, 0, 256, 512);
}

/* Who gives nothing waits twice as long each time, over a crash too; a single lot makes up for it. */
static void test_unwilling(void **state) {
        Rig *r = *state;
        unsigned rest = 60; /* seconds */

        r->unwilling[0] = true;
        r->facts[0].wish = -1;
        r->facts[1].wish = 4;
        run(r, 1);
        for (unsigned n = 1; n <= 3; n++, rest *= 2) {
                unsigned waited = 0;

                while (view(r, 0).account.refusals < n)
                        run(r, 1);
                if (n == 2)
                        crash(r, BOOTED); /* it starts anew */
                run(r, 10);
                assert_int_equal(view(r, 0).standing, STANDING_UNWILLING);
                assert_true(view(r, 0).rests_usec <= rest * USEC_PER_SEC);
                assert_true(view(r, 0).rests_usec + 11 * USEC_PER_SEC >= rest * USEC_PER_SEC);
                assert_int_equal(view(r, 1).account.refusals, 0);
                for (; view(r, 0).account.ticket.lots == 0; waited++)
                        run(r, 1);
                assert_in_range(waited, rest - 11, rest + 10);
        }
        r->unwilling[0] = false;
        run(r, 12);
        assert_int_equal(view(r, 0).account.refusals, 0);
        assert_int_equal(view(r, 0).standing, STANDING_COOLING);
        assert_int_equal(view(r, 0).account.position, -1);
}

/* It would be the first to be recalled from, and others would wait for it. */
static void test_no_recall_from_the_unwilling(void **state) {
        Rig *r = *state;

        r->facts[0].wish = -4;
        r->facts[1].wish = 2;
        r->facts[2].wish = 1;
        run(r, 12);
        assert_sizes(r, 1, 320, 256);
        assert_sizes(r, 2, 288, 384);
        r->facts[0].wish = r->facts[1].wish = r->facts[2].wish = 0;
        r->unwilling[1] = true;
        r->facts[1].trading = false;
        r->policy.max_trade_bytes = 32 * MIB; /* one lot at a time */
        assert_return_code(trade_command(r->trade, id_of(0), TRADE_WITHDRAW, 0), 0);
        run(r, 1);
        while (view(r, 1).account.refusals == 0)
                run(r, 1);
        assert_sizes(r, 0, 160, 896);
        run(r, 20); /* from the other one, though its position is smaller */
        assert_sizes(r, 0, 192, 768);
        assert_sizes(r, 1, 320, 256);
        assert_sizes(r, 2, 256, 512);
}

static void test_gone_and_back(void **state) {
        Rig *r = *state;

        r->facts[1].wish = -1;
        r->facts[2].wish = 1;
        run(r, 12);
        assert_sizes(r, 2, 288, 384);
        r->n = 2; /* the buyer is off: its slow memory has to come back, before it starts again */
        r->facts[1].wish = 0;
        run(r, 1);
        assert_int_equal(trade_ledger(r->trade)->pool.position, 1);
        assert_int_equal(trade_command(r->trade, id_of(2), TRADE_WITHDRAW, 0), -ENOENT);
        run(r, 20); /* it is recalled, as nobody offers it */
        assert_sizes(r, 1, 256, 512);
        assert_int_equal(trade_ledger(r->trade)->pool.position, 0);
}

/* Where the host trades itself, it keeps what VMs that are gone left, and who withdraws gets it. */
static void test_gone_with_a_pool(void **state) {
        Rig *r = *state;

        r->policy.use_pool = true;
        r->facts[1].wish = -1;
        r->facts[2].wish = 1;
        run(r, 12);
        r->n = 2;
        r->facts[1].wish = 0;
        run(r, 40);
        assert_int_equal(trade_ledger(r->trade)->pool.position, 1);
        assert_return_code(trade_command(r->trade, id_of(1), TRADE_WITHDRAW, 0), 0);
        run(r, 40);
        assert_sizes(r, 1, 256, 512);
        assert_int_equal(trade_ledger(r->trade)->pool.position, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                TEST(test_wishes_are_traded), TEST(test_turning_round_takes_longer),
                TEST(test_withdrawal_is_a_right), TEST(test_commands), TEST(test_pool),
                TEST(test_bounds_and_frozen), TEST(test_prices_wait), TEST(test_entitlements),
                TEST(test_entitled_beyond_the_host), TEST(test_entitled_to_more_later),
                TEST(test_life_after_a_crash), TEST(test_no_rest_is_cut_short),
                TEST(test_no_command_is_lost), TEST(test_commands_at_a_bound), TEST(test_unwilling),
                TEST(test_no_recall_from_the_unwilling), TEST(test_gone_and_back),
                TEST(test_gone_with_a_pool),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
