/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See doctor.h. What the daemon knows, and how findings are told.
 */
#include "doctor.h"

#include <inttypes.h>
#include <stdarg.h>

#include "base/units.h"
#include "client.h"
#include "config.h"
#include "table.h"


static const char *const states[_FINDING_STATE_MAX] = { "ok", "warning", "problem" };

void finding_add(Findings *f, FindingState state, const char *what, const char *remedy, const char *format,
                 ...) {
        json_object *j = json_object_new_object();
        char text[600];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        for (char *p = text; *p; p++) /* one line, whatever a guest said */
                if (*p == '\n' || *p == '\t')
                        *p = ' ';
        f->n[state]++;
        if (!j || json_object_object_add(j, "State", json_object_new_string(states[state])) < 0 ||
            json_object_object_add(j, "What", json_object_new_string(what)) < 0 ||
            json_object_object_add(j, "Finding", json_object_new_string(text)) < 0 ||
            json_object_object_add(j, "Remedy", json_object_new_string(remedy ?: "")) < 0 ||
            json_object_array_add(f->list, j) < 0) {
                json_object_put(j);
                f->failed = true;
        }
}

/* ---- the daemon ---- */

static void check_daemon(Findings *f, json_object *daemon, const Outcome *o) {
        const char *version = json_text(daemon, "Version");

        if (!daemon) {
                finding_add(f, FINDING_PROBLEM, "hmvisord", NULL, "%s", o->text);
                return;
        }
        if (!streq(version, HMV_VERSION))
                finding_add(f, FINDING_WARNING, "hmvisord", "systemctl restart hmvisord",
                            "it is version %s, and hmvctl is %s", version, HMV_VERSION);
        else
                finding_add(f, FINDING_OK, "hmvisord", NULL, "version %s answers", version);
        if (!json_flag(daemon, "Connected"))
                finding_add(f, FINDING_PROBLEM, "connection",
                            "see 'systemctl status libvirtd virtqemud', and that user hmvisor is in group "
                            "libvirt",
                            "hmvisord cannot reach libvirt");
        else
                finding_add(f, FINDING_OK, "connection", NULL, "hmvisord is connected to libvirt");
        if (json_flag(daemon, "DryRun"))
                finding_add(f, FINDING_WARNING, "dry run", "set DryRun=no in hmvisord.conf(5)",
                            "hmvisord decides and explains, and moves nothing");
}

static void check_tiers(Findings *f, json_object *nodes) {
        char known[200] = "", guessed[64] = "";
        size_t n = json_object_array_length(nodes), used = 0, used_guessed = 0;
        bool slow = false;

        for (size_t i = 0; i < n; i++) {
                json_object *node = json_object_array_get_idx(nodes, i);
                uint64_t id = json_number(node, "Node");

                if (json_flag(node, "Suggested")) {
                        if (used_guessed < sizeof(guessed))
                                used_guessed += (size_t) snprintf(guessed + used_guessed,
                                                                  sizeof(guessed) - used_guessed,
                                                                  "%s%" PRIu64, used_guessed ? "," : "", id);
                        continue;
                }
                slow |= streq(json_text(node, "Tier"), "slow");
                if (used < sizeof(known))
                        used += (size_t) snprintf(known + used, sizeof(known) - used,
                                                  "%snode %" PRIu64 " is %s (%s)", used ? ", " : "", id,
                                                  json_text(node, "Tier"), json_text(node, "Source"));
        }
        if (*guessed)
                finding_add(f, slow ? FINDING_WARNING : FINDING_PROBLEM, "tiers",
                            "say so below [Tiers] in /etc/hmvisor/hmvisord.conf, then 'systemctl reload "
                            "hmvisord'",
                            "node %s looks slow by its distance alone, and is not used", guessed);
        else if (!slow)
                finding_add(f, FINDING_PROBLEM, "tiers",
                            "make CXL memory or NVDIMMs a node by daxctl-reconfigure-device(1), or name the "
                            "node below [Tiers] in hmvisord.conf(5)",
                            "no node is slow memory: %s", *known ? known : "there are none");
        if (slow)
                finding_add(f, FINDING_OK, "tiers", NULL, "%s", known);
}

static void check_market(Findings *f, json_object *market) {
        const char *reason = json_text(market, "Reason");

        if (!json_flag(market, "Enabled"))
                finding_add(f, FINDING_OK, "market", NULL, "it is off");
        else if (*reason)
                finding_add(f, FINDING_PROBLEM, "market", NULL, "it stands still: %s", reason);
        else
                finding_add(f, FINDING_OK, "market", NULL, "it is on, and its journal is written");
}

/* ---- domains ---- */

static void check_agent(Findings *f, json_object *d, const char *what) {
        const char *version = json_text(d, "AgentVersion"), *policy = json_text(d, "AgentOnlinePolicy");

        if (!*version)
                finding_add(f, FINDING_WARNING, what, "install hmvisor-guest-agent in it",
                            "no agent of ours has answered from the guest, so no pages can be moved");
        else if (*policy && !streq(policy, "online_movable"))
                finding_add(
                        f, FINDING_WARNING, what,
                        "in the guest: echo online_movable > "
                        "/sys/devices/system/memory/auto_online_blocks, and memhp_default_state= at boot",
                        "its kernel brings plugged memory online as '%s', so it may not come back", policy);
}

static void check_cells(Findings *f, json_object *d, const char *what) {
        json_object *cells = json_member(d, "Cells");

        for (size_t i = 0; cells && i < json_object_array_length(cells); i++) {
                json_object *c = json_object_array_get_idx(cells, i);

                if (json_number(c, "DeviceMaxBytes") == 0)
                        finding_add(f, FINDING_WARNING, what,
                                    "unbind it, and bind it again with --max-dram and --max-slow",
                                    "cell %" PRIu64 " has no memory device: its size cannot change",
                                    json_number(c, "Cell"));
        }
}

static void check_domain(Findings *f, json_object *d) {
        unsigned before = f->n[FINDING_WARNING] + f->n[FINDING_PROBLEM];
        const char *reason = json_text(d, "Reason"), *phase = json_text(d, "Phase");
        bool runs = json_object_get_int(json_member(d, "Id")) >= 0;
        char what[300];

        snprintf(what, sizeof(what), "domain %s", json_text(d, "Name"));
        if (!json_flag(d, "Bound")) {
                finding_add(f, FINDING_OK, what, NULL, "it is not bound, and left alone");
                return;
        }
        if (streq(phase, "degraded"))
                finding_add(f, FINDING_PROBLEM, what, NULL, "it is degraded: %s", reason);
        check_cells(f, d, what);
        if (runs && !streq(phase, "degraded")) {
                check_agent(f, d, what);
                if (streq(json_text(d, "TrackingState"), "blocked"))
                        finding_add(f, FINDING_WARNING, what, NULL, "%s",
                                    *reason ? reason : "its tracking waits for another user of it to end");
        }
        if (before == f->n[FINDING_WARNING] + f->n[FINDING_PROBLEM])
                finding_add(f, FINDING_OK, what, NULL, "%s%s%s", runs ? phase : "it is bound, and off",
                            runs && *reason ? ": " : "", runs ? reason : "");
}

/* Returns whether the daemon told the tiers. */
static bool check_by_daemon(Findings *f, Ctl *ctl) {
        _cleanup_json_ json_object *daemon = NULL, *nodes = NULL, *market = NULL, *domains = NULL;
        Outcome o = { 0 };

        (void) client_get_all(ctl, CLIENT_MANAGER, &daemon, &o);
        check_daemon(f, daemon, &o);
        if (!daemon)
                return false;
        if (client_call(ctl, CLIENT_PATH, CLIENT_MANAGER, "GetTiers", &o, &nodes, "") >= 0)
                check_tiers(f, nodes);
        else
                finding_add(f, FINDING_PROBLEM, "tiers", NULL, "%s", o.text);
        if (client_get_all(ctl, CLIENT_MARKET, &market, &o) >= 0)
                check_market(f, market);
        else
                finding_add(f, FINDING_PROBLEM, "market", NULL, "%s", o.text);
        if (client_list_domains(ctl, &domains, &o) >= 0)
                for (size_t i = 0; i < json_object_array_length(domains); i++)
                        check_domain(f, json_object_array_get_idx(domains, i));
        else
                finding_add(f, FINDING_PROBLEM, "domains", NULL, "%s", o.text);
        return true;
}

/* ---- the verb ---- */

static void findings_print(Ctl *ctl, const Findings *f) {
        for (size_t i = 0; i < json_object_array_length(f->list); i++) {
                json_object *j = json_object_array_get_idx(f->list, i);
                const char *remedy = json_text(j, "Remedy");

                if (ctl->quiet && streq(json_text(j, "State"), states[FINDING_OK]))
                        continue;
                fprintf(ctl->out, "%-8s %s: %s%s%s\n", json_text(j, "State"), json_text(j, "What"),
                        json_text(j, "Finding"), *remedy ? "; " : "", remedy);
        }
}

int run_doctor(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_json_ json_object *list = json_object_new_array();
        Findings f = { .list = list };
        bool told;

        if (!list)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        if (ctl->host && args_text(args, "root"))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "-H and --root exclude each other");
        told = check_by_daemon(&f, ctl);
        if (!ctl->host)   /* of another one we see no files */
                doctor_check_host(&f, args_text(args, "root") ?: "", !told);
        if (f.failed)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        if (ctl->json)
                json_print(list, ctl->out);
        else
                findings_print(ctl, &f);
        if (f.n[FINDING_PROBLEM] == 0)
                return 0;
        return outcome_set(o, OUTCOME_PROBLEM, "doctor found %u %s", f.n[FINDING_PROBLEM],
                           f.n[FINDING_PROBLEM] == 1 ? "problem" : "problems");
}
