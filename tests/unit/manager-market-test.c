/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The manager's market against a scripted libvirt (fake-virt.h), with the host's free memory on the other
 * side: a trade from command to sizes, a guest that refuses, a daemon that dies in between, and a journal
 * that cannot be written. What users may not ask for is in manager-market-ask-test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "temp-root.h"

#include "market-rig.h"

static DomainMetrics metrics(Fixture *f) {
        DomainMetrics m;

        assert_int_equal(manager_get_domain_metrics(f->m, FAKE_UUID, &m), 0);
        return m;
}

static void test_trade(void **state) {
        _cleanup_free_ MarketTrade *history = NULL;
        Fixture f;

        setup(&f, "Trading=yes");
        epochs(&f, 3);
        assert_true(holding(&f).has_account);
        assert_int_equal(fake.n_updates, 0);
        trade_bytes(&f, -3 * (int64_t) LOT, true);
        answered(&f);
        assert_string_equal(f.text, "sells 3 lots: DRAM 256 MiB to 160 MiB, slow memory 512 MiB to 896 MiB");
        epochs(&f, 3);
        assert_int_equal(fake.n_updates, 0); /* that was a dry run */
        trade(&f, -3);
        epochs(&f, 10);
        assert_sizes(3);
        assert_false(fake.grew_first);
        assert_int_equal(fake.n_updates, 3); /* two steps down, of 64 MiB at most, and one up */
        assert_int_equal(holding(&f).trade.account.position, -3);
        assert_int_equal(holding(&f).last_lots, -3);
        assert_int_equal(manager_market_history(f.m, 9, &history), 1);
        assert_int_equal(history[0].got, -3);
        assert_string_equal(history[0].name, "vm");
        assert_non_null(strstr(f.events, "trade: asked to trade: sells 3 lots"));
        assert_non_null(strstr(f.events, "trade: ended its trade at 3 of 3 lots of 32 MiB DRAM"));
        assert_int_equal(logged[LOG_EVENT_TRADE_SETTLED], 1);
        assert_int_equal(logged[LOG_EVENT_TRADE_LATE] + logged[LOG_EVENT_TRADE_RETURNED], 0);
        assert_int_equal(metrics(&f).trades[TRADE_WHOLE], 1);
        assert_int_equal(metrics(&f).sold_bytes[TIER_DRAM], 3 * LOT);
        assert_int_equal(metrics(&f).bought_bytes[TIER_SLOW], 12 * LOT);
        assert_int_equal(metrics(&f).sold_bytes[TIER_SLOW] + metrics(&f).bought_bytes[TIER_DRAM], 0);
        trade(&f, 1);
        epochs(&f, 6);
        assert_sizes(2);
        withdraw(&f);
        epochs(&f, 8);
        assert_sizes(0);
        assert_int_equal(holding(&f).trade.account.position, 0);
        teardown(&f);
}

/* What came of a trade that others took a part of. */
static void test_metrics_of_a_part(void **state) {
        const Ticket ticket = { .lots = 3, .delivered = 2, .paid = 2, .closing = true };
        const MarketPolicy policy = market_policy_default();
        Domain d = { .id = 1 };
        Terms terms;

        assert_int_equal(terms_make(&policy, &terms), 0);
        metrics_trade_ended(&d, &ticket, &terms);
        assert_int_equal(d.metrics.trades[TRADE_PARTIAL], 1);
        assert_int_equal(d.metrics.bought_bytes[TIER_DRAM], 2 * terms_lot_bytes(&terms, TIER_DRAM));
        assert_int_equal(d.metrics.sold_bytes[TIER_SLOW], 2 * terms_lot_bytes(&terms, TIER_SLOW));
        assert_int_equal(d.metrics.sold_bytes[TIER_DRAM], 0);
}

static void test_guest_refuses(void **state) {
        Fixture f;

        setup_with(&f, "Trading=yes", 1);
        fake.guest_keeps = true;
        epochs(&f, 3);
        trade(&f, -1);
        epochs(&f, 6);
        assert_sizes(0); /* asked for, not given, and asked back */
        assert_int_equal(fake.n_updates, 2);
        assert_int_equal(holding(&f).trade.account.position, 0);
        assert_non_null(strstr(f.events, "1 of 1 lot of 32 MiB DRAM did not come"));
        assert_int_equal(logged[LOG_EVENT_TRADE_LATE], 1);
        assert_int_equal(logged[LOG_EVENT_TRADE_SETTLED], 0); /* nothing was */
        assert_int_equal(market_event(&(SettleEvent) { .type = SETTLE_RETURNED }), LOG_EVENT_TRADE_RETURNED);
        assert_int_equal(metrics(&f).trades[TRADE_NOTHING], 1);
        assert_int_equal(metrics(&f).sold_bytes[TIER_DRAM], 0);
        teardown(&f);
}

/* What a guest gave up while it reboots, without having been asked to, it plugs again: it was not given. */
static void test_unplugged_is_not_given(void **state) {
        Fixture f;

        setup(&f, "Trading=yes");
        epochs(&f, 3);
        fake.update_error = "not now";
        trade(&f, -2);
        epochs(&f, 2);
        fake_plug(0, 0, DRAM, 0);
        fake_event(VIRT_MEMORY_CHANGED, 0, 1, false);
        fake_answer();
        epochs(&f, 3);
        assert_int_equal(holding(&f).trade.account.ticket.delivered, 0);
        assert_int_equal(holding(&f).trade.account.position, 0);
        fake_plug(0, 0, DRAM, DRAM);
        fake.update_error = NULL;
        epochs(&f, 12);
        assert_sizes(2);
        assert_null(strstr(strstr(f.events, "not now") + 1, "not now")); /* said once */
        teardown(&f);
}

static void test_restart(void **state) {
        for (unsigned lived = 0; lived < 7; lived++) {
                Fixture f;

                setup(&f, "Trading=yes");
                epochs(&f, 3);
                trade(&f, -4);
                epochs(&f, lived);
                stop(&f);
                start(&f, "Trading=yes");
                epochs(&f, 12);
                if (lived == 0)
                        assert_sizes(0); /* nobody had heard of it yet */
                else
                        assert_sizes(4);
                teardown(&f);
        }
}

/* A call that was under way when the guest rebooted is lost: it is made again. */
static void test_reboot_while_asked(void **state) {
        Fixture f;

        setup(&f, "Trading=yes");
        epochs(&f, 3);
        trade(&f, -2);
        epochs(&f, 1);
        for (unsigned i = 0; i < 12; i++) {
                assert_true(sd_event_run(f.event, USEC_PER_MSEC) >= 0);
                manager_epoch(f.m);
                if (i % 3 == 0)
                        fake_event(VIRT_REBOOTED, 0, 1, false);
                else
                        fake_answer();
        }
        epochs(&f, 8);
        assert_sizes(2);
        teardown(&f);
}

/* Libvirt does not answer: the size may come yet, and counts as held until it is known. */
static void test_no_answer(void **state) {
        Fixture f;

        setup(&f, "Trading=yes");
        epochs(&f, 3);
        trade(&f, -2);
        epochs(&f, 1);
        assert_int_equal(fake.n_updates, 1);
        fake.update_error = "no answer in time";
        fake.update_silent = true;
        epochs(&f, 4); /* the slow cell should grow */
        assert_int_equal(manager_domain(f.m, FAKE_UUID)->resize.state, RESIZE_UNSURE);
        assert_int_equal(domain_size_asked(manager_domain(f.m, FAKE_UUID),
                                           market_cell(manager_domain(f.m, FAKE_UUID), TIER_SLOW)),
                         BOOT + SLOW + 8 * LOT);
        fake_plug(0, 1, SLOW + 8 * LOT, SLOW + 8 * LOT); /* it came */
        epochs(&f, 2);
        fake.update_error = NULL;
        epochs(&f, 3);
        assert_sizes(2);
        assert_int_equal(manager_domain(f.m, FAKE_UUID)->resize.state, RESIZE_IDLE);
        /* and once more, where it never came */
        fake.update_error = "no answer in time";
        trade(&f, -1);
        epochs(&f, 4);
        fake.update_error = NULL;
        epochs(&f, 6);
        assert_sizes(3);
        teardown(&f);
}

/* 790 reads of a hard disk in 10 s: what they took counts, not how much they brought. */
static void test_swap_wait(void **state) {
        _cleanup_free_ char *why = NULL;
        WishDecision w;
        Domain *d;
        Fixture f;

        setup(&f, "Trading=yes SwapDevice=vdb");
        fake.swap_ns = 1;
        epochs(&f, 3);
        d = manager_domain(f.m, FAKE_UUID);
        assert_int_equal(domain_swap_wait(d), 0);
        for (unsigned i = 0; i < 10; i++) {
                leap += 10 * USEC_PER_SEC;
                fake.swapped += UINT64_C(790) * 4096;
                fake.swap_ns += UINT64_C(9900000000);
                epochs(&f, 1);
        }
        assert_in_range(domain_swap_rate(d), 790 * 4096 / 11, 790 * 4096 / 10);
        assert_in_range(domain_swap_wait(d), 900000, 990000);
        assert_int_equal(core_get_wish(f.m->core, d->key, &w), 0);
        assert_true(w.swap_wait_usec > 500000);
        assert_int_equal(manager_explain(f.m, FAKE_UUID, 9, &why, NULL), 0);
        if (!strstr(why, " ms/s for its swap device, at "))
                fail_msg("'%s'", why);
        fake.swapped += MIB;
        fake.swap_ns = 0; /* told no more */
        leap += 10 * USEC_PER_SEC;
        epochs(&f, 1);
        assert_in_range(domain_swap_rate(d), MIB / 11, MIB / 10);
        assert_int_equal(domain_swap_wait(d), UINT64_MAX);
        teardown(&f);
}

/* No swap device is named: what the guest says makes it offer DRAM, and is called its word. */
static void test_swap_that_is_said(void **state) {
        _cleanup_free_ char *why = NULL;
        WishDecision w;
        Domain *d;
        Fixture f;

        setup(&f, "Trading=yes");
        domain_connect_agent(0);
        fake_event(VIRT_MEMORY_CHANGED, 0, 1, false); /* its XML is read again */
        fake.said_pages = 1;
        epochs(&f, 1);
        d = manager_domain(f.m, FAKE_UUID);
        for (unsigned i = 0; i < 4; i++) { /* prepared, then asked for its figures each 10 s */
                leap += 11 * USEC_PER_SEC;
                fake.said_pages += 11 * UINT64_C(10240);
                agent_link_run(d->agent, manager_now(f.m));
                fake_answer();
        }
        epochs(&f, 20);
        assert_int_equal(domain_swap_rate(d), UINT64_MAX);
        assert_int_equal(core_get_wish(f.m->core, d->key, &w), 0);
        assert_true(w.said && w.swap_wait_usec > 500000);
        assert_int_equal(manager_explain(f.m, FAKE_UUID, 9, &why, NULL), 0);
        if (!strstr(why, "by its own word it waits "))
                fail_msg("'%s'", why);
        teardown(&f);
}

static void test_swap_rate(void **state) {
        _cleanup_free_ char *why = NULL;
        Fixture f;

        setup(&f, "Trading=yes SwapDevice=vdb");
        epochs(&f, 3);
        assert_int_equal(domain_swap_rate(manager_domain(f.m, FAKE_UUID)), 0);
        fake.swapped = 100 * MIB;
        assert_true(sd_event_run(f.event, 20 * USEC_PER_MSEC) >= 0);
        epochs(&f, 1);
        assert_true(domain_swap_rate(manager_domain(f.m, FAKE_UUID)) > 100 * MIB);
        assert_int_equal(manager_explain(f.m, FAKE_UUID, 9, &why, NULL), 0);
        assert_non_null(strstr(why, "market: would "));
        assert_true(domain_swap_rate(manager_domain(f.m, FAKE_UUID)) < 100 * 1000 * MIB);
        fake.swapped = 0; /* another disk */
        epochs(&f, 1);
        assert_int_equal(domain_swap_rate(manager_domain(f.m, FAKE_UUID)), UINT64_MAX);
        teardown(&f);
        setup(&f, "Trading=yes SwapDevice=vdc");
        epochs(&f, 5);
        assert_int_equal(domain_swap_rate(manager_domain(f.m, FAKE_UUID)), UINT64_MAX);
        assert_non_null(strstr(f.events, "no such disk"));
        assert_null(strstr(strstr(f.events, "no such disk") + 1, "no such disk")); /* said once */
        teardown(&f);
}

static void test_journal_fails(void **state) {
        char path[128], lock[160];
        MarketView v;
        Fixture f;

        setup(&f, "Trading=yes");
        epochs(&f, 3);
        snprintf(path, sizeof(path), "%s/journal.new", root);
        assert_int_equal(mkdir(path, 0700), 0); /* where the next version would be written */
        snprintf(lock, sizeof(lock), "%s/in-the-way", path);
        assert_int_equal(mkdir(lock, 0700), 0);
        trade(&f, -1);
        epochs(&f, 5);
        assert_int_equal(fake.n_updates, 0);
        manager_market_get(f.m, &v);
        assert_non_null(strstr(v.reason, "journal"));
        trade_fails(&f, -(int64_t) LOT, OUTCOME_FAILED, "the market stands still");
        assert_null(strstr(strstr(f.events, "stands still") + 1, "stands still")); /* said once */
        assert_int_equal(logged[LOG_EVENT_JOURNAL_FAILED], 1);
        assert_int_equal(rmdir(lock), 0);
        assert_int_equal(rmdir(path), 0);
        epochs(&f, 6);
        assert_sizes(1);
        manager_market_get(f.m, &v);
        assert_string_equal(v.reason, "");
        assert_non_null(strstr(f.events, "market: the market goes on\n"));
        assert_int_equal(logged[LOG_EVENT_MARKET_RESUMED], 1);
        assert_int_equal(logged[LOG_EVENT_MARKET_HALTED], 0);
        teardown(&f);
}

static void test_journal_of_another(void **state) {
        _cleanup_(journal_file_freep) JournalFile *other = NULL;
        char path[128];
        MarketView v;
        Fixture f;

        setup(&f, "Trading=yes");
        snprintf(path, sizeof(path), "%s/journal", root);
        assert_int_equal(journal_file_open(path, &other, NULL), 0);
        epochs(&f, 3);
        manager_market_get(f.m, &v);
        assert_non_null(strstr(v.reason, "journal"));
        assert_false(holding(&f).has_account);
        other = journal_file_free(other);
        epochs(&f, 3);
        assert_true(holding(&f).has_account);
        stop(&f);
        put("/journal", "hmvisor-market 1 nonsense\n");
        start(&f, "Trading=yes");
        epochs(&f, 3);
        manager_market_get(f.m, &v);
        assert_non_null(strstr(v.reason, "damaged"));
        assert_int_equal(fake.n_updates, 0);
        teardown(&f);
}

static void test_frozen(void **state) {
        Fixture f;

        setup(&f, "Trading=yes");
        epochs(&f, 3);
        trade(&f, -4);
        epochs(&f, 1);
        fake_event(VIRT_DOMAIN, VIRT_STATE_PAUSED, 1, false);
        fake_answer();
        fake.n_updates = 0;
        epochs(&f, 5);
        assert_int_equal(fake.n_updates, 0);
        trade_fails(&f, -(int64_t) LOT, OUTCOME_DOMAIN_BUSY, "paused");
        fake_event(VIRT_DOMAIN, VIRT_STATE_RUNNING, 1, false);
        fake_event(VIRT_REBOOTED, 0, 1, false);
        manager_epoch(f.m); /* before its XML is known again */
        assert_int_equal(holding(&f).trade.account.ticket.lots, -4);
        epochs(&f, 12);
        assert_sizes(4);
        fake_event(VIRT_DOMAIN, VIRT_STATE_OFF, -1, false);
        fake_answer();
        epochs(&f, 2);
        assert_false(holding(&f).has_account);
        teardown(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_trade),
                cmocka_unit_test(test_metrics_of_a_part),
                cmocka_unit_test(test_guest_refuses),
                cmocka_unit_test(test_unplugged_is_not_given),
                cmocka_unit_test(test_restart),
                cmocka_unit_test(test_reboot_while_asked),
                cmocka_unit_test(test_no_answer),
                cmocka_unit_test(test_swap_that_is_said),
                cmocka_unit_test(test_swap_rate),
                cmocka_unit_test(test_swap_wait),
                cmocka_unit_test(test_journal_fails),
                cmocka_unit_test(test_journal_of_another),
                cmocka_unit_test(test_frozen),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
