/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verbs of group "observe" but for events: heat, statistics and decisions of one domain.
 */
#include <inttypes.h>
#include <langinfo.h>
#include <time.h>

#include "base/units.h"
#include "client.h"
#include "events.h"
#include "heat.h"
#include "metrics.h"
#include "table.h"

#define PAGE_BYTES UINT64_C(4096)
#define EXPLAIN_LINES 10

typedef struct HeatView {
        Ctl *ctl;
        const char *path;
        Outcome *o;
        size_t shown;
} HeatView;

static int show_heat(void *userdata) {
        _cleanup_json_ json_object *cells = NULL;
        HeatView *v = userdata;
        Ctl *ctl = v->ctl;
        int r;

        r = client_call(ctl, v->path, CLIENT_DOMAIN, "GetHeat", v->o, &cells, "");
        if (r < 0)
                return r;
        if (!ctl->json && v->shown++ > 0)
                fputc('\n', ctl->out);
        if (ctl->json)
                json_print(cells, ctl->out);
        else
                heat_print(cells, terminal_width(), streq(nl_langinfo(CODESET), "UTF-8"), ctl->out);
        fflush(ctl->out);
        return 0;
}

static int run_heat(Ctl *ctl, const Args *args, Outcome *o) {
        usec_t watch = args_time(args, "watch");
        _cleanup_free_ char *path = NULL;
        HeatView v = { .ctl = ctl, .o = o };
        int r;

        if (args_flag(args, "watch") && watch < 100 * USEC_PER_MSEC)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "--watch: at least 100ms");
        r = client_find_domain(ctl, args_text(args, "domain"), &path, o);
        if (r < 0)
                return r;
        v.path = path;
        r = watch > 0 ? events_repeat(watch, show_heat, &v) : show_heat(&v);
        return r < 0 && o->code == OUTCOME_OK
                       ? outcome_set(o, OUTCOME_FAILED, "cannot wait: %s", strerror(-r))
                       : r;
}

static int number_row(Table *t, const char *name, json_object *stats, const char *key) {
        char text[24];

        snprintf(text, sizeof(text), "%" PRIu64, json_number(stats, key));
        return table_row(t, name, text);
}

static int pages_row(Table *t, const char *name, uint64_t pages) {
        char text[64], size[SIZE_TEXT_MAX];

        snprintf(text, sizeof(text), "%" PRIu64 " pages, %s", pages, size_format(size, pages * PAGE_BYTES));
        return table_row(t, name, text);
}

static int skipped_rows(Table *t, json_object *skipped) {
        if (!json_object_is_type(skipped, json_type_object))
                return 0;
        json_object_object_foreach(skipped, reason, pages) {
                char name[64], text[64];

                if (json_object_get_uint64(pages) == 0)
                        continue;
                snprintf(name, sizeof(name), "  %.40s:", reason);
                snprintf(text, sizeof(text), "%" PRIu64 " pages", json_object_get_uint64(pages));
                if (table_row(t, name, text) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static uint64_t skipped_sum(json_object *skipped) {
        uint64_t sum = 0;

        if (!json_object_is_type(skipped, json_type_object))
                return 0;
        json_object_object_foreach(skipped, reason, pages) {
                (void) reason;
                sum += json_object_get_uint64(pages);
        }
        return sum;
}

/* "1.234 s in all, 2.345 ms the last time" */
static void describe_cost(json_object *stats, char *buf, size_t size) {
        uint64_t all = json_number(stats, "TrackingCostNSec"),
                 last = json_number(stats, "TrackingLastCostNSec");

        snprintf(buf, size,
                 "%" PRIu64 ".%03" PRIu64 " s in all, %" PRIu64 ".%03" PRIu64 " ms for the last sample",
                 all / 1000000000, all / 1000000 % 1000, last / 1000000, last / 1000 % 1000);
}

static int run_stats(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_(table_freep) Table *t = table_new("Key|Value", TABLE_NO_HEADINGS);
        _cleanup_json_ json_object *s = NULL;
        _cleanup_free_ char *path = NULL;
        json_object *skipped;
        char cost[128];
        int r;

        r = client_find_domain(ctl, args_text(args, "domain"), &path, o);
        if (r >= 0)
                r = client_call(ctl, path, CLIENT_DOMAIN, "GetStats", o, &s, "");
        if (r < 0)
                return r;
        if (ctl->json) {
                json_print(s, ctl->out);
                return 0;
        }
        skipped = json_member(s, "SkippedPages");
        describe_cost(s, cost, sizeof(cost));
        r = t ? number_row(t, "Epochs:", s, "Epochs") : -ENOMEM;
        if (r >= 0)
                r = number_row(t, "Orders:", s, "Orders");
        if (r >= 0)
                r = number_row(t, "Failed orders:", s, "FailedOrders");
        if (r >= 0)
                r = pages_row(t, "Promoted:", json_number(s, "PromotedPages"));
        if (r >= 0)
                r = pages_row(t, "Demoted:", json_number(s, "DemotedPages"));
        if (r >= 0)
                r = pages_row(t, "Skipped:", skipped_sum(skipped));
        if (r >= 0)
                r = skipped_rows(t, skipped);
        if (r >= 0)
                r = table_row(t, "Mover:", *json_text(s, "Mover") ? json_text(s, "Mover") : "-");
        if (r >= 0)
                r = table_row(t, "Tracking:",
                              *json_text(s, "TrackingState") ? json_text(s, "TrackingState") : "-");
        if (r >= 0)
                r = number_row(t, "Samples:", s, "TrackingEpochs");
        if (r >= 0)
                r = number_row(t, "Dropped samples:", s, "TrackingDropped");
        if (r >= 0)
                r = number_row(t, "Pages sighted:", s, "TrackingSightings");
        if (r >= 0)
                r = table_row(t, "Tracking cost:", cost);
        if (r < 0)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        return table_print(t, ctl->out);
}

static int run_explain(Ctl *ctl, const Args *args, Outcome *o) {
        uint64_t lines = args_number(args, "lines") ?: EXPLAIN_LINES;
        _cleanup_json_ json_object *decisions = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        r = client_find_domain(ctl, args_text(args, "domain"), &path, o);
        if (r >= 0)
                r = client_call(ctl, path, CLIENT_DOMAIN, "Explain", o, &decisions, "u", (uint32_t) lines);
        if (r < 0)
                return r;
        if (ctl->json) {
                json_print(decisions, ctl->out);
                return 0;
        }
        for (size_t i = 0; i < json_object_array_length(decisions); i++)
                fprintf(ctl->out, "%s\n", json_object_get_string(json_object_array_get_idx(decisions, i)));
        if (json_object_array_length(decisions) == 0 && !ctl->quiet)
                fputs("Nothing was decided for this domain yet.\n", ctl->out);
        return 0;
}

#define DOMAIN_OPTION \
        { "domain", OPTION_DOMAIN, OPTION_REQUIRED | OPTION_POSITIONAL, "name, id or UUID" }

const Verb verbs_observe[] = {
        {
                "heat",
                "show how hot a domain's pages are, per cell",
                "Shows a histogram for each cell of a running domain: how many pages have which heat. Heat "
                "counts, with "
                "decay, in how many samples a page was found written; 0 is cold.",
                { DOMAIN_OPTION,
                  { "watch", OPTION_TIME, 0, "again and again at this interval, until Ctrl-C" } },
                run_heat,
                0,
        },
        {
                "stats",
                "show what was moved, what was not, and what tracking costs",
                "Shows totals since hmvisord knows the domain: pages promoted to DRAM and demoted to slow "
                "memory as seen "
                "on their new node, pages that were skipped and why, and the time that tracking took in "
                "QEMU.",
                { DOMAIN_OPTION },
                run_stats,
                0,
        },
        {
                "explain",
                "say why the last moves were made, or not",
                "Shows the last decisions on a domain, oldest first, with the figures behind them.",
                { DOMAIN_OPTION, { "lines", OPTION_NUMBER, 0, "how many decisions (default: 10)" } },
                run_explain,
                0,
        },
        {
                "events",
                "wait for events and print them",
                "Prints the next event: changes of phase, orders, bindings, the connection to libvirt. With "
                "--loop it goes "
                "on until Ctrl-C. With --json each event is one line.",
                {
                        { "domain", OPTION_DOMAIN, OPTION_POSITIONAL, "of this domain only" },
                        { "loop", OPTION_FLAG, 0, "go on after the first event" },
                        { "timeout", OPTION_TIME, 0,
                          "end after this time; status 18 when nothing happened" },
                        { "event", OPTION_KIND, 0, "of this kind only" },
                },
                run_events,
                0,
        },
        {
                "metrics",
                "print all counters for Prometheus and the like",
                "Prints counters and sizes of the daemon and of all bound domains as OpenMetrics text. With "
                "--output it goes to a file, which is replaced as a whole. Where hmvisord does not run, the "
                "text says so, and the status is 15.",
                { { "output", OPTION_FILE, 0, "write it there, for node_exporter's textfile collector" } },
                run_metrics,
                VERB_NO_JSON,
        },
        { 0 },
};
