/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The manager's market against a scripted libvirt (fake-virt.h), with the host's free memory on the other
 * side: a trade from command to sizes, a guest that refuses, a daemon that dies in between, a journal that
 * cannot be written, and what users may not ask for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "temp-root.h"

#include "market-fixture.h"

typedef struct Fixture {
        sd_event *event;
        Manager *m;
        unsigned n_replies;
        Outcome outcome;
        char text[256];
        char events[4096];
} Fixture;

static usec_t settle_usec;

/* Time that went by at once (the linker puts this in between). */
static usec_t leap;

int __real_sd_event_now(sd_event *event, clockid_t clock, uint64_t *ret);
int __wrap_sd_event_now(sd_event *event, clockid_t clock, uint64_t *ret);

int __wrap_sd_event_now(sd_event *event, clockid_t clock, uint64_t *ret) {
        int r = __real_sd_event_now(event, clock, ret);

        *ret += clock == CLOCK_MONOTONIC ? leap : 0;
        return r;
}

/* Which ids the journal would get. */
static unsigned logged[_LOG_EVENT_MAX];

int __wrap_log_event(LogEvent event, int level, int error, const char *domain, const char *uuid,
                     const char *format, ...) _printf_(6, 7);

int __wrap_log_event(LogEvent event, int level, int error, const char *domain, const char *uuid,
                     const char *format, ...) {
        logged[event]++;
        return -abs(error);
}

static void on_event(const ManagerEvent *e, void *userdata) {
        Fixture *f = userdata;
        size_t used = strlen(f->events);

        snprintf(f->events + used, sizeof(f->events) - used, "%s: %s\n", e->kind, e->message);
}

static void start(Fixture *f, const char *words) {
        Conf conf = market_conf(words, settle_usec);

        assert_int_equal(sd_event_new(&f->event), 0);
        assert_true(sd_event_run(f->event, 0) >= 0);
        assert_int_equal(manager_new(f->event, &conf, &f->m), 0);
        assert_int_equal(manager_set_config_root(f->m, root), 0);
        manager_set_hooks(f->m, &(ManagerHooks) { .event = on_event, .userdata = f });
        fake_event(VIRT_CONNECTED, 0, -1, false);
        fake_event(VIRT_DOMAIN, VIRT_STATE_RUNNING, 1, false);
        fake_event(VIRT_LISTED, 0, -1, false);
        fake_answer();
}

static void setup_with(Fixture *f, const char *words, usec_t settle) {
        root_make();
        host_make(1024 * MIB, 2048 * MIB);
        *f = (Fixture){};
        memset(logged, 0, sizeof(logged));
        fake_reset();
        domain_bind(0);
        settle_usec = settle;
        start(f, words);
}

static void setup(Fixture *f, const char *words) {
        setup_with(f, words, 60 * USEC_PER_SEC);
}

static void stop(Fixture *f) {
        f->m = manager_free(f->m);
        f->event = sd_event_unref(f->event);
}

static void teardown(Fixture *f) {
        stop(f);
        fake_reset();
        assert_int_equal(root_remove(), 0);
}

static void epochs(Fixture *f, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
                manager_epoch(f->m);
                fake_answer();
        }
}

static DomainMetrics metrics(Fixture *f) {
        DomainMetrics m;

        assert_int_equal(manager_get_domain_metrics(f->m, FAKE_UUID, &m), 0);
        return m;
}

static MarketHolding holding(Fixture *f) {
        _cleanup_free_ MarketHolding *list = NULL;

        assert_int_equal(manager_market_holdings(f->m, &list), 1);
        return list[0];
}


static void assert_sizes(int64_t sold_lots) {
        assert_int_equal(fake.vms[0].current[0], (int64_t) DRAM - sold_lots * (int64_t) LOT);
        assert_int_equal(fake.vms[0].current[1], (int64_t) SLOW + sold_lots * 4 * (int64_t) LOT);
        assert_int_equal(fake.vms[0].requested[0], fake.vms[0].current[0]);
        assert_int_equal(fake.vms[0].requested[1], fake.vms[0].current[1]);
}

static void on_reply(const Outcome *o, const char *text, void *userdata) {
        Fixture *f = userdata;

        f->n_replies++;
        f->outcome = *o;
        snprintf(f->text, sizeof(f->text), "%s", text ?: "");
}

/* Takes the one answer that there is, which is a good one. */
static void answered(Fixture *f) {
        assert_int_equal(f->n_replies, 1);
        if (f->outcome.code != OUTCOME_OK)
                fail_msg("%s", f->outcome.text);
        f->n_replies = 0;
}

static void trade_bytes(Fixture *f, int64_t bytes, bool dry_run) {
        Outcome o = {};

        if (manager_market_trade(f->m, FAKE_UUID, bytes, dry_run, on_reply, f, &o) < 0)
                fail_msg("%s", o.text);
}

static void trade(Fixture *f, int64_t lots) {
        trade_bytes(f, lots * (int64_t) LOT, false);
        answered(f);
}

static void withdraw(Fixture *f) {
        Outcome o = {};

        if (manager_market_withdraw(f->m, FAKE_UUID, on_reply, f, &o) < 0)
                fail_msg("%s", o.text);
        answered(f);
}

static void trade_fails(Fixture *f, int64_t bytes, OutcomeCode code, const char *says) {
        Outcome o = {};

        assert_true(manager_market_trade(f->m, FAKE_UUID, bytes, false, on_reply, f, &o) < 0);
        if (o.code != code || !strstr(o.text, says))
                fail_msg("%d: '%s' does not say '%s'", o.code, o.text, says);
        assert_int_equal(f->n_replies, 0);
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
                cmocka_unit_test(test_trade),
                cmocka_unit_test(test_metrics_of_a_part),
                cmocka_unit_test(test_guest_refuses),
                cmocka_unit_test(test_unplugged_is_not_given),
                cmocka_unit_test(test_restart),
                cmocka_unit_test(test_reboot_while_asked),
                cmocka_unit_test(test_no_answer),
                cmocka_unit_test(test_swap_rate),
                cmocka_unit_test(test_swap_wait),
                cmocka_unit_test(test_journal_fails),
                cmocka_unit_test(test_journal_of_another),
                cmocka_unit_test(test_frozen),
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
