/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A ledger to disk and back: all of it but the times (that an account rests is kept), and nothing that the
 * core would not have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "manager-journal.h"
#include "proto/journal.h"
#include "temp-root.h"

typedef struct Rig {
        Ledger ledger;
        JournalFile *file;
} Rig;

static AccountId id_of(unsigned i) {
        return (AccountId) { { [0] = (uint8_t) (i + 1), [15] = 0xfe } };
}

/* Two VMs and the pool in the midst of a trade. */
static int setup(void **state) {
        const uint64_t entitled[_TIER_MAX] = { 128, 256 };
        const MarketPolicy policy = market_policy_default();
        Rig *r = calloc(1, sizeof(*r));
        char path[128];
        Account *a;

        root_make();
        snprintf(path, sizeof(path), "%s/journal", root);
        assert_return_code(journal_file_open(path, &r->file, NULL), 0);
        assert_return_code(terms_make(&policy, &r->ledger.terms), 0);
        assert_return_code(ledger_add(&r->ledger, id_of(1), entitled, &a), 0);
        a->position = 2;
        a->last_direction = 1;
        a->ended_at = 1234;
        a->command = -1;
        assert_return_code(ledger_add(&r->ledger, id_of(0), entitled, &a), 0);
        a->position = -1;
        a->withdraws = true;
        a->refusals = 3;
        r->ledger.pool.position = -1;
        r->ledger.repricing = (Repricing) { .ended_at = 99, .last_direction = -1, .holds = 2 };
        r->ledger.now = 5678;
        assert_return_code(settlement_open(&r->ledger, id_of(0), -2, 5000), 0);
        assert_return_code(settlement_open(&r->ledger, r->ledger.pool.id, 2, 5000), 0);
        ledger_find(&r->ledger, id_of(0))->ticket.delivered = 1;
        r->ledger.pool.ticket.delivered = 1;
        r->ledger.pool.ticket.closing = true;
        *state = r;
        return 0;
}

static int teardown(void **state) {
        Rig *r = *state;

        ledger_done(&r->ledger);
        r->file = journal_file_free(r->file);
        free(r);
        return root_remove();
}

static void test_back_again(void **state) {
        Rig *r = *state;
        _cleanup_(ledger_done) Ledger back = {};
        Outcome o = {};

        assert_return_code(ledger_check(&r->ledger, NULL), 0);
        assert_int_equal(ledger_load(r->file, &back, &o), -ENOENT);
        assert_return_code(ledger_store(r->file, &r->ledger, &o), 0);
        assert_return_code(ledger_load(r->file, &back, &o), 0);

        /* Times are not kept, everything else is. */
        r->ledger.now = 0;
        r->ledger.pool.ticket.opened_at = 0;
        for (size_t i = 0; i < r->ledger.n_accounts; i++)
                r->ledger.accounts[i].ticket.opened_at = 0;
        ledger_find(&r->ledger, id_of(1))->ended_at = 1; /* it rests */
        assert_memory_equal(&back.terms, &r->ledger.terms, sizeof(back.terms));
        assert_int_equal(back.now, 0);
        assert_int_equal(back.repricing.lot_slow_blocks, 0);
        assert_int_equal(back.repricing.ended_at, 1);
        assert_int_equal(back.repricing.last_direction, -1);
        assert_int_equal(back.repricing.holds, 2);
        assert_int_equal(back.n_accounts, r->ledger.n_accounts);
        for (size_t i = 0; i <= back.n_accounts; i++) {
                const Account *a = i < back.n_accounts ? &back.accounts[i] : &back.pool;
                const Account *b = i < back.n_accounts ? &r->ledger.accounts[i] : &r->ledger.pool;

                assert_memory_equal(&a->id, &b->id, sizeof(a->id));
                assert_memory_equal(a->entitlement_blocks, b->entitlement_blocks,
                                    sizeof(a->entitlement_blocks));
                assert_int_equal(a->position, b->position);
                assert_int_equal(a->ended_at, b->ended_at);
                assert_int_equal(a->last_direction, b->last_direction);
                assert_int_equal(a->withdraws, b->withdraws);
                assert_int_equal(a->command, b->command);
                assert_int_equal(a->refusals, b->refusals);
                assert_int_equal(a->ticket.lots, b->ticket.lots);
                assert_int_equal(a->ticket.delivered, b->ticket.delivered);
                assert_int_equal(a->ticket.paid, b->ticket.paid);
                assert_int_equal(a->ticket.returned, b->ticket.returned);
                assert_int_equal(a->ticket.closing, b->ticket.closing);
                assert_int_equal(a->ticket.opened_at, b->ticket.opened_at);
        }
}

static void test_damaged(void **state) {
        Rig *r = *state;
        Ledger back = {};
        Outcome o = {};

        put("/journal", "rubbish");
        assert_int_equal(ledger_load(r->file, &back, &o), -EINVAL);
        assert_non_null(strstr(o.text,
                               "is damaged (it does not begin as a journal does); put back a good one, or "
                               "remove it"));
        assert_null(back.accounts);
}

/* Without trades, which do not go together. */
static void test_a_price_on_its_way(void **state) {
        Rig *r = *state;
        _cleanup_(ledger_done) Ledger back = {};

        ledger_find(&r->ledger, id_of(0))->ticket = r->ledger.pool.ticket = (Ticket) { 0 };
        r->ledger.repricing.lot_slow_blocks = 63;
        assert_return_code(ledger_check(&r->ledger, NULL), 0);
        assert_return_code(ledger_store(r->file, &r->ledger, NULL), 0);
        assert_return_code(ledger_load(r->file, &back, NULL), 0);
        assert_int_equal(back.repricing.lot_slow_blocks, 63);
}

/* It is as good as it was: whoever removed it would lose who owns what. */
static void test_of_a_later_version(void **state) {
        Rig *r = *state;
        Ledger back = {};
        char says[160];
        Outcome o = {};

        put("/journal", "hmvisor-journal 77 12 0123456789abcdef\n{\"a\":\"b\"}\n");
        assert_int_equal(ledger_load(r->file, &back, &o), -EPROTONOSUPPORT);
        snprintf(says, sizeof(says),
                 "by a later hmvisord (it is of format 77, this hmvisord reads up to %d); keep it",
                 JOURNAL_VERSION);
        assert_non_null(strstr(o.text, says));
        assert_null(strstr(o.text, "damaged"));
        assert_null(strstr(o.text, "remove"));
        assert_null(back.accounts);
}

/* Well formed, and yet no ledger. */
static void test_senseless(void **state) {
        Rig *r = *state;
        Ledger back = {};
        Outcome o = {};

        r->ledger.pool.position = 7;
        assert_return_code(ledger_store(r->file, &r->ledger, &o), 0);
        assert_int_equal(ledger_load(r->file, &back, &o), -EINVAL);
        assert_non_null(strstr(o.text, "is damaged (the positions do not sum to zero)"));
        assert_null(back.accounts);
}

static void test_not_storable(void **state) {
        Rig *r = *state;
        _cleanup_(ledger_done) Ledger back = {};
        Outcome o = {};

        assert_return_code(ledger_store(r->file, &r->ledger, &o), 0);
        r->ledger.pool.position = INT64_MAX;
        assert_int_equal(ledger_store(r->file, &r->ledger, &o), -ERANGE);
        assert_non_null(strstr(o.text, "cannot be written"));
        assert_return_code(ledger_load(r->file, &back, &o), 0); /* the former one */
        assert_int_equal(back.pool.position, -1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                TEST(test_back_again),
                TEST(test_a_price_on_its_way),
                TEST(test_damaged),
                TEST(test_of_a_later_version),
                TEST(test_senseless),
                TEST(test_not_storable),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
