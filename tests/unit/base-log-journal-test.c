/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of hmvisord/base/log.c on the journal: which fields an entry has. The linker puts the test in the
 * journal's place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <sys/uio.h>

#include "base/log.h"

static char entry[8192];

int __wrap_sd_journal_sendv_with_location(const char *file, const char *line, const char *func,
                                          const struct iovec *iov, int n);

int __wrap_sd_journal_sendv_with_location(const char *file, const char *line, const char *func,
                                          const struct iovec *iov, int n) {
        size_t used = 0;

        for (int i = 0; i < n; i++)
                used += (size_t) snprintf(entry + used, sizeof(entry) - used, "%.*s\n", (int) iov[i].iov_len,
                                          (const char *) iov[i].iov_base);
        return 0;
}

static int be_a_service(void **state) {
        char stream[64];
        struct stat st;

        if (fstat(STDERR_FILENO, &st) < 0)
                return -1;
        snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long) st.st_dev,
                 (unsigned long long) st.st_ino);
        return setenv("JOURNAL_STREAM", stream, 1);
}

static void test_plain(void **state) {
        assert_int_equal(log_warning_errno(-ENOENT, "cannot open"), -ENOENT);
        assert_string_equal(entry, "MESSAGE=cannot open: No such file or directory\nPRIORITY=4\n");
}

static void test_domain(void **state) {
        (void) log_full(LOG_INFO, 0, "vm\n1", "uuid", "two\nlines");
        assert_string_equal(entry, "MESSAGE=two\nlines\nPRIORITY=6\nHMVISOR_DOMAIN=vm\n1\n"
                                   "HMVISOR_DOMAIN_UUID=uuid\n");
        (void) log_full(LOG_INFO, 0, "vm", NULL, "x");
        assert_non_null(strstr(entry, "HMVISOR_DOMAIN_UUID=\n"));
}

static void test_event(void **state) {
        assert_int_equal(log_event(LOG_EVENT_DOMAIN_DEGRADED, LOG_NOTICE, 0, "vm", "u", "it is so"), 0);
        assert_string_equal(entry, "MESSAGE=it is so\nPRIORITY=5\n"
                                   "MESSAGE_ID=4e27bafdd3c4416ab11c95ee881ff07f\n"
                                   "HMVISOR_DOMAIN=vm\nHMVISOR_DOMAIN_UUID=u\n");
        for (LogEvent e = LOG_EVENT_NONE + 1; e < _LOG_EVENT_MAX; e++) {
                const char *id;

                (void) log_event(e, LOG_ERR, 0, NULL, NULL, "x");
                id = strstr(entry, "\nMESSAGE_ID=");
                assert_non_null(id);
                assert_int_equal(strspn(id + strlen("\nMESSAGE_ID="), "0123456789abcdef"), 32);
                assert_null(strstr(entry, "HMVISOR_DOMAIN"));
        }
}

static void test_long(void **state) {
        char big[5000];

        memset(big, 'x', sizeof(big) - 1);
        big[sizeof(big) - 1] = '\0';
        (void) log_full(LOG_INFO, 0, big, big, "%s", big);
        assert_int_equal(strcspn(entry, "\n"), strlen("MESSAGE=") + 2047);
        assert_non_null(strstr(entry, "\nHMVISOR_DOMAIN=xx"));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain),
                cmocka_unit_test(test_domain),
                cmocka_unit_test(test_event),
                cmocka_unit_test(test_long),
        };

        return cmocka_run_group_tests(tests, be_a_service, NULL);
}
