/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See words.h.
 */
#include "words.h"

#include <ctype.h>

void word_list_done(WordList *w) {
        for (size_t i = 0; i < w->n; i++)
                free(w->words[i]);
        free(w->words);
        *w = (WordList) { 0 };
}

static int word_list_add(WordList *w, char *word /* taken over */) {
        char **bigger = reallocarray(w->words, w->n + 2, sizeof(*bigger));

        if (!bigger) {
                free(word);
                return -ENOMEM;
        }
        w->words = bigger;
        w->words[w->n++] = word;
        w->words[w->n] = NULL;
        return 0;
}

/* Reads one word, up to a blank or ; outside quotes. */
static int word_next(const char **text, char **ret, Outcome *o) {
        _cleanup_free_ char *word = malloc(strlen(*text) + 1);
        const char *p = *text;
        char quote = 0, *out = word;

        if (!word)
                return -ENOMEM;
        for (; *p && (quote || (!isspace((unsigned char) *p) && *p != ';')); p++) {
                if (quote && *p == quote)
                        quote = 0;
                else if (!quote && (*p == '\'' || *p == '"'))
                        quote = *p;
                else if (*p == '\\' && quote != '\'' && p[1])
                        *out++ = *++p;
                else
                        *out++ = *p;
        }
        if (quote)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "a quote %c is not closed", quote);
        *out = 0;
        *text = p;
        *ret = TAKE_PTR(word);
        return 0;
}

int words_next(const char **text, WordList *ret, Outcome *o) {
        WordList w = { 0 };
        const char *p = *text;
        char *word = NULL;
        int r;

        if (!*p)
                return 0;
        for (;;) {
                while (isspace((unsigned char) *p) && *p != '\n')
                        p++;
                if (!*p || *p == ';' || *p == '\n')
                        break;
                r = word_next(&p, &word, o);
                if (r >= 0)
                        r = word_list_add(&w, word);
                if (r < 0) {
                        if (r == -ENOMEM)
                                (void) outcome_set(o, OUTCOME_FAILED, "out of memory");
                        word_list_done(&w);
                        return r;
                }
        }
        *text = *p ? p + 1 : p;
        *ret = w;
        return 1;
}
