/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verbs of group "host": the tiers of the host, and the daemon itself.
 */
#include <inttypes.h>

#include "base/units.h"
#include "client.h"
#include "config.h"
#include "doctor.h"
#include "table.h"

static const char *number_or_dash(json_object *object, const char *key, const char *unit,
                                  char buf[static 40]) {
        uint64_t v = json_number(object, key);

        if (v == 0)
                return "-";
        snprintf(buf, 40, "%" PRIu64 "%s", v, unit);
        return buf;
}

static int run_tiers(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_(table_freep) Table *t =
                table_new(">Node|Tier|Known from|>Total|>Free|CPUs|>Latency|>Bandwidth|>Distance", 0);
        _cleanup_json_ json_object *nodes = NULL;
        bool suggested = false;
        int r;

        r = client_call(ctl, CLIENT_PATH, CLIENT_MANAGER, "GetTiers", o, &nodes, "");
        if (r < 0)
                return r;
        if (ctl->json) {
                json_print(nodes, ctl->out);
                return 0;
        }
        for (size_t i = 0; i < json_object_array_length(nodes); i++) {
                json_object *n = json_object_array_get_idx(nodes, i);
                char node[24], tier[16], total[SIZE_TEXT_MAX], room[SIZE_TEXT_MAX], latency[40],
                        bandwidth[40], distance[40];

                suggested |= json_flag(n, "Suggested");
                snprintf(node, sizeof(node), "%" PRIu64, json_number(n, "Node"));
                snprintf(tier, sizeof(tier), "%s%s", json_text(n, "Tier"),
                         json_flag(n, "Suggested") ? "?" : "");
                if (!t || table_row(t, node, tier, json_text(n, "Source"),
                                    size_format(total, json_number(n, "TotalBytes")),
                                    size_format(room, json_number(n, "FreeBytes")),
                                    *json_text(n, "CPUs") ? json_text(n, "CPUs") : "-",
                                    number_or_dash(n, "LatencyNSec", " ns", latency),
                                    number_or_dash(n, "BandwidthMiBPerSec", " MiB/s", bandwidth),
                                    number_or_dash(n, "Distance", "", distance)) < 0)
                        return outcome_set(o, OUTCOME_FAILED, "out of memory");
        }
        if (json_object_array_length(nodes) > 0)
                (void) table_print(t, ctl->out);
        if (suggested && !ctl->quiet)
                fputs("\n'?': a guess by distance, not used until [Tiers] in hmvisord.conf(5) says so.\n",
                      ctl->out);
        return 0;
}

static int run_version(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_json_ json_object *daemon = NULL, *j = NULL;
        int r;

        r = client_get_all(ctl, CLIENT_MANAGER, &daemon, o);
        if (r < 0) {   /* hmvctl's own version is known without the daemon */
                if (!ctl->json)
                        fprintf(ctl->out, "hmvctl:   %s\n", HMV_VERSION);
                return r;
        }
        if (ctl->json) {
                j = json_object_new_object();
                json_object_object_add(j, "Client", json_object_new_string(HMV_VERSION));
                json_object_object_add(j, "Daemon", json_object_get(daemon));
                json_print(j, ctl->out);
        } else
                fprintf(ctl->out, "hmvctl:   %s\nhmvisord: %s\nlibvirt:  %s\n", HMV_VERSION,
                        json_text(daemon, "Version"),
                        json_flag(daemon, "Connected") ? "connected" : "not connected");
        return 0;
}

const Verb verbs_host[] = {
        {
                "tiers",
                "show the host's memory nodes and their tiers",
                "Shows which NUMA nodes of the host are DRAM and which are slow memory, how hmvisord knows, "
                "and what "
                "they cost to reach. A tier with '?' is a guess that is not used until it is configured.",
                { { 0 } },
                run_tiers,
                0,
        },
        {
                "doctor",
                "look for what stands in the way, and say what to do",
                "Looks at the host, the daemon and all domains, and prints a line for each finding: ok, "
                "warning or problem, the thing, what is with it, and the remedy. Works without hmvisord, "
                "too, as far as the host's own files go. The status is 19 when there is a problem.",
                { { "root", OPTION_FILE, 0, "look for the host's files below this folder (for tests)" } },
                run_doctor,
                0,
        },
        {
                "version",
                "show versions of hmvctl and hmvisord",
                "Shows the versions of hmvctl and hmvisord, and whether hmvisord is connected to libvirt.",
                { { 0 } },
                run_version,
                0,
        },
        { 0 },
};
