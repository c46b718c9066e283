/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See report.h. Sums are the simulation's; what is in a row is the difference to the last one.
 */
#include "report.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "base/units.h"

#define RATES_USEC (60 * USEC_PER_SEC) /* at the end, heat and swapping are averages of the last minute */

struct Report {
        const Scenario *scenario;
        FILE *groups, *market;
        usec_t then; /* of the last row */
        GroupView before[GROUPS_MAX];
        Clearing cleared;
        bool marked;
        usec_t mark; /* a minute before the end */
        GroupView at_mark[GROUPS_MAX];
};

static FILE *file_create(const char *dir, const char *name) {
        _cleanup_free_ char *path = NULL;

        return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : fopen(path, "we");
}

int report_new(const Scenario *scenario, const char *dir, Report **ret, Outcome *o) {
        _cleanup_(report_freep) Report *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->scenario = scenario;
        if (dir) {
                if (mkdir(dir, 0777) < 0 && errno != EEXIST)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: %s", dir, strerror(errno));
                r->groups = file_create(dir, "groups.csv");
                r->market = file_create(dir, "market.csv");
                if (!r->groups || !r->market)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: cannot write there: %s", dir,
                                           strerror(errno));
                fputs("seconds,group,vms,dram_bytes,slow_bytes,worth_permyriad,heat_missed_permyriad,"
                      "swap_bytes_per_sec,moved_bytes_per_sec,position_lots,wish_lots,traded_lots\n",
                      r->groups);
                fputs("seconds,demand_lots,supply_lots,traded_lots,recalled_lots,pool_lots\n", r->market);
        }
        *ret = TAKE_PTR(r);
        return 0;
}

Report *report_free(Report *r) {
        if (!r)
                return NULL;
        if (r->groups)
                fclose(r->groups);
        if (r->market)
                fclose(r->market);
        free(r);
        return NULL;
}

static uint64_t permyriad(unsigned __int128 part, unsigned __int128 of) {
        return of == 0 ? 0 : (uint64_t) (part * 10000 / of);
}

static uint64_t per_second(uint64_t sum, usec_t usec) {
        return usec == 0 ? 0 : (uint64_t) ((unsigned __int128) sum * USEC_PER_SEC / usec);
}

static void row_group(Report *r, const Sim *s, size_t i) {
        const GroupView *was = &r->before[i];
        usec_t passed = sim_now(s) - r->then;
        GroupView v;

        sim_group(s, i, &v);
        if (r->groups)
                fprintf(r->groups,
                        "%" PRIu64 ",%s,%" PRIu32 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
                        ",%" PRIu64 ",%" PRId64 ",%" PRId64 ",%" PRIu64 "\n",
                        sim_now(s) / USEC_PER_SEC, r->scenario->groups[i].name, v.n_on,
                        v.size_bytes[TIER_DRAM], v.size_bytes[TIER_SLOW],
                        permyriad(v.worth, v.entitled_worth),
                        permyriad(v.slow_writes - was->slow_writes, v.writes - was->writes),
                        per_second(v.swap_bytes - was->swap_bytes, passed),
                        per_second(v.moved_bytes - was->moved_bytes, passed), v.position, v.wish,
                        v.lots - was->lots);
        r->before[i] = v;
}

void report_row(Report *r, const Sim *s) {
        const Clearing *c = sim_cleared(s), *was = &r->cleared;

        for (size_t i = 0; i < r->scenario->n_groups; i++)
                row_group(r, s, i);
        if (r->market)
                fprintf(r->market,
                        "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRId64 "\n",
                        sim_now(s) / USEC_PER_SEC, c->demand - was->demand, c->supply - was->supply,
                        c->traded - was->traded, c->recalled - was->recalled, c->pool - was->pool);
        r->cleared = *c;
        r->then = sim_now(s);
        if (!r->marked && sim_now(s) + RATES_USEC >= r->scenario->duration) {
                r->marked = true;
                r->mark = sim_now(s);
                memcpy(r->at_mark, r->before, sizeof(r->at_mark));
        }
}

static int file_finish(FILE **f) {
        FILE *done = TAKE_PTR(*f);
        bool failed;

        if (!done)
                return 0;
        failed = ferror(done) != 0;
        return fclose(done) != 0 || failed ? -EIO : 0;
}

int report_finish(Report *r, Outcome *o) {
        int a = file_finish(&r->groups), b = file_finish(&r->market);

        return a < 0 || b < 0 ? outcome_set(o, OUTCOME_FAILED, "the CSV files could not be written: %s",
                                            strerror(errno))
                              : 0;
}

/* ---- plots ---- */

static void plot_groups(FILE *p, const Scenario *s, const char *name, const char *title, const char *label,
                        const char *const columns[], const char *const tags[], size_t n) {
        fprintf(p, "set output '%s.png'\nset title '%s'\nset ylabel '%s'\nset yrange [0:*]\nplot \\\n", name,
                title, label);
        for (size_t g = 0; g < s->n_groups; g++)
                for (size_t i = 0; i < n; i++)
                        fprintf(p,
                                "  'groups.csv' using 1:(strcol(2) eq '%s' ? %s : NaN) with lines dt %zu lc "
                                "%zu lw 2 title '%s%s'%s\n",
                                s->groups[g].name, columns[i], i + 1, g + 1, s->groups[g].name, tags[i],
                                g + 1 == s->n_groups && i + 1 == n ? "" : ", \\");
}

int report_plot(const Scenario *scenario, const char *dir, Outcome *o) {
        static const char *const sizes[] = { "$4/$3/2**20", "$5/$3/2**20" };
        static const char *const tiers[] = { ", DRAM", ", slow" };
        static const char *const heat[] = { "$7/100" }, *const swap[] = { "$8/$3/2**20" };
        static const char *const none[] = { "" };
        FILE *p;

        /* The folder is the shell's argument by way of the environment, whatever is in its name. */
        if (setenv("HMVSIM_DIR", dir, 1) < 0)
                return -ENOMEM;
        p = popen("cd -- \"$HMVSIM_DIR\" && gnuplot", "w");
        if (!p)
                return outcome_set(o, OUTCOME_FAILED, "gnuplot cannot be started: %s", strerror(errno));
        fputs("set datafile separator ','\nset datafile missing NaN\nset terminal pngcairo size 1000,600\n"
              "set key outside right\nset grid\nset xlabel 'seconds'\n",
              p);
        plot_groups(p, scenario, "sizes", "Memory per VM", "MiB", sizes, tiers, 2);
        plot_groups(p, scenario, "heat", "Writes that miss DRAM", "% of the writes seen", heat, none, 1);
        plot_groups(p, scenario, "swap", "Swapping per VM", "MiB/s", swap, none, 1);
        fputs("set output 'market.png'\nset title 'The market'\nset ylabel 'lots of DRAM per epoch'\n"
              "plot 'market.csv' using 1:2 with lines lw 2 title 'demand', '' using 1:3 with lines lw 2 "
              "title "
              "'supply', '' using 1:4 with impulses lw 2 title 'traded'\n",
              p);
        if (pclose(p) != 0)
                return outcome_set(o, OUTCOME_FAILED,
                                   "gnuplot failed; is it installed (Debian: gnuplot-nox)?");
        return 0;
}

/* ---- summary ---- */

static void group_rates(const Report *r, size_t i, const GroupView *v, uint64_t *ret_missed,
                        uint64_t *ret_swap) {
        const GroupView *was = &r->at_mark[i];

        *ret_missed = permyriad(v->slow_writes - was->slow_writes, v->writes - was->writes);
        *ret_swap = per_second(v->swap_bytes - was->swap_bytes, r->scenario->duration - r->mark);
}

void report_summary(const Report *r, const Sim *s, FILE *to) {
        char dram[SIZE_TEXT_MAX], slow[SIZE_TEXT_MAX], from_dram[SIZE_TEXT_MAX], from_slow[SIZE_TEXT_MAX],
                swap[SIZE_TEXT_MAX];

        fprintf(to, "%-16s %5s  %-21s  %-21s  %8s  %9s  %12s  %5s\n", "GROUP", "VMS", "DRAM PER VM",
                "SLOW PER VM", "WORTH", "MISS DRAM", "SWAP PER VM", "LOTS");
        for (size_t i = 0; i < r->scenario->n_groups; i++) {
                const Group *g = &r->scenario->groups[i];
                uint64_t missed, swapped, worth;
                char sizes[2][2 * SIZE_TEXT_MAX + 8];
                GroupView v;

                sim_group(s, i, &v);
                group_rates(r, i, &v, &missed, &swapped);
                worth = permyriad(v.worth, v.entitled_worth);
                size_format(from_dram, g->start_bytes[TIER_DRAM]);
                size_format(from_slow, g->start_bytes[TIER_SLOW]);
                size_format(dram, v.size_bytes[TIER_DRAM] / MAX(v.n_on, 1U));
                size_format(slow, v.size_bytes[TIER_SLOW] / MAX(v.n_on, 1U));
                size_format(swap, swapped / MAX(v.n_on, 1U));
                snprintf(sizes[0], sizeof(sizes[0]), "%s -> %s", from_dram, dram);
                snprintf(sizes[1], sizeof(sizes[1]), "%s -> %s", from_slow, slow);
                fprintf(to,
                        "%-16s %5" PRIu32 "  %-21s  %-21s  %4" PRIu64 ".%02" PRIu64 "%%  %5" PRIu64
                        ".%02" PRIu64 "%%  %10s/s  %5" PRIu64 "\n",
                        g->name, v.n_on, sizes[0], sizes[1], worth / 100, worth % 100, missed / 100,
                        missed % 100, swap, v.lots);
        }
}

void report_json(const Report *r, const Sim *s, uint64_t seed, FILE *to) {
        const Clearing *c = sim_cleared(s);

        fprintf(to, "{\n  \"seconds\": %" PRIu64 ",\n  \"seed\": %" PRIu64 ",\n  \"vms\": %zu,\n",
                sim_now(s) / USEC_PER_SEC, seed, sim_n_vms(s));
        fprintf(to,
                "  \"market\": { \"demand_lots\": %" PRIu64 ", \"supply_lots\": %" PRIu64
                ", \"traded_lots\": %" PRIu64 ", \"recalled_lots\": %" PRIu64 ", \"pool_lots\": %" PRId64
                " },\n  \"groups\": [",
                c->demand, c->supply, c->traded, c->recalled, c->pool);
        for (size_t i = 0; i < r->scenario->n_groups; i++) {
                const Group *g = &r->scenario->groups[i];
                uint64_t missed, swapped;
                const char *comma = "";
                GroupView v;

                sim_group(s, i, &v);
                group_rates(r, i, &v, &missed, &swapped);
                fprintf(to,
                        "%s\n    { \"name\": \"%s\", \"behaviour\": \"%s\", \"vms\": %" PRIu32
                        ", \"vms_on\": %" PRIu32 ",\n      \"dram_bytes\": %" PRIu64
                        ", \"slow_bytes\": %" PRIu64 ", \"start_dram_bytes\": %" PRIu64
                        ", \"start_slow_bytes\": %" PRIu64 ",\n      \"worth_permyriad\": %" PRIu64
                        ", \"heat_missed_permyriad\": %" PRIu64 ", \"swap_bytes_per_sec\": %" PRIu64
                        ", \"moved_bytes\": %" PRIu64 ", \"position_lots\": %" PRId64
                        ", \"traded_lots\": %" PRIu64 ",\n      \"wishes\": { ",
                        i > 0 ? "," : "", g->name, behaviour_to_string(g->behaviour), g->n_vms, v.n_on,
                        v.size_bytes[TIER_DRAM], v.size_bytes[TIER_SLOW],
                        g->n_vms * g->start_bytes[TIER_DRAM], g->n_vms * g->start_bytes[TIER_SLOW],
                        permyriad(v.worth, v.entitled_worth), missed, swapped, v.moved_bytes, v.position,
                        v.lots);
                for (WishReason w = 0; w < _WISH_REASON_MAX; w++)
                        if (v.reasons[w] > 0) {
                                fprintf(to, "%s\"%s\": %" PRIu64, comma, wish_reason_to_string(w),
                                        v.reasons[w]);
                                comma = ", ";
                        }
                fputs(" } }", to);
        }
        fputs("\n  ]\n}\n", to);
}
