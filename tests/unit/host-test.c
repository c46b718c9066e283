/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tier discovery and the placement of a mapping, on small trees of sysfs and procfs that each test makes in
 * a folder of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/units.h"
#include "io/host.h"
#include "temp-root.h"

static void put_node(unsigned node, unsigned mib, const char *cpus, const char *distance) {
        char path[128], text[256];

        snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/meminfo", node);
        snprintf(text, sizeof(text), "Node %u MemTotal:       %u kB\nNode %u MemFree:        %u kB\n", node,
                 mib * 1024, node, mib * 512);
        put(path, text);
        snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
        put(path, cpus);
        snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/distance", node);
        put(path, distance);
}

/* The lab's host: node 0 with two CPUs, node 1 without. */
static int setup(void **state) {
        root_make();
        put("/sys/devices/system/node/online", "0-1\n");
        put_node(0, 2048, "0-1\n", "10 28\n");
        put_node(1, 1024, "\n", "28 10\n");
        return 0;
}

static int teardown(void **state) {
        return root_remove();
}

static void assert_nodes(const HostTiers *t, Tier tier, bool suggested, const char *wanted) {
        char buf[64];

        host_tiers_nodelist(t, tier, suggested, buf, sizeof(buf));
        assert_string_equal(buf, wanted);
}

static void discover(const char *dram, const char *slow, HostTiers *ret) {
        Outcome o = {};

        if (host_tiers_discover(root, dram, slow, ret, &o) < 0)
                fail_msg("%s", o.text);
}

static void discover_fails(const char *dram, const char *slow, OutcomeCode code, const char *says) {
        HostTiers t;
        Outcome o = {};

        assert_true(host_tiers_discover(root, dram, slow, &t, &o) < 0);
        assert_int_equal(o.code, code);
        if (!strstr(o.text, says))
                fail_msg("'%s' does not say '%s'", o.text, says);
}

static void test_distance_is_a_suggestion(void **state) {
        HostTiers t;

        discover(NULL, NULL, &t);
        assert_int_equal(t.n_nodes, 2);
        assert_int_equal(t.nodes[0].total_bytes, 2048 * MIB);
        assert_int_equal(t.nodes[0].free_bytes, 1024 * MIB);
        assert_int_equal(t.nodes[0].n_cpus, 2);
        assert_string_equal(t.nodes[0].cpus, "0-1");
        assert_int_equal(t.nodes[0].distance_from_dram, 10);
        assert_int_equal(t.nodes[1].tier, TIER_SLOW);
        assert_int_equal(t.nodes[1].source, TIER_FROM_DISTANCE);
        assert_int_equal(t.nodes[1].n_cpus, 0);
        assert_string_equal(t.nodes[1].cpus, "");
        assert_int_equal(t.nodes[1].distance_from_dram, 28);
        assert_nodes(&t, TIER_DRAM, false, "0");
        assert_nodes(&t, TIER_SLOW, false, "");
        assert_nodes(&t, TIER_SLOW, true, "1");
}

static void test_kernel_tiers(void **state) {
        HostTiers t;

        put("/sys/devices/virtual/memory_tiering/memory_tier4/nodelist", "0\n");
        put("/sys/devices/virtual/memory_tiering/memory_tier84/nodelist", "1\n");
        put("/sys/devices/virtual/memory_tiering/uevent", "");
        put("/sys/devices/system/node/node0/access1/initiators/read_latency", "90\n");
        put("/sys/devices/system/node/node0/access1/initiators/read_bandwidth", "20000\n");
        put("/sys/devices/system/node/node1/access0/initiators/read_latency", "300\n");
        put("/sys/devices/system/node/node1/access0/initiators/read_bandwidth", "5000\n");
        discover(NULL, NULL, &t);
        assert_int_equal(t.nodes[1].source, TIER_FROM_KERNEL);
        assert_nodes(&t, TIER_SLOW, false, "1");
        assert_int_equal(t.nodes[0].latency_ns, 90);
        assert_int_equal(t.nodes[0].bandwidth_mibs, 20000);
        assert_int_equal(t.nodes[1].latency_ns, 300);
        assert_int_equal(t.nodes[1].bandwidth_mibs, 5000);
}

/* Without an HMAT the kernel puts a CPU-less node into DRAM's tier: that must not make it DRAM. */
static void test_kernel_same_tier_says_nothing(void **state) {
        HostTiers t;

        put("/sys/devices/virtual/memory_tiering/memory_tier4/nodelist", "0-1\n");
        discover(NULL, NULL, &t);
        assert_int_equal(t.nodes[1].source, TIER_FROM_DISTANCE);
        assert_nodes(&t, TIER_SLOW, false, "");
}

static void test_configuration_wins(void **state) {
        HostTiers t;

        put("/sys/devices/virtual/memory_tiering/memory_tier4/nodelist", "0\n");
        put("/sys/devices/virtual/memory_tiering/memory_tier84/nodelist", "1\n");
        discover(NULL, "0", &t);
        assert_int_equal(t.nodes[0].tier, TIER_SLOW);
        assert_int_equal(t.nodes[0].source, TIER_FROM_CONF);
        discover("0", "1", &t);
        assert_nodes(&t, TIER_DRAM, false, "0");
        assert_nodes(&t, TIER_SLOW, false, "1");
        assert_int_equal(t.nodes[1].source, TIER_FROM_CONF);
}

static void test_many_nodes(void **state) {
        HostTiers t;

        put("/sys/devices/system/node/online", "0-3,5,7\n");
        put_node(0, 2048, "0-3,8\n", "10 21 17 28 28 28\n");
        put_node(1, 2048, "4-7\n", "21 10 28 17 28 28\n");
        put_node(2, 4096, "\n", "17 28 10 28 28 28\n");
        put_node(3, 4096, "\n", "28 17 28 10 28 28\n");
        put_node(5, 4096, "\n", "40 31 28 28 10 28\n");
        put_node(7, 0, "9\n", "28 28 28 28 28 10\n");       /* CPUs, no memory */
        discover(NULL, NULL, &t);
        assert_int_equal(t.n_nodes, 5);
        assert_int_equal(t.nodes[0].n_cpus, 5);
        assert_nodes(&t, TIER_DRAM, false, "0-1");
        assert_nodes(&t, TIER_SLOW, true, "2-3,5");
        assert_int_equal(t.nodes[2].distance_from_dram, 17);
        assert_int_equal(t.nodes[3].distance_from_dram, 17);   /* from node 1 */
        assert_int_equal(t.nodes[4].distance_from_dram, 28);   /* of column 5, which is node 5's */
        discover("0-1", "2,5", &t);
        assert_int_equal(t.n_nodes, 4);                        /* node 3 is in neither list */
        assert_nodes(&t, TIER_SLOW, false, "2,5");
}

static void test_errors(void **state) {
        discover_fails("0", "0", OUTCOME_BAD_ARGUMENT, "both");
        discover_fails("0", "2", OUTCOME_NO_TIER, "it has 0-1");
        discover_fails("0", "1-", OUTCOME_BAD_ARGUMENT, "SlowNodes");
        discover_fails("0", "3-1", OUTCOME_BAD_ARGUMENT, "SlowNodes");
        discover_fails("0", "1,", OUTCOME_BAD_ARGUMENT, "SlowNodes");
        discover_fails("0", "", OUTCOME_BAD_ARGUMENT, "SlowNodes");
        discover_fails("0", "99", OUTCOME_BAD_ARGUMENT, "SlowNodes");
        discover_fails("x", NULL, OUTCOME_BAD_ARGUMENT, "DramNodes");
        put("/sys/devices/system/node/online", "0-99\n");
        discover_fails(NULL, NULL, OUTCOME_UNSUPPORTED, "64 nodes");
        put("/sys/devices/system/node/online", "0-2\n");
        discover_fails(NULL, NULL, OUTCOME_FAILED, "node 2");
}

static void test_real_machine(void **state) {
        HostTiers t;
        Outcome o = {};

        if (access("/sys/devices/system/node/online", R_OK) < 0)
                return;      /* a kernel without NUMA */
        assert_int_equal(host_tiers_discover("/", NULL, NULL, &t, &o), 0);
        assert_true(t.n_nodes > 0);
        assert_int_equal(t.nodes[0].tier, TIER_DRAM);
}

static void test_mapping(void **state) {
        uint64_t bytes[HOST_NODES_MAX];

        put("/proc/42/maps",
            "7f0000000000-7f0010000000 rw-s 00000000 00:01 1001                       "
            "/memfd:memory-backend-memfd (deleted)\n"
            "7f0010000000-7f0020000000 rw-s 10000000 00:01 1001                       "
            "/memfd:memory-backend-memfd (deleted)\n"
            "7f0020000000-7f0030000000 rw-s 00000000 00:01 1002                       "
            "/memfd:memory-backend-memfd (deleted)\n"
            "7f0030000000-7f0031000000 rw-p 00000000 00:00 0\n"
            "7f0032000000-7f0033000000 rw-p 00000000 00:00 0                          [stack]\n");
        put("/proc/42/numa_maps",
            "7f0000000000 bind:0 file=/memfd:memory-backend-memfd\\040(deleted) dirty=12 active=0 N0=10 "
            "N1=2 kernelpagesize_kB=4\n"
            "7f0010000000 bind:0 file=/memfd:memory-backend-memfd\\040(deleted) dirty=5 N0=5 "
            "kernelpagesize_kB=4\n"
            "7f0020000000 bind:1 file=/memfd:memory-backend-memfd\\040(deleted) huge dirty=3 N1=3 "
            "kernelpagesize_kB=2048\n"
            "7f0030000000 default anon=7 dirty=7 N0=7 kernelpagesize_kB=4\n"
            "7f0032000000 default stack anon=1 dirty=1 N0=1 N99=5 kernelpagesize_kB=4\n");
        assert_int_equal(host_mapping_node_bytes(root, 42, 0x7f0000001000, bytes),
                         0); /* both pieces of the file */
        assert_int_equal(bytes[0], 15 * 4096);
        assert_int_equal(bytes[1], 2 * 4096);
        assert_int_equal(host_mapping_node_bytes(root, 42, 0x7f0020000000, bytes), 0);
        assert_int_equal(bytes[0], 0);
        assert_int_equal(bytes[1], 6 * MIB);
        assert_int_equal(host_mapping_node_bytes(root, 42, 0x7f0030000000, bytes),
                         0); /* anonymous: that piece only */
        assert_int_equal(bytes[0], 7 * 4096);
        assert_int_equal(host_mapping_node_bytes(root, 42, 0x7f0032ffffff, bytes), 0);
        assert_int_equal(bytes[0], 4096);
        assert_int_equal(host_mapping_node_bytes(root, 42, 0x7f0033000000, bytes), -ENOENT);
        assert_int_equal(host_mapping_node_bytes(root, 42, 0x7f0031000000, bytes), -ENOENT);
        assert_int_equal(host_mapping_node_bytes(root, 43, 0, bytes), -ESRCH);
}

static void test_mapping_of_self(void **state) {
        uint64_t bytes[HOST_NODES_MAX], sum = 0;
        char *heap = malloc(64 * KIB);

        assert_non_null(heap);
        memset(heap, 1, 64 * KIB);
        if (access("/proc/self/numa_maps", R_OK) < 0) {
                free(heap);
                return;      /* a kernel without NUMA */
        }
        assert_int_equal(host_mapping_node_bytes("/", getpid(), (uintptr_t) heap, bytes), 0);
        for (size_t i = 0; i < HOST_NODES_MAX; i++)
                sum += bytes[i];
        assert_true(sum >= 64 * KIB);
        free(heap);
}

#define TREE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void test_machine_usage(void **state) {
        static const char cgroup[] = "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator";
        uint64_t bytes[HOST_NODES_MAX] = { 7 };
        char path[256], text[256];

        assert_int_equal(host_machine_bytes(root, 77, bytes), -ESRCH);
        snprintf(text, sizeof(text), "1:cpu:/other\n0::%s\n", cgroup);
        put("/proc/77/cgroup", text);
        assert_int_equal(host_machine_bytes(root, 77, bytes), -ENODATA);
        put("/sys/fs/cgroup/machine.slice/memory.numa_stat", "shmem N0=9 N1=9\n"); /* of all machines */
        assert_int_equal(host_machine_bytes(root, 77, bytes), -ENODATA);
        assert_int_equal(bytes[0], 7);
        snprintf(path, sizeof(path), "/sys/fs/cgroup%.*s/memory.numa_stat",
                 (int) (strstr(cgroup, "/emulator") - cgroup), cgroup);
        put(path, "anon N0=1 N1=2\nanon_thp N0=3 N1=3\nshmem N0=4096 N1=8192 N99=5\nshmem_thp N0=3 N1=3\n");
        assert_int_equal(host_machine_bytes(root, 77, bytes), 0);
        assert_int_equal(bytes[0], 4097);
        assert_int_equal(bytes[1], 8194);
        put(path, "anon N0=1 N1=2\n");
        assert_int_equal(host_machine_bytes(root, 77, bytes), -ENODATA);
        put("/proc/78/cgroup", "0::/user.slice/vm\n");
        put("/sys/fs/cgroup/user.slice/vm/memory.numa_stat", "shmem N0=4096\n");
        assert_int_equal(host_machine_bytes(root, 78, bytes), -ENODATA);
}

static void test_machine_own_memory(void **state) {
        uint64_t bytes[HOST_NODES_MAX] = { 7 };

        assert_int_equal(host_machine_own_bytes(root, 79, bytes), -ESRCH);
        assert_int_equal(bytes[0], 7);
        put("/proc/79/numa_maps",
            "55d4cdecc000 default file=/usr/bin/qemu mapped=1180 active=0 N0=1180 kernelpagesize_kB=4\n"
            "55d4ced84000 default file=/usr/bin/qemu anon=410 dirty=410 N0=410 kernelpagesize_kB=4\n"
            "55d50e345000 default heap anon=2913 dirty=2913 active=0 N0=2900 N1=13 kernelpagesize_kB=4\n"
            "7fd9a1c00000 default anon=2 dirty=2 active=0 N0=2 kernelpagesize_kB=2048\n"
            "7fd9a2c00000 default\n"
            "7fd9f3c00000 bind:1 anon=119296 dirty=119296 active=0 N1=119296 kernelpagesize_kB=4\n");
        assert_int_equal(host_machine_own_bytes(root, 79, bytes), 0);
        assert_int_equal(bytes[0], 2900 * 4096 + 4 * MIB);
        assert_int_equal(bytes[1], 13 * 4096);
}

static void test_process_cpu(void **state) {
        usec_t usec = 7;
        char text[256];

        assert_int_equal(host_process_cpu_usec(root, 80, &usec), -ESRCH);
        put("/proc/80/stat", "80 (vm) 1) S 1 80 80 0 -1 4194560 5 6 7 8 ");
        assert_int_equal(host_process_cpu_usec(root, 80, &usec), -EBADMSG);
        assert_int_equal(usec, 7);
        snprintf(text, sizeof(text), "80 (vm) 1) S 1 80 80 0 -1 4194560 5 6 7 8 %ld %ld 9 9 20 0 4 0\n",
                 3 * sysconf(_SC_CLK_TCK), sysconf(_SC_CLK_TCK) / 2);
        put("/proc/80/stat", text);
        assert_int_equal(host_process_cpu_usec(root, 80, &usec), 0);
        assert_int_equal(usec, 3500 * USEC_PER_MSEC);
}

static void test_nodelist(void **state) {
        assert_true(host_nodelist_has("0,2-3", 0) && host_nodelist_has("0,2-3", 2) &&
                    host_nodelist_has("0,2-3", 3));
        assert_false(host_nodelist_has("0,2-3", 1) || host_nodelist_has("0,2-3", 4) ||
                     host_nodelist_has("", 0));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TREE_TEST(test_distance_is_a_suggestion), TREE_TEST(test_kernel_tiers),
                TREE_TEST(test_kernel_same_tier_says_nothing), TREE_TEST(test_configuration_wins),
                TREE_TEST(test_many_nodes), TREE_TEST(test_errors), TREE_TEST(test_mapping),
                cmocka_unit_test(test_real_machine), cmocka_unit_test(test_mapping_of_self),
                cmocka_unit_test_setup_teardown(test_machine_usage, setup, teardown),
                cmocka_unit_test_setup_teardown(test_machine_own_memory, setup, teardown),
                cmocka_unit_test_setup_teardown(test_process_cpu, setup, teardown),
                cmocka_unit_test(test_nodelist),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
