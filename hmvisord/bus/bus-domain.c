/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One object per domain: interface org.hmvisor1.Domain. Only translates between messages and manager_*().
 * Properties read b->view, which bus_find_domain() fills just before; their userdata is the Bus plus the
 * offset that the vtable gives.
 */
#include "bus/bus-internal.h"

#define PAGE_BYTES UINT64_C(4096)   /* of a guest page: x86-64 has no other base page */

static const char *const skip_names[_SKIP_MAX] = {   /* as in docs/protocol.md */
        [SKIP_FREE] = "free",       [SKIP_ALREADY_THERE] = "already-there", [SKIP_UNMOVABLE] = "unmovable",
        [SKIP_PINNED] = "pinned",   [SKIP_NO_ROOM] = "no-room",             [SKIP_NOT_RAM] = "not-ram",
        [SKIP_OTHER] = "other",
};

static int property_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return message_append_text(reply, userdata);
}

static int property_bool(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_message_append(reply, "b", *(const bool *) userdata);
}

static int property_phase(sd_bus *bus, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_message_append(reply, "s", phase_to_string(((const Bus *) userdata)->view.phase));
}

static int property_policy(sd_bus *bus, const char *path, const char *interface, const char *property,
                           sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        _cleanup_free_ char *words = NULL;
        int r;

        r = policy_format(&((const Bus *) userdata)->view.policy, NULL, &words);
        return r < 0 ? r : message_append_text(reply, words);
}

static int append_skipped(sd_bus_message *m, const DomainView *v) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{st}");
        for (size_t i = 0; r >= 0 && i < _SKIP_MAX; i++)
                r = sd_bus_message_append(m, "{st}", skip_names[i], v->totals.skipped_pages[i]);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int property_skipped(sd_bus *bus, const char *path, const char *interface, const char *property,
                            sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return append_skipped(reply, &((const Bus *) userdata)->view);
}

typedef struct Number {
        const char *name;
        uint64_t value;
} Number;

static int append_numbers(sd_bus_message *m, const Number *numbers, size_t n) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = message_append_entry(m, numbers[i].name, "t", numbers[i].value);
        return r;
}

/* Opens the dictionary of a cell and says which cell it is. */
static int open_cell(sd_bus_message *m, const DomainCell *c) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = message_append_entry(m, "Cell", "u", c->cell);
        if (r >= 0)
                r = message_append_entry(m, "Tier", "s", tier_to_string(c->tier));
        if (r >= 0)
                r = message_append_entry(m, "HostNodes", "s", c->host_nodes);
        return r;
}

static int append_cell(sd_bus_message *m, const CellView *c) {
        uint64_t size;
        int r;

        if (__builtin_add_overflow(c->cell.boot_bytes, c->cell.device_current_bytes, &size))
                size = UINT64_MAX;
        const Number numbers[] = {
                { "SizeBytes", size },
                { "BootBytes", c->cell.boot_bytes },
                { "DeviceMaxBytes", c->cell.device_max_bytes },
                { "DeviceRequestedBytes", c->cell.device_requested_bytes },
                { "DeviceCurrentBytes", c->cell.device_current_bytes },
        };

        r = open_cell(m, &c->cell);
        if (r >= 0)
                r = message_append_entry(m, "Bound", "b", (int) c->cell.bound);
        if (r >= 0)
                r = append_numbers(m, numbers, ELEMENTSOF(numbers));
        if (r >= 0 && c->guest_total_bytes != UINT64_MAX)
                r = message_append_entry(m, "GuestTotalBytes", "t", c->guest_total_bytes);
        if (r >= 0 && c->guest_free_bytes != UINT64_MAX)
                r = message_append_entry(m, "GuestFreeBytes", "t", c->guest_free_bytes);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int property_cells(sd_bus *bus, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const DomainView *v = &((const Bus *) userdata)->view;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < v->n_cells; i++)
                r = append_cell(reply, &v->cells[i]);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int run_verify(Bus *b, sd_bus_message *m, const char *uuid) {
        Outcome o = { 0 };

        if (manager_verify(b->manager, uuid, reply_with_text, sd_bus_message_ref(m), &o) < 0) {
                sd_bus_message_unref(m);
                return reply_outcome(m, &o);
        }
        return 0;
}

/* Heat is of the cells of a running domain; without them an empty answer would say less than an error. */
static int check_has_heat(const DomainView *v, Outcome *o) {
        if (!v->bound || v->n_cells == 0)
                return outcome_set(o, OUTCOME_NOT_BOUND,
                                   "domain '%s' %s, so it has no cells whose heat could be shown; 'hmvctl "
                                   "bind' it, then %s",
                                   v->name, v->id < 0 ? "is not bound" : "runs unbound",
                                   v->id < 0 ? "start it" : "power it off and on");
        if (v->id < 0)
                return outcome_set(o, OUTCOME_DOMAIN_OFF,
                                   "domain '%s' is off, and heat is of running domains; start it first",
                                   v->name);
        if (!*v->tracking_state && *v->reason)
                return outcome_set(o, OUTCOME_NO_EXTENSION,
                                   "domain '%s' is not tracked, so it has no heat: %s", v->name, v->reason);
        if (!*v->tracking_state)
                return outcome_set(o, OUTCOME_DOMAIN_BUSY,
                                   "domain '%s' is not tracked yet, its QEMU is being asked; try again in a "
                                   "moment",
                                   v->name);
        return 0;
}

static int run_get_heat(Bus *b, sd_bus_message *m, const char *uuid) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        const DomainView *v = &b->view;
        Outcome o = { 0 };
        int r;

        if (manager_get_domain(b->manager, uuid, &b->view, &o) < 0 || check_has_heat(v, &o) < 0)
                return reply_outcome(m, &o);

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < v->n_cells; i++) {
                const CellView *c = &v->cells[i];

                r = open_cell(reply, &c->cell);
                if (r >= 0)
                        r = sd_bus_message_append(reply, "{sv}", "Pages", "at", HEAT_BANDS, c->heat_pages[0],
                                                  c->heat_pages[1], c->heat_pages[2], c->heat_pages[3],
                                                  c->heat_pages[4], c->heat_pages[5], c->heat_pages[6],
                                                  c->heat_pages[7], c->heat_pages[8]);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}
_Static_assert(HEAT_BANDS == 9, "run_get_heat() names each band");

static int append_stats(sd_bus_message *m, const DomainView *v) {
        const DomainTotals *t = &v->totals;
        const Number numbers[] = {
                { "Epochs", t->epochs },
                { "Orders", t->orders },
                { "FailedOrders", t->failed_orders },
                { "PromotedPages", t->promoted_pages },
                { "PromotedBytes", t->promoted_pages * PAGE_BYTES },
                { "DemotedPages", t->demoted_pages },
                { "DemotedBytes", t->demoted_pages * PAGE_BYTES },
                { "TrackingEpochs", v->tracking_epochs },
                { "TrackingDropped", v->tracking_dropped },
                { "TrackingSightings", t->sightings },
                { "TrackingCostNSec", v->tracking_cost_ns },
                { "TrackingLastCostNSec", v->tracking_last_cost_ns },
        };
        int r;

        r = append_numbers(m, numbers, ELEMENTSOF(numbers));
        if (r >= 0)
                r = message_append_entry(m, "TrackingState", "s", v->tracking_state);
        if (r >= 0)
                r = message_append_entry(m, "TrackingLog", "s", v->tracking_log);
        if (r >= 0)
                r = message_append_entry(m, "TrackingScope", "s", v->tracking_scope);
        if (r >= 0)
                r = message_append_entry(m, "Mover", "s", v->mover);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', "SkippedPages");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a{st}");
        if (r >= 0)
                r = append_skipped(m, v);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int run_get_stats(Bus *b, sd_bus_message *m, const char *uuid) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        Outcome o = { 0 };
        int r;

        if (manager_get_domain(b->manager, uuid, &b->view, &o) < 0)
                return reply_outcome(m, &o);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0)
                r = append_stats(reply, &b->view);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int run_explain(Bus *b, sd_bus_message *m, const char *uuid) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ char *text = NULL;
        char *line, *rest;
        Outcome o = { 0 };
        uint32_t n;
        int r;

        r = sd_bus_message_read(m, "u", &n);
        if (r < 0)
                return r;
        if (manager_explain(b->manager, uuid, MIN(n, BUS_EXPLAIN_MAX), &text, &o) < 0)
                return reply_outcome(m, &o);

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "s");
        rest = text;
        while (r >= 0 && (line = strsep(&rest, "\n")))
                if (*line)
                        r = message_append_text(reply, line);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int run_get_policy(Bus *b, sd_bus_message *m, const char *uuid) {
        _cleanup_free_ char *words = NULL;
        Outcome o = { 0 };
        int r;

        if (manager_get_domain(b->manager, uuid, &b->view, &o) < 0)
                return reply_outcome(m, &o);
        r = policy_format(&b->view.policy, NULL, &words);
        return r < 0 ? r : reply_text(m, words);
}

static int set_policy(Bus *b, sd_bus_message *m, const char *uuid, const char *words) {
        Outcome o = { 0 };
        int live, config, r;

        r = sd_bus_message_read(m, "bb", &live, &config);
        if (r < 0)
                return r;
        if (!live && !config)
                (void) outcome_set(&o, OUTCOME_BAD_ARGUMENT,
                                   "neither live nor config was asked for; give one, or both");
        else if (manager_set_policy(b->manager, uuid, words, live, config, reply_with_nothing,
                                    sd_bus_message_ref(m), &o) < 0)
                sd_bus_message_unref(m);
        else
                return 0;
        return reply_outcome(m, &o);
}

static int run_set_policy(Bus *b, sd_bus_message *m, const char *uuid) {
        const char *words;
        Outcome o = { 0 };

        if (message_read_text(m, "the policy", BUS_WORDS_MAX, &words, &o) < 0)
                return reply_outcome(m, &o);
        return set_policy(b, m, uuid, words);
}

static int run_manage(Bus *b, sd_bus_message *m, const char *uuid) {
        return set_policy(b, m, uuid, "Managed=yes");
}

static int run_unmanage(Bus *b, sd_bus_message *m, const char *uuid) {
        return set_policy(b, m, uuid, "Managed=no");
}

/* Verify asks QEMU and libvirt each time, so it is no mere reading. */
const Method domain_methods[] = {
        { "Verify", "org.hmvisor1.manage-domain", run_verify },
        { "GetHeat", "org.hmvisor1.monitor", run_get_heat },
        { "GetStats", "org.hmvisor1.monitor", run_get_stats },
        { "Explain", "org.hmvisor1.monitor", run_explain },
        { "GetPolicy", "org.hmvisor1.monitor", run_get_policy },
        { "SetPolicy", "org.hmvisor1.manage-domain", run_set_policy },
        { "Manage", "org.hmvisor1.manage-domain", run_manage },
        { "Unmanage", "org.hmvisor1.manage-domain", run_unmanage },
        { 0 },
};

#define METHOD SD_BUS_METHOD_WITH_ARGS
/* sd-bus leaves the question of rights to bus_method(). */
#define ANYBODY SD_BUS_VTABLE_UNPRIVILEGED
#define STATE(name, type, getter, field) \
        SD_BUS_PROPERTY(name, type, getter, offsetof(Bus, view.field), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
#define WHOLE(name, type, getter) SD_BUS_PROPERTY(name, type, getter, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

const sd_bus_vtable domain_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", property_text, offsetof(Bus, view.name),
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("UUID", "s", property_text, offsetof(Bus, view.uuid), SD_BUS_VTABLE_PROPERTY_CONST),
        STATE("Id", "i", NULL, id),
        WHOLE("Phase", "s", property_phase),
        STATE("Reason", "s", property_text, reason),
        STATE("Bound", "b", property_bool, bound),
        STATE("Managed", "b", property_bool, managed),
        WHOLE("Policy", "s", property_policy),
        WHOLE("Cells", "aa{sv}", property_cells),
        STATE("AgentVersion", "s", property_text, agent_version),
        STATE("AgentKernel", "s", property_text, agent_kernel),
        STATE("AgentKernelNode", "i", NULL, agent_kernel_node),
        STATE("AgentOnlinePolicy", "s", property_text, agent_online_policy),
        STATE("TrackingState", "s", property_text, tracking_state),
        STATE("TrackingLog", "s", property_text, tracking_log),
        STATE("TrackingScope", "s", property_text, tracking_scope),
        STATE("Epochs", "t", NULL, totals.epochs),
        STATE("Orders", "t", NULL, totals.orders),
        STATE("FailedOrders", "t", NULL, totals.failed_orders),
        STATE("PromotedPages", "t", NULL, totals.promoted_pages),
        STATE("DemotedPages", "t", NULL, totals.demoted_pages),
        WHOLE("SkippedPages", "a{st}", property_skipped),
        STATE("TrackingEpochs", "t", NULL, tracking_epochs),
        STATE("TrackingDropped", "t", NULL, tracking_dropped),
        STATE("TrackingSightings", "t", NULL, totals.sightings),
        STATE("TrackingCostNSec", "t", NULL, tracking_cost_ns),
        METHOD("Verify", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), bus_method, ANYBODY),
        METHOD("GetHeat", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", cells), bus_method, ANYBODY),
        METHOD("GetStats", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", stats), bus_method, ANYBODY),
        METHOD("Explain", SD_BUS_ARGS("u", lines), SD_BUS_RESULT("as", decisions), bus_method, ANYBODY),
        METHOD("GetPolicy", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", words), bus_method, ANYBODY),
        METHOD("SetPolicy", SD_BUS_ARGS("s", words, "b", live, "b", config), SD_BUS_NO_RESULT, bus_method,
               ANYBODY),
        METHOD("Manage", SD_BUS_ARGS("b", live, "b", config), SD_BUS_NO_RESULT, bus_method, ANYBODY),
        METHOD("Unmanage", SD_BUS_ARGS("b", live, "b", config), SD_BUS_NO_RESULT, bus_method, ANYBODY),
        SD_BUS_VTABLE_END,
};

static void emit_changed(Bus *b, const char *uuid, const char *const *names) {
        _cleanup_free_ char *path = NULL;

        if (b->bus && bus_domain_path(uuid, &path) >= 0)
                (void) sd_bus_emit_properties_changed_strv(b->bus, path, BUS_DOMAIN, (char **) names);
}

void bus_emit_domain_changed(Bus *b, const char *uuid) {
        static const char *const names[] = {
                "Name",          "Id",          "Phase", "Reason",       "Bound",
                "Managed",       "Policy",      "Cells", "AgentVersion", "AgentKernel", "AgentOnlinePolicy",
                "TrackingState", "TrackingLog", "TrackingScope", "AgentKernelNode", NULL,
        };

        emit_changed(b, uuid, names);
}

void bus_emit_counters_changed(Bus *b, const char *uuid) {
        static const char *const names[] = {
                "Epochs",       "Orders",         "FailedOrders",    "PromotedPages",    "DemotedPages",
                "SkippedPages", "TrackingEpochs", "TrackingDropped", "TrackingSightings",
                "TrackingCostNSec", NULL,
        };

        emit_changed(b, uuid, names);
}
