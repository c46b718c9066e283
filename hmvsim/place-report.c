/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Rows of a contest.
 */
#include "place-report.h"

#include <inttypes.h>
#include <sys/stat.h>

int place_report_begin(PlaceReport *r, const char *dir, bool json, Outcome *o) {
        _cleanup_free_ char *path = NULL;

        *r = (PlaceReport){ .json = json };
        if (dir) {
                if (mkdir(dir, 0777) < 0 && errno != EEXIST)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: %s", dir, strerror(errno));
                if (asprintf(&path, "%s/place.csv", dir) < 0)
                        return -ENOMEM;
                r->csv = fopen(path, "we");
                if (!r->csv)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: %s", path, strerror(errno));
                fputs("trace,seed,dram_pages,pages,competitor,stores,slow_stores,loads,slow_loads,"
                      "saved_permyriad,moved_pages,demoted_pages,useful_pages,seconds_to_90\n",
                      r->csv);
        }
        if (!json)
                printf("%-11s %-14s %11s %9s %9s %11s %10s %8s %10s %9s\n", "TRACE", "PLACEMENT",
                       "SLOW STORES", "OF STATIC", "OF ORACLE", "WITH COPIES", "SLOW LOADS", "MOVED",
                       "PER USEFUL", "90% AFTER");
        return 0;
}

/* A part of another as text, or "-" where there is nothing to divide by. */
#define RATIO_TEXT_MAX 32
static const char *ratio(char buf[static RATIO_TEXT_MAX], double part, double of, double times,
                         const char *unit) {
        if (of > 0)
                snprintf(buf, RATIO_TEXT_MAX, "%.1f%s", part / of * times, unit);
        else
                snprintf(buf, RATIO_TEXT_MAX, "-");
        return buf;
}

static void row_table(const Contest *c, const PlaceResult *r) {
        double as_static = (double) contest_find(c, &place_static)->slow_stores;
        char copies[RATIO_TEXT_MAX], of_static[RATIO_TEXT_MAX], of_oracle[RATIO_TEXT_MAX],
                loads[RATIO_TEXT_MAX], useful[RATIO_TEXT_MAX], after[RATIO_TEXT_MAX] = "-";

        if (c->gains)
                snprintf(after, sizeof(after), r->seconds_to_90 == NEVER ? "never" : "%" PRIu64 " s",
                         r->seconds_to_90);
        printf("%-11s %-14s %11" PRIu64 " %9s %9s %11s %10s %8" PRIu64 " %10s %9s\n", c->setup.trace->name,
               r->competitor->name, r->slow_stores,
               ratio(of_static, (double) r->slow_stores, as_static, 100, "%"),
               ratio(of_oracle, (double) contest_saved(c, r), c->gains ? 10000 : 0, 100, "%"),
               ratio(copies, (double) (r->slow_stores + LINES_PER_PAGE * r->demoted), as_static, 100, "%"),
               ratio(loads, (double) r->slow_loads, (double) r->loads, 100, "%"), r->moved,
               ratio(useful, (double) r->moved, (double) r->useful, 1, ""), after);
}

static void row_json(const Contest *c, const PlaceResult *r) {
        printf("{\"trace\": \"");
        for (const char *p = c->setup.trace->name; *p; p++)
                if (*p == '"' || *p == '\\' || (unsigned char) *p < ' ')
                        printf("\\u%04x", (unsigned char) *p);
                else
                        putchar(*p);
        printf("\", \"seed\": %" PRIu64 ", \"dram_pages\": %" PRIu32 ", \"pages\": %" PRIu32
               ", \"competitor\": \"%s\", \"stores\": %" PRIu64 ", \"slow_stores\": %" PRIu64
               ", \"loads\": %" PRIu64 ", \"slow_loads\": %" PRIu64,
               c->setup.seed, c->setup.dram_pages, c->setup.trace->pages, r->competitor->name, r->stores,
               r->slow_stores, r->loads, r->slow_loads);
        if (c->gains)
                printf(", \"saved_permyriad\": %" PRId64, contest_saved(c, r));
        printf(", \"moved_pages\": %" PRIu64 ", \"demoted_pages\": %" PRIu64
               ", \"useful_pages\": %" PRIu64,
               r->moved, r->demoted, r->useful);
        if (c->gains && r->seconds_to_90 != NEVER)
                printf(", \"seconds_to_90\": %" PRIu64, r->seconds_to_90);
        puts("}");
}

/* What is not known, or would divide by nothing, is left empty. A name can hold neither comma nor quote
 * here: they are replaced. */
static void row_csv(FILE *f, const Contest *c, const PlaceResult *r) {
        for (const char *p = c->setup.trace->name; *p; p++)
                putc(strchr(",\"\r\n", *p) ? '_' : *p, f);
        fprintf(f,
                ",%" PRIu64 ",%" PRIu32 ",%" PRIu32 ",%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",",
                c->setup.seed, c->setup.dram_pages, c->setup.trace->pages, r->competitor->name, r->stores,
                r->slow_stores, r->loads, r->slow_loads);
        if (c->gains)
                fprintf(f, "%" PRId64, contest_saved(c, r));
        fprintf(f, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",", r->moved, r->demoted, r->useful);
        if (c->gains && r->seconds_to_90 != NEVER)
                fprintf(f, "%" PRIu64, r->seconds_to_90);
        putc('\n', f);
}

void place_report_rows(PlaceReport *report, const Contest *c) {
        for (size_t i = 0; i < c->n_results; i++) {
                (report->json ? row_json : row_table)(c, &c->results[i]);
                if (report->csv)
                        row_csv(report->csv, c, &c->results[i]);
        }
        fflush(stdout);
}

int place_report_end(PlaceReport *r, int so_far, Outcome *o) {
        bool failed = fflush(stdout) != 0 || ferror(stdout);

        if (r->csv) {
                failed |= ferror(r->csv) != 0;
                failed |= fclose(TAKE_PTR(r->csv)) != 0;
        }
        if (so_far >= 0 && failed)
                return outcome_set(o, OUTCOME_FAILED, "the results could not be written: %s", strerror(EIO));
        return so_far;
}
