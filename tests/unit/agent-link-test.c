/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The conversation with a guest's agent against a scripted guest and a virtual clock: orders, garbage,
 * silence, back-off and recovery, undoing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "io/agent-link.h"

#define MS USEC_PER_MSEC
#define PREPARED "{\"return\":{\"version\":\"1\",\"kernel\":\"6.12\"}}"
#define STATS "{\"return\":{\"nodes\":[]}}"

typedef struct Guest {
        AgentLink *link;
        usec_t now;
        unsigned n_sent;
        char last[1024];
        bool full; /* libvirt's queue takes nothing */
} Guest;

static int on_send(const char *json, unsigned timeout_sec, void *userdata) {
        Guest *g = userdata;

        assert_true(timeout_sec >= 1 && timeout_sec <= 10); /* 0 and less would mean for ever */
        if (g->full)
                return -EBUSY;
        g->n_sent++;
        snprintf(g->last, sizeof(g->last), "%s", json);
        return 0;
}

static void setup(Guest *g) {
        *g = (Guest){ .now = 1000 * MS };
        assert_int_equal(agent_link_new(on_send, g, &g->link), 0);
}

static bool sent(const Guest *g, const char *part) {
        return strstr(g->last, part) != NULL;
}

static void wait(Guest *g, unsigned ms) {
        for (unsigned i = 0; i < ms; i += 250) {
                g->now += 250 * MS;
                agent_link_run(g->link, g->now);
        }
}

static void reply(Guest *g, const char *text) {
        static const Outcome none = { OUTCOME_TIMED_OUT, "no answer" };

        g->last[0] = '\0';
        agent_link_reply(g->link, &none, text, g->now);
}

/* Connected, prepared for orders, figures taken: nothing is due. */
static void make_ready(Guest *g) {
        agent_link_set_manage(g->link, true, g->now);
        agent_link_set_connected(g->link, true, g->now);
        agent_link_run(g->link, g->now);
        assert_true(sent(g, "prepare") && sent(g, "true"));
        reply(g, PREPARED);
        assert_int_equal(agent_link_health(g->link), AGENT_READY);
        wait(g, 500);
        assert_true(sent(g, "stats"));
        reply(g, STATS);
}

static AgentOrder order_new(uint64_t id) {
        AgentOrder o = { .id = id, .deadline_ms = 10000 };

        o.promote.ranges = calloc(1, sizeof(AgentRange));
        assert_non_null(o.promote.ranges);
        o.promote.ranges[0] = (AgentRange){ 100, 8 };
        o.promote.n_ranges = 1;
        o.promote.n_pages = 8;
        return o;
}

static AgentProgress progress(const Guest *g) {
        uint64_t id;

        return agent_link_progress(g->link, &id, NULL);
}

static void submit(Guest *g, uint64_t id) {
        AgentOrder o = order_new(id);

        wait(g, 500);
        assert_int_equal(agent_link_submit(g->link, &o, g->now), 0);
        assert_true(sent(g, "migrate-submit"));
        assert_null(o.promote.ranges); /* taken over */
}

static void test_order(void **state) {
        AgentStatus status;
        uint64_t id;
        Guest g;
        AgentOrder o = order_new(9);

        setup(&g);
        assert_int_equal(agent_link_submit(g.link, &o, g.now), -ENOTCONN);
        make_ready(&g);
        submit(&g, 7);
        assert_int_equal(agent_link_submit(g.link, &o, g.now), -EBUSY);
        agent_order_done(&o);
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"queued\"}}");
        assert_int_equal(progress(&g), AGENT_UNDER_WAY);
        wait(&g, 1000);
        assert_true(sent(&g, "migrate-status"));
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"done\",\"promoted\":8}}");
        assert_int_equal(agent_link_progress(g.link, &id, &status), AGENT_FINISHED);
        assert_int_equal(id, 7);
        assert_int_equal(status.promoted, 8);
        agent_link_forget_order(g.link);
        assert_int_equal(progress(&g), AGENT_NO_ORDER);
        agent_link_free(g.link);
}

static void stats_say(Guest *g, uint64_t pages, uint64_t usec) {
        char text[200];

        wait(g, 10500);
        assert_true(sent(g, "stats"));
        snprintf(text, sizeof(text), "{\"return\":{\"nodes\":[],\"swap-in\":%llu,\"psi-some-us\":%llu}}",
                 (unsigned long long) pages, (unsigned long long) usec);
        reply(g, text);
}

/* What a guest says of its swapping is a rate between two answers, whatever it says. */
static void test_swap_that_is_said(void **state) {
        AgentSwap said;
        Guest g;

        setup(&g);
        make_ready(&g);
        said = agent_link_swap(g.link);
        assert_true(said.in_bytes == UINT64_MAX &&
                    said.stall_usec == UINT64_MAX); /* it said nothing of it */
        stats_say(&g, 100, 1000);
        assert_true(agent_link_swap(g.link).in_bytes == UINT64_MAX);
        stats_say(&g, 100 + 790, 1000 + 9900000);
        said = agent_link_swap(g.link);
        assert_in_range(said.in_bytes, 790 * 4096 / 11, 790 * 4096 / 10);
        assert_in_range(said.stall_usec, 9900000 / 11, 990000);
        stats_say(&g, UINT64_C(1) << 52, 100); /* all that a page count can be, and less than before */
        said = agent_link_swap(g.link);
        assert_in_range(said.in_bytes, UINT64_C(1) << 60, UINT64_C(1) << 61);
        assert_true(said.stall_usec == UINT64_MAX);
        stats_say(&g, 5, 100);
        said = agent_link_swap(g.link);
        assert_true(said.in_bytes == UINT64_MAX && said.stall_usec == 0);
        agent_link_set_connected(g.link, false, g.now);
        assert_true(agent_link_swap(g.link).stall_usec == UINT64_MAX);
        agent_link_free(g.link);
}

/* One request at a time, and few: libvirt's agent job is others' too. */
static void test_pace(void **state) {
        unsigned before;
        Guest g;

        setup(&g);
        make_ready(&g);
        submit(&g, 7);
        before = g.n_sent;
        wait(&g, 5000);
        assert_int_equal(g.n_sent, before); /* not answered yet */
        for (int i = 0; i < 40; i++) {
                if (*g.last)
                        reply(&g, "{\"return\":{\"order\":7,\"state\":\"running\"}}");
                wait(&g, 250);
        }
        assert_true(g.n_sent > before && g.n_sent - before <= 12); /* in 10 s */
        agent_link_free(g.link);
}

static void test_garbage_backs_off_and_recovers(void **state) {
        unsigned before;
        Guest g;

        setup(&g);
        make_ready(&g);
        submit(&g, 7);
        reply(&g, "garbage");
        assert_int_equal(agent_link_health(g.link), AGENT_READY); /* once may happen */
        for (int i = 0; i < 2; i++) {
                wait(&g, 5000);
                reply(&g, i ? NULL : "{\"return\":{\"order\":7,\"state\":\"done\",\"promoted\":-5}}");
        }
        assert_int_equal(agent_link_health(g.link), AGENT_FAILING);
        assert_true(*agent_link_outcome(g.link)->text != '\0');
        assert_int_equal(progress(&g), AGENT_NOT_DONE);
        before = g.n_sent;
        for (int i = 0; i < 600 * 4; i++) { /* ten minutes of garbage */
                if (*g.last)
                        reply(&g, "{\"return\":[]}");
                wait(&g, 250);
        }
        assert_true(g.n_sent - before <= 20);
        wait(&g, 60000);
        reply(&g, PREPARED);
        assert_int_equal(agent_link_health(g.link), AGENT_READY);
        assert_int_equal(agent_link_outcome(g.link)->code, OUTCOME_OK);
        agent_link_free(g.link);
}

static void test_silent_guest_loses_its_order(void **state) {
        Guest g;

        setup(&g);
        make_ready(&g);
        submit(&g, 7);
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"running\"}}");
        /* running for ever: cancelled after its deadline, and then given up */
        for (int i = 0; i < 60 * 4 && progress(&g) == AGENT_UNDER_WAY; i++) {
                wait(&g, 250);
                if (*g.last)
                        reply(&g, "{\"return\":{\"order\":7,\"state\":\"running\"}}");
        }
        assert_int_equal(progress(&g), AGENT_NOT_DONE);
        agent_link_free(g.link);
}

/* An answer counts once, and for the order that was asked about; when nothing was asked, for nothing. */
static void test_answers_twice_and_for_another(void **state) {
        AgentStatus status;
        uint64_t id;
        Guest g;

        setup(&g);
        make_ready(&g);
        submit(&g, 7);
        for (int i = 0; i < 2; i++)
                reply(&g, "{\"return\":{\"order\":7,\"state\":\"running\",\"promoted\":2}}");
        wait(&g, 1000);
        assert_true(sent(&g, "migrate-status"));
        reply(&g, "{\"return\":{\"order\":6,\"state\":\"done\",\"promoted\":8}}"); /* the one before */
        assert_int_equal(agent_link_progress(g.link, &id, &status), AGENT_UNDER_WAY);
        assert_int_equal(status.promoted, 2);
        wait(&g, 5000);
        assert_true(sent(&g, "migrate-status"));
        for (int i = 0; i < 2; i++)
                reply(&g, "{\"return\":{\"order\":7,\"state\":\"done\",\"promoted\":8}}");
        assert_int_equal(progress(&g), AGENT_FINISHED);
        agent_link_forget_order(g.link);
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"done\",\"promoted\":8}}");
        assert_int_equal(progress(&g), AGENT_NO_ORDER);

        submit(&g, 8);
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"done\",\"promoted\":8}}"); /* over already */
        assert_int_equal(agent_link_progress(g.link, &id, &status), AGENT_UNDER_WAY);
        assert_int_equal(id, 8);
        assert_int_equal(status.promoted, 0);
        assert_int_equal(agent_link_health(g.link), AGENT_READY); /* once may happen */
        agent_link_free(g.link);
}

static void test_disconnect(void **state) {
        Guest g;

        setup(&g);
        make_ready(&g);
        submit(&g, 7);
        agent_link_set_connected(g.link, false, g.now);
        assert_int_equal(progress(&g), AGENT_NOT_DONE);
        assert_int_equal(agent_link_health(g.link), AGENT_ABSENT);
        agent_link_set_connected(g.link, true, g.now);
        /* the answer of the connection that ended counts for nothing */
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"done\",\"promoted\":8}}");
        assert_int_equal(progress(&g), AGENT_NOT_DONE);
        assert_int_equal(agent_link_health(g.link), AGENT_ASKED);
        assert_true(sent(&g, "prepare"));
        agent_link_free(g.link);
}

static void test_unmanage_cancels_then_releases(void **state) {
        Guest g;

        setup(&g);
        make_ready(&g);
        submit(&g, 7);
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"running\"}}");
        wait(&g, 250);
        g.last[0] = '\0';
        agent_link_set_manage(g.link, false, g.now);
        wait(&g, 500);
        assert_true(sent(&g, "migrate-cancel"));
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"cancelled\",\"promoted\":3}}");
        assert_int_equal(progress(&g), AGENT_NOT_DONE);
        assert_true(agent_link_holds_guest(g.link));
        assert_false(agent_link_is_idle(g.link));
        wait(&g, 500);
        assert_true(sent(&g, "prepare") && sent(&g, "false"));
        reply(&g, PREPARED);
        assert_false(agent_link_holds_guest(g.link));
        assert_true(agent_link_is_idle(g.link));
        agent_link_free(g.link);
}

static void test_stock_agent(void **state) {
        const Outcome not_found = { OUTCOME_FAILED, "The command __org.hmvisor_prepare has not been found" };
        Guest g;

        setup(&g);
        agent_link_set_connected(g.link, true, g.now);
        agent_link_run(g.link, g.now);
        agent_link_reply(g.link, &not_found, NULL, g.now);
        assert_int_equal(agent_link_health(g.link), AGENT_FAILING);
        assert_int_equal(agent_link_outcome(g.link)->code, OUTCOME_NO_AGENT);
        agent_link_free(g.link);
}

static void test_frozen_sends_nothing(void **state) {
        unsigned before;
        Guest g;

        setup(&g);
        make_ready(&g);
        submit(&g, 7);
        reply(&g, "{\"return\":{\"order\":7,\"state\":\"running\"}}");
        agent_link_set_frozen(g.link, true, g.now);
        before = g.n_sent;
        wait(&g, 600000);
        assert_int_equal(g.n_sent, before);
        assert_int_equal(progress(&g), AGENT_UNDER_WAY); /* the deadline stood still, too */
        agent_link_set_frozen(g.link, false, g.now);
        wait(&g, 500);
        assert_true(sent(&g, "prepare")); /* its lease may have run out */
        agent_link_free(g.link);
}

static void test_full_queue_and_lost_libvirt(void **state) {
        const Outcome gone = { OUTCOME_NO_LIBVIRT, "gone" };
        Guest g;

        setup(&g);
        g.full = true;
        agent_link_set_connected(g.link, true, g.now);
        wait(&g, 1000);
        assert_int_equal(g.n_sent, 0);
        g.full = false;
        wait(&g, 1000);
        assert_int_equal(g.n_sent, 1);
        for (int i = 0; i < 9; i++) {
                agent_link_reply(g.link, &gone, NULL, g.now);
                wait(&g, 1000);
        }
        assert_int_equal(agent_link_health(g.link), AGENT_ASKED); /* not the guest's fault */
        agent_link_free(g.link);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_swap_that_is_said),
                cmocka_unit_test(test_pace),
                cmocka_unit_test(test_garbage_backs_off_and_recovers),
                cmocka_unit_test(test_silent_guest_loses_its_order),
                cmocka_unit_test(test_answers_twice_and_for_another),
                cmocka_unit_test(test_disconnect),
                cmocka_unit_test(test_unmanage_cancels_then_releases),
                cmocka_unit_test(test_stock_agent),
                cmocka_unit_test(test_frozen_sends_nothing),
                cmocka_unit_test(test_full_queue_and_lost_libvirt),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
