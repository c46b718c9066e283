/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Reading what callers sent and writing what they get: bounded, clean text both ways. Holds no state.
 */
#include "bus/bus-internal.h"

#include <stdarg.h>

/* Length of the UTF-8 sequence at p, or 0 when there is none that D-Bus would take. */
static size_t utf8_sequence(const unsigned char *p) {
        uint32_t c;
        size_t n;

        if (p[0] < 0x80)
                return 1;
        else if (p[0] >= 0xc2 && p[0] < 0xe0)
                n = 2, c = p[0] & 0x1f;
        else if (p[0] >= 0xe0 && p[0] < 0xf0)
                n = 3, c = p[0] & 0x0f;
        else if (p[0] >= 0xf0 && p[0] < 0xf5)
                n = 4, c = p[0] & 0x07;
        else
                return 0;

        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff ||
            (c >= 0xd800 && c < 0xe000) || (c >= 0x80 && c < 0xa0))
                return 0;
        return n;
}

/* A copy in which everything that is not clean text is a question mark. Newlines and tabs stay. */
static char *text_clean(const char *text) {
        char *copy = strdup(text);

        for (unsigned char *p = (unsigned char *) copy; p && *p;) {
                size_t n = utf8_sequence(p);
                bool control = (*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f;

                if (n == 0 || control) {
                        *p = '?';
                        n = 1;
                }
                p += n;
        }
        return copy;
}

int message_append_text(sd_bus_message *m, const char *text) {
        _cleanup_free_ char *clean = text_clean(text ?: "");

        return clean ? sd_bus_message_append_basic(m, 's', clean) : -ENOMEM;
}

int message_append_entry(sd_bus_message *m, const char *key, const char *type, ...) {
        va_list ap;
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', type);
        if (r < 0)
                return r;

        va_start(ap, type);
        r = streq(type, "s") ? message_append_text(m, va_arg(ap, const char *))
                             : sd_bus_message_appendv(m, type, ap);
        va_end(ap);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r;
}

int reply_outcome(sd_bus_message *m, const Outcome *o) {
        const char *name = outcome_bus_name(o->code);
        _cleanup_free_ char *clean = text_clean(o->text);

        if (!clean)
                return -ENOMEM;
        return sd_bus_reply_method_errorf(m, name ?: outcome_bus_name(OUTCOME_FAILED), "%s",
                                          *clean ? clean : "the daemon gave no reason");
}

int reply_text(sd_bus_message *m, const char *text) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = message_append_text(reply, text);
        return r < 0 ? r : sd_bus_message_send(reply);
}

int message_read_text(sd_bus_message *m, const char *argument, size_t max, const char **ret, Outcome *o) {
        const char *text;
        int r;

        r = sd_bus_message_read_basic(m, 's', &text);
        if (r <= 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s is missing", argument);
        if (strlen(text) > max)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s is longer than %zu bytes", argument, max);
        if (strpbrk(text, "\n\r\x1b"))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s holds control characters", argument);
        *ret = text;
        return 0;
}

/* The reply cannot reach a caller that left meanwhile: nothing to do about that. */
void reply_with_text(const Outcome *o, const char *text, void *userdata) {
        _cleanup_message_ sd_bus_message *m = userdata;

        /* A failed verification is an answer, which says where the memory is. */
        if (o->code == OUTCOME_OK || (o->code == OUTCOME_MISPLACED && text && *text))
                (void) reply_text(m, text);
        else
                (void) reply_outcome(m, o);
}

void reply_with_nothing(const Outcome *o, const char *text, void *userdata) {
        _cleanup_message_ sd_bus_message *m = userdata;

        if (o->code == OUTCOME_OK)
                (void) sd_bus_reply_method_return(m, "");
        else
                (void) reply_outcome(m, o);
}
