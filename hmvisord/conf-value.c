/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Parsing and printing behind conf-value.h. Owns no state.
 */
#include "conf-value.h"

#include <ctype.h>
#include <inttypes.h>
#include <syslog.h>

#include "base/units.h"
#include "core/policy.h"

static const char *const log_levels[] = {
        [LOG_EMERG] = "emerg",     [LOG_ALERT] = "alert",   [LOG_CRIT] = "crit", [LOG_ERR] = "err",
        [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice", [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

static void *field(const ConfKey *k, void *owner) {
        return (char *) owner + k->offset;
}

static const void *const_field(const ConfKey *k, const void *owner) {
        return (const char *) owner + k->offset;
}

bool conf_kind_is_string(ConfKind kind) {
        return kind == CONF_STRING || kind == CONF_PATH || kind == CONF_NODES;
}

static void time_text(char *buf, size_t size, usec_t t) {
        static const struct {
                usec_t unit;
                const char *name;
        } units[] = { { 3600 * USEC_PER_SEC, "h" }, { 60 * USEC_PER_SEC, "min" }, { USEC_PER_SEC, "s" },
                      { USEC_PER_MSEC, "ms" },      { 1, "us" } };
        size_t i = 0;

        while (t % units[i].unit != 0)
                i++;
        if (t == 0)
                i = 2;
        snprintf(buf, size, "%" PRIu64 "%s", t / units[i].unit, units[i].name);
}

/* Exact, unlike size_format(). */
static void size_text(char *buf, size_t size, uint64_t bytes) {
        static const char letters[] = "KMGT";
        size_t i = 0;

        while (i < strlen(letters) && bytes > 0 && bytes % KIB == 0) {
                bytes /= KIB;
                i++;
        }
        snprintf(buf, size, i > 0 ? "%" PRIu64 "%c" : "%" PRIu64, bytes, i > 0 ? letters[i - 1] : '\0');
}

static void describe_allowed(const ConfKey *k, char allowed[static CONF_ALLOWED_MAX]) {
        char min[32], max[32];

        switch (k->kind) {
        case CONF_BOOL:
                snprintf(allowed, CONF_ALLOWED_MAX, "yes or no");
                break;
        case CONF_SIZE:
                size_text(min, sizeof(min), k->min);
                size_text(max, sizeof(max), k->max);
                snprintf(allowed, CONF_ALLOWED_MAX, "a size from %s to %s, such as 64M", min, max);
                break;
        case CONF_TIME:
                time_text(min, sizeof(min), k->min);
                time_text(max, sizeof(max), k->max);
                snprintf(allowed, CONF_ALLOWED_MAX, "a time from %s to %s, such as 250ms or 10s", min, max);
                break;
        case CONF_U32:
        case CONF_U64:
                snprintf(allowed, CONF_ALLOWED_MAX, "a number from %" PRIu64 " to %" PRIu64, k->min, k->max);
                break;
        case CONF_STRING:
                snprintf(allowed, CONF_ALLOWED_MAX, "text");
                break;
        case CONF_PATH:
                snprintf(allowed, CONF_ALLOWED_MAX, "an absolute path without a comma");
                break;
        case CONF_NODES:
                snprintf(allowed, CONF_ALLOWED_MAX, "a list of node numbers, such as 0,2-3");
                break;
        case CONF_LOG_LEVEL:
                snprintf(allowed, CONF_ALLOWED_MAX,
                         "emerg, alert, crit, err, warning, notice, info or debug");
                break;
        case CONF_NAME:
                snprintf(allowed, CONF_ALLOWED_MAX, "up to %d letters and digits, such as vdb",
                         POLICY_NAME_SIZE - 1);
                break;
        }
}

static int bool_parse(const char *text, bool *ret) {
        static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off",
                                                                                       "0" };

        for (size_t i = 0; i < ELEMENTSOF(yes); i++)
                if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
                        *ret = strcasecmp(text, yes[i]) == 0;
                        return 0;
                }
        return -EINVAL;
}

static int number_parse(const ConfKey *k, const char *text, uint64_t *ret) {
        uint64_t v;
        char *end;
        int r = 0;

        if (k->kind == CONF_SIZE)
                r = size_parse(text, &v);
        else if (k->kind == CONF_TIME)
                r = time_parse(text, &v);
        else {
                if (!isdigit((unsigned char) *text))
                        return -EINVAL;
                errno = 0;
                v = strtoull(text, &end, 10);
                if (errno != 0 || *end)
                        return -EINVAL;
        }
        if (r < 0 || v < k->min || v > k->max)
                return -EINVAL;
        *ret = v;
        return 0;
}

static int string_parse(const ConfKey *k, const char *text, char **field_string) {
        char *s;

        for (const char *p = text; *p; p++)
                if (iscntrl((unsigned char) *p))
                        return -EINVAL;
        if (k->kind == CONF_PATH && *text && (*text != '/' || strchr(text, ',')))
                return -EINVAL;
        if (k->kind == CONF_NODES && strspn(text, "0123456789,-") != strlen(text))
                return -EINVAL;
        s = *text ? strdup(text) : NULL;
        if (*text && !s)
                return -ENOMEM;
        free(*field_string);
        *field_string = s;
        return 0;
}

static int name_parse(const char *text, char *ret) {
        size_t n = strlen(text);

        for (const char *p = text; *p; p++)
                if (!isalnum((unsigned char) *p))
                        return -EINVAL;
        if (n >= POLICY_NAME_SIZE)
                return -EINVAL;
        memset(ret, 0, POLICY_NAME_SIZE);
        memcpy(ret, text, n);
        return 0;
}

int conf_value_parse(const ConfKey *k, const char *text, void *owner,
                     char allowed[static CONF_ALLOWED_MAX]) {
        void *f = field(k, owner);
        uint64_t v = 0;
        int r = -EINVAL;

        describe_allowed(k, allowed);
        switch (k->kind) {
        case CONF_BOOL:
                return bool_parse(text, f);
        case CONF_LOG_LEVEL:
                for (size_t i = 0; i < ELEMENTSOF(log_levels); i++)
                        if (streq(text, log_levels[i])) {
                                *(int *) f = (int) i;
                                return 0;
                        }
                return -EINVAL;
        case CONF_SIZE:
        case CONF_TIME:
        case CONF_U64:
                r = number_parse(k, text, &v);
                if (r >= 0)
                        *(uint64_t *) f = v;
                return r;
        case CONF_U32:
                r = number_parse(k, text, &v);
                if (r >= 0)
                        *(uint32_t *) f = (uint32_t) v;
                return r;
        case CONF_STRING:
        case CONF_PATH:
        case CONF_NODES:
                return string_parse(k, text, f);
        case CONF_NAME:
                return name_parse(text, f);
        }
        return r;
}

void conf_value_print(const ConfKey *k, const void *owner, FILE *f) {
        const void *v = const_field(k, owner);
        char buf[64] = "";

        switch (k->kind) {
        case CONF_BOOL:
                fputs(*(const bool *) v ? "yes" : "no", f);
                return;
        case CONF_LOG_LEVEL:
                fputs(log_levels[*(const int *) v & LOG_PRIMASK], f);
                return;
        case CONF_SIZE:
                size_text(buf, sizeof(buf), *(const uint64_t *) v);
                break;
        case CONF_TIME:
                time_text(buf, sizeof(buf), *(const usec_t *) v);
                break;
        case CONF_U64:
                snprintf(buf, sizeof(buf), "%" PRIu64, *(const uint64_t *) v);
                break;
        case CONF_U32:
                snprintf(buf, sizeof(buf), "%" PRIu32, *(const uint32_t *) v);
                break;
        case CONF_STRING:
        case CONF_PATH:
        case CONF_NODES:
                fputs(*(char *const *) v ?: "", f);
                return;
        case CONF_NAME:
                fputs(v, f);
                return;
        }
        fputs(buf, f);
}

bool conf_value_equal(const ConfKey *k, const void *a, const void *b) {
        const void *va = const_field(k, a), *vb = const_field(k, b);

        switch (k->kind) {
        case CONF_BOOL:
                return *(const bool *) va == *(const bool *) vb;
        case CONF_LOG_LEVEL:
                return *(const int *) va == *(const int *) vb;
        case CONF_U32:
                return *(const uint32_t *) va == *(const uint32_t *) vb;
        case CONF_SIZE:
        case CONF_TIME:
        case CONF_U64:
                return *(const uint64_t *) va == *(const uint64_t *) vb;
        case CONF_NAME:
                return streq((const char *) va, (const char *) vb);
        default:
                return streq_ptr(*(char *const *) va, *(char *const *) vb);
        }
}

int conf_value_copy(const ConfKey *k, const void *from, void *to) {
        const void *s = const_field(k, from);
        void *d = field(k, to);
        char *text = NULL;

        switch (k->kind) {
        case CONF_BOOL:
                *(bool *) d = *(const bool *) s;
                return 0;
        case CONF_LOG_LEVEL:
                *(int *) d = *(const int *) s;
                return 0;
        case CONF_U32:
                *(uint32_t *) d = *(const uint32_t *) s;
                return 0;
        case CONF_SIZE:
        case CONF_TIME:
        case CONF_U64:
                *(uint64_t *) d = *(const uint64_t *) s;
                return 0;
        case CONF_NAME:
                memcpy(d, s, POLICY_NAME_SIZE);
                return 0;
        default:
                if (*(char *const *) s && !(text = strdup(*(char *const *) s)))
                        return -ENOMEM;
                free(*(char **) d);
                *(char **) d = text;
                return 0;
        }
}
