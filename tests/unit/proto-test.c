/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The codecs of both protocols: what is asked, what answers are taken, and what a hostile QEMU or guest
 * cannot get in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/agent.h"
#include "proto/hotness.h"
#include "proto/ramblock.h"
#include "proto/reply.h"

#define STATUS(state, more)                                                                                 \
        "{\"return\":{\"state\":\"" state "\",\"log\":\"ring\",\"epochs\":7,\"generation\":3," more         \
        "},\"id\":\"x\"}"
#define RANGE(block, gpa, pages, offset)                                                                    \
        "{\"block\":\"" block "\",\"gpa\":" #gpa ",\"pages\":" #pages ",\"offset\":" #offset "}"

static void expect_void(const char *text) {
        HotnessStatus s = { .n_ranges = 99 };
        Outcome o = {};

        assert_int_equal(hotness_reply_parse(text, 1000, &s, &o), -EIO);
        assert_int_equal(o.code, OUTCOME_FAILED);
        assert_true(*o.text != '\0');
        assert_int_equal(s.n_ranges, 99); /* written only on success */
}

static void test_hotness_requests(void **state) {
        char *text;

        assert_int_equal(hotness_request_getfd(&text), 0);
        assert_string_equal(text,
                            "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"hmvisor-hotness-table\"}}");
        free(text);
        assert_int_equal(hotness_request_start(&(HotnessStart){ .interval_ms = 1, .lease_ms = 30000 },
                                               &text),
                         0);
        assert_non_null(strstr(text, "\"interval-ms\":20,")); /* the least that the protocol allows */
        assert_non_null(strstr(text, "\"lease-ms\":30000"));
        assert_null(strstr(text, "off-ms"));
        free(text);
        assert_int_equal(hotness_request_start(&(HotnessStart){ .interval_ms = 200,
                                                                .on_ms = 5,
                                                                .off_ms = 9,
                                                                .lease_ms = 30000 },
                                               &text),
                         0);
        assert_non_null(strstr(text, "\"on-ms\":5,\"off-ms\":9"));
        free(text);
}

static void test_hotness_good(void **state) {
        HotnessStatus s;
        Outcome o = {};

        assert_int_equal(
                hotness_reply_parse(STATUS("tracking",
                                           "\"counters\":300,\"new-member\":{\"x\":[1]},\"ranges\":[" RANGE(
                                                   "ram-node0", 0, 100, 0) "," RANGE("ram-node1", 4294967296,
                                                                                     200, 100) "]"),
                                    1000, &s, &o),
                0);
        assert_int_equal(s.state, HOTNESS_TRACKING);
        assert_true(s.ring);
        assert_int_equal(s.epochs, 7);
        assert_int_equal(s.generation, 3);
        assert_int_equal(s.n_ranges, 2);
        assert_string_equal(s.ranges[1].block, "ram-node1");
        assert_int_equal(s.ranges[1].gfn, 0x100000);
        assert_int_equal(s.ranges[1].n_pages, 200);
        assert_int_equal(s.ranges[1].offset, 100);
}

static void test_hotness_hostile(void **state) {
        expect_void("");
        expect_void("nonsense");
        expect_void("{\"return\":7}");
        expect_void("{\"return\":[]}");
        expect_void("{}");
        expect_void("{\"error\":[]}");
        expect_void(STATUS("dancing", "\"counters\":1,\"ranges\":[]"));
        expect_void(STATUS("tracking", "\"counters\":-1,\"ranges\":[]"));
        expect_void(STATUS("tracking", "\"counters\":2001,\"ranges\":[]")); /* more than twice the domain */
        expect_void(STATUS("tracking", "\"counters\":99999999999999999999999,\"ranges\":[]"));
        expect_void(STATUS("tracking", "\"counters\":300,\"ranges\":7"));
        expect_void(STATUS("tracking", "\"counters\":300,\"ranges\":[7]"));
        expect_void(STATUS("tracking", "\"counters\":300,\"ranges\":[" RANGE("a", 0, 301, 0) "]"));
        expect_void(STATUS("tracking", "\"counters\":300,\"ranges\":[" RANGE("a", 0, 300, 1) "]"));
        expect_void(STATUS("tracking", "\"counters\":300,\"ranges\":[" RANGE("a", 0, 0, 0) "]"));
        expect_void(STATUS("tracking",
                           "\"counters\":300,\"ranges\":[" RANGE("a", 100, 1, 0) "]")); /* no whole page */
        expect_void(
                STATUS("tracking", "\"counters\":300,\"ranges\":[" RANGE("a", 4503599627370496, 1, 0) "]"));
        /* not in order; overlapping in the guest; overlapping in the table; more than the domain has */
        expect_void(
                STATUS("tracking", "\"counters\":300,\"ranges\":[" RANGE("a", 409600, 9,
                                                                         0) "," RANGE("b", 0, 9, 9) "]"));
        expect_void(
                STATUS("tracking",
                       "\"counters\":300,\"ranges\":[" RANGE("a", 0, 9, 0) "," RANGE("b", 4096, 9, 9) "]"));
        expect_void(
                STATUS("tracking",
                       "\"counters\":300,\"ranges\":[" RANGE("a", 0, 9, 0) "," RANGE("b", 36864, 9, 8) "]"));
        expect_void(STATUS("tracking", "\"counters\":2000,\"ranges\":[" RANGE("a", 0, 1001, 0) "]"));
}

static void test_hotness_too_many_ranges(void **state) {
        char text[16384], *p = text;

        p += sprintf(p, "{\"return\":{\"state\":\"off\",\"log\":\"ring\",\"epochs\":0,\"generation\":0,"
                        "\"counters\":900,"
                        "\"ranges\":[");
        for (int i = 0; i <= HOTNESS_RANGES_MAX; i++)
                p += sprintf(p, "%s{\"block\":\"r\",\"gpa\":%d,\"pages\":1,\"offset\":%d}", i ? "," : "",
                             i * 4096, i);
        strcpy(p, "]}}");
        expect_void(text);
}

static void test_no_extension(void **state) {
        HotnessStatus s;
        Outcome o = {};

        assert_int_equal(hotness_reply_parse(
                                 "{\"id\":\"libvirt-1\",\"error\":{\"class\":\"CommandNotFound\",\"desc\":"
                                 "\"The command is not known\"}}",
                                 1, &s, &o),
                         -EIO);
        assert_int_equal(o.code, OUTCOME_NO_EXTENSION);
        assert_int_equal(hotness_reply_check("{\"error\":{\"class\":\"GenericError\",\"desc\":\"a\\nb\"}}",
                                             &o),
                         -EIO);
        assert_int_equal(o.code, OUTCOME_FAILED);
        assert_string_equal(o.text, "QEMU refused: a?b"); /* one line, whatever QEMU says */
        assert_int_equal(hotness_reply_check("{\"return\":{}}", &o), 0);
}

static AgentRange promote[] = { { 0x100000, 4 }, { 0x200000, 6 } }, demote[] = { { 16, 20 } };
static const AgentOrder order = {
        .id = 42,
        .deadline_ms = 5000,
        .promote = { .node = 0, .ranges = promote, .n_ranges = 2, .n_pages = 10 },
        .demote = { .node = 1, .ranges = demote, .n_ranges = 1, .n_pages = 20 },
};

static void test_agent_requests(void **state) {
        AgentPages room = { .node = 1, .ranges = demote, .n_ranges = 1, .n_pages = 20, .most = 5 };
        char *text;

        assert_int_equal(agent_request_submit(&order, &text), 0);
        assert_string_equal(text, "{\"execute\":\"__org.hmvisor_migrate-submit\",\"arguments\":{"
                                  "\"promote\":{\"node\":0,\"ranges\":[1048576,4,2097152,6]},\"demote\":{"
                                  "\"node\":1,\"ranges\":[16,20]},"
                                  "\"order\":42,\"deadline-ms\":5000}}");
        free(text);
        assert_int_equal(agent_request_submit(&(AgentOrder){ .id = 9, .demote = room }, &text), 0);
        assert_string_equal(text, "{\"execute\":\"__org.hmvisor_migrate-submit\",\"arguments\":{"
                                  "\"demote\":{\"node\":1,\"most\":5,\"ranges\":[16,20]},\"order\":9}}");
        free(text);
        room.most = 21;
        assert_int_equal(agent_request_submit(&(AgentOrder){ .id = 9, .demote = room }, &text), -EINVAL);
        assert_int_equal(agent_request_prepare(true, &text), 0);
        assert_string_equal(text, "{\"execute\":\"__org.hmvisor_prepare\",\"arguments\":{\"manage\":true}}");
        free(text);
        assert_int_equal(agent_request_submit(&(AgentOrder){ .id = 1 }, &text), -EINVAL);
        assert_int_equal(agent_request_submit(&(AgentOrder){ .id = 0, .promote = order.promote }, &text),
                         -EINVAL);
        assert_int_equal(
                agent_request_submit(&(AgentOrder){ .id = 1,
                                                    .promote = { .ranges = (AgentRange[]){ { 0, 65537 } },
                                                                 .n_ranges = 1,
                                                                 .n_pages = 65537 } },
                                     &text),
                -EINVAL);
        assert_int_equal(agent_request_submit(&(AgentOrder){ .id = 1,
                                                             .promote = { .ranges =
                                                                                  (AgentRange[]){ { 0, 5 } },
                                                                          .n_ranges = 1,
                                                                          .n_pages = 6 } },
                                              &text),
                         -EINVAL);
}

static void test_agent_status(void **state) {
        AgentStatus s;
        Outcome o = {};

        assert_int_equal(
                agent_reply_parse_status("{\"return\":{\"order\":42,\"state\":\"done\",\"mover\":\"damon\","
                                         "\"promoted\":9,\"demoted\":18,\"elapsed-us\":77,\"skipped\":{"
                                         "\"pinned\":2,\"other\":1}}}",
                                         &order, &s, &o),
                0);
        assert_int_equal(s.state, AGENT_DONE);
        assert_int_equal(s.promoted, 9);
        assert_int_equal(s.demoted, 18);
        assert_int_equal(s.skipped[AGENT_SKIP_PINNED], 2);
        assert_int_equal(s.skipped[AGENT_SKIP_OTHER], 1);
        assert_string_equal(s.mover, "damon");
        assert_int_equal(s.elapsed_usec, 77);
        /* A guest that boasts is cut down to what was ordered, in all. */
        assert_int_equal(
                agent_reply_parse_status("{\"return\":{\"order\":42,\"state\":\"done\",\"promoted\":1000,"
                                         "\"demoted\":15,\"skipped\":{\"free\":900,\"pinned\":900}}}",
                                         &order, &s, &o),
                0);
        assert_int_equal(s.promoted, 10);
        assert_int_equal(s.demoted, 15);
        assert_int_equal(s.skipped[AGENT_SKIP_FREE], 5);
        assert_int_equal(s.skipped[AGENT_SKIP_PINNED], 0);
}

static void expect_garbage(const char *text) {
        AgentStatus s;
        Outcome o = {};

        assert_int_equal(agent_reply_parse_status(text, &order, &s, &o), -EIO);
        assert_int_equal(o.code, OUTCOME_FAILED);
}

static void test_agent_garbage(void **state) {
        AgentPrepared p;
        AgentStats stats;
        Outcome o = {};

        expect_garbage("");
        expect_garbage("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[");
        expect_garbage("{\"return\":{\"order\":41,\"state\":\"done\"}}");
        expect_garbage("{\"return\":{\"order\":42}}");
        expect_garbage("{\"return\":{\"order\":42,\"state\":\"great\"}}");
        expect_garbage("{\"return\":{\"order\":42,\"state\":\"done\",\"promoted\":-1}}");
        expect_garbage("{\"return\":{\"order\":42,\"state\":\"done\",\"promoted\":\"9\"}}");
        expect_garbage("{\"return\":{\"order\":42,\"state\":\"done\",\"skipped\":[]}}");
        expect_garbage("{\"return\":{\"order\":42,\"state\":\"done\",\"skipped\":{\"free\":1e99}}}");
        assert_int_equal(agent_reply_parse_prepared("{\"return\":{\"kernel\":\"6.12\"}}", &p, &o), -EIO);
        assert_int_equal(agent_reply_parse_prepared("{\"return\":{\"version\":\"1\",\"changed\":[7]}}", &p,
                                                    &o),
                         -EIO);
        assert_int_equal(agent_reply_parse_stats("{\"return\":{\"nodes\":[{\"node\":0,\"total\":5}]}}",
                                                 &stats, &o),
                         -EIO);
        assert_int_equal(agent_reply_parse_stats("{\"return\":{\"nodes\":{}}}", &stats, &o), -EIO);
}

/* What is longer than any answer of ours is not even parsed: its values would take many times its size. */
static void test_agent_flood(void **state) {
        static char text[REPLY_TEXT_MAX + 2];
        AgentStats stats;
        Outcome o = {};

        strcpy(text, "{\"return\":{\"nodes\":[]}}");
        memset(text + strlen(text), ' ', REPLY_TEXT_MAX - strlen(text));
        assert_int_equal(agent_reply_parse_stats(text, &stats, &o), 0);
        text[REPLY_TEXT_MAX] = ' ';
        assert_int_equal(agent_reply_parse_stats(text, &stats, &o), -EIO);
        assert_non_null(strstr(o.text, "64 KiB"));
}

static void test_agent_prepared_and_stats(void **state) {
        AgentPrepared p;
        AgentStats s;
        Outcome o = {};

        assert_int_equal(agent_reply_parse_prepared(
                                 "{\"return\":{\"version\":\"0.1\\u001b[2J\",\"kernel\":\"6.12\","
                                 "\"movers\":[\"damon\"],\"changed\":[\"kernel.numa_balancing\",\"x\"]}}",
                                 &p, &o),
                         0);
        assert_string_equal(p.version, "0.1?[2J");
        assert_string_equal(p.changed, "kernel.numa_balancing x");
        assert_int_equal(p.kernel_node, -1);
        assert_int_equal(agent_reply_parse_prepared("{\"return\":{\"version\":\"1\",\"kernel-node\":1}}",
                                                    &p, &o),
                         0);
        assert_int_equal(p.kernel_node, 1);
        assert_int_equal(agent_reply_parse_prepared(
                                 "{\"return\":{\"version\":\"1\",\"kernel-node\":1024}}", &p, &o),
                         0);
        assert_int_equal(p.kernel_node, -1);
        assert_int_equal(
                agent_reply_parse_stats("{\"return\":{\"nodes\":[{\"node\":1,\"total\":10,\"free\":99,"
                                        "\"file\":1,\"foreign\":9},"
                                        "{\"node\":2,\"total\":1,\"free\":1}],"
                                        "\"available\":5,\"swap-free\":7,\"swap-in\":11,"
                                        "\"psi-some-us\":4711}}",
                                        &s, &o),
                0);
        assert_int_equal(s.n_nodes, 2);
        assert_int_equal(s.nodes[0].node, 1);
        assert_int_equal(s.nodes[0].foreign_pages, 9);
        assert_int_equal(s.nodes[1].foreign_pages, UINT64_MAX);
        assert_int_equal(s.nodes[0].free_bytes, 10); /* no more free than there is */
        assert_int_equal(s.available_bytes, 5);
        assert_int_equal(s.swap_free_bytes, 7);
        assert_int_equal(s.swap_in_pages, 11);
        assert_int_equal(s.psi_some_usec, 4711);
        assert_int_equal(agent_reply_parse_stats("{\"return\":{\"nodes\":[]}}", &s, &o), 0);
        assert_int_equal(s.available_bytes, UINT64_MAX);
        assert_int_equal(s.swap_free_bytes, UINT64_MAX);
        assert_int_equal(s.swap_in_pages, UINT64_MAX);
        assert_int_equal(s.psi_some_usec, UINT64_MAX);
        assert_int_equal(agent_reply_parse_stats("{\"return\":{\"nodes\":[],\"psi-some-us\":0}}", &s, &o),
                         0);
        assert_int_equal(s.psi_some_usec, UINT64_MAX); /* no such kernel */
        assert_int_equal(agent_reply_parse_stats("{\"return\":{\"nodes\":[],\"swap-in\":-1}}", &s, &o),
                         -EIO);
        assert_int_equal(agent_reply_parse_stats("{\"return\":{\"nodes\":[],\"psi-some-us\":\"9\"}}", &s,
                                                 &o),
                         -EIO);
        assert_int_equal(agent_reply_parse_stats("{\"return\":{\"nodes\":[],\"available\":-1}}", &s, &o),
                         -EIO);
        assert_int_equal(agent_reply_parse_stats("{\"return\":{\"nodes\":[],\"swap-free\":[]}}", &s, &o),
                         -EIO);
}

static void test_ramblock(void **state) {
        RamBlock blocks[RAMBLOCKS_MAX];
        Outcome o = {};
        size_t n;

        assert_int_equal(
                ramblock_reply_parse("{\"return\":{\"human-readable-text\":\""
                                     "              Block Name    PSize              Offset               "
                                     "Used              Total                HVA  RO\\n"
                                     "               ram-node0    4 KiB  0x0000000000000000 "
                                     "0x0000000004000000 0x0000000004000000 0x00007f20d3fff000  rw\\n"
                                     "    /rom@etc/acpi/tables    4 KiB  0x0000000005100000 "
                                     "0x0000000000020000 0x0000000000200000 0x00007f211c400000  ro\\n"
                                     "\"}}",
                                     blocks, &n, &o),
                0);
        assert_int_equal(n, 2);
        assert_string_equal(blocks[0].name, "ram-node0");
        assert_int_equal(blocks[0].hva, 0x7f20d3fff000);
        assert_int_equal(blocks[0].used_bytes, 0x4000000);
        assert_int_equal(
                ramblock_reply_parse("{\"return\":{\"human-readable-text\":\"Block Name PSize Offset\\n\"}}",
                                     blocks, &n, &o),
                -EIO);
        assert_int_equal(o.code, OUTCOME_UNSUPPORTED);
        assert_int_equal(ramblock_reply_parse("{\"return\":{\"human-readable-text\":7}}", blocks, &n, &o),
                         -EIO);
}

static void test_copy_text(void **state) {
        char buf[6];

        reply_copy_text(buf, sizeof(buf), "a\tb\x7f");
        assert_string_equal(buf, "a?b?");
        reply_copy_text(buf, sizeof(buf),
                        "abcd\xc3\xa4z"); /* the umlaut does not fit, and is not cut in half */
        assert_string_equal(buf, "abcd");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_hotness_requests),
                cmocka_unit_test(test_hotness_good),
                cmocka_unit_test(test_hotness_hostile),
                cmocka_unit_test(test_hotness_too_many_ranges),
                cmocka_unit_test(test_no_extension),
                cmocka_unit_test(test_agent_requests),
                cmocka_unit_test(test_agent_status),
                cmocka_unit_test(test_agent_garbage),
                cmocka_unit_test(test_agent_flood),
                cmocka_unit_test(test_agent_prepared_and_stats),
                cmocka_unit_test(test_ramblock),
                cmocka_unit_test(test_copy_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
