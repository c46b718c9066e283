/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The Manager: takes libvirt's events, keeps the set of domains, shows what is known of them, reloads and
 * stops. What happens to one domain is in manager-domain.c, in time in manager-tick.c, on request in
 * manager-action.c.
 */
#include <ctype.h>
#include <stdarg.h>

#include "base/log.h"
#include "manager-internal.h"

usec_t manager_now(Manager *m) {
        uint64_t now = 0;

        (void) sd_event_now(m->event, CLOCK_MONOTONIC, &now);
        return now;
}

Domain *manager_domain(const Manager *m, const char *uuid) {
        Domain *d;

        HASH_FIND_STR(m->domains, uuid, d);
        return d;
}

Domain *manager_domain_by_key(Manager *m, uint64_t key) {
        Domain *d;

        HASH_FIND(hh_key, m->domains_by_key, &key, sizeof(key), d);
        return d;
}

void manager_give_key(Domain *d) {
        Manager *m = d->manager;

        manager_take_key(d);
        d->key = ++m->last_key;
        HASH_ADD(hh_key, m->domains_by_key, key, sizeof(d->key), d);
}

void manager_take_key(Domain *d) {
        if (d->key != 0)
                HASH_DELETE(hh_key, d->manager->domains_by_key, d);
        d->key = 0;
}

void manager_conf_for_domain(const Manager *m, DomainPolicy *ret) {
        *ret = m->conf->domain;
        ret->managed = ret->managed || m->conf->manage_bound;
}

/* One line in the journal and one event on the bus. */
void manager_tell_event(Manager *m, const Domain *d, LogEvent event, int level, const char *kind,
                        const char *format, ...) {
        uint64_t now = 0;
        char text[1024];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (m->freeing)
                return;
        if (d)
                (void) log_event(event, level, 0, d->name, d->uuid, "Domain '%s': %s", d->name, text);
        else
                (void) log_event(event, level, 0, NULL, NULL, "%s", text);
        (void) sd_event_now(m->event, CLOCK_REALTIME, &now);
        if (m->hooks.event)
                m->hooks.event(&(ManagerEvent) {
                        .realtime = now,
                        .name = d ? d->name : "",
                        .uuid = d ? d->uuid : "",
                        .kind = kind,
                        .message = text,
                }, m->hooks.userdata);
}

static void manager_remove(Manager *m, Domain *d) {
        char uuid[37];

        memcpy(uuid, d->uuid, sizeof(uuid));
        manager_drop_domain(d);
        if (m->hooks.domain_removed)
                m->hooks.domain_removed(uuid, m->hooks.userdata);
}

static void on_domain_event(Manager *m, const VirtEvent *e) {
        Domain *d = manager_domain(m, e->uuid);
        bool fresh = !d;

        if (fresh)
                d = manager_add_domain(m, e);
        if (!d)
                return (void) log_error_errno(ENOMEM, "Domain '%s' is not watched", e->name);
        domain_update(d, e);
        if (fresh && m->hooks.domain_added)
                m->hooks.domain_added(d->uuid, m->hooks.userdata);
}

/* All that libvirt has were told since the last list; the others went while nobody listened. */
static void on_listed(Manager *m) {
        Domain *d, *tmp;

        HASH_ITER(hh, m->domains, d, tmp) {
                if (d->listed)
                        d->listed = false;
                else
                        manager_remove(m, d);
        }
}

static void on_disconnected(Manager *m, const char *why) {
        Domain *d, *tmp;

        m->connected = false;
        m->market.listed = false;
        HASH_ITER(hh, m->domains, d, tmp) {
                d->listed = false;
                domain_evaluate(d);
        }
        manager_tell(m, NULL, "disconnected", "libvirt cannot be reached: %s; trying on", why);
}

static void on_virt_event(Virt *v, const VirtEvent *e, void *userdata) {
        Manager *m = userdata;
        Domain *d = manager_domain(m, e->uuid);

        switch (e->type) {
        case VIRT_CONNECTED:
                m->connected = true;
                manager_tell(m, NULL, "connected", "connected to libvirt");
                return;
        case VIRT_LISTED:
                on_listed(m);
                m->market.listed = true;
                return;
        case VIRT_DISCONNECTED:
                on_disconnected(m, e->detail);
                return;
        case VIRT_DOMAIN:
                on_domain_event(m, e);
                return;
        default:
                break;
        }
        if (!d)
                return;
        switch (e->type) {
        case VIRT_UNDEFINED:
                manager_remove(m, d);
                break;
        case VIRT_REBOOTED:
                domain_rebooted(d);
                break;
        case VIRT_METADATA_CHANGED:
        case VIRT_MEMORY_CHANGED:
                domain_read_xml(d);
                break;
        case VIRT_AGENT_CHANGED:
                domain_set_agent_connected(d, e->agent_connected);
                break;
        case VIRT_JOB_STARTED:
        case VIRT_JOB_ENDED:
                d->job = e->type == VIRT_JOB_STARTED;
                domain_evaluate(d);
                break;
        default:
                break;
        }
}

int manager_new(sd_event *event, Conf *conf, Manager **ret) {
        _cleanup_(manager_freep) Manager *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->event = sd_event_ref(event);
        m->conf = calloc(1, sizeof(*m->conf));
        if (!m->conf)
                return -ENOMEM;
        *m->conf = *conf;
        *conf = (Conf){};
        if (m->conf->libvirt_uri && !(m->uri = strdup(m->conf->libvirt_uri)))
                return -ENOMEM;
        (void) sd_event_now(event, CLOCK_REALTIME, &m->order_base);
        log_set_max_level(m->conf->log_level);
        r = core_new(&m->core);
        tracking_start(m);
        if (r >= 0)
                r = manager_tick_start(m);
        if (r >= 0)
                r = virt_new(event, m->uri, on_virt_event, m, &m->virt);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

Manager *manager_free(Manager *m) {
        Domain *d, *tmp;

        if (!m)
                return NULL;
        m->freeing = true;
        m->hooks = (ManagerHooks){};
        HASH_ITER(hh, m->domains, d, tmp)
                manager_drop_domain(d);
        virt_free(m->virt);   /* calls under way end here, and find no domain */
        sd_event_source_disable_unref(m->beat);
        sd_event_source_disable_unref(m->epoch);
        sd_event_source_disable_unref(m->stop);
        market_done(m);
        core_free(m->core);
        if (m->conf)
                conf_done(m->conf);
        free(m->conf);
        free(m->config_root);
        free(m->uri);
        sd_event_unref(m->event);
        free(m);
        return NULL;
}

void manager_set_hooks(Manager *m, const ManagerHooks *hooks) {
        m->hooks = *hooks;
}

int manager_set_config_root(Manager *m, const char *root) {
        char *copy = strdup(root);

        if (!copy)
                return -ENOMEM;
        free(m->config_root);
        m->config_root = copy;
        return 0;
}

static int on_stop_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        Manager *m = userdata;

        log_warning("Not all guests answered in time; what was changed in them ends with its lease");
        return sd_event_exit(m->event, 0);
}

void manager_stop(Manager *m) {
        Domain *d, *tmp;

        if (m->stopping)
                return;
        m->stopping = true;
        manager_tell(m, NULL, "stopping", "stopping: undoing what was changed in guests");
        HASH_ITER(hh, m->domains, d, tmp)
                domain_start_stop(d);
                if (sd_event_add_time_relative(m->event, &m->stop, CLOCK_MONOTONIC, STOP_USEC, 0,
                                               on_stop_deadline, m) < 0)
                        (void) sd_event_exit(m->event, 0);
                manager_tick_wake(m);
}

int manager_reload(Manager *m, Outcome *o) {
        Conf conf = {};
        bool source_changed;
        Domain *d, *tmp;
        Terms terms;
        int r;

        r = conf_load(m->config_root ?: "", &conf, o);
        if (r < 0)
                return r;
        if (!streq_ptr(conf.libvirt_uri, m->conf->libvirt_uri))
                log_notice("LibvirtURI changes when hmvisord starts next");
        if (!streq_ptr(conf.journal_path, m->conf->journal_path))
                log_notice("JournalPath changes when hmvisord starts next");
        r = terms_make(&conf.host.market, &terms);
        if (r < 0) {
                conf_done(&conf);
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s", MARKET_NO_LOT);
        }
        source_changed =
                conf.sample_usec != m->conf->sample_usec || conf.duty_on_usec != m->conf->duty_on_usec ||
                conf.duty_off_usec != m->conf->duty_off_usec || conf.lease_usec != m->conf->lease_usec;
        conf_done(m->conf);
        *m->conf = conf;
        tracking_start(m);
        market_reload(m);
        log_set_max_level(conf.log_level);
        (void) sd_event_source_set_time(m->epoch, manager_now(m) + conf.host.epoch_usec);
        HASH_ITER(hh, m->domains, d, tmp)
                domain_apply_conf(d, source_changed);
        manager_tell(m, NULL, "reload", "configuration read again");
        return 0;
}

bool manager_is_connected(const Manager *m) {
        return m->connected;
}

const Conf *manager_conf(const Manager *m) {
        return m->conf;
}

/* Tests give a folder with a /sys of its own. */
int manager_get_tiers(Manager *m, HostTiers *ret, Outcome *o) {
        _cleanup_free_ char *sys = NULL;
        const char *root = "/";

        if (m->config_root && *m->config_root) {
                if (asprintf(&sys, "%s/sys", m->config_root) < 0)
                        return outcome_set(o, OUTCOME_FAILED, "out of memory");
                if (access(sys, F_OK) == 0)
                        root = m->config_root;
        }
        return host_tiers_discover(root, m->conf->dram_nodes, m->conf->slow_nodes, ret, o);
}

static int compare_names(const void *a, const void *b) {
        const Domain *const *x = a, *const *y = b;

        return strcmp((*x)->name, (*y)->name);
}

size_t manager_list_domains(const Manager *m, char (**ret_uuids)[37]) {
        size_t n = HASH_COUNT(m->domains), i = 0;
        _cleanup_free_ Domain **sorted = calloc(n + 1, sizeof(*sorted));
        char (*uuids)[37] = calloc(n + 1, sizeof(*uuids));
        Domain *d, *tmp;

        *ret_uuids = uuids;
        if (!sorted || !uuids)
                return 0;
        HASH_ITER(hh, m->domains, d, tmp)
                sorted[i++] = d;
        qsort(sorted, n, sizeof(*sorted), compare_names);
        for (i = 0; i < n; i++)
                memcpy(uuids[i], sorted[i]->uuid, sizeof(uuids[i]));
        return n;
}

static bool is_id(const char *name) {
        return *name && strlen(name) < 10 && strspn(name, "0123456789") == strlen(name);
}

/* As virsh does: an id wins over a UUID, and that over a name. */
int manager_find_domain(const Manager *m, const char *name, char ret_uuid[static 37], Outcome *o) {
        Domain *d, *tmp, *found = NULL;

        HASH_ITER(hh, m->domains, d, tmp)
                if (is_id(name) && d->id == atoi(name))
                        found = d;
        HASH_ITER(hh, m->domains, d, tmp)
                if (!found && strcasecmp(d->uuid, name) == 0)
                        found = d;
        HASH_ITER(hh, m->domains, d, tmp)
                if (!found && streq(d->name, name))
                        found = d;
        if (found) {
                memcpy(ret_uuid, found->uuid, sizeof(found->uuid));
                return 0;
        }
        if (!m->connected)
                (void) outcome_set(o, OUTCOME_NO_LIBVIRT,
                                   "domain '%.200s' is not known, as libvirt cannot be reached; see "
                                   "'systemctl status libvirtd', hmvisord reconnects by itself",
                                   name);
        else
                (void) outcome_set(o, OUTCOME_NO_DOMAIN,
                                   "no domain has the name, id or UUID '%.200s'; 'hmvctl list' shows "
                                   "them",
                                   name);
        return -ENOENT;
}

static void view_tracking(const Domain *d, DomainView *v) {
        const HotnessStatus *s = d->source ? source_status(d->source) : NULL;

        if (!s)
                return;
        snprintf(v->tracking_state, sizeof(v->tracking_state), "%s",
                 source_health(d->source) == SOURCE_FAILED ? "failed" : hotness_state_to_string(s->state));
        snprintf(v->tracking_log, sizeof(v->tracking_log), "%s", s->ring ? "ring" : "bitmap");
        snprintf(v->tracking_scope, sizeof(v->tracking_scope), "%s",
                 tracking_skips(d) != 0 ? "slow" : "all");
        v->tracking_epochs = s->epochs;
        v->tracking_dropped = s->dropped;
        v->tracking_cost_ns = s->cost_ns;
        v->tracking_last_cost_ns = s->last_cost_ns;
}

static void view_agent(const Domain *d, DomainView *v) {
        const AgentPrepared *p = d->agent ? agent_link_prepared(d->agent) : NULL;
        const AgentStats *stats = d->agent ? agent_link_stats(d->agent) : NULL;

        v->agent_kernel_node = p ? p->kernel_node : -1;
        if (p) {
                snprintf(v->agent_version, sizeof(v->agent_version), "%s", p->version);
                snprintf(v->agent_kernel, sizeof(v->agent_kernel), "%s", p->kernel);
                snprintf(v->agent_online_policy, sizeof(v->agent_online_policy), "%s", p->online_policy);
        }
        for (size_t i = 0; i < v->n_cells; i++) {
                v->cells[i].guest_total_bytes = v->cells[i].guest_free_bytes = UINT64_MAX;
                for (size_t k = 0; stats && k < stats->n_nodes; k++)
                        if (stats->nodes[k].node == v->cells[i].cell.cell) {
                                v->cells[i].guest_total_bytes = stats->nodes[k].total_bytes;
                                v->cells[i].guest_free_bytes = stats->nodes[k].free_bytes;
                        }
        }
}

int manager_get_domain(const Manager *m, const char *uuid, DomainView *ret, Outcome *o) {
        const Domain *d = manager_domain(m, uuid);
        HeatHistogram heat;

        if (!d) {
                (void) outcome_set(o, OUTCOME_NO_DOMAIN,
                                   "no domain has the UUID '%.40s'; 'hmvctl list' shows them", uuid);
                return -ENOENT;
        }
        *ret = (DomainView) {
                .id = d->id,
                .phase = d->phase,
                .bound = d->info.hmvisor_bound,
                .managed = d->policy.managed,
                .policy = d->policy,
                .n_cells = d->info.n_cells,
        };
        memcpy(ret->name, d->name, sizeof(ret->name));
        memcpy(ret->uuid, d->uuid, sizeof(ret->uuid));
        memcpy(ret->reason, d->reason, sizeof(ret->reason));
        memcpy(ret->mover, d->mover, sizeof(ret->mover));
        for (size_t i = 0; i < d->info.n_cells; i++)
                ret->cells[i].cell = d->info.cells[i];
        if (core_get_heat(m->core, d->key, &heat) >= 0)
                for (size_t i = 0; i < ret->n_cells; i++)
                        for (size_t k = 0; k < heat.n_cells; k++)
                                if (heat.cells[k].cell == ret->cells[i].cell.cell)
                                        memcpy(ret->cells[i].heat_pages, heat.cells[k].pages,
                                               sizeof(ret->cells[i].heat_pages));
        (void) core_get_totals(m->core, d->key, &ret->totals);
        view_tracking(d, ret);
        view_agent(d, ret);
        return 0;
}

int manager_explain(const Manager *m, const char *uuid, size_t n, char **ret_text, Outcome *o) {
        const Domain *d = manager_domain(m, uuid);

        if (!d) {
                (void) outcome_set(o, OUTCOME_NO_DOMAIN,
                                   "no domain has the UUID '%.40s'; 'hmvctl list' shows them", uuid);
                return -ENOENT;
        }
        if (decisions_explain(d, n, ret_text) < 0)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        return 0;
}
