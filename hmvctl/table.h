/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What verbs print: tables by libsmartcols, JSON by json-c. Owns no state.
 */
#pragma once

#include <json-c/json.h>

#include "verb.h"

typedef struct Table Table;

enum {
        TABLE_NO_HEADINGS = 1 << 0,
};

/* Titles separated by '|'; one that begins with '>' is of a column aligned to the right. Returns NULL: no
 * memory. */
Table *table_new(const char *titles, unsigned flags);
Table *table_free(Table *t);
DEFINE_CLEANUP(Table *, table_free);

/* One text per column. Returns 0 or -ENOMEM. */
int table_row(Table *t, ...);
int table_print(Table *t, FILE *out);

/* Prints with indentation, for people and machines. */
void json_print(json_object *value, FILE *out);
/* On one line. */
void json_print_line(json_object *value, FILE *out);

/* Columns of the terminal, 80 when there is none. */
unsigned terminal_width(void);
