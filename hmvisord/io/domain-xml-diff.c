/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The unified diff that --dry-run shows. Compares line by line by the longest common subsequence; domain XML
 * is small. Passwords never get into it.
 */
#include "io/domain-xml-internal.h"

#define CONTEXT 3
#define TABLE_MAX (16 * 1024 * 1024)     /* cells; beyond it the middle counts as replaced in whole */

typedef struct Lines {
        char *text;
        char **line;
        size_t n;
} Lines;

static void lines_done(Lines *l) {
        free(l->text);
        free(l->line);
}

static void passwords_mask(xmlNodePtr node) {
        for (xmlNodePtr n = node; n; n = n->next) {
                if (n->type != XML_ELEMENT_NODE)
                        continue;
                if (xmlHasProp(n, XML("passwd")))
                        xmlSetProp(n, XML("passwd"), XML("(not shown)"));
                passwords_mask(n->children);
        }
}

/* Takes XML through the printer, so that quotes and indents of libvirt and libxml2 do not differ. */
static int lines_split(const char *text, Lines *ret) {
        _cleanup_xml_doc_ xmlDocPtr doc = NULL;
        _cleanup_(lines_done) Lines l = {};
        xmlNodePtr root;
        char *p;

        if (xml_parse_domain(text, &doc, &root, NULL) >= 0) {
                passwords_mask(root);
                (void) xml_print(doc, root, true, &l.text);
        } else
                l.text = strdup(text);
        if (!l.text)
                return -ENOMEM;
        for (p = l.text; *p; p++)
                l.n += *p == '\n';
        l.line = calloc(l.n + 1, sizeof(*l.line));
        if (!l.line)
                return -ENOMEM;
        l.n = 0;
        for (p = l.text; *p; l.n++) {
                size_t k = strcspn(p, "\n");

                l.line[l.n] = p;
                p += k;
                if (*p)
                        *p++ = '\0';
        }
        *ret = l;
        l = (Lines){};
        return 0;
}

/* Marks the lines that both have: in_a[i], in_b[j]. */
static int lines_match(const Lines *a, const Lines *b, bool *in_a, bool *in_b) {
        size_t head = 0, tail = 0, n, m;
        uint32_t *table;

        while (head < a->n && head < b->n && streq(a->line[head], b->line[head])) {
                in_a[head] = in_b[head] = true;
                head++;
        }
        while (tail < a->n - head && tail < b->n - head &&
               streq(a->line[a->n - 1 - tail], b->line[b->n - 1 - tail])) {
                in_a[a->n - 1 - tail] = in_b[b->n - 1 - tail] = true;
                tail++;
        }
        n = a->n - head - tail;
        m = b->n - head - tail;
        if (n == 0 || m == 0 || n > TABLE_MAX / (m + 1) - 1)
                return 0;
        /* table[i][j]: length of the longest common subsequence of a[i..] and b[j..] */
        table = calloc((n + 1) * (m + 1), sizeof(*table));
        if (!table)
                return -ENOMEM;
#define T(i, j) table[(i) * (m + 1) + (j)]
        for (size_t i = n; i-- > 0;)
                for (size_t j = m; j-- > 0;)
                        T(i, j) = streq(a->line[head + i], b->line[head + j]) ? T(i + 1, j + 1) + 1 :
                                                                               MAX(T(i + 1, j), T(i, j + 1));
        for (size_t i = 0, j = 0; i < n && j < m;) {
                if (streq(a->line[head + i], b->line[head + j])) {
                        in_a[head + i++] = true;
                        in_b[head + j++] = true;
                } else if (T(i + 1, j) >= T(i, j + 1))
                        i++;
                else
                        j++;
        }
#undef T
        free(table);
        return 0;
}

/* One hunk: from (i, j), which is up to CONTEXT lines before a change, until CONTEXT equal lines follow the
 * last. */
static void hunk_print(FILE *f, const Lines *a, const Lines *b, const bool *in_a, const bool *in_b,
                       size_t *pi, size_t *pj) {
        size_t i0 = *pi, j0 = *pj, i = i0, j = j0, equal = 0, end_i = i0, end_j = j0;
        bool changed = false;

        /* equal lines within 2 * CONTEXT of each other's changes join hunks */
        while (i < a->n || j < b->n) {
                if ((i < a->n && !in_a[i]) || (j < b->n && !in_b[j])) {
                        while (i < a->n && !in_a[i])
                                i++;
                        while (j < b->n && !in_b[j])
                                j++;
                        changed = true;
                        equal = 0;
                        end_i = i;
                        end_j = j;
                        continue;
                }
                if (changed && ++equal > 2 * CONTEXT)
                        break;
                i++;
                j++;
        }
        for (equal = 0; equal < CONTEXT && end_i < a->n && end_j < b->n && in_a[end_i] && in_b[end_j];
             equal++) {
                end_i++;
                end_j++;
        }
        fprintf(f, "@@ -%zu,%zu +%zu,%zu @@\n", i0 + (end_i > i0), end_i - i0, j0 + (end_j > j0),
                end_j - j0);
        for (i = i0, j = j0; i < end_i || j < end_j;) {
                if (i < end_i && !in_a[i])
                        fprintf(f, "-%s\n", a->line[i++]);
                else if (j < end_j && !in_b[j])
                        fprintf(f, "+%s\n", b->line[j++]);
                else {
                        fprintf(f, " %s\n", a->line[i++]);
                        j++;
                }
        }
        *pi = end_i;
        *pj = end_j;
}

int domain_xml_diff(const char *before, const char *after, char **ret_diff) {
        _cleanup_(lines_done) Lines a = {}, b = {};
        _cleanup_free_ bool *in_a = NULL, *in_b = NULL;
        char *text = NULL;
        size_t size, i = 0, j = 0;
        bool any = false;
        FILE *f;
        int r;

        r = lines_split(before, &a);
        if (r >= 0)
                r = lines_split(after, &b);
        if (r < 0)
                return r;
        in_a = calloc(a.n + 1, sizeof(*in_a));
        in_b = calloc(b.n + 1, sizeof(*in_b));
        if (!in_a || !in_b)
                return -ENOMEM;
        r = lines_match(&a, &b, in_a, in_b);
        if (r < 0)
                return r;
        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        for (;;) {
                size_t back;

                while (i < a.n && j < b.n && in_a[i] && in_b[j]) {
                        i++;
                        j++;
                }
                if (i >= a.n && j >= b.n)
                        break;
                if (!any)
                        fprintf(f, "--- before\n+++ after\n");
                any = true;
                for (back = 0; back < CONTEXT && i > 0 && j > 0 && in_a[i - 1] && in_b[j - 1]; back++) {
                        i--;
                        j--;
                }
                hunk_print(f, &a, &b, in_a, in_b, &i, &j);
        }
        if (fclose(f) != 0) {
                free(text);
                return -ENOMEM;
        }
        *ret_diff = text;
        return 0;
}
