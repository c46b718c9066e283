/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Help texts, made from the tables of verbs. Owns no state.
 */
#pragma once

#include "verb.h"

void help_print_all(FILE *out);
void help_print_group(FILE *out, const VerbGroup *group);
void help_print_verb(FILE *out, const Verb *verb);
void help_print_usage(FILE *out);

/* "bind DOMAIN --dram SIZE [--dry-run]"; the caller frees. NULL: no memory. */
char *help_synopsis(const Verb *verb);
