/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See metrics.h. The text is OpenMetrics 1.0. Only counters, gauges and histograms are used, as those are
 * what Prometheus' older text format knows too, which node_exporter's textfile collector reads.
 *
 * Labels are bounded: a domain's name and UUID, a tier, a host node, and words of ours. Names come from
 * outside and are escaped.
 */
#include "metrics.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "client.h"
#include "config.h"


typedef struct Facts {
        bool up;                       /* the daemon answers; else there is nothing else */
        json_object *daemon;           /* properties of the manager */
        json_object *market, *holdings; /* holdings, tiers: NULL when they are not to be had */
        json_object *tiers;
        json_object *domains;          /* those that are bound */
        json_object *counted;          /* GetMetrics: of the daemon, of all domains */
        json_object *by_uuid;          /* the latter, by UUID */
} Facts;

typedef struct Family Family;
struct Family {
        const char *name, *type, *unit, *help;
        void (*print)(FILE *out, const Family *family, const Facts *facts);
        const char *key;
};

static void facts_done(Facts *f) {
        json_object_put(f->daemon);
        json_object_put(f->market);
        json_object_put(f->holdings);
        json_object_put(f->tiers);
        json_object_put(f->domains);
        json_object_put(f->counted);
        json_object_put(f->by_uuid);
}

/* ---- the text ---- */

static void print_escaped(FILE *out, const char *text) {
        for (; *text; text++)
                if (*text == '\n')
                        fputs("\\n", out);
                else {
                        if (*text == '"' || *text == '\\')
                                fputc('\\', out);
                        fputc(*text, out);
                }
}

/* The sample's name and labels up to what differs: "name_suffix{domain="…",uuid="…"". */
static void print_domain_labels(FILE *out, const Family *family, const char *suffix, json_object *domain) {
        fprintf(out, "%s%s{domain=\"", family->name, suffix);
        print_escaped(out, json_text(domain, "Name"));
        fputs("\",uuid=\"", out);
        print_escaped(out, json_text(domain, "UUID"));
        fputc('"', out);
}

static const char *suffix_of(const Family *family) {
        return streq(family->type, "counter") ? "_total" : "";
}

/* Not by printf: in some languages that writes a comma. */
static const char *seconds(char buf[static 40], uint64_t usec) {
        size_t n;

        snprintf(buf, 40, "%" PRIu64 ".%06" PRIu64, usec / USEC_PER_SEC, usec % USEC_PER_SEC);
        for (n = strlen(buf); buf[n - 1] == '0' && buf[n - 2] != '.'; n--)
                buf[n - 1] = 0;
        return buf;
}

/* ---- of the daemon and the host ---- */

static void print_up(FILE *out, const Family *family, const Facts *facts) {
        fprintf(out, "%s %d\n", family->name, facts->up);
}

static void print_build(FILE *out, const Family *family, const Facts *facts) {
        fprintf(out, "%s{version=\"", family->name);
        print_escaped(out, json_text(facts->daemon, "Version"));
        fputs("\"} 1\n", out);
}

static void print_connected(FILE *out, const Family *family, const Facts *facts) {
        fprintf(out, "%s %d\n", family->name, json_flag(facts->daemon, "Connected"));
}

static void print_process(FILE *out, const Family *family, const Facts *facts) {
        json_object *counted = json_object_array_get_idx(facts->counted, 0);
        uint64_t v = json_number(counted, family->key);
        char text[40];

        if (streq(family->type, "counter"))
                fprintf(out, "%s_total %s\n", family->name, seconds(text, v));
        else if (v > 0)
                fprintf(out, "%s %" PRIu64 "\n", family->name, v);
}

static void print_nodes(FILE *out, const Family *family, const Facts *facts) {
        for (size_t i = 0; facts->tiers && i < json_object_array_length(facts->tiers); i++) {
                json_object *n = json_object_array_get_idx(facts->tiers, i);

                if (!json_flag(n, "Suggested")) /* a guess is no tier */
                        fprintf(out, "%s{node=\"%" PRIu64 "\",tier=\"%s\"} %" PRIu64 "\n", family->name,
                                json_number(n, "Node"), json_text(n, "Tier"), json_number(n, family->key));
        }
}

/* ---- of each domain ---- */

#define FOR_EACH_DOMAIN(d, facts)                                                                           \
        for (size_t i_ = 0; i_ < json_object_array_length((facts)->domains); i_++)                          \
                for (json_object *d = json_object_array_get_idx((facts)->domains, i_); d; d = NULL)

static void print_number(FILE *out, const Family *family, const Facts *facts) {
        FOR_EACH_DOMAIN(d, facts) {
                print_domain_labels(out, family, suffix_of(family), d);
                fprintf(out, "} %" PRIu64 "\n", json_number(d, family->key));
        }
}

static void print_flag(FILE *out, const Family *family, const Facts *facts) {
        FOR_EACH_DOMAIN(d, facts) {
                print_domain_labels(out, family, "", d);
                fprintf(out, "} %d\n", json_flag(d, family->key));
        }
}

static void print_nsec(FILE *out, const Family *family, const Facts *facts) {
        char text[40];

        FOR_EACH_DOMAIN(d, facts) {
                print_domain_labels(out, family, suffix_of(family), d);
                fprintf(out, "} %s\n", seconds(text, json_number(d, family->key) / 1000));
        }
}

static void print_phases(FILE *out, const Family *family, const Facts *facts) {
        static const char *const phases[] = { "discovered", "probing", "observing", "managed", "degraded" };

        FOR_EACH_DOMAIN(d, facts)
                for (size_t i = 0; i < ELEMENTSOF(phases); i++) {
                        print_domain_labels(out, family, "", d);
                        fprintf(out, ",phase=\"%s\"} %d\n", phases[i],
                                streq(json_text(d, "Phase"), phases[i]));
                }
}

static const char *const tiers[] = { "dram", "slow" };

static void print_cells(FILE *out, const Family *family, const Facts *facts) {
        FOR_EACH_DOMAIN(d, facts) {
                json_object *cells = json_member(d, "Cells");

                for (size_t t = 0; t < ELEMENTSOF(tiers); t++) {
                        uint64_t sum = 0;

                        for (size_t i = 0; cells && i < json_object_array_length(cells); i++) {
                                json_object *c = json_object_array_get_idx(cells, i);

                                if (streq(json_text(c, "Tier"), tiers[t]))
                                        sum += json_number(c, family->key);
                        }
                        print_domain_labels(out, family, "", d);
                        fprintf(out, ",tier=\"%s\"} %" PRIu64 "\n", tiers[t], sum);
                }
        }
}

static void print_skipped(FILE *out, const Family *family, const Facts *facts) {
        FOR_EACH_DOMAIN(d, facts) {
                json_object *skipped = json_member(d, "SkippedPages");

                if (!json_object_is_type(skipped, json_type_object))
                        continue;
                json_object_object_foreach(skipped, reason, pages) {
                        print_domain_labels(out, family, "_total", d);
                        fputs(",reason=\"", out);
                        print_escaped(out, reason);
                        fprintf(out, "\"} %" PRIu64 "\n", json_object_get_uint64(pages));
                }
        }
}

/* What GetMetrics counted of a domain; NULL: it came or went in between. */
static json_object *counted_of(const Facts *facts, json_object *domain) {
        return json_member(facts->by_uuid, json_text(domain, "UUID"));
}

static void print_latency(FILE *out, const Family *family, const Facts *facts) {
        json_object *daemon = json_object_array_get_idx(facts->counted, 0);
        json_object *bounds = json_member(daemon, "OrderLatencyBoundsUSec");
        char text[40];

        FOR_EACH_DOMAIN(d, facts) {
                json_object *c = counted_of(facts, d), *counts = json_member(c, "OrderLatencyCounts");
                size_t n = counts ? json_object_array_length(counts) : 0;
                uint64_t sum = 0;

                if (!bounds || n != json_object_array_length(bounds) + 1)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        json_object *bound = json_object_array_get_idx(bounds, i);

                        sum += json_object_get_uint64(json_object_array_get_idx(counts, i));
                        print_domain_labels(out, family, "_bucket", d);
                        fprintf(out, ",le=\"%s\"} %" PRIu64 "\n",
                                bound ? seconds(text, json_object_get_uint64(bound)) : "+Inf", sum);
                }
                print_domain_labels(out, family, "_count", d);
                fprintf(out, "} %" PRIu64 "\n", sum);
                print_domain_labels(out, family, "_sum", d);
                fprintf(out, "} %s\n", seconds(text, json_number(c, "OrderLatencySumUSec")));
        }
}

/* ---- of the market ---- */

static void print_labelled(FILE *out, const Family *family, const Facts *facts, const char *label,
                           const char *const words[], const char *const keys[], size_t n) {
        FOR_EACH_DOMAIN(d, facts) {
                json_object *c = counted_of(facts, d);

                for (size_t i = 0; c && i < n; i++) {
                        print_domain_labels(out, family, suffix_of(family), d);
                        fprintf(out, ",%s=\"%s\"} %" PRIu64 "\n", label, words[i], json_number(c, keys[i]));
                }
        }
}

static void print_trades(FILE *out, const Family *family, const Facts *facts) {
        static const char *const results[] = { "whole", "partial", "nothing" };
        static const char *const keys[] = { "TradesWhole", "TradesPartial", "TradesNothing" };

        print_labelled(out, family, facts, "result", results, keys, ELEMENTSOF(keys));
}

static void print_bought(FILE *out, const Family *family, const Facts *facts) {
        static const char *const keys[] = { "BoughtDramBytes", "BoughtSlowBytes" };

        print_labelled(out, family, facts, "tier", tiers, keys, ELEMENTSOF(keys));
}

static void print_sold(FILE *out, const Family *family, const Facts *facts) {
        static const char *const keys[] = { "SoldDramBytes", "SoldSlowBytes" };

        print_labelled(out, family, facts, "tier", tiers, keys, ELEMENTSOF(keys));
}

static void print_holdings(FILE *out, const Family *family, const Facts *facts) {
        static const char *const names[] = { "Dram", "Slow" };

        for (size_t i = 0; facts->holdings && i < json_object_array_length(facts->holdings); i++) {
                json_object *h = json_object_array_get_idx(facts->holdings, i);

                for (size_t t = 0; t < ELEMENTSOF(tiers); t++) {
                        char key[40];

                        snprintf(key, sizeof(key), "%s%sBytes", family->key, names[t]);
                        if (!json_member(h, key))   /* no account */
                                continue;
                        print_domain_labels(out, family, "", h);
                        fprintf(out, ",tier=\"%s\"} %" PRIu64 "\n", tiers[t], json_number(h, key));
                }
        }
}

static void print_market_flag(FILE *out, const Family *family, const Facts *facts) {
        bool on = streq(family->key, "Reason") ? *json_text(facts->market, "Reason") != 0
                                               : json_flag(facts->market, family->key);

        fprintf(out, "%s %d\n", family->name, on);
}

static void print_market_tiers(FILE *out, const Family *family, const Facts *facts) {
        static const char *const names[] = { "Dram", "Slow" };

        for (size_t t = 0; t < ELEMENTSOF(tiers); t++) {
                bool lot = streq(family->key, "Lot");
                char key[40];

                snprintf(key, sizeof(key), "%s%s%s", lot ? "Lot" : "", names[t],
                         lot ? "Bytes" : family->key);
                fprintf(out, "%s{tier=\"%s\"} %" PRIu64 "\n", family->name, tiers[t],
                        json_number(facts->market, key));
        }
}

static void print_market_number(FILE *out, const Family *family, const Facts *facts) {
        fprintf(out, "%s%s %" PRIu64 "\n", family->name, suffix_of(family),
                json_number(facts->market, family->key));
}

static const Family families[] = {
        { "hmvisor_up", "gauge", NULL, "Whether hmvisord answers; if not, there is nothing else.", print_up,
          NULL },
        { "hmvisor_build_info", "gauge", NULL, "The version of hmvisord.", print_build, NULL },
        { "hmvisor_libvirt_connected", "gauge", NULL, "Whether hmvisord is connected to libvirt.",
          print_connected, NULL },
        { "hmvisor_process_resident_memory_bytes", "gauge", "bytes", "Memory of hmvisord.", print_process,
          "MemoryBytes" },
        { "hmvisor_process_cpu_seconds", "counter", "seconds", "Processor time of hmvisord.", print_process,
          "CPUUSec" },
        { "hmvisor_node_memory_bytes", "gauge", "bytes", "Memory of a host node of a known tier.",
          print_nodes, "TotalBytes" },
        { "hmvisor_node_free_bytes", "gauge", "bytes", "Free memory of a host node of a known tier.",
          print_nodes, "FreeBytes" },

        { "hmvisor_domain_managed", "gauge", NULL, "Whether pages of the domain shall be moved.", print_flag,
          "Managed" },
        { "hmvisor_domain_phase", "gauge", NULL, "1 for the phase that the domain is in.", print_phases,
          NULL },
        { "hmvisor_domain_memory_bytes", "gauge", "bytes", "Memory of the domain's cells.", print_cells,
          "SizeBytes" },
        { "hmvisor_orders", "counter", NULL, "Orders to move pages.", print_number, "Orders" },
        { "hmvisor_failed_orders", "counter", NULL, "Orders that were not completed.", print_number,
          "FailedOrders" },
        { "hmvisor_order_latency_seconds", "histogram", "seconds",
          "From an order sent to its end known, by the host's clock.", print_latency, NULL },
        { "hmvisor_promoted_pages", "counter", "pages", "Pages moved to DRAM.", print_number,
          "PromotedPages" },
        { "hmvisor_demoted_pages", "counter", "pages", "Pages moved to slow memory.", print_number,
          "DemotedPages" },
        { "hmvisor_skipped_pages", "counter", "pages", "Pages that the guest did not move, by reason.",
          print_skipped, NULL },
        { "hmvisor_tracking_samples", "counter", NULL, "Samples of which pages were written.", print_number,
          "TrackingEpochs" },
        { "hmvisor_tracking_dropped_samples", "counter", NULL, "Samples that could not be taken.",
          print_number, "TrackingDropped" },
        { "hmvisor_tracking_sightings", "counter", NULL,
          "Pages found written, in all samples; each had cost the guest a fault.", print_number,
          "TrackingSightings" },
        { "hmvisor_tracking_seconds", "counter", "seconds", "Time that tracking took inside QEMU.",
          print_nsec, "TrackingCostNSec" },

        { "hmvisor_market_enabled", "gauge", NULL, "Whether the market is on.", print_market_flag,
          "Enabled" },
        { "hmvisor_market_halted", "gauge", NULL, "Whether the market stands still, for a fault.",
          print_market_flag, "Reason" },
        { "hmvisor_market_price", "gauge", NULL, "Price of a tier's memory; only their ratio counts.",
          print_market_tiers, "Price" },
        { "hmvisor_market_lot_bytes", "gauge", "bytes", "The least trade.", print_market_tiers, "Lot" },
        { "hmvisor_market_capacity_bytes", "gauge", "bytes", "What domains of the market may hold.",
          print_market_tiers, "Bytes" },
        { "hmvisor_market_epochs", "counter", NULL, "Clearings.", print_market_number, "Epoch" },
        { "hmvisor_trades", "counter", NULL, "Trades that ended, by what came of them.", print_trades,
          NULL },
        { "hmvisor_bought_bytes", "counter", "bytes", "Memory that the domain bought.", print_bought, NULL },
        { "hmvisor_sold_bytes", "counter", "bytes", "Memory that the domain sold.", print_sold, NULL },
        { "hmvisor_entitled_bytes", "gauge", "bytes", "Memory that the domain is entitled to.",
          print_holdings, "Entitled" },
        { "hmvisor_owned_bytes", "gauge", "bytes", "Memory that the domain owns by its trades.",
          print_holdings, "Owned" },
};

static void metrics_print(FILE *out, const Facts *facts) {
        for (size_t i = 0; i < ELEMENTSOF(families); i++) {
                const Family *f = &families[i];

                if (!facts->up && f->print != print_up)
                        continue;
                fprintf(out, "# TYPE %s %s\n", f->name, f->type);
                if (f->unit)
                        fprintf(out, "# UNIT %s %s\n", f->name, f->unit);
                fprintf(out, "# HELP %s %s\n", f->name, f->help);
                f->print(out, f, facts);
        }
        fputs("# EOF\n", out);
}

/* ---- getting it, and where it goes ---- */

static int get_bound(Ctl *ctl, json_object **ret, Outcome *o) {
        _cleanup_json_ json_object *all = NULL, *bound = json_object_new_array();
        int r;

        r = client_list_domains(ctl, &all, o);
        if (r < 0)
                return r;
        for (size_t i = 0; i < json_object_array_length(all); i++) {
                json_object *d = json_object_array_get_idx(all, i);

                if (json_flag(d, "Bound") && json_object_array_add(bound, json_object_get(d)) < 0)
                        return outcome_set(o, OUTCOME_FAILED, "out of memory");
        }
        *ret = TAKE_PTR(bound);
        return 0;
}

static int get_counted(Ctl *ctl, Facts *ret, Outcome *o) {
        json_object *list;
        int r;

        r = client_call(ctl, CLIENT_PATH, CLIENT_MANAGER, "GetMetrics", o, &ret->counted, "");
        if (r < 0)
                return r;
        list = json_object_array_get_idx(ret->counted, 1);
        ret->by_uuid = json_object_new_object();
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *c = json_object_array_get_idx(list, i);

                if (!ret->by_uuid ||
                    json_object_object_add(ret->by_uuid, json_text(c, "UUID"), json_object_get(c)) < 0)
                        return outcome_set(o, OUTCOME_FAILED, "out of memory");
        }
        return 0;
}

static int facts_get(Ctl *ctl, Facts *ret, Outcome *o) {
        _cleanup_message_ sd_bus_message *list = NULL;
        Outcome missing = { 0 };
        int r;

        r = client_get_all(ctl, CLIENT_MANAGER, &ret->daemon, o);
        if (r >= 0)
                r = client_get_all(ctl, CLIENT_MARKET, &ret->market, o);
        if (r >= 0)
                r = get_bound(ctl, &ret->domains, o);
        if (r >= 0)
                r = get_counted(ctl, ret, o);
        if (r < 0)
                return r;
        /* Without these there is less to print: a host without tiers, a user who may not read the market. */
        (void) client_call(ctl, CLIENT_PATH, CLIENT_MANAGER, "GetTiers", &missing, &ret->tiers, "");
        if (client_new_call(ctl, CLIENT_PATH, CLIENT_MARKET, "List", &list, &missing) >= 0 &&
            sd_bus_message_set_allow_interactive_authorization(list, false) >= 0) /* that asks nobody */
                (void) client_send(ctl, list, &missing, &ret->holdings);
        ret->up = true;
        return 0;
}

/* Who reads the file finds the old text or the new one, whole. Its name beside is none that a collector
 * takes. */
static int file_replace(const char *path, const char *text, size_t size, Outcome *o) {
        _cleanup_free_ char *beside = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r = 0;

        if (asprintf(&beside, "%s.XXXXXX", path) < 0)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        fd = mkostemp(beside, O_CLOEXEC);
        if (fd < 0)
                return outcome_set(o, OUTCOME_FAILED, "cannot write beside '%s': %s", path, strerror(errno));
        for (size_t done = 0; r >= 0 && done < size;) {
                ssize_t n = write(fd, text + done, size - done);

                if (n > 0)
                        done += (size_t) n;
                else if (n == 0 || errno != EINTR)
                        r = n == 0 ? -EIO : -errno;
        }
        if (r >= 0 && (fchmod(fd, 0644) < 0 || rename(beside, path) < 0))
                r = -errno;
        if (r >= 0)
                return 0;
        (void) unlink(beside);
        return outcome_set(o, OUTCOME_FAILED, "cannot write '%s': %s", path, strerror(-r));
}

int run_metrics(Ctl *ctl, const Args *args, Outcome *o) {
        const char *path = args_text(args, "output");
        _cleanup_(facts_done) Facts facts = { 0 };
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        FILE *f;
        int got, r;

        got = facts_get(ctl, &facts, o);
        if (got < 0 && o->code != OUTCOME_NO_DAEMON)
                return got;
        f = open_memstream(&text, &size);
        if (!f)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        metrics_print(f, &facts);
        if (fclose(f) != 0)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        r = path ? file_replace(path, text, size, o) : 0;
        if (!path)
                fwrite(text, 1, size, ctl->out);
        return r < 0 ? r : got;
}
