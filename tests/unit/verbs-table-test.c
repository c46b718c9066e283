/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The table of verbs is sound, and the manual says what it says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "help.h"
#include "verb.h"

#define FOR_EACH_VERB(v)                                                \
        for (const VerbGroup *g = verb_groups; g->keyword; g++)         \
                for (const Verb *v = g->verbs; v->name; v++)

static char *manual;

static int read_manual(void **state) {
        _cleanup_fclose_ FILE *f = fopen(MANUAL, "re");
        size_t size = 0;

        assert_non_null(f);
        assert_true(getdelim(&manual, &size, 0, f) > 0);
        return 0;
}

static int drop_manual(void **state) {
        free(manual);
        return 0;
}

/* As roff wants it: each - escaped. */
static char *escaped(const char *before, const char *text, const char *after) {
        char *out = calloc(1, strlen(before) + 2 * strlen(text) + strlen(after) + 1), *p;

        p = stpcpy(out, before);
        for (; *text; text++) {
                if (*text == '-')
                        *p++ = '\\';
                *p++ = *text;
        }
        strcpy(p, after);
        return out;
}

static void test_manual_has_each_synopsis(void **state) {
        size_t n = 0;

        FOR_EACH_VERB(v) {
                _cleanup_free_ char *synopsis = help_synopsis(v);
                _cleanup_free_ char *line = escaped(".TP\n.B ", synopsis, "\n");

                if (v->flags & VERB_HIDDEN)
                        continue;
                if (!strstr(manual, line))
                        fail_msg("hmvctl.1 does not have: %s", line);
                n++;
        }
        assert_int_equal(n, 26);
}

/* An option must be explained, not only be in the synopsis: it occurs once more. */
static void test_manual_explains_each_option(void **state) {
        FOR_EACH_VERB(v) {
                _cleanup_free_ char *synopsis = help_synopsis(v);
                _cleanup_free_ char *line = escaped(".B ", synopsis, "\n");
                _cleanup_free_ char *section = NULL;
                char *body = strstr(manual, line), *end;

                if (v->flags & VERB_HIDDEN)
                        continue;
                assert_non_null(body);
                body += strlen(line);
                end = strstr(body, "\n.TP\n");
                section = strndup(body, end ? (size_t) (end - body) : strlen(body));
                for (int i = 0; i < OPTIONS_MAX && v->options[i].name; i++) {
                        _cleanup_free_ char *option = escaped("\\-\\-", v->options[i].name, "");
                        bool as_manage = streq(v->name, "unmanage") || streq(v->name, "unbind");

                        if ((v->options[i].flags & OPTION_POSITIONAL) ||
                            (as_manage && strstr(manual, option)))
                                continue;
                        if (!strstr(section, option))
                                fail_msg("hmvctl.1 does not explain %s of '%s'", option, v->name);
                }
        }
}

static void test_manual_has_each_exit_code(void **state) {
        for (OutcomeCode c = 0; c < _OUTCOME_MAX; c++) {
                char line[256];

                snprintf(line, sizeof(line), "\n%d||T{\n%s", outcome_exit_code(c), outcome_meaning(c));
                if (!strstr(manual, line))
                        fail_msg("hmvctl.1 does not have exit code %d as: %s", outcome_exit_code(c),
                                 outcome_meaning(c));
        }
}

static size_t count_verbs(const char *name) {
        size_t n = 0;

        FOR_EACH_VERB(v)
                n += streq(v->name, name);
        return n;
}

static void test_verbs_are_sound(void **state) {
        FOR_EACH_VERB(v) {
                bool words = false, optional = false;

                assert_int_equal(count_verbs(v->name), 1);
                assert_non_null(v->run);
                assert_true(strlen(v->summary) <= 60);
                assert_int_not_equal(v->summary[strlen(v->summary) - 1], '.');
                assert_int_equal(v->description[strlen(v->description) - 1], '.');
                for (int i = 0; i < OPTIONS_MAX && v->options[i].name; i++) {
                        const Option *o = &v->options[i];

                        assert_true(i + 1 < OPTIONS_MAX);
                        assert_true((o->type == OPTION_FLAG) == !option_value_name(o->type));
                        if (!(o->flags & OPTION_POSITIONAL)) {
                                assert_false(option_takes_words(o->type));
                                continue;
                        }
                        assert_false(words);   /* nothing can stand behind words */
                        assert_false((o->flags & OPTION_REQUIRED) && optional);
                        words = option_takes_words(o->type);
                        optional |= !(o->flags & OPTION_REQUIRED);
                }
        }
}

/* -r must stop all that changes something: verbs that say so, and these are all. */
static void test_changing_verbs(void **state) {
        static const char *const changing[] = { "bind",       "unbind",     "manage",          "unmanage",
                                                "policy set", "market set", "market withdraw", "trade" };

        FOR_EACH_VERB(v) {
                bool expected = false;

                for (size_t i = 0; i < ELEMENTSOF(changing); i++)
                        expected |= streq(v->name, changing[i]);
                assert_int_equal(!!(v->flags & VERB_CHANGES), expected);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_manual_has_each_synopsis),
                cmocka_unit_test(test_manual_explains_each_option),
                cmocka_unit_test(test_manual_has_each_exit_code),
                cmocka_unit_test(test_verbs_are_sound),
                cmocka_unit_test(test_changing_verbs),
        };

        return cmocka_run_group_tests(tests, read_manual, drop_manual);
}
