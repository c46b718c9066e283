/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See shell.h.
 */
#include "shell.h"

#include <histedit.h>
#include <sys/stat.h>

#include "complete.h"
#include "config.h"
#include "table.h"

#define HISTORY_LINES 500

static char *prompt(EditLine *el) {
        static char writable[] = "hmvctl # ", readonly[] = "hmvctl > ";
        Ctl *ctl = NULL;

        (void) el_get(el, EL_CLIENTDATA, &ctl);
        return ctl && ctl->readonly ? readonly : writable;
}

/* Length of what all candidates begin with. */
static size_t common_length(const WordList *list) {
        size_t len = strlen(list->words[0]);

        for (size_t i = 1; i < list->n; i++)
                for (size_t k = 0; k < len; k++)
                        if (list->words[i][k] != list->words[0][k])
                                len = k;
        return len;
}

static void show_candidates(Ctl *ctl, const WordList *list) {
        unsigned column = 0, width = 0;

        for (size_t i = 0; i < list->n; i++)
                width = MAX(width, (unsigned) strlen(list->words[i]) + 2);
        fputc('\n', ctl->out);
        for (size_t i = 0; i < list->n; i++) {
                if (column > 0 && column + width > terminal_width()) {
                        fputc('\n', ctl->out);
                        column = 0;
                }
                fprintf(ctl->out, "%-*s", (int) width, list->words[i]);
                column += width;
        }
        fputc('\n', ctl->out);
        fflush(ctl->out);
}

/* The words of the last command on the line up to the cursor; the last word is the one to complete. */
static int words_before_cursor(const LineInfo *line, WordList *ret) {
        _cleanup_free_ char *text = strndup(line->buffer, (size_t) (line->cursor - line->buffer));
        const char *p = text;
        size_t len;
        char **bigger;

        if (!text)
                return -ENOMEM;
        *ret = (WordList) { 0 };
        while (*p) {
                word_list_done(ret);
                if (words_next(&p, ret, NULL) < 0)
                        return -EINVAL;
        }
        len = strlen(text);
        if (len > 0 && text[len - 1] == ';')
                word_list_done(ret);
        if (len > 0 && text[len - 1] != ' ' && text[len - 1] != ';')
                return 0;
        bigger = reallocarray(ret->words, ret->n + 2, sizeof(*bigger));
        if (!bigger)
                return -ENOMEM;
        ret->words = bigger;
        ret->words[ret->n] = strdup("");
        if (!ret->words[ret->n])
                return -ENOMEM;
        ret->words[++ret->n] = NULL;
        return 0;
}

static unsigned char on_tab(EditLine *el, wint_t c) {
        _cleanup_(word_list_done) WordList words = { 0 }, list = { 0 };
        const char *last, *more;
        Ctl *ctl = NULL;
        size_t common;

        if (el_get(el, EL_CLIENTDATA, &ctl) < 0 || !ctl || words_before_cursor(el_line(el), &words) < 0 ||
            words.n == 0)
                return CC_ERROR;
        complete_words(ctl, words.words, words.n, &list);
        if (list.n == 0)
                return CC_ERROR;

        last = words.words[words.n - 1];
        common = common_length(&list);
        if (common > strlen(last)) {
                _cleanup_free_ char *tail = strndup(list.words[0] + strlen(last), common - strlen(last));

                if (!tail || el_insertstr(el, tail) < 0)
                        return CC_ERROR;
                if (list.n > 1)
                        return CC_REFRESH;
        } else if (list.n > 1) {
                show_candidates(ctl, &list);
                return CC_REDISPLAY;
        }
        more = list.words[0];
        if (more[strlen(more) - 1] != '=' && el_insertstr(el, " ") < 0)
                return CC_ERROR;
        return CC_REFRESH;
}

/* ~/.local/state/hmvisor/hmvctl-history; NULL when there is no home or it cannot be made. */
static char *history_file(void) {
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
        _cleanup_free_ char *folder = NULL;
        char *file = NULL;
        int r;

        if (state && *state == '/')
                r = asprintf(&folder, "%s/hmvisor", state);
        else if (home && *home == '/')
                r = asprintf(&folder, "%s/.local/state/hmvisor", home);
        else
                return NULL;
        if (r < 0)
                return NULL;
        for (char *p = strchr(folder + 1, '/'); p; p = strchr(p + 1, '/')) {
                *p = 0;
                (void) mkdir(folder, 0700);   /* exists already, as a rule */
                *p = '/';
        }
        if ((mkdir(folder, 0700) < 0 && errno != EEXIST) || asprintf(&file, "%s/hmvctl-history", folder) < 0)
                return NULL;
        return file;
}

static int run_line(Ctl *ctl, const char *line) {
        Outcome o = { 0 };
        int r;

        r = verb_run_text(ctl, line, &o);
        fflush(ctl->out);
        if (r < 0)
                fprintf(stderr, "error: %s\n", o.text);
        return r;
}

static int shell_run_terminal(Ctl *ctl, Outcome *o) {
        _cleanup_free_ char *file = history_file();
        History *past = history_init();
        EditLine *el = el_init("hmvctl", stdin, stdout, stderr);
        const char *line;
        HistEvent event;
        int n;

        if (!past || !el) {
                if (past)
                        history_end(past);
                if (el)
                        el_end(el);
                return outcome_set(o, OUTCOME_FAILED, "no line editor: out of memory");
        }
        (void) history(past, &event, H_SETSIZE, HISTORY_LINES);
        (void) history(past, &event, H_SETUNIQUE, 1);
        if (file)
                (void) history(past, &event, H_LOAD, file);   /* there is none the first time */
        (void) el_set(el, EL_CLIENTDATA, ctl);
        (void) el_set(el, EL_PROMPT, prompt);
        (void) el_set(el, EL_SIGNAL, 1);
        (void) el_set(el, EL_EDITOR, "emacs");
        (void) el_set(el, EL_HIST, history, past);
        /* Wide: of narrow strings libedit makes copies that it never frees. */
        (void) el_wset(el, EL_ADDFN, L"hmvctl-complete", L"complete the word", on_tab);
        (void) el_set(el, EL_BIND, "^I", "hmvctl-complete", NULL);

        if (!ctl->quiet)
                fprintf(ctl->out, "hmvctl %s, the HMvisor shell. 'help' lists commands, 'quit' leaves.\n\n",
                        HMV_VERSION);
        while (!ctl->quit && (line = el_gets(el, &n)) && n > 0) {
                if (line[strspn(line, " \t\n")])
                        (void) history(past, &event, H_ENTER, line);
                (void) run_line(ctl, line);
        }
        if (!ctl->quit)
                fputc('\n', ctl->out);
        if (file)
                (void) history(past, &event, H_SAVE, file);
        el_end(el);
        history_end(past);
        return 0;
}

int shell_run(Ctl *ctl, Outcome *o) {
        _cleanup_free_ char *line = NULL;
        size_t size = 0;
        int r = 0;

        if (isatty(STDIN_FILENO)) {
                ctl->interactive = true;
                return shell_run_terminal(ctl, o);
        }
        while (r >= 0 && !ctl->quit && getline(&line, &size, stdin) > 0)
                r = verb_run_text(ctl, line, o);
        return r;
}
