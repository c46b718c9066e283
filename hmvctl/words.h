/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A line of commands into words, with the quotes of a shell: '…', "…" and \x. Owns no state.
 */
#pragma once

#include "base/outcome.h"

typedef struct WordList {
        char **words;       /* NULL-terminated */
        size_t n;
} WordList;

void word_list_done(WordList *w);

/* Reads one command up to a ; or newline outside quotes, and moves *text behind it. Returns 1 with the words
 * (maybe none), 0 at the end of the text, or < 0 with BAD_ARGUMENT: a quote is not closed. */
int words_next(const char **text, WordList *ret, Outcome *o);
