/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The hotness source against a scripted QEMU that maps the table as the extension does, behaves or
 * misbehaves.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "io/source.h"

#define CAN_SKIP                                                                                            \
        "{\"return\":{\"state\":\"tracking\",\"reason\":\"\",\"log\":\"bitmap\",\"epochs\":0,"              \
        "\"generation\":1,\"counters\":200,\"ranges\":["                                                    \
        "{\"block\":\"ram-node0\",\"gpa\":0,\"pages\":100,\"offset\":0,\"skip-bit\":3},"                    \
        "{\"block\":\"ram-node1\",\"gpa\":4294967296,\"pages\":100,\"offset\":100,\"skip-bit\":63}]}}"

#define STATUS                                                                                              \
        "{\"return\":{\"state\":\"%s\",\"reason\":\"why\",\"log\":\"ring\",\"epochs\":0,\"generation\":%d," \
        "\"counters\":%d,"                                                                                  \
        "\"ranges\":[{\"block\":\"ram-node0\",\"gpa\":0,\"pages\":100,\"offset\":0},"                       \
        "{\"block\":\"ram-node1\",\"gpa\":4294967296,\"pages\":100,\"offset\":100}]}}"

typedef struct Qemu {
        Source *source;
        usec_t now;
        char last[256];
        unsigned n_sent;
        uint8_t *table;
        size_t size;
} Qemu;

static HotnessTableHeader *header(Qemu *q) {
        return (HotnessTableHeader *) (void *) q->table;
}

static int on_send(const char *json, int fd, void *userdata) {
        Qemu *q = userdata;
        struct stat st;

        snprintf(q->last, sizeof(q->last), "%s", json);
        q->n_sent++;
        assert_int_equal(fd >= 0, strstr(json, "getfd") != NULL);
        if (fd >= 0) {
                if (q->table)
                        munmap(q->table, q->size);
                assert_int_equal(fstat(fd, &st), 0);
                assert_true(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
                assert_int_equal(ftruncate(fd, 0), -1); /* QEMU cannot pull it from under the daemon */
                q->size = (size_t) st.st_size;
                q->table = mmap(NULL, q->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                assert_true(q->table != MAP_FAILED);
        }
        return 0;
}

static void setup(Qemu *q) {
        const SourceSettings settings = { .sample_usec = 200000, .lease_usec = 30000000, .max_pages = 1000 };

        *q = (Qemu){ .now = 1000000 };
        assert_int_equal(source_new(&settings, on_send, q, &q->source), 0);
}

static void teardown(Qemu *q) {
        source_free(q->source);
        if (q->table)
                munmap(q->table, q->size);
}

static void reply(Qemu *q, const char *state, int generation, int counters) {
        char text[1024];

        snprintf(text, sizeof(text), STATUS, state, generation, counters);
        q->last[0] = '\0';
        source_reply(q->source, NULL, text, q->now);
}

static void reply_text(Qemu *q, const char *text) {
        static const Outcome failed = { OUTCOME_FAILED, "failed" };

        q->last[0] = '\0';
        source_reply(q->source, &failed, text, q->now);
}

static void wait(Qemu *q, unsigned ms) {
        for (unsigned i = 0; i < ms; i += 250) {
                q->now += 250000;
                source_renew(q->source, q->now);
                source_run(q->source, q->now);
        }
}

static void start(Qemu *q) {
        source_run(q->source, q->now);
        assert_non_null(strstr(q->last, "hotness-query"));
        reply(q, "off", 1, 200);
        assert_non_null(strstr(q->last, "getfd"));
        assert_int_equal(q->size, 4096 + 200);
        assert_int_equal(header(q)->magic, HOTNESS_TABLE_MAGIC);
        reply_text(q, "{\"return\":{}}");
        assert_non_null(strstr(q->last, "hotness-start"));
        header(q)->generation = 1;
        reply(q, "tracking", 1, 200);
        assert_int_equal(source_health(q->source), SOURCE_TRACKING);
}

static uint32_t collect(Qemu *q, const SourceRange **ret) {
        uint32_t samples;

        source_hold(q->source);
        assert_int_equal(header(q)->hold, 1);
        assert_false(source_is_busy(q->source));
        assert_int_equal(source_collect(q->source, ret, &samples), 2);
        return samples;
}

/* As long as all is well QEMU is seldom asked, and nobody need beat fast. */
static void test_calm(void **state) {
        Qemu q;

        setup(&q);
        assert_false(source_is_calm(q.source));
        start(&q);
        assert_true(source_is_calm(q.source));
        wait(&q, 2000);
        assert_non_null(strstr(q.last, "hotness-query"));
        assert_false(source_is_calm(q.source));
        reply(&q, "resting", 1, 200);
        wait(&q, 9750);
        assert_string_equal(q.last, "");
        wait(&q, 250);
        assert_non_null(strstr(q.last, "hotness-query"));
        reply(&q, "blocked", 1, 200); /* by whom may change soon */
        wait(&q, 2000);
        assert_non_null(strstr(q.last, "hotness-query"));
        teardown(&q);
}

static void test_counts(void **state) {
        const SourceRange *r;
        uint64_t renew;
        Qemu q;

        setup(&q);
        start(&q);
        q.table[4096 + 5] = 3;
        q.table[4096 + 100] = 255;
        header(&q)->epoch = 4;
        assert_int_equal(collect(&q, &r), 4);
        assert_string_equal(r[1].block, "ram-node1");
        assert_int_equal(r[1].gfn, 0x100000);
        assert_int_equal(r[0].counters[5], 3);
        assert_int_equal(r[1].counters[0], 255);
        source_release(q.source, true, false);
        assert_int_equal(header(&q)->hold, 0);
        assert_int_equal(q.table[4096 + 5], 0);
        assert_int_equal(collect(&q, &r), 0); /* nothing new */
        q.table[4096 + 5] = 1;
        source_release(q.source, false, false);
        assert_int_equal(q.table[4096 + 5], 1); /* kept for the next epoch */
        renew = header(&q)->renew;
        wait(&q, 250);
        assert_true(header(&q)->renew != renew);
        teardown(&q);
}

static void test_skips(void **state) {
        const SourceRange *r;
        Qemu q;

        setup(&q);
        start(&q);
        collect(&q, &r);
        assert_int_equal(r[0].skip, 0); /* QEMU did not say that it can */
        source_release(q.source, true, false);
        wait(&q, 2000);
        reply_text(&q, CAN_SKIP);
        header(&q)->epoch = 2;
        q.table[4096 + 5] = 1;
        assert_int_equal(collect(&q, &r), 2);
        assert_int_equal(r[0].skip, 8);
        assert_int_equal(r[1].skip, UINT64_C(1) << 63);
        source_skip(q.source, r[1].skip);
        assert_false(source_has_skipped(q.source, &r[1]));
        header(&q)->epoch = 3; /* a sample that comes before the release is of neither */
        source_release(q.source, false, false);
        assert_int_equal(header(&q)->skip, UINT64_C(1) << 63);
        assert_int_equal(q.table[4096 + 5], 0);
        assert_int_equal(collect(&q, &r), 0);
        assert_true(source_has_skipped(q.source, &r[1]));
        assert_false(source_has_skipped(q.source, &r[0]));
        q.table[4096 + 5] = 1;
        source_skip(q.source, r[1].skip);
        source_release(q.source, false, false);
        assert_int_equal(q.table[4096 + 5], 1); /* the same as before */
        source_restart(q.source, NULL);
        wait(&q, 250);
        reply_text(&q, CAN_SKIP); /* the probe: another table, and nothing skipped before a release */
        assert_int_equal(header(&q)->skip, 0);
        reply_text(&q, "{\"return\":{}}");
        header(&q)->generation = 1;
        reply_text(&q, CAN_SKIP);
        collect(&q, &r);
        assert_false(source_has_skipped(q.source, &r[1]));
        source_release(q.source, false, false);
        assert_true(source_has_skipped(q.source, &r[1]));
        assert_int_equal(header(&q)->skip, UINT64_C(1) << 63);
        teardown(&q);
}

static void test_busy_and_lying_header(void **state) {
        const SourceRange *r;
        Qemu q;

        setup(&q);
        start(&q);
        header(&q)->busy = 1;
        assert_true(source_is_busy(q.source));
        header(&q)->busy = 0;
        header(&q)->n_counters = UINT64_MAX;
        header(&q)->header_size = UINT32_MAX;
        header(&q)->epoch = UINT64_MAX;
        assert_int_equal(collect(&q, &r), 1000000);
        assert_int_equal(r[1].n_pages, 100);
        source_release(q.source, true, false); /* clears what we made, not what it says */
        header(&q)->epoch = 3;          /* backwards */
        assert_int_equal(collect(&q, &r), 0);
        source_release(q.source, true, false);
        teardown(&q);
}

static void test_generation_changes(void **state) {
        const SourceRange *r;
        Qemu q;

        setup(&q);
        start(&q);
        header(&q)->epoch = 4;
        header(&q)->generation = 2;
        q.table[4096] = 7;
        assert_int_equal(collect(&q, &r), 0); /* counters of frames that we do not know */
        source_release(q.source, false, false);
        wait(&q, 250);
        assert_non_null(strstr(q.last, "hotness-query")); /* at once, not at the next turn */
        reply(&q, "tracking", 2, 200);
        header(&q)->epoch = 6;
        assert_int_equal(collect(&q, &r), 0); /* two layouts are mixed in this one */
        source_release(q.source, false, false);
        assert_int_equal(q.table[4096], 0);
        header(&q)->epoch = 7;
        assert_int_equal(collect(&q, &r), 1);
        source_release(q.source, true, false);
        teardown(&q);
}

/* Something in QEMU's process has written over the header, which the extension does not write again. */
static void test_header_is_lost(void **state) {
        const SourceRange *r;
        Qemu q;

        setup(&q);
        start(&q);
        memset(q.table, 0xa5, q.size);
        header(&q)->busy = 0; /* with its next sample */
        for (int i = 0; i < 4; i++) {
                collect(&q, &r);
                source_release(q.source, true, false);
                wait(&q, 250);
                assert_non_null(strstr(q.last, "hotness-query"));
                reply(&q, "tracking", 1, 200);
                assert_int_equal(source_health(q.source), SOURCE_TRACKING); /* memory may grow just now */
        }
        collect(&q, &r);
        source_release(q.source, true, false);
        wait(&q, 250);
        reply(&q, "tracking", 1, 200);
        assert_int_equal(source_health(q.source), SOURCE_FAILED);
        assert_non_null(strstr(source_outcome(q.source)->text, "written over"));
        q.last[0] = '\0';
        wait(&q, 11000);
        start(&q); /* with a table of its own */
        header(&q)->epoch = 2;
        assert_int_equal(collect(&q, &r), 2);
        source_release(q.source, true, false);
        teardown(&q);
}

static void test_grows(void **state) {
        Qemu q;

        setup(&q);
        start(&q);
        wait(&q, 2000);
        assert_non_null(strstr(q.last, "hotness-query"));
        reply(&q, "tracking", 2, 300);
        reply(&q, "tracking", 2, 300); /* the probe */
        assert_int_equal(q.size, 4096 + 300);
        teardown(&q);
}

static void test_expired_starts_again(void **state) {
        Qemu q;

        setup(&q);
        start(&q);
        wait(&q, 2000);
        reply(&q, "expired", 1, 200);
        assert_non_null(strstr(q.last, "hotness-query"));
        reply(&q, "off", 1, 200);
        assert_non_null(strstr(q.last, "getfd"));
        teardown(&q);
}

static void test_blocked_resumes(void **state) {
        const SourceRange *r;
        Qemu q;

        setup(&q);
        start(&q);
        wait(&q, 2000);
        reply(&q, "blocked", 1, 200);
        assert_int_equal(source_health(q.source), SOURCE_BLOCKED);
        header(&q)->epoch = 9;
        assert_int_equal(collect(&q, &r), 0);
        source_release(q.source, false, false);
        wait(&q, 2000);
        reply(&q, "tracking", 1, 200);
        assert_int_equal(source_health(q.source), SOURCE_TRACKING);
        teardown(&q);
}

static void test_no_extension_is_retried_slowly(void **state) {
        Qemu q;

        setup(&q);
        source_run(q.source, q.now);
        for (int i = 0; i < 1000 * 4; i++) { /* 1000 s */
                if (*q.last)
                        reply_text(&q, "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\"}}");
                wait(&q, 250);
        }
        assert_int_equal(source_health(q.source), SOURCE_FAILED);
        assert_int_equal(source_outcome(q.source)->code, OUTCOME_NO_EXTENSION);
        assert_true(q.n_sent <= 10);
        teardown(&q);
}

/* Whatever it answers, requests are paced: no loop of question and answer at full speed. */
static void test_hostile_answers_are_paced(void **state) {
        static const char *const states[] = { "off", "expired", "tracking", "blocked", "failed", "resting" };
        unsigned n = 0;
        Qemu q;

        setup(&q);
        source_run(q.source, q.now);
        for (int i = 0; i < 100 * 4; i++) { /* 100 s */
                for (int k = 0; *q.last && k < 8; k++, n++)
                        if (strstr(q.last, "getfd"))
                                reply_text(&q, "{\"return\":{}}");
                        else
                                reply(&q, states[n % 6], (int) n, (int) (200 + n % 3));
                wait(&q, 250);
        }
        assert_true(q.n_sent < 400);
        teardown(&q);
}

static void test_libvirt_gone_keeps_counting(void **state) {
        const Outcome gone = { OUTCOME_NO_LIBVIRT, "gone" };
        const SourceRange *r;
        Qemu q;

        setup(&q);
        start(&q);
        wait(&q, 2000);
        source_reply(q.source, &gone, NULL, q.now);
        assert_int_equal(source_health(q.source), SOURCE_TRACKING);
        header(&q)->epoch = 5;
        assert_int_equal(collect(&q, &r), 5);
        source_release(q.source, true, false);
        teardown(&q);
}

static void test_stop(void **state) {
        Qemu q;

        setup(&q);
        start(&q);
        wait(&q, 2000); /* a query is under way */
        source_stop(q.source, q.now);
        assert_int_equal(source_health(q.source), SOURCE_TRACKING);
        reply(&q, "tracking", 1, 200);
        assert_non_null(strstr(q.last, "hotness-stop"));
        reply_text(&q, "{\"return\":{}}");
        assert_int_equal(source_health(q.source), SOURCE_STOPPED);
        wait(&q, 60000);
        assert_string_equal(q.last, ""); /* nothing starts it again */
        teardown(&q);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_calm),
                cmocka_unit_test(test_counts),
                cmocka_unit_test(test_skips),
                cmocka_unit_test(test_busy_and_lying_header),
                cmocka_unit_test(test_generation_changes),
                cmocka_unit_test(test_header_is_lost),
                cmocka_unit_test(test_grows),
                cmocka_unit_test(test_expired_starts_again),
                cmocka_unit_test(test_blocked_resumes),
                cmocka_unit_test(test_no_extension_is_retried_slowly),
                cmocka_unit_test(test_hostile_answers_are_paced),
                cmocka_unit_test(test_libvirt_gone_keeps_counting),
                cmocka_unit_test(test_stop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
