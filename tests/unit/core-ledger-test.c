/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The ledger: accounts and their bounds, tickets that are refused, what ledger_check() finds, and the words
 * for what happened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/settlement.h"

#define MIB (UINT64_C(1) << 20)

/* Two VMs of 256 MiB DRAM and 512 MiB slow memory; lots of 32 MiB DRAM against 128 MiB slow memory. */
typedef struct Rig {
        Ledger ledger;
} Rig;

static AccountId id_of(unsigned i) {
        return (AccountId) { { [0] = (uint8_t) (i + 1) } };
}

static Account *vm(Rig *r, unsigned i) {
        return ledger_find(&r->ledger, id_of(i));
}

static int setup(void **state) {
        const uint64_t entitled[_TIER_MAX] = { 128, 256 }; /* blocks */
        MarketPolicy policy = market_policy_default();
        Rig *r = calloc(1, sizeof(*r));

        policy.min_trade_bytes = 32 * MIB;
        policy.dram_price = 4;
        policy.slow_price = 1;
        assert_return_code(terms_make(&policy, &r->ledger.terms), 0);
        for (unsigned i = 0; i < 2; i++)
                assert_return_code(ledger_add(&r->ledger, id_of(i), entitled, NULL), 0);
        *state = r;
        return 0;
}

static int teardown(void **state) {
        Rig *r = *state;

        ledger_done(&r->ledger);
        free(r);
        return 0;
}

static void test_accounts_ascend(void **state) {
        Rig *r = *state;
        const uint64_t entitled[_TIER_MAX] = { 1, 2 };
        Account *a = NULL;

        for (unsigned i = 9; i > 3; i -= 2)
                assert_return_code(ledger_add(&r->ledger, id_of(i), entitled, &a), 0);
        assert_ptr_equal(a, vm(r, 5));
        assert_int_equal(r->ledger.n_accounts, 5);
        assert_return_code(ledger_check(&r->ledger, NULL), 0);
        vm(r, 7)->position = 1;
        ledger_remove(&r->ledger, id_of(7));
        ledger_remove(&r->ledger, id_of(8)); /* is not there */
        assert_null(vm(r, 7));
        assert_non_null(vm(r, 9));
        assert_int_equal(r->ledger.n_accounts, 4);
        assert_int_equal(r->ledger.pool.position, 1);
}

static void test_owned(void **state) {
        Rig *r = *state;
        Account *a = vm(r, 0);
        const Terms *t = &r->ledger.terms;

        a->position = -1;
        assert_int_equal(account_holding(a, t, TIER_DRAM), 224 * MIB);
        assert_int_equal(account_holding(a, t, TIER_SLOW), 640 * MIB);
        a->ticket = (Ticket) { .lots = 3, .delivered = 2, .paid = 1 };
        assert_int_equal(account_owned(a, t, TIER_DRAM), 224 * MIB);
        assert_int_equal(account_owned(a, t, TIER_SLOW), 512 * MIB); /* escrow is nobody's */
        assert_int_equal(ticket_open_lots(&a->ticket), 2);
        assert_true(ticket_gives_of(&a->ticket, TIER_SLOW));
        assert_false(ticket_gives_of(&a->ticket, TIER_DRAM));
        a->ticket.closing = true;
        assert_int_equal(ticket_open_lots(&a->ticket), 1);
        assert_int_equal(ticket_lots(&a->ticket), 3);
        a->ticket = (Ticket) { 0 };
        assert_false(ticket_gives_of(&a->ticket, TIER_SLOW));
}

static void test_bounds(void **state) {
        Rig *r = *state;
        const uint64_t least[_TIER_MAX] = { 128 * MIB, 256 * MIB },
                       most[_TIER_MAX] = { 640 * MIB, 1280 * MIB };
        int64_t low, high;

        assert_true(account_bounds(vm(r, 0), &r->ledger.terms, least, most, &low, &high));
        assert_int_equal(low, -4);
        assert_int_equal(high, 2);
}

static void test_refused_tickets(void **state) {
        Rig *r = *state;

        assert_int_equal(settlement_open(&r->ledger, id_of(7), 1, 0), -ENOENT);
        assert_int_equal(settlement_open(&r->ledger, id_of(0), 0, 0), -ERANGE);
        assert_int_equal(settlement_open(&r->ledger, id_of(0), 5, 0), -ERANGE); /* 640 MiB of 512 */
        assert_int_equal(settlement_open(&r->ledger, id_of(0), INT64_MIN, 0), -ERANGE);
        assert_return_code(settlement_open(&r->ledger, id_of(0), 1, 0), 0);
        assert_int_equal(settlement_open(&r->ledger, id_of(0), 1, 0), -EBUSY);
        assert_int_equal(ledger_add(&r->ledger, id_of(0), vm(r, 0)->entitlement_blocks, NULL), -EEXIST);
        assert_int_equal(ledger_add(&r->ledger, (AccountId){ { 0 } }, vm(r, 0)->entitlement_blocks, NULL),
                         -EINVAL);
}

static void assert_fault(Rig *r, const char *expected) {
        const char *what = "nothing";

        assert_int_equal(ledger_check(&r->ledger, &what), expected ? -EINVAL : 0);
        if (expected)
                assert_string_equal(what, expected);
}

static void test_check_finds(void **state) {
        Rig *r = *state;
        const Terms terms = r->ledger.terms;
        AccountId id = id_of(0);

        assert_fault(r, NULL);
        vm(r, 0)->position = 1;
        assert_fault(r, "the positions do not sum to zero");
        vm(r, 1)->position = -1;
        assert_fault(r, NULL);
        vm(r, 0)->position = 5;
        vm(r, 1)->position = -5;
        assert_fault(r, "a position is more than its entitlement is worth");
        vm(r, 0)->position = INT64_MIN;
        assert_fault(r, "a position is beyond all bounds");
        vm(r, 0)->position = vm(r, 1)->position = 0;
        r->ledger.pool.position = INT64_MIN;
        assert_fault(r, "the pool's position is beyond all bounds");
        r->ledger.pool.position = 0;

        vm(r, 0)->ticket = (Ticket) { .lots = 2, .delivered = 1, .paid = 2 };
        assert_fault(r, "more was paid or returned than was delivered");
        vm(r, 0)->ticket = (Ticket) { .lots = 2, .delivered = 1, .paid = 1, .returned = 1 };
        assert_fault(r, "more was paid or returned than was delivered");
        vm(r, 0)->ticket = (Ticket) { .lots = 2, .delivered = 3 };
        assert_fault(r, "more was delivered than the ticket is for");
        vm(r, 0)->ticket = (Ticket) { .lots = 5 };
        assert_fault(r, "a ticket is for more than its account has");
        vm(r, 0)->ticket = (Ticket) { .lots = INT64_MIN };
        assert_fault(r, "a ticket is beyond all bounds");
        vm(r, 0)->ticket = (Ticket) { .paid = 1 };
        assert_fault(r, "a ticket of no lots has some");
        vm(r, 0)->ticket = (Ticket) { 0 };
        r->ledger.pool.ticket = (Ticket) { .lots = 1, .paid = 1 };
        assert_fault(r, "more was paid or returned than was delivered");
        r->ledger.pool.ticket = (Ticket) { 0 };

        vm(r, 0)->last_direction = 2;
        assert_fault(r, "a direction is none");
        vm(r, 0)->last_direction = 0;
        vm(r, 0)->command = MARKET_LOTS_MAX + 1;
        assert_fault(r, "a command is beyond all bounds, or two at once");
        vm(r, 0)->command = 1;
        vm(r, 0)->withdraws = true;
        assert_fault(r, "a command is beyond all bounds, or two at once");
        vm(r, 0)->withdraws = false;
        vm(r, 0)->command = 0;
        vm(r, 0)->refusals = REFUSALS_MAX + 1;
        assert_fault(r, "more refusals than are counted");
        vm(r, 0)->refusals = 0;
        vm(r, 0)->entitlement_blocks[TIER_SLOW] = UINT64_C(1) << 42; /* 2^63 bytes */
        assert_fault(r, "a position is more than its entitlement is worth");
        vm(r, 0)->entitlement_blocks[TIER_SLOW] = 256;
        vm(r, 0)->id = id_of(1);
        assert_fault(r, "the accounts are not in order");
        r->ledger.accounts[0].id = r->ledger.pool.id;
        assert_fault(r, "the accounts are not in order");
        r->ledger.accounts[0].id = id;

        r->ledger.terms.block_bytes = 3 * MIB;
        assert_fault(r, "the block size is none");
        r->ledger.terms = terms;
        r->ledger.terms.lot_slow_blocks = 0;
        assert_fault(r, "a lot is nothing, or beyond all bounds");
        r->ledger.terms.lot_slow_blocks = UINT32_MAX;
        assert_fault(r, "a lot is nothing, or beyond all bounds");
        r->ledger.terms.lot_slow_blocks = 65;
        assert_fault(r, "the two sides of a lot are not worth the same");
        r->ledger.terms = terms;
        assert_fault(r, NULL);
}

static void assert_words(SettleEventType type, uint64_t lots, const Ticket *ticket, const char *expected) {
        const Terms terms = { 2 * MIB, 4, 1, 16, 64 };
        const SettleEvent e = { .type = type,
                                .gives = ticket_gives(ticket),
                                .lots = lots,
                                .ticket = *ticket,
                                .waited = 60 * USEC_PER_SEC,
                                .refusals = 3 };
        char text[192];

        assert_return_code(settle_event_describe(&e, &terms, text, sizeof(text)), 0);
        assert_string_equal(text, expected);
}

static void test_words(void **state) {
        const Ticket sells = { .lots = -4, .delivered = 3, .paid = 1, .returned = 1 }, buys = { .lots = 1 };
        const SettleEvent none = { .type = _SETTLE_EVENT_MAX };
        const Terms terms = { .block_bytes = 2 * MIB };
        char text[128];

        assert_words(SETTLE_DELIVERED, 1, &sells,
                     "gave 1 lot of 32 MiB DRAM back to the host: 2 of 4 have come");
        assert_words(SETTLE_PAID, 2, &sells, "was paid for 2 lots of 32 MiB DRAM: 1 of 4 are traded");
        assert_words(SETTLE_RETURNED, 1, &sells, "gets 1 lot of 32 MiB DRAM back, as nobody paid for it");
        assert_words(SETTLE_TAKEN_BACK, 1, &sells,
                     "has 1 lot of 32 MiB DRAM again that it had given: not traded");
        assert_words(SETTLE_LATE, 1, &buys,
                     "did not give its memory back within 60 s: 1 of 1 lot of 128 MiB slow memory did not "
                     "come, and nothing of the last 3 trades: it rests 8 times as long");
        assert_words(SETTLE_LATE, 1, &sells,
                     "did not give its memory back within 60 s: 1 of 4 lots of 32 MiB DRAM did not come");
        assert_words(SETTLE_ENDED, 3, &sells, "ended its trade at 3 of 4 lots of 32 MiB DRAM, in 60 s");
        assert_words(SETTLE_GONE, 2, &sells, "is gone; 2 lots of 32 MiB DRAM of its trade are void");
        assert_words(SETTLE_REFUSED, 0, &(const Ticket) { 0 },
                     "is not entitled to what its settings say: the host does not have that much beside "
                     "what others are entitled to");
        assert_words(SETTLE_REPRICED, 0, &(const Ticket) { 0 },
                     "price is 4:1 now: 32 MiB of DRAM for 128 MiB of slow memory");
        assert_words(SETTLE_KEPT, 0, &(const Ticket){ 0 },
                     "did not give in time what a new price takes of it");
        assert_words(SETTLE_PRICE_KEPT, 0, &(const Ticket) { 0 },
                     "price stays: not all who would have to give for a new one did so in time");
        assert_int_equal(settle_event_describe(&none, &terms, text, sizeof(text)), -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                TEST(test_accounts_ascend), TEST(test_owned),       TEST(test_bounds),
                TEST(test_refused_tickets), TEST(test_check_finds), TEST(test_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
