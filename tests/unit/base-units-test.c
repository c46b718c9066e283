/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of hmvisord/base/units.c: what counts as a size or a time, and that nothing is rounded or wraps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/units.h"

static void test_size_accepts(void **state) {
        static const struct {
                const char *text;
                uint64_t bytes;
        } cases[] = {
                { "0", 0 },
                { "512", 512 },
                { "12B", 12 },
                { "1K", KIB },
                { "1k", KIB },
                { "256M", 256 * MIB },
                { "256MB", 256 * MIB },
                { "256MiB", 256 * MIB },
                { "256 MiB", 256 * MIB },
                { "  256M", 256 * MIB },
                { "1.5G", GIB + GIB / 2 },
                { "0.5K", 512 },
                { "2TiB", 2048 * GIB },
                { "18446744073709551615", UINT64_MAX },
                { "1.000000M", MIB },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint64_t bytes = 1;

                assert_int_equal(size_parse(cases[i].text, &bytes), 0);
                assert_int_equal(bytes, cases[i].bytes);
        }
}

static void test_size_refuses(void **state) {
        static const struct {
                const char *text;
                int error;
        } cases[] = {
                { "", -EINVAL },
                { " ", -EINVAL },
                { "M", -EINVAL },
                { "-1", -EINVAL },
                { "+1", -EINVAL },
                { "0x10", -EINVAL },
                { "1.", -EINVAL },
                { ".5", -EINVAL },
                { "1.5", -EINVAL },            /* no half bytes */
                { "1..5M", -EINVAL },
                { "1,5M", -EINVAL },
                { "1.0000001M", -EINVAL },     /* a seventh decimal */
                { "1P", -EINVAL },
                { "1i", -EINVAL },
                { "1MiBB", -EINVAL },
                { "1M x", -EINVAL },
                { "1M ", -EINVAL },
                { "18446744073709551616", -ERANGE },
                { "16777216T", -ERANGE },
                { "99999999999999999999999999999", -ERANGE },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint64_t bytes = 77;

                assert_int_equal(size_parse(cases[i].text, &bytes), cases[i].error);
                assert_int_equal(bytes, 77);   /* written only on success */
        }
}

static void test_size_format(void **state) {
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = {
                { 0, "0 B" },
                { 1023, "1023 B" },
                { 1024, "1 KiB" },
                { 1536, "1.5 KiB" },
                { 256 * MIB, "256 MiB" },
                { GIB + GIB / 2, "1.5 GiB" },
                { 1024 * GIB, "1 TiB" },
                { UINT64_MAX, "16777215.9 TiB" },
        };
        char buf[SIZE_TEXT_MAX];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                assert_string_equal(size_format(buf, cases[i].bytes), cases[i].text);
}

/* What is printed exactly can be read back: the CLI's output is valid input. */
static void test_size_round_trip(void **state) {
        char buf[SIZE_TEXT_MAX];

        for (unsigned shift = 0; shift < 64; shift++) {
                uint64_t bytes = 0;

                assert_int_equal(size_parse(size_format(buf, UINT64_C(1) << shift), &bytes), 0);
                assert_int_equal(bytes, UINT64_C(1) << shift);
        }
}

static void test_time(void **state) {
        static const struct {
                const char *text;
                int r;
                usec_t usec;
        } cases[] = {
                { "10", 0, 10 * USEC_PER_SEC },
                { "10s", 0, 10 * USEC_PER_SEC },
                { "0.25", 0, 250 * USEC_PER_MSEC },
                { "250ms", 0, 250 * USEC_PER_MSEC },
                { "250 ms", 0, 250 * USEC_PER_MSEC },
                { "7us", 0, 7 },
                { "2min", 0, 120 * USEC_PER_SEC },
                { "1h", 0, 3600 * USEC_PER_SEC },
                { "0.5us", -EINVAL, 0 },
                { "", -EINVAL, 0 },
                { "s", -EINVAL, 0 },
                { "1d", -EINVAL, 0 },
                { "-1s", -EINVAL, 0 },
                { "1s 2ms", -EINVAL, 0 },
                { "18446744073709551615h", -ERANGE, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                usec_t usec = 0;

                assert_int_equal(time_parse(cases[i].text, &usec), cases[i].r);
                assert_int_equal(usec, cases[i].usec);
        }
}

static void test_rate(void **state) {
        assert_int_equal(rate_per_sec(790 * 4096, 10 * USEC_PER_SEC), 79 * 4096);
        assert_int_equal(rate_per_sec(0, 1), 0);
        assert_int_equal(rate_per_sec(1, 2 * USEC_PER_SEC), 0);
        assert_true(rate_per_sec(UINT64_MAX, 1) == UINT64_MAX - 1);
        assert_true(rate_per_sec((unsigned __int128) UINT64_MAX * 4096, 1) == UINT64_MAX - 1);
        assert_true(rate_per_sec((unsigned __int128) 1 << 76, USEC_PER_SEC << 20) == UINT64_C(1) << 56);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_size_accepts),    cmocka_unit_test(test_size_refuses),
                cmocka_unit_test(test_size_format),     cmocka_unit_test(test_size_round_trip),
                cmocka_unit_test(test_time),            cmocka_unit_test(test_rate),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
