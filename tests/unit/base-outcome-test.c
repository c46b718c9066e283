/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of hmvisord/base/outcome.c: the table that daemon, bus and CLI share must be one to one, and an exit
 * code, once given to users, must not change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/outcome.h"

static void test_names_go_both_ways(void **state) {
        assert_null(outcome_bus_name(OUTCOME_OK));
        for (OutcomeCode c = OUTCOME_OK + 1; c < _OUTCOME_MAX; c++) {
                const char *name = outcome_bus_name(c);

                assert_non_null(name);
                assert_int_equal(strncmp(name, "org.hmvisor1.Error.", strlen("org.hmvisor1.Error.")), 0);
                assert_int_equal(outcome_from_bus_name(name), c);
        }
}

static void test_unknown_is_failed(void **state) {
        assert_null(outcome_bus_name(_OUTCOME_MAX));
        assert_int_equal(outcome_from_bus_name(NULL), OUTCOME_FAILED);
        assert_int_equal(outcome_from_bus_name(""), OUTCOME_FAILED);
        assert_int_equal(outcome_from_bus_name("org.hmvisor1.Error."), OUTCOME_FAILED);
        assert_int_equal(outcome_from_bus_name("org.freedesktop.DBus.Error.NoReply"), OUTCOME_FAILED);
        assert_int_equal(outcome_exit_code(_OUTCOME_MAX), 1);
        assert_string_equal(outcome_meaning(_OUTCOME_MAX), "unknown");
}

static void test_exit_codes(void **state) {
        assert_int_equal(outcome_exit_code(OUTCOME_OK), 0);
        assert_int_equal(outcome_exit_code(OUTCOME_FAILED), 1);
        assert_int_equal(outcome_exit_code(OUTCOME_BAD_ARGUMENT), 2);
        assert_int_equal(outcome_exit_code(OUTCOME_NO_DOMAIN), 3);
        assert_int_equal(outcome_exit_code(OUTCOME_MISPLACED), 13);
        assert_int_equal(outcome_exit_code(OUTCOME_NO_DAEMON), 15);
        for (OutcomeCode a = 0; a < _OUTCOME_MAX; a++) {
                assert_true(outcome_exit_code(a) < 126);   /* 126 and up are the shell's */
                assert_true(outcome_meaning(a)[0] != '\0');
                for (OutcomeCode b = a + 1; b < _OUTCOME_MAX; b++)
                        assert_int_not_equal(outcome_exit_code(a), outcome_exit_code(b));
        }
}

static void test_set(void **state) {
        Outcome o = { 0 };
        char big[2000];

        assert_int_equal(outcome_set(&o, OUTCOME_NO_DOMAIN, "no domain '%s'", "vm1"), -EIO);
        assert_int_equal(o.code, OUTCOME_NO_DOMAIN);
        assert_string_equal(o.text, "no domain 'vm1'");
        assert_int_equal(outcome_set(&o, OUTCOME_BAD_ARGUMENT, "x"), -EINVAL);
        assert_int_equal(outcome_set(NULL, OUTCOME_FAILED, "x"), -EIO);
        assert_int_equal(outcome_set(&o, OUTCOME_OK, "%s", ""), 0);
        assert_string_equal(o.text, "");

        memset(big, 'x', sizeof(big) - 1);
        big[sizeof(big) - 1] = '\0';
        outcome_set(&o, OUTCOME_FAILED, "%s", big);
        assert_int_equal(strlen(o.text), sizeof(o.text) - 1);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names_go_both_ways),
                cmocka_unit_test(test_unknown_is_failed),
                cmocka_unit_test(test_exit_codes),
                cmocka_unit_test(test_set),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
