/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Words, arguments and completion without a daemon: what is taken, and what is refused with which sentence.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "complete.h"
#include "verb.h"
#include "words.h"

typedef struct Parsed {
        WordList words;
        Ctl ctl;
        Args args;
        Outcome o;
        int r;
} Parsed;

static void parsed_done(Parsed *p) {
        word_list_done(&p->words);
}

/* Parses a line as the shell does, up to the verb's arguments. */
static Parsed parse(const char *line) {
        Parsed p = { 0 };
        const Verb *verb;
        size_t used;

        assert_int_equal(words_next(&line, &p.words, &p.o), 1);
        verb = verb_find(p.words.words, p.words.n, &used);
        assert_non_null(verb);
        p.r = args_parse(&p.ctl, verb, p.words.words + used, p.words.n - used, &p.args, &p.o);
        return p;
}
#define _cleanup_parsed_ _cleanup_(parsed_done)

static void assert_refused(const char *line, const char *why) {
        _cleanup_parsed_ Parsed p = parse(line);

        assert_int_equal(p.r, -EINVAL);
        assert_int_equal(p.o.code, OUTCOME_BAD_ARGUMENT);
        if (!strstr(p.o.text, why))
                fail_msg("'%s' gives '%s', not '%s'", line, p.o.text, why);
}

static void test_words(void **state) {
        static const struct {
                const char *text;
                const char *words[5];
                const char *rest;
        } cases[] = {
                { "a b", { "a", "b" }, "" },
                { "  a\t b  ; c d", { "a", "b" }, " c d" },
                { "a\nb", { "a" }, "b" },
                { "'a b'\"c;d\"e", { "a bc;de" }, "" },
                { "\"\" ''", { "", "" }, "" },
                { "a\\ b \"q\\\"q\" 'n\\n'", { "a b", "q\"q", "n\\n" }, "" },
                { ";;x", { NULL }, ";x" },
                { "a\\", { "a\\" }, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(word_list_done) WordList w = { 0 };
                const char *text = cases[i].text;
                size_t n = 0;

                assert_int_equal(words_next(&text, &w, NULL), 1);
                assert_string_equal(text, cases[i].rest);
                for (; cases[i].words[n]; n++) {
                        assert_true(n < w.n);
                        assert_string_equal(w.words[n], cases[i].words[n]);
                }
                assert_int_equal(w.n, n);
        }
}

static void test_words_open_quote(void **state) {
        static const char *const texts[] = { "'a", "a \"b;c", "\"\\\"" };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                WordList w = { 0 };
                const char *text = texts[i];
                Outcome o = { 0 };

                assert_int_equal(words_next(&text, &w, &o), -EINVAL);
                assert_ptr_equal(text, texts[i]);
                assert_non_null(strstr(o.text, "not closed"));
        }
        {
                WordList w = { 0 };
                const char *empty = "";

                assert_int_equal(words_next(&empty, &w, NULL), 0);
        }
}

static void test_options_anywhere(void **state) {
        static const char *const lines[] = {
                "bind vm --dram 256M --slow 1.5G --dry-run",
                "bind --dram=256M --dry-run vm --slow=1.5G",
                "bind --domain vm --slow 1536M --dram 268435456 --dry-run",
                "bind --dram 256M --slow 1.5G --dry-run -- vm",
        };

        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                _cleanup_parsed_ Parsed p = parse(lines[i]);

                assert_int_equal(p.r, 0);
                assert_string_equal(args_text(&p.args, "domain"), "vm");
                assert_int_equal(args_size(&p.args, "dram"), 256 * MIB);
                assert_int_equal(args_size(&p.args, "slow"), 1536 * MIB);
                assert_int_equal(args_size(&p.args, "max-dram"), 0);
                assert_true(args_flag(&p.args, "dry-run"));
        }
}

static void test_words_options(void **state) {
        _cleanup_parsed_ Parsed p = parse("policy set vm A=1 B=2 --live"), q = parse("policy get vm"),
                                e = parse("explain vm --lines 7"), h = parse("bind --help"),
                                j = parse("list --json");

        assert_int_equal(p.r, 0);
        assert_int_equal(p.args.n_words, 2);
        assert_string_equal(p.args.words[1], "B=2");
        assert_true(args_flag(&p.args, "live"));
        assert_false(args_flag(&p.args, "config"));
        assert_int_equal(q.r, 0);
        assert_int_equal(q.args.n_words, 0);
        assert_int_equal(args_number(&e.args, "lines"), 7);
        assert_int_equal(h.r, 0);
        assert_true(h.args.help);
        assert_true(j.ctl.json);
}

static void test_raw_words(void **state) {
        _cleanup_parsed_ Parsed p = parse("complete -- bind --dry -- ''"), q = parse("complete --he");

        assert_int_equal(p.r, 0);
        assert_int_equal(p.args.n_words, 4);
        assert_string_equal(p.args.words[2], "--");
        assert_int_equal(q.args.n_words, 1);
        assert_string_equal(q.args.words[0], "--he");
}

static void test_refused(void **state) {
        assert_refused("info", "wants DOMAIN");
        assert_refused("info a b", "no use for 'b'");
        assert_refused("info ''", "'' is not a domain");
        assert_refused("info a --domain b", "twice");
        assert_refused("info a --nope", "no option '--nope'");
        assert_refused("info a -x", "no option '-x'");
        assert_refused("bind a --dram 1G", "wants --slow");
        assert_refused("bind a --dram", "--dram wants a size");
        assert_refused("bind a --dram --slow 1G", "'--slow' is not a size");
        assert_refused("bind a --dram 12Q --slow 1G", "'12Q' is not a size");
        assert_refused("bind a --dram 99999999999999T --slow 1G", "is not a size");
        assert_refused("bind a --dram 1G --slow 1G --dry-run=no", "takes no value");
        assert_refused("explain a --lines 0", "whole number");
        assert_refused("explain a --lines -1", "whole number");
        assert_refused("explain a --lines 1000001", "whole number");
        assert_refused("events --timeout soon", "is not a time");
        assert_refused("policy set a", "wants KEY=VALUE");
        assert_refused("policy set a Key", "'Key' is not settings");
        assert_refused("policy set a =1", "'=1' is not settings");
        assert_refused("policy set a 'K=1 L=2'", "is not settings");
        assert_refused("policy set a --setting K=1", "no option '--setting'");
        assert_refused("quit now", "no use for 'now'");
        assert_refused("quit --json", "no option '--json'");
}

static void test_find(void **state) {
        static char *const one[] = { "policy", NULL }, *const two[] = { "policy", "set", "x", NULL },
                    *const prefix[] = { "polic", "set", NULL };
        size_t used;

        assert_null(verb_find(one, 1, &used));
        assert_string_equal(verb_find(two, 3, &used)->name, "policy set");
        assert_int_equal(used, 2);
        assert_null(verb_find(prefix, 2, &used));
        assert_null(verb_find(one, 0, &used));
}

static void test_complete(void **state) {
        static char *const verbs[] = { "un", NULL }, *const second[] = { "policy", "s", NULL },
                           *const option[] = { "bind", "vm", "--max-d", NULL },
                           *const nothing[] = { "zz", NULL }, *const hidden[] = { "comp", NULL },
                           *const behind_size[] = { "bind", "vm", "--dram", "", NULL };
        static const struct {
                char *const *words;
                size_t n;
                const char *expected[3];
        } cases[] = {
                { verbs, 1, { "unbind", "unmanage" } },
                { second, 2, { "set" } },
                { option, 3, { "--max-dram" } },
                { nothing, 1, { NULL } },
                { hidden, 1, { NULL } },
                { behind_size, 4, { NULL } },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(word_list_done) WordList list = { 0 };
                Ctl ctl = { 0 };
                size_t n = 0;

                complete_words(&ctl, cases[i].words, cases[i].n, &list);
                for (; cases[i].expected[n]; n++) {
                        assert_true(n < list.n);
                        assert_string_equal(list.words[n], cases[i].expected[n]);
                }
                assert_int_equal(list.n, n);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_words),
                cmocka_unit_test(test_words_open_quote),
                cmocka_unit_test(test_options_anywhere),
                cmocka_unit_test(test_words_options),
                cmocka_unit_test(test_raw_words),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_find),
                cmocka_unit_test(test_complete),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
