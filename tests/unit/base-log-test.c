/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of hmvisord/base/log.c off the journal: what reaches standard error, and what the calls return.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"

static int saved_stderr, reader;

/* Standard error becomes a pipe for one test. */
static int capture_begin(void **state) {
        int fds[2];

        unsetenv("JOURNAL_STREAM");
        if (pipe(fds) < 0)
                return -1;
        fflush(stderr);
        saved_stderr = dup(STDERR_FILENO);
        dup2(fds[1], STDERR_FILENO);
        close(fds[1]);
        reader = fds[0];
        log_set_max_level(LOG_INFO);
        return 0;
}

static char *capture_end(void) {
        static char text[8192];
        ssize_t n;

        fflush(stderr);
        dup2(saved_stderr, STDERR_FILENO);   /* closes the pipe's last writer: read() ends */
        close(saved_stderr);
        n = read(reader, text, sizeof(text) - 1);
        close(reader);
        text[n > 0 ? n : 0] = '\0';
        return text;
}

static void test_plain(void **state) {
        assert_int_equal(log_info("domain '%s' adopted", "vm1"), 0);
        assert_string_equal(capture_end(), "domain 'vm1' adopted\n");
}

static void test_errno_of_both_signs(void **state) {
        assert_int_equal(log_error_errno(-ENOENT, "cannot open"), -ENOENT);
        assert_int_equal(log_error_errno(ENOENT, "cannot open"), -ENOENT);
        assert_string_equal(capture_end(), "cannot open: No such file or directory\n"
                                           "cannot open: No such file or directory\n");
}

static void test_level(void **state) {
        assert_int_equal(log_max_level(), LOG_INFO);
        assert_int_equal(log_debug("not shown"), 0);
        log_set_max_level(LOG_ERR);
        assert_int_equal(log_warning_errno(-EIO, "not shown"), -EIO);
        log_set_max_level(LOG_DEBUG);
        log_debug("shown");
        assert_string_equal(capture_end(), "shown\n");
}

/* A guest can influence what is logged: a long text is cut, also when the error is added after it. */
static void test_long(void **state) {
        char big[5000];
        const char *text;

        memset(big, 'x', sizeof(big) - 1);
        big[sizeof(big) - 1] = '\0';
        log_error_errno(-EIO, "%s", big);
        text = capture_end();
        assert_int_equal(strlen(text), 2048);
        assert_int_equal(text[2047], '\n');
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_plain, capture_begin),
                cmocka_unit_test_setup(test_errno_of_both_signs, capture_begin),
                cmocka_unit_test_setup(test_level, capture_begin),
                cmocka_unit_test_setup(test_long, capture_begin),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
