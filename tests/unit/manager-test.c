/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The manager against a scripted libvirt (fake-virt.h): phases, every transition, orders, what is missing,
 * dry run, policy, reconnecting, and the clean stop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/log.h"
#include "fake-virt.h"
#include "manager-internal.h"

#define PLAIN                                                                                               \
        "<domain type='kvm'><name>vm</name><uuid>" FAKE_UUID "</uuid><memory unit='MiB'>1024</memory>"      \
        "<vcpu>2</vcpu><os><type arch='x86_64' "                                                            \
        "machine='pc-q35-10.0'>hvm</type></os><features><acpi/></features><cpu mode='host-passthrough'/>"   \
        "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='pci' index='0' "        \
        "model='pcie-root'/>"                                                                               \
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' "                         \
        "state='connected'/></channel>"                                                                     \
        "</devices></domain>"

typedef struct Fixture {
        sd_event *event;
        Manager *m;
        unsigned n_replies;
        Outcome outcome;
} Fixture;

static void setup(Fixture *f, const char *words) {
        Conf conf = { .lease_usec = 30 * USEC_PER_SEC,
                      .sample_usec = 200000,
                      .host = host_policy_default(),
                      .domain = domain_policy_default(),
                      .log_level = LOG_ERR };
        const BindOptions bind = { .dram_bytes = 256 << 20,
                                   .slow_bytes = 768 << 20,
                                   .extension_path = "/x.so",
                                   .tiers = { { .nodes = "0", .cpus = "0-1", .distance = 10 },
                                              { .nodes = "1", .distance = 28 } } };
        Outcome o = {};

        *f = (Fixture){};
        fake_reset();
        fake.extension = true;
        conf.domain.warmup_epochs = 1;
        conf.domain.min_order_pages = 1;
        conf.host.epoch_usec = 3600 * USEC_PER_SEC; /* the tests make the epochs */
        assert_int_equal(policy_parse(words, &conf.domain, &o), 0);
        if (domain_xml_bind(PLAIN, &bind, &fake.vms[0].xml, &o) < 0)
                fail_msg("%s", o.text);
        assert_int_equal(sd_event_new(&f->event), 0);
        assert_true(sd_event_run(f->event, 0) >= 0);
        assert_int_equal(manager_new(f->event, &conf, &f->m), 0);
        fake_event(VIRT_CONNECTED, 0, -1, false);
}

static void teardown(Fixture *f) {
        f->m = manager_free(f->m);
        sd_event_unref(f->event);
        fake_reset();
}

/* Real time passes: the beat is 250 ms, and 1 s where nobody's answer is waited for. */
static void run(Fixture *f, unsigned ms) {
        for (unsigned i = 0; i < ms; i += 50) {
                fake_answer();
                assert_true(sd_event_run(f->event, 50 * USEC_PER_MSEC) >= 0);
        }
        fake_answer();
}

static DomainView view(Fixture *f) {
        DomainView v = {};

        assert_int_equal(manager_get_domain(f->m, FAKE_UUID, &v, NULL), 0);
        return v;
}

static void boot(Fixture *f) {
        fake_event(VIRT_DOMAIN, VIRT_STATE_RUNNING, 1, false);
        fake_event(VIRT_LISTED, 0, -1, false);
        run(f, 1500);
}

static void on_reply(const Outcome *o, const char *text, void *userdata) {
        Fixture *f = userdata;

        f->n_replies++;
        f->outcome = *o;
}

static void test_phase_table(void **state) {
        static const char *const may[_PHASE_MAX] = {
                [PHASE_DISCOVERED] = "PG", [PHASE_PROBING] = "DOXG",   [PHASE_OBSERVING] = "DPMXG",
                [PHASE_MANAGED] = "DPOXG", [PHASE_DEGRADED] = "DPOMG", [PHASE_GONE] = "",
        };
        static const char letters[_PHASE_MAX] = { 'D', 'P', 'O', 'M', 'X', 'G' };

        for (Phase a = 0; a < _PHASE_MAX; a++)
                for (Phase b = 0; b < _PHASE_MAX; b++)
                        assert_int_equal(phase_may_follow(a, b), strchr(may[a], letters[b]) != NULL);
        assert_false(phase_may_follow(_PHASE_MAX, PHASE_GONE));
        assert_int_equal(phase_event(PHASE_PROBING, PHASE_DEGRADED, false), LOG_EVENT_DOMAIN_DEGRADED);
        assert_int_equal(phase_event(PHASE_MANAGED, PHASE_DEGRADED, true), LOG_EVENT_TRACKING_FAILED);
        assert_int_equal(phase_event(PHASE_DEGRADED, PHASE_OBSERVING, false), LOG_EVENT_DOMAIN_RECOVERED);
        assert_int_equal(phase_event(PHASE_DEGRADED, PHASE_MANAGED, false), LOG_EVENT_DOMAIN_RECOVERED);
        assert_int_equal(phase_event(PHASE_DEGRADED, PHASE_DISCOVERED, false), LOG_EVENT_NONE);
        assert_int_equal(phase_event(PHASE_OBSERVING, PHASE_MANAGED, false), LOG_EVENT_DOMAIN_MANAGED);
        assert_int_equal(phase_event(PHASE_MANAGED, PHASE_MANAGED, false), LOG_EVENT_NONE);
        assert_int_equal(phase_event(PHASE_MANAGED, PHASE_OBSERVING, false), LOG_EVENT_DOMAIN_UNMANAGED);
        assert_int_equal(phase_event(PHASE_MANAGED, PHASE_DISCOVERED, false), LOG_EVENT_NONE);
}

static void test_phase_setter_refuses(void **state) {
        Fixture f;
        Domain *d;

        setup(&f, "");
        fake_event(VIRT_DOMAIN, VIRT_STATE_OFF, -1, false);
        d = manager_domain(f.m, FAKE_UUID);
        assert_false(domain_set_phase(d, PHASE_MANAGED, ""));
        assert_int_equal(d->phase, PHASE_DISCOVERED);
        teardown(&f);
}

static void test_observes(void **state) {
        Fixture f;

        setup(&f, "Managed=no");
        boot(&f);
        assert_int_equal(view(&f).phase, PHASE_OBSERVING);
        assert_true(view(&f).bound);
        assert_string_equal(view(&f).tracking_log, "ring");
        assert_string_equal(view(&f).agent_version, "1");
        assert_string_equal(view(&f).agent_online_policy, "online_movable");
        assert_int_equal(view(&f).agent_kernel_node, 1);
        assert_false(fake.guest_managed);
        fake_event(VIRT_DOMAIN, VIRT_STATE_OFF, -1, false);
        run(&f, 100);
        assert_int_equal(view(&f).phase, PHASE_DISCOVERED);
        fake_event(VIRT_UNDEFINED, 0, -1, false);
        assert_int_equal(manager_get_domain(f.m, FAKE_UUID, &(DomainView){}, NULL), -ENOENT);
        teardown(&f);
}

static void write_pages(uint64_t first, unsigned n) {
        HotnessTableHeader *h = (HotnessTableHeader *) (void *) fake.table;

        h->epoch += 5;
        for (unsigned i = 0; i < n; i++)
                fake.table[HOTNESS_TABLE_HEADER_SIZE + first + i] = 5;
}

static void on_counters(const char *uuid, void *userdata) {
        ++*(unsigned *) userdata;
}

/* Nobody on the bus is woken for nothing. */
static void test_counters_are_told_when_they_change(void **state) {
        unsigned n = 0, before;
        Fixture f;

        setup(&f, "Managed=no");
        manager_set_hooks(f.m, &(ManagerHooks){ .counters_changed = on_counters, .userdata = &n });
        boot(&f);
        manager_epoch(f.m); /* which lets the source begin */
        run(&f, 1500);
        before = n;
        run(&f, 2500);
        assert_int_equal(n, before);
        write_pages(0, 10);
        manager_epoch(f.m);
        run(&f, 1500);
        assert_int_equal(n, before + 1);
        teardown(&f);
}

static void test_orders(void **state) {
        _cleanup_free_ char *why = NULL;
        DomainMetrics metrics;
        Fixture f;

        setup(&f, "Managed=yes");
        boot(&f);
        run(&f, 1000);
        assert_int_equal(view(&f).phase, PHASE_MANAGED);
        assert_true(fake.guest_managed);
        for (int i = 0; i < 12 && fake.n_submits == 0; i++) {
                write_pages(65536 + 100, 512);
                manager_epoch(f.m);
                assert_int_equal(fake.table[HOTNESS_TABLE_HEADER_SIZE + 65536 + 100],
                                 0); /* taken, and emptied */
                run(&f, 400);
        }
        assert_int_equal(fake.n_submits, 1);
        assert_non_null(strstr(fake.submitted,
                               "\"promote\":{\"node\":0,\"ranges\":[1048676,")); /* 4 GiB / 4 KiB + 100 */
        run(&f, 1000);
        manager_epoch(f.m);
        assert_int_equal(view(&f).totals.orders, 1);
        assert_int_equal(view(&f).totals.promoted_pages, 5);
        assert_string_equal(view(&f).mover, "damon");
        assert_int_equal(manager_get_domain_metrics(f.m, FAKE_UUID, &metrics), 0);
        assert_string_equal(metrics.uuid, FAKE_UUID);
        assert_int_equal(metrics.order_latency.counts[4], 1); /* between 1 and 2 s: it was seen when asked */
        assert_in_range(metrics.order_latency.sum_usec, USEC_PER_SEC, 2 * USEC_PER_SEC);
        manager_epoch(f.m);
        assert_int_equal(manager_get_domain_metrics(f.m, FAKE_UUID, &metrics), 0);
        assert_int_equal(metrics.order_latency.counts[4], 1); /* once */
        assert_int_equal(manager_get_domain_metrics(f.m, "nobody", &metrics), -ENOENT);
        assert_int_equal(manager_explain(f.m, FAKE_UUID, 99, &why, NULL), 0);
        assert_non_null(strchr(why, '\n'));
        teardown(&f);
}

static uint32_t hold(void) {
        return ((HotnessTableHeader *) (void *) fake.table)->hold;
}

/* Nothing is tracked until the agent has answered; where it does not, not for a minute. */
static void test_boots_untracked(void **state) {
        Fixture f;

        setup(&f, "Managed=yes");
        fake.agent = FAKE_AGENT_SILENT;
        boot(&f);
        manager_epoch(f.m);
        assert_int_equal(hold(), HOTNESS_HOLD_REST);
        manager_domain(f.m, FAKE_UUID)->watched_since -= 61 * USEC_PER_SEC;
        manager_epoch(f.m);
        assert_int_equal(hold(), 0);
        fake_event(VIRT_REBOOTED, 0, 1, false);
        run(&f, 1000);
        manager_epoch(f.m);
        assert_int_equal(hold(), HOTNESS_HOLD_REST);
        fake.agent = FAKE_AGENT_OURS;
        fake_event(VIRT_REBOOTED, 0, 1, false);
        run(&f, 1000);
        manager_epoch(f.m);
        assert_int_equal(hold(), 0);
        teardown(&f);
}

/* 100 faults a second, of which a guest has 30 s in advance. */
static void test_tracking_is_limited(void **state) {
        Fixture f;
        Domain *d;

        setup(&f, "Managed=no");
        boot(&f);
        f.m->conf->watch_cost_limit_usec = 100 * USEC_PER_MSEC;
        f.m->conf->fault_cost_usec = USEC_PER_MSEC;
        tracking_start(f.m);
        d = manager_domain(f.m, FAKE_UUID);
        assert_int_equal(tracking_limit(d),
                         100); /* of one processor, as long as it is not known how many are busy */
        d->cpu_seen = 1;
        d->busy_permille = 2500;
        assert_int_equal(tracking_limit(d), 250);
        d->busy_permille = 3;
        assert_int_equal(tracking_limit(d), 10);
        d->cpu_seen = 0;
        d->pid = getpid();
        tracking_look(d);
        for (clock_t start = clock(); clock() - start < CLOCKS_PER_SEC / 10;)
                ;
        tracking_look(d);
        assert_in_range(d->busy_permille, 1, 2000);
        d->pid = 0;
        tracking_look(d);
        assert_int_equal(tracking_limit(d), 100);
        write_pages(65536, 300); /* 5 times each, half of it again for what QEMU does: 2,250 faults */
        manager_epoch(f.m);
        assert_int_equal(hold(), 0);
        write_pages(65536, 300);
        manager_epoch(f.m);
        assert_int_equal(hold(), HOTNESS_HOLD_REST);
        f.m->conf->watch_cost_limit_usec = 0;
        manager_epoch(f.m);
        assert_int_equal(hold(), 0);
        teardown(&f);
}

/* While it migrates nothing is tracked, and no page is moved. */
static void test_migration_freezes(void **state) {
        Fixture f;

        setup(&f, "Managed=yes");
        boot(&f);
        run(&f, 1000);
        fake_event(VIRT_JOB_STARTED, 0, 1, false);
        for (int i = 0; i < 12; i++) {
                write_pages(65536 + 100, 512);
                manager_epoch(f.m);
                assert_int_equal(hold(), HOTNESS_HOLD_REST);
        }
        run(&f, 400);
        assert_int_equal(fake.n_submits, 0);
        fake_event(VIRT_JOB_ENDED, 0, 1, false);
        for (int i = 0; i < 12 && fake.n_submits == 0; i++) {
                write_pages(65536 + 100, 512);
                manager_epoch(f.m);
                run(&f, 400);
        }
        assert_int_equal(fake.n_submits, 1);
        teardown(&f);
}

static void test_dry_run_touches_no_guest(void **state) {
        Fixture f;

        setup(&f, "Managed=yes DryRun=yes");
        boot(&f);
        for (int i = 0; i < 12; i++) {
                write_pages(65536 + 100, 512);
                manager_epoch(f.m);
                run(&f, 100);
        }
        assert_int_equal(view(&f).phase, PHASE_MANAGED);
        assert_non_null(strstr(view(&f).reason, "dry run"));
        assert_false(fake.guest_managed);
        assert_int_equal(fake.n_submits, 0);
        assert_true(view(&f).totals.epochs > 0);
        teardown(&f);
}

static void test_no_extension(void **state) {
        Fixture f;

        setup(&f, "Managed=yes");
        fake.extension = false;
        boot(&f);
        assert_int_equal(view(&f).phase, PHASE_DEGRADED);
        assert_non_null(strstr(view(&f).reason, "hmvisor-qemu"));
        assert_false(fake.guest_managed); /* the guest's own tiering stays on: it is all that it has */
        manager_epoch(f.m);
        teardown(&f);
}

static void expect_bad_agent(FakeAgent kind, const char *part) {
        Fixture f;

        setup(&f, "Managed=yes");
        fake.agent = kind;
        boot(&f);
        run(&f, 500);
        assert_int_equal(view(&f).phase, PHASE_DEGRADED);
        assert_non_null(strstr(view(&f).reason, part));
        assert_string_equal(view(&f).tracking_state, "tracking"); /* tracked all the same */
        for (int i = 0; i < 8; i++) {
                write_pages(65536 + 100, 512);
                manager_epoch(f.m);
                run(&f, 50);
        }
        assert_int_equal(fake.n_submits, 0);
        fake.agent = FAKE_AGENT_OURS; /* and back by itself */
        for (int i = 0; i < 20 && view(&f).phase != PHASE_MANAGED; i++)
                run(&f, 500);
        assert_int_equal(view(&f).phase, PHASE_MANAGED);
        teardown(&f);
}

static void test_bad_agents(void **state) {
        expect_bad_agent(FAKE_AGENT_STOCK, "not ours");
        expect_bad_agent(FAKE_AGENT_GARBAGE, "protocol");
        expect_bad_agent(FAKE_AGENT_SILENT, "no answer");
}

static void test_agent_leaves_and_returns(void **state) {
        Fixture f;

        setup(&f, "Managed=yes");
        boot(&f);
        run(&f, 1000);
        assert_int_equal(view(&f).phase, PHASE_MANAGED);
        fake_event(VIRT_AGENT_CHANGED, 0, 1, false);
        assert_int_equal(view(&f).phase, PHASE_DEGRADED);
        fake_event(VIRT_AGENT_CHANGED, 0, 1, true);
        run(&f, 1000);
        assert_int_equal(view(&f).phase, PHASE_MANAGED);
        teardown(&f);
}

static void test_libvirt_restarts(void **state) {
        Fixture f;
        uint64_t key;

        setup(&f, "Managed=yes");
        boot(&f);
        run(&f, 1000);
        key = manager_domain(f.m, FAKE_UUID)->key;
        fake_event(VIRT_DISCONNECTED, 0, -1, false);
        fake.libvirt_gone = true;
        run(&f, 1000);
        assert_int_equal(view(&f).phase, PHASE_MANAGED);
        manager_epoch(f.m);
        fake.libvirt_gone = false;
        fake_event(VIRT_CONNECTED, 0, -1, false);
        boot(&f);
        assert_int_equal(view(&f).phase, PHASE_MANAGED);
        assert_int_equal(manager_domain(f.m, FAKE_UUID)->key, key); /* the same incarnation: heat is kept */
        /* A domain that went meanwhile. */
        fake_event(VIRT_DISCONNECTED, 0, -1, false);
        fake_event(VIRT_CONNECTED, 0, -1, false);
        fake_event(VIRT_LISTED, 0, -1, false);
        assert_null(manager_domain(f.m, FAKE_UUID));
        teardown(&f);
}

static void test_clean_stop(void **state) {
        unsigned before;
        Fixture f;

        setup(&f, "Managed=yes");
        boot(&f);
        run(&f, 1000);
        assert_true(fake.guest_managed && fake.tracking);
        before = fake.n_releases;
        manager_stop(f.m);
        for (int i = 0; i < 100 && sd_event_get_state(f.event) != SD_EVENT_FINISHED; i++) {
                fake_answer();
                (void) sd_event_run(f.event, 50 * USEC_PER_MSEC);
        }
        assert_int_equal(sd_event_get_state(f.event), SD_EVENT_FINISHED);
        assert_false(fake.guest_managed);
        assert_int_equal(fake.n_releases, before + 1);
        assert_false(fake.tracking);
        assert_int_equal(fake.n_stops, 1);
        teardown(&f);
}

static void test_policy(void **state) {
        Fixture f;
        Outcome o = {};

        setup(&f, "Managed=no");
        boot(&f);
        assert_int_equal(manager_set_policy(f.m, FAKE_UUID, "Managed=maybe", true, true, on_reply, &f, &o),
                         -EINVAL);
        assert_int_equal(o.code, OUTCOME_BAD_ARGUMENT);
        assert_int_equal(manager_set_policy(f.m, FAKE_UUID, "RateCap=64M Managed=no", true, true, on_reply,
                                            &f, &o),
                         0);
        assert_true(manager_set_policy(f.m, FAKE_UUID, "Managed=yes", true, true, on_reply, &f, &o) < 0);
        assert_int_equal(o.code, OUTCOME_DOMAIN_BUSY); /* one change at a time */
        run(&f, 100);
        assert_int_equal(f.n_replies, 1);
        assert_int_equal(f.outcome.code, OUTCOME_OK);
        assert_int_equal(manager_set_policy(f.m, FAKE_UUID, "Managed=yes", true, true, on_reply, &f, &o), 0);
        run(&f, 1000);
        /* what was said before stays */
        assert_non_null(strstr(fake.vms[0].policy, "RateCap=64M Managed=yes"));
        assert_int_equal(view(&f).policy.migrate_bytes_per_sec, 64 << 20);
        assert_int_equal(view(&f).phase, PHASE_MANAGED);
        teardown(&f);
}

static void test_names_and_errors(void **state) {
        char uuid[37];
        Fixture f;
        Outcome o = {};

        setup(&f, "");
        fake_event(VIRT_DOMAIN, VIRT_STATE_OFF, -1, false);
        run(&f, 50);
        assert_int_equal(manager_find_domain(f.m, "vm", uuid, &o), 0);
        assert_int_equal(manager_find_domain(f.m, "6BD76140-2FF5-4310-80B6-3373538F640F", uuid, &o), 0);
        assert_int_equal(manager_find_domain(f.m, "1", uuid, &o), -ENOENT);
        assert_int_equal(o.code, OUTCOME_NO_DOMAIN);
        assert_true(manager_verify(f.m, FAKE_UUID, on_reply, &f, &o) < 0);
        assert_int_equal(o.code, OUTCOME_DOMAIN_OFF);
        fake_event(VIRT_DOMAIN, VIRT_STATE_RUNNING, 1, false);
        assert_int_equal(manager_find_domain(f.m, "1", uuid, &o), 0);
        fake_event(VIRT_DISCONNECTED, 0, -1, false);
        assert_true(manager_verify(f.m, FAKE_UUID, on_reply, &f, &o) < 0);
        assert_int_equal(o.code, OUTCOME_NO_LIBVIRT);
        assert_int_equal(manager_find_domain(f.m, "other", uuid, &o), -ENOENT);
        assert_int_equal(o.code, OUTCOME_NO_LIBVIRT);
        assert_int_equal(f.n_replies, 0);
        teardown(&f);
}

static void test_unbind(void **state) {
        Fixture f;
        Outcome o = {};

        setup(&f, "");
        fake_event(VIRT_DOMAIN, VIRT_STATE_OFF, -1, false);
        run(&f, 50);
        assert_int_equal(manager_unbind(f.m, FAKE_UUID, true, on_reply, &f, &o), 0);
        run(&f, 50);
        assert_int_equal(f.outcome.code, OUTCOME_OK);
        assert_null(fake.vms[0].defined); /* a dry run */
        assert_int_equal(manager_unbind(f.m, FAKE_UUID, false, on_reply, &f, &o), 0);
        run(&f, 50);
        assert_non_null(fake.vms[0].defined);
        assert_null(strstr(fake.vms[0].defined, "memnode"));
        teardown(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_phase_table),
                cmocka_unit_test(test_phase_setter_refuses),
                cmocka_unit_test(test_observes),
                cmocka_unit_test(test_counters_are_told_when_they_change),
                cmocka_unit_test(test_orders),
                cmocka_unit_test(test_boots_untracked),
                cmocka_unit_test(test_tracking_is_limited),
                cmocka_unit_test(test_migration_freezes),
                cmocka_unit_test(test_dry_run_touches_no_guest),
                cmocka_unit_test(test_no_extension),
                cmocka_unit_test(test_bad_agents),
                cmocka_unit_test(test_agent_leaves_and_returns),
                cmocka_unit_test(test_libvirt_restarts),
                cmocka_unit_test(test_clean_stop),
                cmocka_unit_test(test_policy),
                cmocka_unit_test(test_names_and_errors),
                cmocka_unit_test(test_unbind),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
