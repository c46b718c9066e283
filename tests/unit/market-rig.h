/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A fixture: the manager with its market on, one domain on a scripted libvirt, and what a test does with
 * them. Included after temp-root.h, by one source of a test; the linker wraps sd_event_now() and
 * log_event().
 */
#pragma once

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

static inline void on_event(const ManagerEvent *e, void *userdata) {
        Fixture *f = userdata;
        size_t used = strlen(f->events);

        snprintf(f->events + used, sizeof(f->events) - used, "%s: %s\n", e->kind, e->message);
}

static inline void start(Fixture *f, const char *words) {
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

static inline void setup_with(Fixture *f, const char *words, usec_t settle) {
        root_make();
        host_make(1024 * MIB, 2048 * MIB);
        *f = (Fixture){};
        memset(logged, 0, sizeof(logged));
        fake_reset();
        domain_bind(0);
        settle_usec = settle;
        start(f, words);
}

static inline void setup(Fixture *f, const char *words) {
        setup_with(f, words, 60 * USEC_PER_SEC);
}

static inline void stop(Fixture *f) {
        f->m = manager_free(f->m);
        f->event = sd_event_unref(f->event);
}

static inline void teardown(Fixture *f) {
        stop(f);
        fake_reset();
        assert_int_equal(root_remove(), 0);
}

static inline void epochs(Fixture *f, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
                manager_epoch(f->m);
                fake_answer();
        }
}

static inline MarketHolding holding(Fixture *f) {
        _cleanup_free_ MarketHolding *list = NULL;

        assert_int_equal(manager_market_holdings(f->m, &list), 1);
        return list[0];
}


static inline void assert_sizes(int64_t sold_lots) {
        assert_int_equal(fake.vms[0].current[0], (int64_t) DRAM - sold_lots * (int64_t) LOT);
        assert_int_equal(fake.vms[0].current[1], (int64_t) SLOW + sold_lots * 4 * (int64_t) LOT);
        assert_int_equal(fake.vms[0].requested[0], fake.vms[0].current[0]);
        assert_int_equal(fake.vms[0].requested[1], fake.vms[0].current[1]);
}

static inline void on_reply(const Outcome *o, const char *text, void *userdata) {
        Fixture *f = userdata;

        f->n_replies++;
        f->outcome = *o;
        snprintf(f->text, sizeof(f->text), "%s", text ?: "");
}

/* Takes the one answer that there is, which is a good one. */
static inline void answered(Fixture *f) {
        assert_int_equal(f->n_replies, 1);
        if (f->outcome.code != OUTCOME_OK)
                fail_msg("%s", f->outcome.text);
        f->n_replies = 0;
}

static inline void trade_bytes(Fixture *f, int64_t bytes, bool dry_run) {
        Outcome o = {};

        if (manager_market_trade(f->m, FAKE_UUID, bytes, dry_run, on_reply, f, &o) < 0)
                fail_msg("%s", o.text);
}

static inline void trade(Fixture *f, int64_t lots) {
        trade_bytes(f, lots * (int64_t) LOT, false);
        answered(f);
}

static inline void withdraw(Fixture *f) {
        Outcome o = {};

        if (manager_market_withdraw(f->m, FAKE_UUID, on_reply, f, &o) < 0)
                fail_msg("%s", o.text);
        answered(f);
}

static inline void trade_fails(Fixture *f, int64_t bytes, OutcomeCode code, const char *says) {
        Outcome o = {};

        assert_true(manager_market_trade(f->m, FAKE_UUID, bytes, false, on_reply, f, &o) < 0);
        if (o.code != code || !strstr(o.text, says))
                fail_msg("%d: '%s' does not say '%s'", o.code, o.text, says);
        assert_int_equal(f->n_replies, 0);
}
