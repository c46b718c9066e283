/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The entry object: interface org.hmvisor1.Manager. Only translates between messages and manager_*().
 */
#include "bus/bus-internal.h"

#include "config.h"

static int property_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                            sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_message_append_basic(reply, 's', HMV_VERSION);
}

static int property_connected(sd_bus *bus, const char *path, const char *interface, const char *property,
                              sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const Bus *b = userdata;

        return sd_bus_message_append(reply, "b", manager_is_connected(b->manager));
}

static int property_epoch(sd_bus *bus, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const Bus *b = userdata;

        return sd_bus_message_append(reply, "t", manager_conf(b->manager)->host.epoch_usec);
}

static int property_rate(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const Bus *b = userdata;

        return sd_bus_message_append(reply, "t", manager_conf(b->manager)->host.migrate_bytes_per_sec);
}

static int property_dry_run(sd_bus *bus, const char *path, const char *interface, const char *property,
                            sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const Bus *b = userdata;

        return sd_bus_message_append(reply, "b", manager_conf(b->manager)->host.dry_run);
}

/* Reads a domain's name, id or UUID, and finds it. */
static int read_domain(Bus *b, sd_bus_message *m, char ret_uuid[static 37], Outcome *o) {
        const char *name;
        int r;

        r = message_read_text(m, "the domain's name", BUS_DOMAIN_NAME_MAX, &name, o);
        return r < 0 ? r : manager_find_domain(b->manager, name, ret_uuid, o);
}

static int run_find_domain(Bus *b, sd_bus_message *m, const char *unused) {
        _cleanup_free_ char *path = NULL;
        Outcome o = { 0 };
        char uuid[37];
        int r;

        if (read_domain(b, m, uuid, &o) < 0)
                return reply_outcome(m, &o);
        r = bus_domain_path(uuid, &path);
        return r < 0 ? r : sd_bus_reply_method_return(m, "o", path);
}

static int run_list_domains(Bus *b, sd_bus_message *m, const char *unused) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ char (*uuids)[37] = NULL;
        size_t n = manager_list_domains(b->manager, &uuids);
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sso)");
        for (size_t i = 0; r >= 0 && i < n; i++) {
                _cleanup_free_ char *path = NULL;

                if (manager_get_domain(b->manager, uuids[i], &b->view, NULL) < 0)
                        continue;
                r = bus_domain_path(uuids[i], &path);
                if (r >= 0)
                        r = sd_bus_message_open_container(reply, 'r', "sso");
                if (r >= 0)
                        r = message_append_text(reply, b->view.name);
                if (r >= 0)
                        r = sd_bus_message_append(reply, "so", uuids[i], path);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int append_node(sd_bus_message *m, const HostNode *n) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = message_append_entry(m, "Node", "u", n->node);
        if (r >= 0)
                r = message_append_entry(m, "Tier", "s", tier_to_string(n->tier));
        if (r >= 0)
                r = message_append_entry(m, "Source", "s", tier_source_to_string(n->source));
        if (r >= 0)   /* not used for binding until it is configured */
                r = message_append_entry(m, "Suggested", "b", n->source == TIER_FROM_DISTANCE);
        if (r >= 0)
                r = message_append_entry(m, "TotalBytes", "t", n->total_bytes);
        if (r >= 0)
                r = message_append_entry(m, "FreeBytes", "t", n->free_bytes);
        if (r >= 0)
                r = message_append_entry(m, "CPUs", "s", n->cpus);
        if (r >= 0)
                r = message_append_entry(m, "LatencyNSec", "u", n->latency_ns);
        if (r >= 0)
                r = message_append_entry(m, "BandwidthMiBPerSec", "u", n->bandwidth_mibs);
        if (r >= 0)
                r = message_append_entry(m, "Distance", "u", n->distance_from_dram);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int run_get_tiers(Bus *b, sd_bus_message *m, const char *unused) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ HostTiers *tiers = calloc(1, sizeof(*tiers));
        Outcome o = { 0 };
        int r;

        if (!tiers)
                return -ENOMEM;
        if (manager_get_tiers(b->manager, tiers, &o) < 0)
                return reply_outcome(m, &o);

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < tiers->n_nodes; i++)
                r = append_node(reply, &tiers->nodes[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

/* Reads a{sv}: sizes are `t`, DryRun is `b`. A request without sizes is that of unbind. */
static int read_options(sd_bus_message *m, BindRequest *req, bool sizes, Outcome *o) {
        struct {
                const char *name;
                uint64_t *value;
        } known[] = {
                { "DramBytes", &req->dram_bytes },        { "SlowBytes", &req->slow_bytes },
                { "MaxDramBytes", &req->max_dram_bytes }, { "MaxSlowBytes", &req->max_slow_bytes },
                { "MinDramBytes", &req->min_dram_bytes }, { "MinSlowBytes", &req->min_slow_bytes },
        };
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;
                uint64_t *value = NULL;
                int flag;

                r = sd_bus_message_read_basic(m, 's', &key);
                if (r < 0)
                        break;
                for (size_t i = 0; sizes && i < ELEMENTSOF(known); i++)
                        if (streq(key, known[i].name))
                                value = known[i].value;
                if (value)
                        r = sd_bus_message_read(m, "v", "t", value);
                else if (streq(key, "DryRun")) {
                        r = sd_bus_message_read(m, "v", "b", &flag);
                        if (r >= 0)
                                req->dry_run = flag;
                } else
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "option '%.64s' is not known", key);
                if (r < 0)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "option '%.64s' has another type: sizes are 't' in "
                                           "bytes, DryRun is 'b'",
                                           key);
                r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? outcome_set(o, OUTCOME_BAD_ARGUMENT, "the options cannot be read") : 0;
}

static int run_bind(Bus *b, sd_bus_message *m, const char *unused) {
        BindRequest req = { 0 };
        Outcome o = { 0 };
        char uuid[37];

        if (read_domain(b, m, uuid, &o) < 0 || read_options(m, &req, true, &o) < 0)
                return reply_outcome(m, &o);
        if (manager_bind(b->manager, uuid, &req, reply_with_text, sd_bus_message_ref(m), &o) < 0) {
                sd_bus_message_unref(m);
                return reply_outcome(m, &o);
        }
        return 0;
}

static int run_unbind(Bus *b, sd_bus_message *m, const char *unused) {
        BindRequest req = { 0 };
        Outcome o = { 0 };
        char uuid[37];

        if (read_domain(b, m, uuid, &o) < 0 || read_options(m, &req, false, &o) < 0)
                return reply_outcome(m, &o);
        if (manager_unbind(b->manager, uuid, req.dry_run, reply_with_text, sd_bus_message_ref(m), &o) < 0) {
                sd_bus_message_unref(m);
                return reply_outcome(m, &o);
        }
        return 0;
}

static int run_reload(Bus *b, sd_bus_message *m, const char *unused) {
        Outcome o = { 0 };

        if (manager_reload(b->manager, &o) < 0)
                return reply_outcome(m, &o);
        (void) sd_bus_emit_properties_changed(b->bus, BUS_PATH, BUS_MANAGER, "EpochUSec",
                                              "MigrateBytesPerSec", "DryRun", NULL);
        (void) sd_bus_emit_properties_changed(b->bus, BUS_PATH, BUS_MARKET, "Enabled", "DramPrice",
                                              "SlowPrice", "LotDramBytes", "LotSlowBytes", "EpochUSec",
                                              NULL);
        return sd_bus_reply_method_return(m, "");
}

/* FindDomain and ListDomains say no more than the properties do, which all may read. */
const Method manager_methods[] = {
        { "FindDomain", NULL, run_find_domain },
        { "ListDomains", NULL, run_list_domains },
        { "GetTiers", "org.hmvisor1.monitor", run_get_tiers },
        { "GetMetrics", "org.hmvisor1.monitor", bus_run_get_metrics },
        { "Bind", "org.hmvisor1.manage-domain", run_bind },
        { "Unbind", "org.hmvisor1.manage-domain", run_unbind },
        { "Reload", "org.hmvisor1.configure", run_reload },
        { 0 },
};

#define METHOD SD_BUS_METHOD_WITH_ARGS
/* sd-bus leaves the question of rights to bus_method(). */
#define ANYBODY SD_BUS_VTABLE_UNPRIVILEGED

const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", property_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Connected", "b", property_connected, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("EpochUSec", "t", property_epoch, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("MigrateBytesPerSec", "t", property_rate, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("DryRun", "b", property_dry_run, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        METHOD("FindDomain", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", domain), bus_method, ANYBODY),
        METHOD("ListDomains", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sso)", domains), bus_method, ANYBODY),
        METHOD("GetTiers", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", nodes), bus_method, ANYBODY),
        METHOD("GetMetrics", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", daemon, "aa{sv}", domains), bus_method,
               ANYBODY),
        METHOD("Bind", SD_BUS_ARGS("s", domain, "a{sv}", options), SD_BUS_RESULT("s", diff), bus_method,
               ANYBODY),
        METHOD("Unbind", SD_BUS_ARGS("s", domain, "a{sv}", options), SD_BUS_RESULT("s", diff), bus_method,
               ANYBODY),
        METHOD("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, bus_method, ANYBODY),
        SD_BUS_SIGNAL_WITH_ARGS("Event",
                                SD_BUS_ARGS("t", realtime, "s", domain, "s", uuid, "s", kind, "s", message),
                                0),
        SD_BUS_VTABLE_END,
};
