/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The scenarios that come with hmvsim: what trading brings to whom, that hostile guests cost nobody else a
 * byte, that the market rests once there is nothing to gain, and that equal seeds are equal runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "report.h"

#define MIB (UINT64_C(1) << 20)
#define VMS_MAX 1024

static Scenario scenario;

static Sim *start(const char *name, uint64_t seed) {
        char path[400];
        Outcome o = { 0 };
        Sim *s;

        snprintf(path, sizeof(path), "%s/%s.ini", SCENARIOS, name);
        if (scenario_read(path, &scenario, &o) < 0)
                fail_msg("%s", o.text);
        assert_int_equal(sim_new(&scenario, seed, &s), 0);
        return s;
}

static void step(Sim *s) {
        if (sim_step(s) < 0)
                fail_msg("after %llu s: %s", (unsigned long long) (sim_now(s) / USEC_PER_SEC), sim_fault(s));
}

static void run(Sim *s, unsigned seconds) {
        while (seconds-- > 0)
                step(s);
}

static uint64_t missed_permyriad(const GroupView *from, const GroupView *to) {
        return (to->slow_writes - from->slow_writes) * 10000 / (to->writes - from->writes);
}

static void assert_worth(const VmView *v, const Terms *t) {
        assert_true(terms_value(t, v->size_bytes[TIER_DRAM], v->size_bytes[TIER_SLOW]) ==
                    terms_value(t, v->entitled_bytes[TIER_DRAM], v->entitled_bytes[TIER_SLOW]));
}

static void test_three_vms(void **state) {
        _cleanup_(sim_freep) Sim *s = start("three-vms", 1);
        GroupView hot[3], hungry[3];
        uint64_t lots;
        VmView v;

        run(s, 15); /* too early for any trade to have been paid, late enough for pages to have moved */
        sim_group(s, 0, &hot[0]);
        sim_group(s, 1, &hungry[0]);
        assert_int_equal(hot[0].lots, 0);
        run(s, (unsigned) (scenario.duration / USEC_PER_SEC) - 75);
        sim_group(s, 0, &hot[1]);
        sim_group(s, 1, &hungry[1]);
        lots = hot[1].lots;
        run(s, 60);
        sim_group(s, 0, &hot[2]);
        sim_group(s, 1, &hungry[2]);
        print_message(
                "# three-vms: write-hot misses %llu, hungry swaps %llu KiB/s at the end, %llu lots each\n",
                (unsigned long long) missed_permyriad(&hot[1], &hot[2]),
                (unsigned long long) (hungry[2].swap_bytes - hungry[1].swap_bytes) / 60 / 1024,
                (unsigned long long) lots);

        sim_vm(s, 0, &v);
        assert_true(v.size_bytes[TIER_DRAM] > v.entitled_bytes[TIER_DRAM]);
        assert_worth(&v, sim_terms(s));
        assert_true(missed_permyriad(&hot[1], &hot[2]) < 100);
        sim_vm(s, 1, &v);
        assert_true(v.size_bytes[TIER_DRAM] + v.size_bytes[TIER_SLOW] >
                    v.entitled_bytes[TIER_DRAM] + v.entitled_bytes[TIER_SLOW]);
        assert_worth(&v, sim_terms(s));
        assert_true(hungry[0].swap_bytes / 15 > 4 * MIB);
        assert_true((hungry[2].swap_bytes - hungry[1].swap_bytes) / 60 < hungry[0].swap_bytes / 15 / 10);
        sim_vm(s, 2, &v);
        assert_memory_equal(v.size_bytes, v.entitled_bytes, sizeof(v.size_bytes));
        assert_int_equal(v.position, 0);
        assert_int_equal(hot[2].lots, lots); /* it rests */
        assert_true(lots >= 2 && lots <= 6);
}

/* On a hard disk it takes minutes until all is back that was swapped out, and to wait for that is no reason
 * to sell on. */
static void test_hard_disk(void **state) {
        _cleanup_(sim_freep) Sim *s = start("three-vms", 1);
        GroupView hungry[3];

        scenario.groups[1].disk_operations = 80;
        scenario.groups[1].boot_bytes[TIER_DRAM] = 32 * MIB;
        scenario.policy.market.use_pool = true;
        scenario.free_bytes[TIER_SLOW] = 2048 * MIB; /* all that it could want */
        sim_free(TAKE_PTR(s));
        assert_int_equal(sim_new(&scenario, 1, &s), 0);
        run(s, 300);
        sim_group(s, 1, &hungry[0]);
        run(s, 60);
        sim_group(s, 1, &hungry[1]);
        assert_int_equal((hungry[1].swap_bytes - hungry[0].swap_bytes) / 60, 80 * 4096);
        run(s, 840);
        sim_group(s, 1, &hungry[2]);
        print_message("# hard disk: %lld lots after 5 minutes, %lld at the end\n",
                      (long long) hungry[0].position, (long long) hungry[2].position);
        assert_in_range(-hungry[0].position, 2, 4);
        assert_in_range(-hungry[2].position, 2, 5);
        run(s, 60);
        sim_group(s, 1, &hungry[1]);
        assert_int_equal(hungry[1].swap_bytes, hungry[2].swap_bytes);
}

/* A hot set that shrinks: what was bought for it is sold again, what the VM is entitled to is not. */
static void test_cold(void **state) {
        _cleanup_(sim_freep) Sim *s = start("three-vms", 1);
        Group *g = &scenario.groups[0];
        VmView v;

        scenario.policy.market.use_pool = true;
        scenario.free_bytes[TIER_SLOW] = 2048 * MIB;
        g->phases[1] = g->phases[0];
        g->phases[1].at = 300 * USEC_PER_SEC;
        g->phases[1].hot_bytes = 32 * MIB;
        g->n_phases = 2;
        sim_free(TAKE_PTR(s));
        assert_int_equal(sim_new(&scenario, 1, &s), 0);
        run(s, 295);
        sim_vm(s, 0, &v);
        assert_true(v.position > 0);
        run(s, 605);
        sim_vm(s, 0, &v);
        assert_int_equal(v.position, 0);
        run(s, 300);
        sim_vm(s, 0, &v);
        assert_int_equal(v.position, 0);
        assert_worth(&v, sim_terms(s));
}

/* Without trading, the same VMs miss and swap to the end: it was the market that helped. */
static void test_without_trading(void **state) {
        _cleanup_(sim_freep) Sim *s = start("three-vms", 1);
        GroupView hot[2], hungry[2];

        scenario.policy.market.enabled = false;
        sim_free(TAKE_PTR(s));
        assert_int_equal(sim_new(&scenario, 1, &s), 0);
        run(s, 240);
        sim_group(s, 0, &hot[0]);
        sim_group(s, 1, &hungry[0]);
        run(s, 60);
        sim_group(s, 0, &hot[1]);
        sim_group(s, 1, &hungry[1]);
        assert_true(missed_permyriad(&hot[0], &hot[1]) > 1500);
        assert_true((hungry[1].swap_bytes - hungry[0].swap_bytes) / 60 > 4 * MIB);
        assert_null(sim_trade(s));
}

/* Every second: sim_step() itself fails when anybody holds more than it pays for, or the host is oversold.
 * Of honest VMs nothing may be missing but what a trade under way has in escrow, and no trade takes for
 * ever. */
static void check_hostile(uint64_t seed) {
        _cleanup_(sim_freep) Sim *s = start("hostile", seed);
        static unsigned busy[VMS_MAX], quiet[VMS_MAX], off[VMS_MAX];
        unsigned seconds = (unsigned) (scenario.duration / USEC_PER_SEC), longest = 0, longest_off = 0,
                 checked = 0;
        unsigned most = (unsigned) (scenario.policy.market.settle_usec / USEC_PER_SEC) * 2 + 10;
        GroupView v;

        memset(busy, 0, sizeof(busy));
        memset(quiet, 0, sizeof(quiet));
        memset(off, 0, sizeof(off));
        assert_true(sim_n_vms(s) <= VMS_MAX);
        for (unsigned i = 0; i < seconds; i++) {
                step(s);
                for (size_t k = 0; k < sim_n_vms(s); k++) {
                        VmView vm;

                        sim_vm(s, k, &vm);
                        off[k] = vm.on ? 0 : off[k] + 1;
                        longest_off = MAX(longest_off, off[k]);
                        if (vm.behaviour != BEHAVE_HONEST)
                                continue;
                        busy[k] = vm.busy ? busy[k] + 1 : 0;
                        quiet[k] = vm.busy ? 0 : quiet[k] + 1;
                        longest = MAX(longest, busy[k]);
                        if (quiet[k] <= 3) /* what is returned is plugged in the seconds after */
                                continue;
                        assert_worth(&vm, sim_terms(s));
                        checked++;
                }
        }
        print_message("# hostile, seed %llu: an honest VM's longest trade took %u s\n",
                      (unsigned long long) seed, longest);
        assert_true(longest <= most);
        /* It stays off for 209 s at most, by itself; then there has to be room for what it is entitled to.
         */
        print_message("# hostile, seed %llu: a VM was off for %u s\n", (unsigned long long) seed,
                      longest_off);
        assert_in_range(longest_off, 1, 209 + 180);
        assert_true(checked > seconds * 10);
        for (size_t g = 0; g < scenario.n_groups; g++) {
                sim_group(s, g, &v);
                if (streq(scenario.groups[g].name, "honest-hot") ||
                    streq(scenario.groups[g].name, "honest-hungry"))
                        assert_true(v.lots > 0); /* they get what they need nevertheless */
                if (streq(scenario.groups[g].name, "bystander"))
                        assert_int_equal(v.position, 0);
        }
}

static void test_hostile(void **state) {
        check_hostile(1);
        check_hostile(2);
}

/* A thousand: all who need can be served, and then the market rests. */
static void test_thousand(void **state) {
        _cleanup_(sim_freep) Sim *s = start("thousand", 1);
        GroupView hot, hungry;

        run(s, 120);
        sim_group(s, 0, &hot);
        sim_group(s, 1, &hungry);
        print_message("# thousand: %llu and %llu lots in 2 minutes\n", (unsigned long long) hot.lots,
                      (unsigned long long) hungry.lots);
        assert_int_equal(sim_n_vms(s), 1000);
        assert_true(hot.position >= 2 * 250 && hungry.position <= -2 * 250);
        assert_int_equal(hot.position + hungry.position, 0);
}

static char *record(uint64_t seed) {
        _cleanup_(report_freep) Report *r = NULL;
        _cleanup_(sim_freep) Sim *s = start("hostile", seed);
        Outcome o = { 0 };
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        assert_int_equal(report_new(&scenario, NULL, &r, &o), 0);
        for (unsigned i = 0; i < 15; i++) {
                run(s, 10);
                report_row(r, s);
                report_json(r, s, 0, f);
                report_summary(r, s, f);
        }
        fclose(f);
        return text;
}

static void test_equal_seeds_are_equal_runs(void **state) {
        _cleanup_free_ char *a = record(7), *b = record(7), *c = record(8);

        assert_string_equal(a, b);
        assert_string_not_equal(a, c);
}

static void refused(const char *text, const char *why) {
        char path[] = "/tmp/hmvsim-test-XXXXXX";
        int fd = mkstemp(path);
        Outcome o = { 0 };
        Scenario s;

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        close(fd);
        assert_int_equal(scenario_read(path, &s, &o), -EINVAL);
        unlink(path);
        if (!strstr(o.text, why))
                fail_msg("'%s' does not say '%s'", o.text, why);
}

static void test_bad_scenarios(void **state) {
#define START "[simulation]\nduration = 1min\n"
#define VM "[group a]\ndram = 64M\nslow = 64M\n"
        Outcome o = { 0 };
        Scenario s;

        assert_int_equal(scenario_read("/nowhere", &s, &o), -ENOENT);
        refused("", "'duration'");
        refused(START, "[group NAME]");
        refused(START "speed = 3\n", ":3: there is no 'speed'");
        refused(START "[group A]\nused = 1M\n", "small letters");
        refused(START VM "used = 1M\n[group a at]\nused = 2M\n", "a phase is");
        refused(START VM "used = 1M\n[group a at 10s]\nused = 2M\n[group a at 5s]\nused = 3M\n", "in order");
        refused(START VM "used = 1M\n[group a at 10s]\ncount = 2\n", "there is no 'count'");
        refused(START VM, "within used");
        refused(START VM "used = 1M\nhot = 2M\n", "within used");
        refused(START VM "used = 1M\nwritten = 101%\n", "'101%'");
        refused(START VM "used = 1M\ncount = 0\n", "'0'");
        refused(START VM "used = 1M\nbehaviour = nice\n", "'nice'");
        refused(START VM "used = 1M\ndram-boot = 3M\n", "whole blocks");
        refused(START VM "used = 1M\ndram-max = 32M\n", "not above the maximum");
        refused(START VM "used = 1M\n[market]\nmin-trade = 1000\n", "[market] makes no sense");
        refused("duration\n", ":1: this is neither");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_three_vms),
                cmocka_unit_test(test_hard_disk),
                cmocka_unit_test(test_cold),
                cmocka_unit_test(test_without_trading),
                cmocka_unit_test(test_hostile),
                cmocka_unit_test(test_thousand),
                cmocka_unit_test(test_equal_seeds_are_equal_runs),
                cmocka_unit_test(test_bad_scenarios),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
