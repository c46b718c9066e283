/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What users ask of the market: what they may not set or trade, how long they wait for an answer, and what
 * is seen of what they asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "temp-root.h"

#include "market-rig.h"

static void set_fails(Fixture *f, const char *words, OutcomeCode code, const char *says) {
        Outcome o = {};

        assert_true(manager_set_policy(f->m, FAKE_UUID, words, true, true, on_reply, f, &o) < 0);
        if (o.code != code || !strstr(o.text, says))
                fail_msg("%d: '%s' does not say '%s'", o.code, o.text, says);
        assert_int_equal(f->n_replies, 0);
        assert_null(fake.vms[0].policy);
}

static void set(Fixture *f, const char *words) {
        Outcome o = {};

        if (manager_set_policy(f->m, FAKE_UUID, words, true, true, on_reply, f, &o) < 0)
                fail_msg("%s", o.text);
        fake_answer();
        answered(f);
}

static void test_set(void **state) {
        MarketView v;
        Fixture f;
        Outcome o = {};

        setup(&f, "");
        epochs(&f, 3);
        assert_false(holding(&f).has_account);
        manager_market_get(f.m, &v);
        assert_int_equal(v.capacity_bytes[TIER_DRAM], 768 * MIB); /* what it holds is not the market's */
        trade_fails(&f, -(int64_t) LOT, OUTCOME_UNSUPPORTED, "--trading on");
        set_fails(&f, "EntitledDram=2G EntitledSlow=512M", OUTCOME_NO_ROOM, "the host has 1 GiB");
        set_fails(&f, "EntitledDram=768M EntitledSlow=512M", OUTCOME_NO_ROOM,
                  "cannot have 768 MiB of DRAM as its entitlement: as it was bound, it boots with 128 MiB "
                  "and can have 512 MiB");
        set_fails(&f, "EntitledDram=64M EntitledSlow=512M", OUTCOME_NO_ROOM, "boots with 128 MiB");
        set_fails(&f, "EntitledDram=256M", OUTCOME_BAD_ARGUMENT, "go together");
        set_fails(&f, "FloorDram=512M CeilingDram=256M", OUTCOME_BAD_ARGUMENT,
                  "FloorDram is above CeilingDram");
        set_fails(&f, "FloorDram=514M", OUTCOME_NO_ROOM,
                  "cannot have 514 MiB of DRAM as its floor: as it was bound, it boots with 128 MiB");
        set_fails(
                &f, "CeilingSlow=126M", OUTCOME_NO_ROOM,
                "cannot have 126 MiB of slow memory as its ceiling: as it was bound, it boots with 128 MiB");
        set_fails(&f, "FloorDram=3M", OUTCOME_BAD_ARGUMENT, "multiples of 2M");
        set(&f, "Trading=yes FloorDram=192M EntitledDram=256M EntitledSlow=512M");
        epochs(&f, 3);
        assert_true(holding(&f).has_account);
        manager_market_get(f.m, &v);
        assert_int_equal(v.capacity_bytes[TIER_DRAM], 1024 * MIB);
        /* with what was said before, this makes no sense */
        assert_true(manager_set_policy(f.m, FAKE_UUID, "CeilingDram=128M", true, true, on_reply, &f, &o) <
                    0);
        assert_non_null(strstr(o.text, "FloorDram is above CeilingDram"));
        trade_fails(&f, -3 * (int64_t) LOT, OUTCOME_NO_ROOM, "can sell 64 MiB of DRAM at most");
        trade_fails(&f, 100 * (int64_t) LOT, OUTCOME_NO_ROOM, "can buy");
        trade_fails(&f, (int64_t) LOT + 1, OUTCOME_BAD_ARGUMENT, "no multiple of 32 MiB");
        trade_fails(&f, 0, OUTCOME_BAD_ARGUMENT, "no multiple of 32 MiB");
        trade(&f, -2);
        epochs(&f, 8);
        assert_sizes(2);
        /* told to stop, it keeps what it has, and may go back */
        set(&f, "Trading=no");
        epochs(&f, 3);
        assert_sizes(2);
        withdraw(&f);
        epochs(&f, 8);
        assert_sizes(0);
        epochs(&f, 1);
        assert_false(holding(&f).has_account);
        teardown(&f);
}

/* What is set counts for what is asked for next, though the market learns of it only with the next tick. */
static void test_set_and_trade_at_once(void **state) {
        Fixture f;
        Outcome o = {};

        setup(&f, "");
        epochs(&f, 3);
        set(&f, "Trading=yes");
        trade_bytes(&f, -2 * (int64_t) LOT, false);
        assert_int_equal(f.n_replies, 0);
        epochs(&f, 1);
        answered(&f);
        assert_non_null(strstr(f.text, "sells 2 lots"));
        epochs(&f, 8);
        assert_sizes(2);
        set(&f, "FloorDram=192M"); /* which is what it has */
        trade_bytes(&f, -(int64_t) LOT, false);
        assert_int_equal(f.n_replies, 0);
        epochs(&f, 1);
        assert_int_equal(f.n_replies, 1);
        assert_int_equal(f.outcome.code, OUTCOME_NO_ROOM);
        f.n_replies = 0;
        set(&f, "FloorDram=128M");
        trade_bytes(&f, -(int64_t) LOT, true);
        epochs(&f, 1);
        answered(&f);
        epochs(&f, 4);
        assert_sizes(2); /* that was a dry run */
        set(&f, "Managed=no"); /* not of the market */
        set(&f, "FloorDram=128M"); /* no change */
        trade(&f, -1);
        epochs(&f, 6);
        assert_sizes(3);
        set(&f, "FloorDram=64M");
        assert_int_equal(manager_market_withdraw(f.m, FAKE_UUID, on_reply, &f, &o), 0);
        assert_int_equal(f.n_replies, 0);
        epochs(&f, 1);
        answered(&f);
        epochs(&f, 14);
        assert_sizes(0);
        teardown(&f);
}

/* What was asked for is seen until it had its clearing, wherever it lies. */
static void test_asked_for_is_seen(void **state) {
        Fixture f;

        setup(&f, "Trading=yes");
        epochs(&f, 3);
        f.m->conf->host.market.epoch_usec = 3600 * USEC_PER_SEC;
        epochs(&f, 1);
        trade(&f, -3);
        assert_int_equal(holding(&f).command_dram_bytes, -3 * (int64_t) LOT);
        assert_int_equal(holding(&f).trade.standing, STANDING_COMMAND);
        epochs(&f, 2);
        assert_int_equal(holding(&f).command_dram_bytes, -3 * (int64_t) LOT);
        assert_int_equal(holding(&f).trade.account.ticket.lots, 0);
        trade(&f, -1); /* instead */
        assert_int_equal(holding(&f).command_dram_bytes, -(int64_t) LOT);
        leap += 3600 * USEC_PER_SEC;
        epochs(&f, 1);
        assert_int_equal(holding(&f).command_dram_bytes, 0);
        assert_int_equal(holding(&f).trade.account.ticket.lots, -1);
        assert_int_equal(holding(&f).trade.standing, STANDING_BUSY);
        epochs(&f, 8);
        assert_sizes(1);
        withdraw(&f);
        assert_true(holding(&f).withdraws);
        assert_int_equal(holding(&f).trade.standing, STANDING_WITHDRAWS);
        epochs(&f, 2);
        assert_true(holding(&f).withdraws);
        leap += 3600 * USEC_PER_SEC;
        epochs(&f, 8);
        assert_sizes(0);
        leap += 3600 * USEC_PER_SEC; /* it is looked whether all of it is done */
        epochs(&f, 1);
        assert_false(holding(&f).withdraws);
        teardown(&f);
}

static void test_too_many_orders(void **state) {
        Fixture f;

        setup(&f, "Trading=yes");
        epochs(&f, 3);
        f.m->market.n_commands = COMMANDS_MAX; /* of domains that are gone, say */
        trade_fails(&f, -(int64_t) LOT, OUTCOME_DOMAIN_BUSY, "256 orders for the market wait already");
        epochs(&f, 1);
        trade(&f, -1);
        epochs(&f, 6);
        assert_sizes(1);
        teardown(&f);
}

/* Nobody waits for ever, nor for a daemon that is gone. */
static void test_who_waits_is_answered(void **state) {
        Fixture f;

        setup(&f, "");
        epochs(&f, 3);
        set(&f, "Trading=yes");
        f.m->market.listed = false; /* not all that run are known */
        trade_bytes(&f, -(int64_t) LOT, false);
        epochs(&f, 3);
        assert_int_equal(f.n_replies, 0);
        leap += 9 * USEC_PER_SEC;
        epochs(&f, 1);
        assert_int_equal(f.n_replies, 0);
        leap += 2 * USEC_PER_SEC;
        epochs(&f, 1);
        assert_int_equal(f.n_replies, 1);
        assert_int_equal(f.outcome.code, OUTCOME_DOMAIN_BUSY);
        trade_bytes(&f, -(int64_t) LOT, false);
        trade_bytes(&f, -(int64_t) LOT, false);
        stop(&f);
        assert_int_equal(f.n_replies, 3);
        assert_non_null(strstr(f.outcome.text, "hmvisord stops"));
        fake_reset();
        assert_int_equal(root_remove(), 0);
}

/* All that domains are entitled to must fit the host, whether they run or not. */
static void test_entitled_together(void **state) {
        Fixture f;
        Outcome o = {};

        setup(&f, "");
        domain_bind(1);
        fake_event_of(1, VIRT_DOMAIN, VIRT_STATE_OFF, -1, false);
        fake_answer();
        assert_int_equal(manager_set_policy(f.m, FAKE_UUID_1, "EntitledDram=512M EntitledSlow=1536M", false,
                                            true, on_reply, &f, &o), 0);
        fake_answer();
        answered(&f);
        set_fails(&f, "EntitledDram=256M EntitledSlow=514M", OUTCOME_NO_ROOM,
                  "cannot be entitled to 514 MiB of slow memory: of the host's 2 GiB for domains others are "
                  "entitled to 1.5 GiB");
        set(&f, "EntitledDram=512M EntitledSlow=512M");
        /* A host that has less than it had: nobody has to mend that before anything else is changed. */
        f.m->conf->reserve_bytes[TIER_DRAM] = 256 * MIB;
        set(&f, "Managed=no FloorDram=256M");
        free(fake.vms[0].policy);
        fake.vms[0].policy = NULL;
        set_fails(&f, "EntitledDram=510M EntitledSlow=512M", OUTCOME_NO_ROOM, "of the host's 768 MiB");
        set(&f, "EntitledDram=256M EntitledSlow=512M");
        teardown(&f);
}

/* As its metadata says, whoever wrote that. */
static void test_entitled_beyond_the_host(void **state) {
        Fixture f;

        setup(&f, "Trading=yes EntitledDram=256M EntitledSlow=512M");
        f.m->conf->reserve_bytes[TIER_DRAM] = 770 * MIB; /* of 1 GiB */
        epochs(&f, 3);
        assert_false(holding(&f).has_account);
        assert_true(holding(&f).refused);
        trade_fails(&f, -(int64_t) LOT, OUTCOME_NO_ROOM,
                    "takes no part in the market: the host does not have");
        f.m->conf->reserve_bytes[TIER_DRAM] = 768 * MIB;
        epochs(&f, 3);
        assert_true(holding(&f).has_account);
        assert_false(holding(&f).refused);
        trade(&f, -1);
        teardown(&f);
}

static void test_dry_run(void **state) {
        Fixture f;

        setup(&f, "Trading=yes DryRun=yes");
        epochs(&f, 3);
        trade_fails(&f, -(int64_t) LOT, OUTCOME_UNSUPPORTED, "dry run");
        assert_false(holding(&f).has_account);
        teardown(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_set),
                cmocka_unit_test(test_set_and_trade_at_once),
                cmocka_unit_test(test_asked_for_is_seen),
                cmocka_unit_test(test_too_many_orders),
                cmocka_unit_test(test_who_waits_is_answered),
                cmocka_unit_test(test_entitled_together),
                cmocka_unit_test(test_entitled_beyond_the_host),
                cmocka_unit_test(test_dry_run),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
