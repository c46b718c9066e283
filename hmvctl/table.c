/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See table.h.
 */
#include "table.h"

#include <libsmartcols/libsmartcols.h>
#include <stdarg.h>
#include <sys/ioctl.h>

struct Table {
        struct libscols_table *scols;
        size_t n_columns;
};

Table *table_new(const char *titles, unsigned flags) {
        _cleanup_(table_freep) Table *t = calloc(1, sizeof(*t));
        _cleanup_free_ char *copy = strdup(titles);
        char *title, *rest = copy;

        if (!t || !copy)
                return NULL;
        t->scols = scols_new_table();
        if (!t->scols)
                return NULL;
        if (scols_table_enable_noheadings(t->scols, !!(flags & TABLE_NO_HEADINGS)) < 0)
                return NULL;
        while ((title = strsep(&rest, "|"))) {
                bool right = *title == '>';

                if (!scols_table_new_column(t->scols, title + right, 0, right ? SCOLS_FL_RIGHT : 0))
                        return NULL;
                t->n_columns++;
        }
        return TAKE_PTR(t);
}

Table *table_free(Table *t) {
        if (t)
                scols_unref_table(t->scols);
        free(t);
        return NULL;
}

int table_row(Table *t, ...) {
        struct libscols_line *line = scols_table_new_line(t->scols, NULL);
        va_list ap;
        int r = line ? 0 : -ENOMEM;

        va_start(ap, t);
        for (size_t i = 0; r >= 0 && i < t->n_columns; i++)
                r = scols_line_set_data(line, i, va_arg(ap, const char *)) < 0 ? -ENOMEM : 0;
        va_end(ap);
        return r;
}

int table_print(Table *t, FILE *out) {
        scols_table_set_stream(t->scols, out);
        if (!isatty(fileno(out)))   /* a file has no width */
                scols_table_set_termforce(t->scols, SCOLS_TERMFORCE_NEVER);
        return scols_print_table(t->scols) < 0 ? -EIO : 0;
}

void json_print(json_object *value, FILE *out) {
        fprintf(out, "%s\n",
                json_object_to_json_string_ext(value, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                              JSON_C_TO_STRING_NOSLASHESCAPE));
}

void json_print_line(json_object *value, FILE *out) {
        fprintf(out, "%s\n", json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE));
}

unsigned terminal_width(void) {
        const char *columns = getenv("COLUMNS");
        struct winsize ws;
        int n;

        if (columns && (n = atoi(columns)) >= 40 && n <= 1000)
                return (unsigned) n;
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) >= 0 && ws.ws_col >= 40)
                return ws.ws_col;
        return 80;
}
