/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What may follow the words typed so far, from the tables of verbs and, for domains and policy keys, from
 * the daemon. For the shell and, through the hidden verb "complete", for bash. Owns no state.
 */
#pragma once

#include "words.h"
#include "verb.h"

/* Candidates for the last of the words (n >= 1; it may be ""), which begin with it. Never fails: without a
 * daemon there are fewer. */
void complete_words(Ctl *ctl, char *const *words, size_t n, WordList *ret);
