/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Sizes and times as people write them. Owns no state, never logs.
 */
#include "base/units.h"

#include <ctype.h>
#include <inttypes.h>

/* Reads DIGITS[.DIGITS] exactly: value = number * 10^decimals. At most 6 decimals. */
static int decimal_parse(const char **text, uint64_t *ret_number, unsigned *ret_decimals) {
        const char *p = *text;
        uint64_t number = 0;
        unsigned decimals = 0;
        bool point = false;

        if (!isdigit((unsigned char) *p))
                return -EINVAL;
        for (; isdigit((unsigned char) *p) || (*p == '.' && !point); p++) {
                if (*p == '.') {
                        point = true;
                        continue;
                }
                if (point && ++decimals > 6)
                        return -EINVAL;
                if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
                    __builtin_add_overflow(number, (uint64_t) (*p - '0'), &number))
                        return -ERANGE;
        }
        if (point && decimals == 0)
                return -EINVAL;
        *text = p;
        *ret_number = number;
        *ret_decimals = decimals;
        return 0;
}

/* number * factor / 10^decimals, refused when it is no whole number or does not fit. */
static int decimal_scale(uint64_t number, unsigned decimals, uint64_t factor, uint64_t *ret) {
        __uint128_t v = (__uint128_t) number * factor;
        uint64_t divisor = 1;

        while (decimals-- > 0)
                divisor *= 10;
        if (v % divisor != 0)
                return -EINVAL;
        v /= divisor;
        if (v > UINT64_MAX)
                return -ERANGE;
        *ret = (uint64_t) v;
        return 0;
}

int size_parse(const char *text, uint64_t *ret_bytes) {
        static const char letters[] = "KMGT";
        uint64_t number, factor = 1;
        unsigned decimals;
        int r;

        while (isspace((unsigned char) *text))
                text++;
        r = decimal_parse(&text, &number, &decimals);
        if (r < 0)
                return r;
        while (*text == ' ')
                text++;
        if (*text && *text != 'B') {
                const char *l = strchr(letters, toupper((unsigned char) *text));

                if (!l)
                        return -EINVAL;
                for (const char *i = letters; i <= l; i++)
                        factor *= KIB;
                text++;
                if (*text == 'i' && text[1] == 'B')
                        text++;
        }
        if (*text == 'B')
                text++;
        if (*text)
                return -EINVAL;
        return decimal_scale(number, decimals, factor, ret_bytes);
}

char *size_format(char buf[static SIZE_TEXT_MAX], uint64_t bytes) {
        static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
        uint64_t unit = 1;
        size_t i = 0;

        while (i + 1 < ELEMENTSOF(names) && bytes / unit >= KIB) {
                unit *= KIB;
                i++;
        }
        if (bytes % unit == 0)
                snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64 " %s", bytes / unit, names[i]);
        else
                snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64 ".%" PRIu64 " %s", bytes / unit,
                         bytes % unit * 10 / unit, names[i]);
        return buf;
}

int time_parse(const char *text, usec_t *ret_usec) {
        static const struct {
                const char *name;
                usec_t factor;
        } units[] = {
                { "", USEC_PER_SEC }, { "s", USEC_PER_SEC },        { "ms", USEC_PER_MSEC },
                { "us", 1 },          { "min", 60 * USEC_PER_SEC }, { "h", 3600 * USEC_PER_SEC },
        };
        uint64_t number;
        unsigned decimals;
        int r;

        while (isspace((unsigned char) *text))
                text++;
        r = decimal_parse(&text, &number, &decimals);
        if (r < 0)
                return r;
        while (*text == ' ')
                text++;
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (streq(text, units[i].name))
                        return decimal_scale(number, decimals, units[i].factor, ret_usec);
        return -EINVAL;
}

uint64_t rate_per_sec(unsigned __int128 amount, usec_t elapsed) {
        return (uint64_t) MIN(amount * USEC_PER_SEC / elapsed, (unsigned __int128) UINT64_MAX - 1);
}

bool dirty_ring_size_is_valid(uint32_t entries) {
        return entries == 0 || (entries >= 1024 && entries <= 65536 && (entries & (entries - 1)) == 0);
}
