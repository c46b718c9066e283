/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verbs of group "domain": see domains, bind them, and have them managed.
 */
#include <inttypes.h>

#include "base/units.h"
#include "client.h"
#include "table.h"

/* "256 MiB", of a number member; "-" when the object does not have it. */
static const char *size_of(json_object *object, const char *key, char buf[static SIZE_TEXT_MAX]) {
        return json_member(object, key) ? size_format(buf, json_number(object, key)) : "-";
}

static const char *id_of(json_object *domain, char buf[static 16]) {
        int id = json_object_get_int(json_member(domain, "Id"));

        if (id < 0)
                return "-";
        snprintf(buf, 16, "%d", id);
        return buf;
}

static const char *tier_size(json_object *domain, const char *tier, char buf[static SIZE_TEXT_MAX]) {
        json_object *cells = json_member(domain, "Cells");
        uint64_t sum = 0;
        bool any = false;

        for (size_t i = 0; cells && i < json_object_array_length(cells); i++) {
                json_object *cell = json_object_array_get_idx(cells, i);

                if (streq(json_text(cell, "Tier"), tier)) {
                        sum += json_number(cell, "SizeBytes");
                        any = true;
                }
        }
        return any && json_flag(domain, "Bound") ? size_format(buf, sum) : "-";
}

static int run_list(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_(table_freep) Table *t = table_new(">Id|Name|Phase|Managed|>DRAM|>Slow", 0);
        _cleanup_json_ json_object *domains = NULL;
        int r;

        r = client_list_domains(ctl, &domains, o);
        if (r < 0)
                return r;
        if (ctl->json && !args_flag(args, "name")) {
                json_print(domains, ctl->out);
                return 0;
        }
        for (size_t i = 0; i < json_object_array_length(domains); i++) {
                json_object *d = json_object_array_get_idx(domains, i);
                char id[16], dram[SIZE_TEXT_MAX], slow[SIZE_TEXT_MAX];

                if (args_flag(args, "name"))
                        fprintf(ctl->out, "%s\n", json_text(d, "Name"));
                else if (!t || table_row(t, id_of(d, id), json_text(d, "Name"), json_text(d, "Phase"),
                                         json_flag(d, "Managed") ? "yes" : "no", tier_size(d, "dram", dram),
                                         tier_size(d, "slow", slow)) < 0)
                        return outcome_set(o, OUTCOME_FAILED, "out of memory");
        }
        if (!args_flag(args, "name") && json_object_array_length(domains) > 0)
                return table_print(t, ctl->out);
        return 0;
}

static int get_domain(Ctl *ctl, const Args *args, char **ret_path, json_object **ret, Outcome *o) {
        int r;

        r = client_find_domain(ctl, args_text(args, "domain"), ret_path, o);
        return r < 0 ? r : client_get_domain(ctl, *ret_path, ret, o);
}

static int print_cells(Ctl *ctl, json_object *cells, Outcome *o) {
        _cleanup_(table_freep) Table *t =
                table_new(">Cell|Tier|Host nodes|>Size|>Boot|>Device|>Device max|>Guest free", 0);
        int r = t ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < json_object_array_length(cells); i++) {
                json_object *c = json_object_array_get_idx(cells, i);
                char cell[24], size[SIZE_TEXT_MAX], boot[SIZE_TEXT_MAX], device[SIZE_TEXT_MAX],
                        max[SIZE_TEXT_MAX], room[SIZE_TEXT_MAX];

                snprintf(cell, sizeof(cell), "%" PRIu64, json_number(c, "Cell"));
                r = table_row(t, cell, json_text(c, "Tier"),
                              json_flag(c, "Bound") ? json_text(c, "HostNodes") : "any",
                              size_of(c, "SizeBytes", size), size_of(c, "BootBytes", boot),
                              size_of(c, "DeviceCurrentBytes", device), size_of(c, "DeviceMaxBytes", max),
                              size_of(c, "GuestFreeBytes", room));
        }
        if (r < 0)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        return table_print(t, ctl->out);
}

static const char *text_or_dash(json_object *object, const char *key) {
        return *json_text(object, key) ? json_text(object, key) : "-";
}

/* Where the guest's kernel has its own data, and what that means: nobody can move them. "" if not known. */
static const char *kernel_data_of(json_object *d, char text[static 192]) {
        json_object *node = json_member(d, "AgentKernelNode"), *cells = json_member(d, "Cells");

        text[0] = '\0';
        for (size_t i = 0; node && cells && i < json_object_array_length(cells); i++) {
                json_object *c = json_object_array_get_idx(cells, i);

                if (json_object_get_int64(node) != (int64_t) json_number(c, "Cell"))
                        continue;
                snprintf(text, 192, "cell %" PRIu64 "%s", json_number(c, "Cell"),
                         streq(json_text(c, "Tier"), "slow")
                                 ? ", slow, by chance of this boot (remedy: 'nokaslr' in the guest, or a "
                                   "small --min-slow)"
                                 : "");
        }
        return text;
}

static int run_info(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_(table_freep) Table *t = table_new("Key|Value", TABLE_NO_HEADINGS);
        _cleanup_json_ json_object *d = NULL;
        _cleanup_free_ char *path = NULL;
        json_object *cells;
        char id[16], tracking[64] = "-", kernel_data[192];
        int r;

        r = get_domain(ctl, args, &path, &d, o);
        if (r < 0)
                return r;
        if (ctl->json) {
                json_print(d, ctl->out);
                return 0;
        }
        if (*json_text(d, "TrackingState"))
                snprintf(tracking, sizeof(tracking), "%s%s, by the %s", json_text(d, "TrackingState"),
                         streq(json_text(d, "TrackingScope"), "slow") ? ", slow memory only" : "",
                         text_or_dash(d, "TrackingLog"));
        r = t ? table_row(t, "Name:", json_text(d, "Name")) : -ENOMEM;
        if (r >= 0)
                r = table_row(t, "UUID:", json_text(d, "UUID"));
        if (r >= 0)
                r = table_row(t, "Id:", id_of(d, id));
        if (r >= 0)
                r = table_row(t, "Phase:", json_text(d, "Phase"));
        if (r >= 0 && *json_text(d, "Reason"))
                r = table_row(t, "Reason:", json_text(d, "Reason"));
        if (r >= 0)
                r = table_row(t, "Bound:", json_flag(d, "Bound") ? "yes" : "no");
        if (r >= 0)
                r = table_row(t, "Managed:", json_flag(d, "Managed") ? "yes" : "no");
        if (r >= 0)
                r = table_row(t, "Policy:", text_or_dash(d, "Policy"));
        if (r >= 0)
                r = table_row(t, "Tracking:", tracking);
        if (r >= 0)
                r = table_row(t, "Agent:", text_or_dash(d, "AgentVersion"));
        if (r >= 0)
                r = table_row(t, "Guest kernel:", text_or_dash(d, "AgentKernel"));
        if (r >= 0 && *kernel_data_of(d, kernel_data))
                r = table_row(t, "Kernel data:", kernel_data);
        if (r < 0)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        r = table_print(t, ctl->out);
        cells = json_member(d, "Cells");
        if (r >= 0 && cells && json_object_array_length(cells) > 0) {
                fputc('\n', ctl->out);
                r = print_cells(ctl, cells, o);
        }
        return r;
}

/* {"Domain": …, "DryRun": …, "Diff": …}, or the diff and a sentence. */
static int report_diff(Ctl *ctl, const Args *args, json_object *diff, const char *state) {
        bool dry_run = args_flag(args, "dry-run");
        const char *domain = args_text(args, "domain");

        if (ctl->json) {
                _cleanup_json_ json_object *j = json_object_new_object();

                json_object_object_add(j, "Domain", json_object_new_string(domain));
                json_object_object_add(j, "DryRun", json_object_new_boolean(dry_run));
                json_object_object_add(j, "Diff", json_object_get(diff));
                json_print(j, ctl->out);
        } else if (dry_run)
                fputs(json_object_get_string(diff) ?: "", ctl->out);
        else if (!ctl->quiet)
                fprintf(ctl->out,
                        "Domain '%s' is %s. It takes effect when the domain starts the next time.\n", domain,
                        state);
        return 0;
}

/* {sv} with a flag or a size; sizes of 0 are left out. */
static int append_size(sd_bus_message *m, const char *key, uint64_t bytes) {
        return bytes > 0 ? sd_bus_message_append(m, "{sv}", key, "t", bytes) : 0;
}

static const struct {
        const char *key, *option;
} bind_sizes[] = {
        { "DramBytes", "dram" },         { "SlowBytes", "slow" },         { "MaxDramBytes", "max-dram" },
        { "MaxSlowBytes", "max-slow" },  { "MinDramBytes", "min-dram" },  { "MinSlowBytes", "min-slow" },
};

static int call_with_options(Ctl *ctl, const Args *args, const char *member, bool sizes, json_object **ret,
                             Outcome *o) {
        _cleanup_message_ sd_bus_message *m = NULL;
        int r;

        r = client_new_call(ctl, CLIENT_PATH, CLIENT_MANAGER, member, &m, o);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", args_text(args, "domain"));
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "DryRun", "b", args_flag(args, "dry-run"));
        for (size_t i = 0; r >= 0 && sizes && i < ELEMENTSOF(bind_sizes); i++)
                r = append_size(m, bind_sizes[i].key, args_size(args, bind_sizes[i].option));
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r < 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "an argument cannot be sent by D-Bus: %s",
                                   strerror(-r));
        return client_send(ctl, m, o, ret);
}

static int run_bind(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_json_ json_object *diff = NULL;
        int r;

        r = call_with_options(ctl, args, "Bind", true, &diff, o);
        return r < 0 ? r : report_diff(ctl, args, diff, "bound");
}

static int run_unbind(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_json_ json_object *diff = NULL;
        int r;

        r = call_with_options(ctl, args, "Unbind", false, &diff, o);
        return r < 0 ? r : report_diff(ctl, args, diff, "as it was before bind");
}

/* "256 MiB on node 0, 4 KiB on node 1" */
static void describe_places(json_object *cell, char *buf, size_t size) {
        json_object *bytes = json_member(cell, "bytes");
        size_t used = 0;

        snprintf(buf, size, "none");
        if (!json_object_is_type(bytes, json_type_object))
                return;
        json_object_object_foreach(bytes, node, value) {
                char text[SIZE_TEXT_MAX];
                int n = snprintf(buf + used, size - used, "%s%s on node %s", used > 0 ? ", " : "",
                                 size_format(text, json_object_get_uint64(value)), node);

                if (n < 0 || (size_t) n >= size - used)
                        return;
                used += (size_t) n;
        }
}

static int run_verify(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_(table_freep) Table *t = table_new(">Cell|Tier|Expected|Found|OK", 0);
        _cleanup_json_ json_object *answer = NULL, *report = NULL;
        _cleanup_free_ char *path = NULL;
        json_object *cells;
        char places[512];
        int r;

        r = client_find_domain(ctl, args_text(args, "domain"), &path, o);
        if (r >= 0)
                r = client_call(ctl, path, CLIENT_DOMAIN, "Verify", o, &answer, "");
        if (r < 0)
                return r;
        report = json_tokener_parse(json_object_get_string(answer));
        cells = json_member(report, "cells");
        if (!json_object_is_type(cells, json_type_array))
                return outcome_set(o, OUTCOME_FAILED, "hmvisord's report on domain '%s' cannot be read",
                                   args_text(args, "domain"));
        for (size_t i = 0; !ctl->json && i < json_object_array_length(cells); i++) {
                json_object *c = json_object_array_get_idx(cells, i);
                char cell[24], expected[80];

                snprintf(cell, sizeof(cell), "%" PRIu64, json_number(c, "cell"));
                snprintf(expected, sizeof(expected), "node %s", json_text(c, "expected"));
                describe_places(c, places, sizeof(places));
                if (!t || table_row(t, cell, json_text(c, "tier"), expected, places,
                                    json_flag(c, "ok") ? "yes" : "NO") < 0)
                        return outcome_set(o, OUTCOME_FAILED, "out of memory");
        }
        if (ctl->json)
                json_print(report, ctl->out);
        else
                (void) table_print(t, ctl->out);

        for (size_t i = 0; i < json_object_array_length(cells); i++) {
                json_object *c = json_object_array_get_idx(cells, i);

                describe_places(c, places, sizeof(places));
                if (!json_flag(c, "ok"))
                        return outcome_set(
                                o, OUTCOME_MISPLACED,
                                "cell %" PRIu64 " of domain '%s' should be on node %s and is "
                                "not: %s; restart the domain, as memory is placed when it is first used",
                                json_number(c, "cell"), args_text(args, "domain"), json_text(c, "expected"),
                                places);
        }
        return json_flag(report, "ok")
                       ? 0
                       : outcome_set(o, OUTCOME_MISPLACED, "domain '%s' is not where it should be",
                                     args_text(args, "domain"));
}

static int manage(Ctl *ctl, const Args *args, bool on, Outcome *o) {
        bool live = args_flag(args, "live"), config = args_flag(args, "config");
        const char *domain = args_text(args, "domain");
        _cleanup_json_ json_object *d = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        r = get_domain(ctl, args, &path, &d, o);
        if (r < 0)
                return r;
        if (!live && !config) {
                config = true;
                live = json_object_get_int(json_member(d, "Id")) >= 0;
        }
        r = client_call(ctl, path, CLIENT_DOMAIN, on ? "Manage" : "Unmanage", o, NULL, "bb", live, config);
        if (r < 0)
                return r;
        if (ctl->json) {
                _cleanup_json_ json_object *j = json_object_new_object();

                json_object_object_add(j, "Domain", json_object_new_string(domain));
                json_object_object_add(j, "Managed", json_object_new_boolean(on));
                json_object_object_add(j, "Live", json_object_new_boolean(live));
                json_object_object_add(j, "Config", json_object_new_boolean(config));
                json_print(j, ctl->out);
        } else if (!ctl->quiet) {
                fprintf(ctl->out, "Domain '%s' is %smanaged %s.\n", domain, on ? "" : "not ",
                        live && config ? "now and when it starts again"
                        : live         ? "until it stops"
                                       : "when it starts again");
                if (on && !json_flag(d, "Bound"))
                        fputs("It is not bound, so nothing is moved until it is: 'hmvctl bind', then power "
                              "it off and on.\n",
                              ctl->out);
        }
        return 0;
}

static int run_manage(Ctl *ctl, const Args *args, Outcome *o) {
        return manage(ctl, args, true, o);
}

static int run_unmanage(Ctl *ctl, const Args *args, Outcome *o) {
        return manage(ctl, args, false, o);
}

#define DOMAIN_OPTION \
        { "domain", OPTION_DOMAIN, OPTION_REQUIRED | OPTION_POSITIONAL, "name, id or UUID" }
#define WHEN_OPTIONS                                                        \
        { "live", OPTION_FLAG, 0, "for the running domain only" },          \
        { "config", OPTION_FLAG, 0, "for later starts of the domain only" }
#define WHEN_DEFAULT "Without --live and --config: both, or --config alone when the domain is off."

const Verb verbs_domain[] = {
        {
                "list",
                "list domains, their phase and their memory",
                "Lists all domains of libvirt with what hmvisord does with them. DRAM and Slow are the "
                "sizes of the "
                "cells of each tier now; '-' stands for a domain that is not bound.",
                { { "name", OPTION_FLAG, 0, "print names only, one a line" } },
                run_list,
                0,
        },
        {
                "info",
                "show all about a domain",
                "Shows phase and reason, policy, tracking, the guest's agent and each cell of a domain. The "
                "guest's free "
                "memory is the guest's own word.",
                { DOMAIN_OPTION },
                run_info,
                0,
        },
        {
                "bind",
                "give a domain a DRAM cell and a slow cell",
                "Rewrites the persistent definition of a domain into two NUMA cells, each bound strictly to "
                "the host "
                "nodes of its tier, with what tracking and the guest's agent need. It takes effect at the "
                "next start. "
                "Sizes are whole multiples of 2 MiB.",
                {
                        DOMAIN_OPTION,
                        { "dram", OPTION_SIZE, OPTION_REQUIRED, "size of the DRAM cell at start" },
                        { "slow", OPTION_SIZE, OPTION_REQUIRED, "size of the slow cell at start" },
                        { "max-dram", OPTION_SIZE, 0, "most DRAM it can have (default: both sizes)" },
                        { "max-slow", OPTION_SIZE, 0, "most slow memory it can have (default: both sizes)" },
                        { "min-dram", OPTION_SIZE, 0, "the part that can never be given up (default: all)" },
                        { "min-slow", OPTION_SIZE, 0, "the same of the slow cell (default: all)" },
                        { "dry-run", OPTION_FLAG, 0, "print the change as a diff, and change nothing" },
                },
                run_bind,
                VERB_CHANGES,
        },
        {
                "unbind",
                "undo bind",
                "Restores what bind replaced in the persistent definition of a domain; other edits made "
                "since stay. It "
                "takes effect at the next start.",
                { DOMAIN_OPTION,
                  { "dry-run", OPTION_FLAG, 0, "print the change as a diff, and change nothing" } },
                run_unbind,
                VERB_CHANGES,
        },
        {
                "verify",
                "prove that each cell's memory is on its own host nodes",
                "Asks the host's kernel where the memory of the running domain is, cell by cell. Fails with "
                "status 13 when "
                "any of it is outside its tier's nodes.",
                { DOMAIN_OPTION },
                run_verify,
                0,
        },
        {
                "manage",
                "move a domain's hot pages to DRAM from now on",
                "Lets hmvisord order the guest to move pages: hot ones to its DRAM cell, cold ones to its "
                "slow cell. " WHEN_DEFAULT,
                { DOMAIN_OPTION, WHEN_OPTIONS },
                run_manage,
                VERB_CHANGES,
        },
        {
                "unmanage",
                "move nothing any more",
                "Ends what manage began: pages stay where they are, and the guest's own settings are put "
                "back. Tracking "
                "goes on. " WHEN_DEFAULT,
                { DOMAIN_OPTION, WHEN_OPTIONS },
                run_unmanage,
                VERB_CHANGES,
        },
        { 0 },
};
