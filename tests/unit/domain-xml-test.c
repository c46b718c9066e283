/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Binding and unbinding against golden XML and libvirt's own schema, what must be refused, and reading.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/units.h"
#include "io/domain-xml.h"

#define SCHEMA "/usr/share/libvirt/schemas/domain.rng"

static const BindOptions options = {
        .dram_bytes = 256 * MIB,
        .slow_bytes = 768 * MIB,
        .dirty_ring_size = 4096,
        .extension_path = "/usr/lib/hmvisor/hmvisor-hotness.so",
        .tiers = { { .nodes = "0", .cpus = "0-1", .distance = 10 }, { .nodes = "1", .distance = 28 } },
};

static char *data_read(const char *name) {
        char path[512], *text;
        size_t n;
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s", TEST_DATA, name);
        f = fopen(path, "re");
        assert_non_null(f);
        text = calloc(1, 1 << 20);
        assert_non_null(text);
        n = fread(text, 1, (1 << 20) - 1, f);
        assert_true(n > 0 && n < (1 << 20) - 1);
        fclose(f);
        return text;
}

/* text with one occurrence of `from` replaced; it must be there. */
static char *edited(const char *text, const char *from, const char *to) {
        const char *at = strstr(text, from);
        char *s;

        assert_non_null(at);
        assert_true(asprintf(&s, "%.*s%s%s", (int) (at - text), text, to, at + strlen(from)) > 0);
        return s;
}

static void assert_same(const char *a, const char *b) {
        _cleanup_free_ char *diff = NULL;

        assert_int_equal(domain_xml_diff(a, b, &diff), 0);
        assert_string_equal(diff, "");
}

static void assert_bind_fails(const char *xml, const BindOptions *b, OutcomeCode code, const char *says) {
        char *out = NULL;
        Outcome o = {};

        assert_true(domain_xml_bind(xml, b, &out, &o) < 0);
        assert_null(out);
        assert_int_equal(o.code, code);
        if (!strstr(o.text, says))
                fail_msg("'%s' does not say '%s'", o.text, says);
}

static void check_round_trip(const char *plain_name, const char *bound_name) {
        _cleanup_free_ char *plain = data_read(plain_name), *golden = data_read(bound_name), *bound = NULL,
                            *back = NULL, *again = NULL;
        Outcome o = {};

        assert_int_equal(domain_xml_bind(plain, &options, &bound, &o), 0);
        assert_string_equal(bound, golden);
        assert_int_equal(domain_xml_unbind(bound, &back, &o), 0);
        assert_same(plain, back);
        assert_int_equal(domain_xml_bind(back, &options, &again, &o), 0);
        assert_string_equal(again, golden);
        assert_bind_fails(bound, &options, OUTCOME_ALREADY_BOUND, "unbind");
}

static void test_bind_virt_install(void **state) {
        check_round_trip("domain-virt-install.xml", "domain-virt-install.bound.xml");
}

static void test_bind_bare(void **state) {
        check_round_trip("domain-bare.xml", "domain-bare.bound.xml");
}

/* Not the live one: it holds what older libvirts' schemas do not know. */
static void test_schema(void **state) {
        static const char *const names[] = { "domain-virt-install.bound.xml", "domain-bare.bound.xml",
                                             "domain-virt-install.xml", "domain-bare.xml" };
        char command[1024];

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                snprintf(command, sizeof(command), "xmllint --noout --relaxng " SCHEMA " '%s/%s' >/dev/null",
                         TEST_DATA, names[i]);
                assert_int_equal(system(command), 0);
        }
}

/* libvirt adds controllers for the devices that bind adds, and a user may go on editing the domain. */
static void test_unbind_keeps_edits(void **state) {
        _cleanup_free_ char *plain = data_read("domain-virt-install.xml"), *bound = NULL, *e1 = NULL,
                            *e2 = NULL, *e3 = NULL, *back = NULL, *w1 = NULL, *w2 = NULL, *wanted = NULL;
        static const char ours[] =
                "<controller type='pci' index='5' model='pcie-root-port'>"
                "<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x4'/></controller>";
        static const char theirs[] =
                "<controller type='pci' index='6' model='pcie-root-port'>"
                "<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x5'/></controller>"
                "<watchdog model='i6300esb' action='reset'>"
                "<address type='pci' domain='0x0000' bus='0x06' slot='0x00' function='0x0'/></watchdog>";
        char tail[2048];
        Outcome o = {};

        assert_int_equal(domain_xml_bind(plain, &options, &bound, &o), 0);
        snprintf(tail, sizeof(tail), "%s%s</devices>", ours, theirs);
        e1 = edited(bound, "</devices>", tail);
        e2 = edited(e1, "<vcpu placement=\"static\">2</vcpu>",
                    "<vcpu placement=\"static\" cpuset=\"0\">2</vcpu>");
        e3 = edited(e2, "<apic/>", "<apic/><pae/>");
        assert_int_equal(domain_xml_unbind(e3, &back, &o), 0);

        snprintf(tail, sizeof(tail), "%s</devices>", theirs);
        w1 = edited(plain, "</devices>", tail);
        w2 = edited(w1, "<vcpu placement='static'>2</vcpu>", "<vcpu placement='static' cpuset='0'>2</vcpu>");
        wanted = edited(w2, "<apic/>", "<apic/><pae/>");
        assert_same(wanted, back);
}

/* The policy is the user's: binding and unbinding leave it alone. */
static void test_policy_survives(void **state) {
        static const char policy[] =
                "<metadata><p:policy xmlns:p=\"" DOMAIN_XML_POLICY_NS "\" text=\"Managed=yes\"/>";
        _cleanup_free_ char *plain = data_read("domain-virt-install.xml"), *with = NULL, *bound = NULL,
                            *back = NULL;
        DomainInfo info;
        Outcome o = {};

        with = edited(plain, "<metadata>", policy);
        assert_int_equal(domain_xml_bind(with, &options, &bound, &o), 0);
        assert_int_equal(domain_xml_read(bound, &info, &o), 0);
        assert_string_equal(info.policy_text, "Managed=yes");
        assert_int_equal(domain_xml_unbind(bound, &back, &o), 0);
        assert_same(with, back);
}

static void test_unbind_refuses(void **state) {
        _cleanup_free_ char *plain = data_read("domain-virt-install.xml"),
                            *bound = data_read("domain-virt-install.bound.xml"), *later = NULL,
                            *damaged = NULL, *path = NULL, *out = NULL;
        Outcome o = {};

        assert_true(domain_xml_unbind(plain, &out, &o) < 0);
        assert_int_equal(o.code, OUTCOME_NOT_BOUND);
        later = edited(bound, "version=\"1\"", "version=\"2\"");
        assert_true(domain_xml_unbind(later, &out, &o) < 0);
        assert_int_equal(o.code, OUTCOME_UNSUPPORTED);
        damaged = edited(bound, "&lt;memory unit", "&lt;devices unit");
        assert_true(domain_xml_unbind(damaged, &out, &o) < 0);
        assert_int_equal(o.code, OUTCOME_UNSUPPORTED);
        path = edited(bound, "path=\"numatune\"", "path=\"devices\"");
        assert_true(domain_xml_unbind(path, &out, &o) < 0);
        assert_int_equal(o.code, OUTCOME_UNSUPPORTED);
        assert_true(domain_xml_unbind("<network/>", &out, &o) < 0);
        assert_int_equal(o.code, OUTCOME_BAD_ARGUMENT);
        assert_null(out);
}

static void test_bind_refuses_domains(void **state) {
        static const struct {
                const char *from, *to, *says;
        } cases[] = {
                { "<vcpu placement='static'>", "<memoryBacking><hugepages/></memoryBacking><vcpu>",
                  "hugepages" },
                { "<vcpu placement='static'>", "<memoryBacking><locked/></memoryBacking><vcpu>", "locked" },
                { "<vcpu placement='static'>", "<vcpu placement='auto'>", "placement='auto'" },
                { "<os>", "<numatune><memory mode='strict' placement='auto'/></numatune><os>", "numatune" },
                { "migratable='on'/>", "><numa><cell id='0' cpus='0-1' memory='1048576'/></numa></cpu>",
                  "NUMA cells" },
                { "<devices>", "<devices><memory model='dimm'/>", "memory devices" },
                { "<devices>", "<launchSecurity type='sev'/><devices>", "encrypted" },
                { "type='kvm'", "type='test'", "type 'kvm'" },
                { "arch='x86_64'", "arch='aarch64'", "x86_64" },
                { "machine='pc-q35-10.0'", "machine='microvm'", "microvm" },
                { "<acpi/>", "", "ACPI" },
        };
        _cleanup_free_ char *plain = data_read("domain-virt-install.xml");

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *xml = edited(plain, cases[i].from, cases[i].to);

                assert_bind_fails(xml, &options, OUTCOME_UNSUPPORTED, cases[i].says);
        }
}

static void test_bind_refuses_options(void **state) {
        _cleanup_free_ char *plain = data_read("domain-virt-install.xml"), *no_vcpu = NULL;
        BindOptions b;

#define REFUSED(field, value, code, says) \
        b = options;                      \
        b.field = value;                  \
        assert_bind_fails(plain, &b, OUTCOME_##code, says)
        REFUSED(dram_bytes, 64 * MIB, BAD_ARGUMENT, "128 MiB");
        REFUSED(slow_bytes, 0, BAD_ARGUMENT, "128 MiB");
        REFUSED(dram_bytes, 256 * MIB + 4096, BAD_ARGUMENT, "block");
        REFUSED(max_dram_bytes, 129 * MIB, BAD_ARGUMENT, "block");
        REFUSED(max_dram_bytes, 128 * MIB, BAD_ARGUMENT, "below");
        REFUSED(min_dram_bytes, 257 * MIB, BAD_ARGUMENT, "block");
        REFUSED(min_dram_bytes, 258 * MIB, BAD_ARGUMENT, "above");
        REFUSED(min_slow_bytes, 64 * MIB, BAD_ARGUMENT, "128 MiB");
        REFUSED(max_slow_bytes, UINT64_MAX / 2 / MIB * 2 * MIB, NO_ROOM, "at most");
        REFUSED(dram_bytes, UINT64_MAX - 1, NO_ROOM, "larger");
        REFUSED(block_bytes, 3 * MIB, BAD_ARGUMENT, "power of two");
        REFUSED(block_bytes, MIB, BAD_ARGUMENT, "2 MiB");
        REFUSED(dirty_ring_size, 1000, BAD_ARGUMENT, "1024");
        REFUSED(dirty_ring_size, 131072, BAD_ARGUMENT, "65536");
        REFUSED(extension_path, NULL, BAD_ARGUMENT, "ExtensionPath");
        REFUSED(extension_path, "/a,b=c", BAD_ARGUMENT, "comma");
#undef REFUSED
        b = options;
        *b.tiers[TIER_SLOW].nodes = '\0';
        assert_bind_fails(plain, &b, OUTCOME_NO_TIER, "slow");
        b = options;
        strcpy(b.tiers[TIER_SLOW].nodes, "0");
        assert_bind_fails(plain, &b, OUTCOME_BAD_ARGUMENT, "both tiers");
        no_vcpu = edited(plain, "<vcpu placement='static'>2</vcpu>", "");
        assert_bind_fails(no_vcpu, &options, OUTCOME_BAD_ARGUMENT, "vcpu");
        assert_bind_fails("not xml", &options, OUTCOME_BAD_ARGUMENT, "virsh dumpxml");
}

static void test_bind_options(void **state) {
        _cleanup_free_ char *plain = data_read("domain-virt-install.xml"), *fixed = NULL, *alike = NULL,
                            *fast = NULL, *back = NULL, *least = NULL, *ringless = NULL, *own = NULL;
        DomainInfo info;
        BindOptions b = options;
        Outcome o = {};

        /* no room to grow: no device, no maxMemory */
        b.max_dram_bytes = b.dram_bytes;
        b.max_slow_bytes = b.slow_bytes;
        assert_int_equal(domain_xml_bind(plain, &b, &fixed, &o), 0);
        assert_null(strstr(fixed, "virtio-mem"));
        assert_null(strstr(fixed, "<maxMemory"));
        assert_int_equal(domain_xml_read(fixed, &info, &o), 0);
        assert_int_equal(info.cells[0].device_max_bytes, 0);
        assert_int_equal(domain_xml_unbind(fixed, &back, &o), 0);
        assert_same(plain, back);

        /* what may be given up again is plugged by the cell's device at start */
        b.min_dram_bytes = 128 * MIB;
        assert_int_equal(domain_xml_bind(plain, &b, &least, &o), 0);
        assert_int_equal(domain_xml_read(least, &info, &o), 0);
        assert_int_equal(info.cells[0].boot_bytes, 128 * MIB);
        assert_int_equal(info.cells[0].device_max_bytes, b.dram_bytes - 128 * MIB);
        assert_int_equal(info.cells[0].device_requested_bytes, b.dram_bytes - 128 * MIB);
        assert_int_equal(info.cells[1].device_max_bytes, 0);

        /* without a ring a domain's own stays */
        b.dirty_ring_size = 0;
        assert_int_equal(domain_xml_bind(plain, &b, &ringless, &o), 0);
        assert_null(strstr(ringless, "dirty-ring"));
        free(ringless);
        own = edited(plain, "<features>", "<features><kvm><dirty-ring state='on' size='8192'/></kvm>");
        assert_int_equal(domain_xml_bind(own, &b, &ringless, &o), 0);
        assert_non_null(strstr(ringless, "8192"));

        /* figures too much alike would put both cells into one tier of the guest */
        b = options;
        b.tiers[TIER_DRAM].latency_ns = 100;
        b.tiers[TIER_DRAM].bandwidth_mibs = 20000;
        b.tiers[TIER_SLOW].latency_ns = 110;
        b.tiers[TIER_SLOW].bandwidth_mibs = 20000;
        assert_int_equal(domain_xml_bind(plain, &b, &alike, &o), 0);
        assert_non_null(strstr(alike, "target=\"1\" type=\"access\" value=\"300\""));

        /* bandwidths fit the 16 bits of an HMAT entry in their common unit */
        b.tiers[TIER_DRAM].bandwidth_mibs = 300001;
        b.tiers[TIER_SLOW].latency_ns = 250;
        b.tiers[TIER_SLOW].bandwidth_mibs = 33333;
        assert_int_equal(domain_xml_bind(plain, &b, &fast, &o), 0);
        assert_non_null(strstr(fast, "target=\"1\" type=\"access\" value=\"250\""));
        assert_non_null(strstr(fast, "value=\"307200000\" unit=\"KiB\""));   /* 300000 MiB */
        assert_non_null(strstr(fast, "value=\"34127872\" unit=\"KiB\""));    /* 33328 MiB */
}

static void test_read_live(void **state) {
        _cleanup_free_ char *live = data_read("domain-live.xml"),
                            *bound = data_read("domain-virt-install.bound.xml"),
                            *plain = data_read("domain-virt-install.xml");
        DomainInfo info;
        Outcome o = {};

        assert_int_equal(domain_xml_read(live, &info, &o), 0);
        assert_string_equal(info.name, "vm1");
        assert_string_equal(info.uuid, "5f2d5a3e-0c1b-4f63-9a53-5b7c2f7a9d10");
        assert_true(info.hmvisor_bound && info.has_dirty_ring && info.has_extension);
        assert_true(info.has_agent_channel && info.agent_connected);
        assert_string_equal(info.policy_text, "Managed=yes RateCap=64M");
        assert_int_equal(info.n_cells, 2);
        assert_int_equal(info.cells[0].tier, TIER_DRAM);
        assert_int_equal(info.cells[1].tier, TIER_SLOW);
        assert_true(info.cells[0].bound && info.cells[1].bound);
        assert_string_equal(info.cells[1].host_nodes, "1");
        assert_int_equal(info.cells[0].boot_bytes, 256 * MIB);
        assert_int_equal(info.cells[1].boot_bytes, 768 * MIB);
        assert_int_equal(info.cells[1].device_max_bytes, 256 * MIB);   /* not the dimm */
        assert_int_equal(info.cells[1].device_requested_bytes, 128 * MIB);
        assert_int_equal(info.cells[1].device_current_bytes, 64 * MIB);
        assert_string_equal(info.cells[1].device_alias, "ua-hmvisor-slow");

        assert_int_equal(domain_xml_read(bound, &info, &o), 0);
        assert_true(info.hmvisor_bound && !info.agent_connected);
        assert_int_equal(info.cells[0].device_max_bytes, 768 * MIB);
        assert_int_equal(domain_xml_read(plain, &info, &o), 0);
        assert_false(info.hmvisor_bound || info.has_dirty_ring || info.has_extension);
        assert_true(info.has_agent_channel);
        assert_int_equal(info.n_cells, 0);
}

static void test_memory_request(void **state) {
        _cleanup_free_ char *live = data_read("domain-live.xml"),
                            *plain = data_read("domain-virt-install.xml"), *xml = NULL;
        Outcome o = {};

        assert_int_equal(domain_xml_memory_request(live, 1, 192 * MIB, &xml, &o), 0);
        assert_string_equal(xml,
                            "<memory model=\"virtio-mem\" access=\"shared\"><target dynamicMemslots=\"no\">"
                            "<size unit=\"KiB\">262144</size><node>1</node><block unit=\"KiB\">2048</block>"
                            "<requested unit=\"KiB\">196608</requested><current unit=\"KiB\">65536</current>"
                            "<address base=\"0x140000000\"/></target><alias name=\"ua-hmvisor-slow\"/>"
                            "<address type=\"pci\" domain=\"0x0000\" bus=\"0x06\" slot=\"0x00\" "
                            "function=\"0x0\"/></memory>");
        assert_true(domain_xml_memory_request(live, 1, 258 * MIB, &xml, &o) < 0);
        assert_int_equal(o.code, OUTCOME_BAD_ARGUMENT);
        assert_true(domain_xml_memory_request(live, 1, MIB, &xml, &o) < 0);
        assert_int_equal(o.code, OUTCOME_BAD_ARGUMENT);
        assert_true(domain_xml_memory_request(live, 2, 0, &xml, &o) < 0);
        assert_int_equal(o.code, OUTCOME_UNSUPPORTED);
        assert_true(domain_xml_memory_request(plain, 0, 0, &xml, &o) < 0);
        assert_int_equal(o.code, OUTCOME_UNSUPPORTED);
}

static void test_policy_element(void **state) {
        static const char text[] = "Managed=yes A=\"<&>'";
        _cleanup_free_ char *xml = NULL, *back = NULL, *none = NULL, *other = NULL;

        assert_int_equal(domain_xml_policy_element(text, &xml), 0);
        assert_int_equal(domain_xml_get_policy(xml, &back), 0);
        assert_string_equal(back, text);
        assert_int_equal(domain_xml_get_policy("", &none), 0);
        assert_string_equal(none, "");
        assert_int_equal(domain_xml_get_policy("<x text='a'/>", &other), 0);
        assert_string_equal(other, "");
}

static void test_diff(void **state) {
        _cleanup_free_ char *d = NULL, *far = NULL, *xml = NULL, *masked = NULL,
                            *plain = data_read("domain-virt-install.xml");

        assert_int_equal(domain_xml_diff("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nx\ne\nf\n", &d), 0);
        assert_string_equal(d, "--- before\n+++ after\n@@ -1,6 +1,6 @@\n a\n b\n c\n-d\n+x\n e\n f\n");
        assert_int_equal(domain_xml_diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n",
                                         "2\n3\n4\n5\n6\n7\n8\n9\n10\n11\nz\n", &far),
                         0);
        assert_string_equal(far, "--- before\n+++ after\n@@ -1,4 +1,3 @@\n-1\n 2\n 3\n 4\n@@ -9,3 +8,4 @@\n "
                                 "9\n 10\n 11\n+z\n");

        /* neither layout nor passwords show */
        xml = edited(plain, "listen='127.0.0.1' passwd='geheim'", "listen='127.0.0.2'   passwd='secret'");
        assert_int_equal(domain_xml_diff(plain, xml, &masked), 0);
        assert_non_null(strstr(masked, "127.0.0.2"));
        assert_null(strstr(masked, "geheim"));
        assert_null(strstr(masked, "secret"));
}

/* With an argument: the test that needs libvirt's schema. */
int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bind_virt_install),    cmocka_unit_test(test_bind_bare),
                cmocka_unit_test(test_unbind_keeps_edits),
                cmocka_unit_test(test_policy_survives),      cmocka_unit_test(test_unbind_refuses),
                cmocka_unit_test(test_bind_refuses_domains), cmocka_unit_test(test_bind_refuses_options),
                cmocka_unit_test(test_bind_options),         cmocka_unit_test(test_read_live),
                cmocka_unit_test(test_memory_request),       cmocka_unit_test(test_policy_element),
                cmocka_unit_test(test_diff),
        };

        const struct CMUnitTest schema[] = { cmocka_unit_test(test_schema) };

        if (argc == 1)
                return cmocka_run_group_tests(tests, NULL, NULL);
        if (access(SCHEMA, R_OK) < 0 || system("command -v xmllint >/dev/null") != 0) {
                printf("needs xmllint and %s\n", SCHEMA);
                return 77;
        }
        return cmocka_run_group_tests(schema, NULL, NULL);
}
