/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * guest-agent/hearing.c: hosts that hear us, hosts that do not, and stock agents that say nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "hearing.h"

#define SEC USEC_PER_SEC

static bool sync_at(Hearing *h, usec_t now) {
        hearing_asked(h, true, now);
        return hearing_is_lost(h);
}

static void test_deaf_host(void **state) {
        Hearing h = {};

        /* An answer to something else comes first: it is none to a sync. */
        hearing_asked(&h, false, 80 * SEC);
        hearing_said(&h);
        for (unsigned i = 0; i < 3; i++) {
                assert_false(sync_at(&h, (100 + 7 * i) * SEC));
                hearing_said(&h);
        }
        assert_true(sync_at(&h, 121 * SEC));
}

static void test_host_that_goes_on(void **state) {
        Hearing h = {};

        for (unsigned i = 0; i < 50; i++) {
                assert_false(sync_at(&h, i * 20 * SEC));
                hearing_said(&h);
                hearing_asked(&h, false, i * 20 * SEC + 1);
                hearing_said(&h);
        }
}

/* libvirt syncs twice where it found garbage; requests that waited in a guest that slept come all at once.
 */
static void test_syncs_at_once(void **state) {
        Hearing h = {};

        for (unsigned i = 0; i < 50; i++) {
                assert_false(sync_at(&h, 100 * SEC + i * 100 * USEC_PER_MSEC));
                hearing_said(&h);
        }
}

static void test_stock_agent_hangs(void **state) {
        Hearing h = {};

        assert_false(sync_at(&h, 100 * SEC));
        hearing_said(&h);
        for (unsigned i = 11; i < 50; i++)
                assert_false(sync_at(&h, i * 10 * SEC));
        /* What it answers in the end is heard or not: too early to tell. */
        hearing_said(&h);
        assert_false(sync_at(&h, 1000 * SEC));
}

static unsigned syncs_until_lost(Hearing *h, usec_t *now) {
        for (unsigned n = 1;; n++) {
                *now += 30 * SEC;
                if (sync_at(h, *now))
                        return n;
                hearing_said(h);
        }
}

/* A host that only looks whether the guest lives is cut off ever more rarely. */
static void test_health_check(void **state) {
        usec_t now = 100 * SEC;
        Hearing h = {};

        for (unsigned i = 0, wanted = 3; i < 9; i++) {
                assert_int_equal(syncs_until_lost(&h, &now), wanted + 1);
                hearing_reopened(&h);
                hearing_forget(&h); /* the connection ended, too */
                wanted = MIN(2 * wanted, 192U);
        }
        hearing_asked(&h, false, now);
        assert_int_equal(syncs_until_lost(&h, &now), 4);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_deaf_host),
                cmocka_unit_test(test_host_that_goes_on),
                cmocka_unit_test(test_syncs_at_once),
                cmocka_unit_test(test_stock_agent_hangs),
                cmocka_unit_test(test_health_check),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
