/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Configuration files, their order, their errors, and policies as words. The shipped hmvisord.conf must say
 * what the code's defaults are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

#include <cmocka.h>

#include "conf.h"
#include "config.h"
#include "temp-root.h"

static int setup(void **state) {
        root_make();
        return 0;
}

static int teardown(void **state) {
        return root_remove();
}

static void load(Conf *ret) {
        Outcome o = {};

        if (conf_load(root, ret, &o) < 0)
                fail_msg("%s", o.text);
}

static void load_fails(const char *text, const char *says) {
        Outcome o = {};
        Conf c;

        put(HMV_SYS_CONF, text);
        assert_int_equal(conf_load(root, &c, &o), -EINVAL);
        assert_int_equal(o.code, OUTCOME_BAD_ARGUMENT);
        if (!strstr(o.text, says))
                fail_msg("'%s' does not say '%s'", o.text, says);
}

static void assert_dump(const Conf *c, const char *wanted) {
        char *text = NULL;

        assert_int_equal(conf_dump(c, &text), 0);
        assert_string_equal(text, wanted);
        free(text);
}

static void test_defaults(void **state) {
        Conf c;

        load(&c);
        assert_false(c.manage_bound);
        assert_null(c.libvirt_uri);
        assert_null(c.dram_nodes);
        assert_int_equal(c.log_level, LOG_INFO);
        assert_string_equal(c.extension_path, HMV_EXTENSION_PATH);
        assert_int_equal(c.host.epoch_usec, host_policy_default().epoch_usec);
        assert_int_equal(c.domain.migrate_bytes_per_sec, domain_policy_default().migrate_bytes_per_sec);
        assert_int_equal(c.duty_off_usec, 0);
        assert_true(c.sample_usec <= c.host.epoch_usec);
        conf_done(&c);
}

/* What the shipped file shows as commented defaults are the defaults. */
static void test_shipped_file(void **state) {
        _cleanup_free_ char *text = calloc(1, 65536), *dump = NULL;
        Conf c, d;
        FILE *f;

        load(&d);
        assert_int_equal(conf_dump(&d, &dump), 0);
        f = fopen(SHIPPED_CONF, "re");
        assert_non_null(f);
        assert_true(fread(text, 1, 65535, f) > 0);
        fclose(f);
        put(HMV_VENDOR_CONF, text);
        load(&c);
        assert_dump(&c, dump);                    /* as shipped: all commented out */
        conf_done(&c);
        for (char *p = text; (p = strstr(p, "\n#")); p++)
                if (p[2] >= 'A' && p[2] <= 'Z' && strcspn(p + 2, "=") < strcspn(p + 2, " \n"))
                        memmove(p + 1, p + 2, strlen(p + 2) + 1);   /* a "#Key=Value" line */
        assert_non_null(strstr(text, "\nHotHeat="));
        put(HMV_VENDOR_CONF, text);
        load(&c);
        assert_dump(&c, dump);
        for (char *line = strtok(dump, "\n"); line; line = strtok(NULL, "\n")) {
                char key[64];

                snprintf(key, sizeof(key), "\n%.*s", (int) strcspn(line, "="), line);
                if (!strstr(text, key))
                        fail_msg("%s is not in the shipped file", key + 1);
        }
        conf_done(&c);
        conf_done(&d);
}

static void test_order(void **state) {
        Conf c;

        put(HMV_VENDOR_CONF,
            "[Daemon]\nLibvirtURI=qemu:///vendor\nLogLevel=debug\nManageBound=yes\n[Tiers]\nDramNodes=0\n");
        put(HMV_SYS_CONF, "# comment\n[Daemon]\nLibvirtURI=qemu:///admin\n\n[Tiers]\nDramNodes=0,2-3\n");
        put(HMV_SYS_CONF_DIR "/20-b.conf", "[Daemon]\nLogLevel = err   ; why\n[Policy]\nRateCap=2M\n");
        put(HMV_SYS_CONF_DIR "/10-a.conf",
            "[Daemon]\nLogLevel=notice\nManageBound=\n[Policy]\nRateCap=1M\nHotHeat=7\n");
        put(HMV_SYS_CONF_DIR "/30-c.txt", "nonsense");
        put(HMV_SYS_CONF_DIR "/.hidden.conf", "nonsense");
        load(&c);
        assert_string_equal(c.libvirt_uri, "qemu:///admin");
        assert_string_equal(c.dram_nodes, "0,2-3");
        assert_int_equal(c.log_level, LOG_ERR);
        assert_false(c.manage_bound);      /* an empty value is the default */
        assert_int_equal(c.domain.migrate_bytes_per_sec, 2 << 20);
        assert_int_equal(c.domain.hot_heat, 7);
        conf_done(&c);
}

static void test_round_trip(void **state) {
        static const char text[] =
                "[Daemon]\nLibvirtURI=test:///default\nLogLevel=debug\nManageBound=yes\nDryRun=yes\n\n"
                "[Tiers]\nDramNodes=0\nSlowNodes=1,3-4\n\n"
                "[Tracking]\nSampleInterval=100ms\nDutyOn=2s\nDutyOff=1500ms\nCostLimit=60ms\n"
                "WatchCostLimit=11ms\nFaultCost=3us\nLease=1min\n"
                "DirtyRing=8192\n"
                "ExtensionPath=/opt/x.so\n\n"
                "[Policy]\nEpoch=2s\nHostRateCap=1G\nManaged=yes\nDryRun=yes\nRateCap=65537\nHotHeat=9\n"
                "Hysteresis=3\nWarmupEpochs=4\nSettleEpochs=5\nMinOrderPages=66\n"
                "Trading=yes\nEntitledDram=256M\nEntitledSlow=1G\nFloorDram=128M\nFloorSlow=2M\n"
                "CeilingDram=512M\nCeilingSlow=2G\nSwapDevice=vdb\n\n"
                "[Market]\nEnabled=yes\nDramPrice=7\nSlowPrice=2\nMinTrade=4M\nMaxTrade=8M\nStep=6M\nEpoch="
                "11s\n"
                "CoolDown=3s\nDwell=4s\nSettleTime=5s\nPool=yes\nHostReserveDram=1M\nHostReserveSlow=3M\n"
                "MovingPrice=yes\nDramPriceMin=3\nDramPriceMax=9\nJournalPath=/tmp/x\n";
        Conf c;

        put(HMV_SYS_CONF, text);
        load(&c);
        assert_true(c.host.dry_run && c.domain.dry_run);
        assert_int_equal(c.duty_off_usec, 1500 * USEC_PER_MSEC);
        assert_dump(&c, text);
        conf_done(&c);
}

static void test_errors(void **state) {
        char text[700];

        load_fails("[Daemon]\nLogLevel=loud\n",
                   HMV_SYS_CONF ":2: LogLevel=loud is not possible; allowed is emerg");
        load_fails("[Daemon]\n\nFoo=1\n", ":3: unknown key 'Foo' in [Daemon]; known are LibvirtURI");
        load_fails("[Deamon]\nLogLevel=info\n", "unknown section [Deamon]");
        load_fails("LogLevel=info\n", "unknown section []");
        load_fails("[Daemon]\nLogLevel\n", ":2: this is neither");
        load_fails("[Daemon]\nLogLevel=info\n  more\n", ":3: the line is indented");
        load_fails("[Policy]\nHotHeat=256\n", "a number from 0 to 255");
        load_fails("[Policy]\nHotHeat=-1\n", "a number from 0 to 255");
        load_fails("[Policy]\nRateCap=fast\n", "such as 64M");
        load_fails("[Policy]\nManaged=maybe\n", "yes or no");
        load_fails("[Tracking]\nSampleInterval=1ms\n", "from 20ms to 1min");
        load_fails("[Tracking]\nSampleInterval=2s\n", "SampleInterval= is longer than Epoch=");
        load_fails("[Tracking]\nDutyOff=2s\n", "DutyOn=");
        load_fails("[Tracking]\nLease=1s\n", "Lease=");
        load_fails("[Tracking]\nDirtyRing=1000\n", "power of two");
        load_fails("[Tracking]\nDirtyRing=512\n", "power of two");
        load_fails("[Tracking]\nDirtyRing=131072\n", "from 0 to 65536");
        load_fails("[Tracking]\nExtensionPath=x.so\n", "absolute path");
        load_fails("[Tracking]\nExtensionPath=/a,b\n", "comma");
        load_fails("[Tiers]\nSlowNodes=one\n", "0,2-3");
        load_fails("[Market]\nDramPrice=0\n", "a number from 1 to");
        load_fails("[Market]\nSlowPrice=0\n", "a number from 1 to");
        load_fails("[Market]\nMinTrade=3M\n", "multiples of 2M");
        load_fails("[Market]\nMaxTrade=3M\nMinTrade=2M\n", "multiples of 2M");
        load_fails("[Market]\nMinTrade=64M\nMaxTrade=32M\n", "above MaxTrade");
        load_fails("[Market]\nMovingPrice=yes\nDramPrice=9\n", "DramPriceMax");
        load_fails("[Policy]\nSwapDevice=/dev/vdb\n", "letters and digits");
        strcpy(text, "[Daemon]\nLibvirtURI=");
        memset(text + strlen(text), 'x', 600);
        strcpy(text + 620, "\n");
        load_fails(text, ":2: the line is longer");
        put(HMV_SYS_CONF, "[Daemon]\nLogLevel=info\n");
        put(HMV_SYS_CONF_DIR "/a.conf", "[Tiers]\nX=1\n");
        load_fails("", "a.conf:2: unknown key 'X'");
}

static void test_policy_words(void **state) {
        const DomainPolicy defaults = domain_policy_default();
        _cleanup_free_ char *text = NULL, *none = NULL, *all = NULL;
        DomainPolicy p = defaults, q = defaults;
        Outcome o = {};

        assert_int_equal(policy_parse(" Managed=yes  RateCap=64M\tHotHeat=5\n", &p, &o), 0);
        assert_true(p.managed);
        assert_int_equal(p.migrate_bytes_per_sec, 64 << 20);
        assert_int_equal(p.hot_heat, 5);
        assert_int_equal(p.hysteresis, defaults.hysteresis);
        assert_int_equal(policy_format(&p, &defaults, &text), 0);
        assert_string_equal(text, "Managed=yes RateCap=64M HotHeat=5");
        assert_int_equal(policy_parse(text, &q, &o), 0);
        assert_memory_equal(&p, &q, sizeof(p));
        assert_int_equal(policy_format(&defaults, &defaults, &none), 0);
        assert_string_equal(none, "");
        assert_int_equal(policy_format(&p, NULL, &all), 0);
        assert_int_equal(policy_parse(all, &q, &o), 0);
        assert_memory_equal(&p, &q, sizeof(p));
        assert_int_equal(policy_parse("", &q, &o), 0);
}

static void policy_fails(const char *words, const char *says) {
        DomainPolicy p = domain_policy_default(), before = p;
        Outcome o = {};

        assert_int_equal(policy_parse(words, &p, &o), -EINVAL);
        assert_int_equal(o.code, OUTCOME_BAD_ARGUMENT);
        assert_memory_equal(&p, &before, sizeof(p));
        if (!strstr(o.text, says))
                fail_msg("'%s' does not say '%s'", o.text, says);
}

static void test_policy_errors(void **state) {
        char text[400];

        policy_fails("Managed=yes Foo=1", "unknown policy key 'Foo'; known are Managed");
        policy_fails("Managed=yes HotHeat=1000",
                     "HotHeat='1000' is not possible; allowed is a number from 0 to 255");
        policy_fails("Managed", "KEY=VALUE");
        policy_fails("Managed=", "yes or no");
        policy_fails("managed=yes", "unknown policy key");
        policy_fails("EntitledDram=3M", "multiples of 2M");
        policy_fails("EntitledDram=4M", "go together");
        policy_fails("FloorDram=4M CeilingDram=2M", "FloorDram is above CeilingDram");
        policy_fails("EntitledSlow=4M CeilingSlow=2M", "EntitledSlow is not between");
        policy_fails("EntitledSlow=4M FloorSlow=6M", "EntitledSlow is not between");
        policy_fails("SwapDevice=vdb,readonly=no", "letters and digits");
        memset(text, 'A', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        policy_fails(text, "characters");
}

#define TREE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TREE_TEST(test_defaults),
                TREE_TEST(test_shipped_file),
                TREE_TEST(test_order),
                TREE_TEST(test_round_trip),
                TREE_TEST(test_errors),
                cmocka_unit_test(test_policy_words),
                cmocka_unit_test(test_policy_errors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
