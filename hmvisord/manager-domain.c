/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One domain: what is known of it and how that is kept up. domain_evaluate() looks at all of it at once and
 * says which phase fits, so that no order of events can lead to another result.
 */
#include "base/log.h"
#include "base/units.h"
#include "manager-internal.h"

#define BALANCED_EPOCHS 10 /* with samples and nothing to move, before tracking rests */
#define PID_USEC (60 * USEC_PER_SEC) /* before a process that was not found is looked for again */

struct DomainCall {
        Manager *manager;
        uint64_t key;
        DomainReply done;
};

int domain_call_new(Domain *d, DomainReply done, DomainCall **ret) {
        DomainCall *c = malloc(sizeof(*c));

        if (!c)
                return -ENOMEM;
        *c = (DomainCall) { .manager = d->manager, .key = d->key, .done = done };
        *ret = c;
        return 0;
}

/* Every call about an incarnation ends here; one that outlived it ends for nothing. */
void domain_on_call(Virt *v, const VirtResult *result, void *call) {
        DomainCall c = *(DomainCall *) call;
        Domain *d;

        free(call);
        d = manager_domain_by_key(c.manager, c.key);
        if (d)
                c.done(d, result);
}

static void on_source_reply(Domain *d, const VirtResult *r) {
        if (!d->source)
                return;
        source_reply(d->source, &r->outcome, r->text, manager_now(d->manager));
        domain_evaluate(d);
}

static int send_to_qemu(const char *json, int fd, void *userdata) {
        Domain *d = userdata;
        DomainCall *c;
        int r;

        r = domain_call_new(d, on_source_reply, &c);
        if (r < 0)
                return r;
        r = virt_qmp(d->manager->virt, d->uuid, json, fd, domain_on_call, c);
        if (r < 0)
                free(c);
        return r;
}

static void on_agent_reply(Domain *d, const VirtResult *r) {
        if (!d->agent)
                return;
        agent_link_reply(d->agent, &r->outcome, r->text, manager_now(d->manager));
        domain_evaluate(d);
}

static int send_to_agent(const char *json, unsigned timeout_sec, void *userdata) {
        Domain *d = userdata;
        DomainCall *c;
        int r;

        r = domain_call_new(d, on_agent_reply, &c);
        if (r < 0)
                return r;
        r = virt_agent(d->manager->virt, d->uuid, json, timeout_sec, agent_link_answers(d->agent),
                       domain_on_call, c);
        if (r < 0)
                free(c);
        return r;
}

/* Another incarnation: answers still under way will not find it, and the core starts anew. */
static void domain_drop_conversations(Domain *d) {
        d->source = source_free(d->source);
        d->agent = agent_link_free(d->agent);
        d->held = false;
        d->lost_order = 0;
        d->booted = false;
        d->effort = EFFORT_GLANCE;
        d->balanced_since = 0;
        manager_give_key(d);
        d->xml_asked = d->xml_again = false;
        d->swap.asked = false;
        if (d->resize.state == RESIZE_ASKED)
                d->resize.state = RESIZE_UNSURE;
}

/* RAM blocks are named after libvirt's memory backends: "ram-nodeN" is cell N, "mem" and a device's alias,
 * behind the device's path, is that device. */
bool cell_owns_block(const DomainCell *c, const char *block, bool *ret_device) {
        const char *slash = strrchr(block, '/'), *base = slash ? slash + 1 : block;
        char boot[32], device[96];

        snprintf(boot, sizeof(boot), "ram-node%u", c->cell);
        snprintf(device, sizeof(device), "mem%s", c->device_alias);
        if (ret_device)
                *ret_device = !streq(base, boot);
        return streq(base, boot) || (*c->device_alias && streq(base, device));
}

/* A glance: two seconds of twenty; a guest that boots is slowed for that long at most. A watch: as a hot set
 * that moves is found within the rest; where samples can leave DRAM out, there is no need of one. Both rest
 * longer only if the configuration does. */
static void effort_duty(const Domain *d, usec_t *ret_on, usec_t *ret_off) {
        static const struct {
                usec_t on, off;
        } duty[] = {
                [EFFORT_GLANCE] = { 2 * USEC_PER_SEC, 18 * USEC_PER_SEC },
                [EFFORT_WATCH] = { 4 * USEC_PER_SEC, 12 * USEC_PER_SEC },
        };
        const Conf *c = d->manager->conf;

        *ret_on = c->duty_on_usec;
        *ret_off = c->duty_off_usec;
        if (d->effort == EFFORT_FULL)
                return;
        if (d->effort == EFFORT_WATCH && d->dram_blocks != 0 && !d->policy.trading)
                return;
        *ret_on = MAX(duty[d->effort].on, 4 * c->sample_usec);
        *ret_off = MAX(duty[d->effort].off, c->duty_off_usec);
}

static SourceSettings settings_of(const Domain *d) {
        const Conf *c = d->manager->conf;
        usec_t duty_on, duty_off;
        uint64_t bytes = 0;

        effort_duty(d, &duty_on, &duty_off);

        for (size_t i = 0; i < d->info.n_cells; i++)
                bytes += d->info.cells[i].boot_bytes + d->info.cells[i].device_max_bytes;
        return (SourceSettings) {
                .sample_usec = c->sample_usec,
                .duty_on_usec = duty_on,
                .duty_off_usec = duty_off,
                .lease_usec = c->lease_usec,
                .max_pages = (bytes + 16 * MIB) / 4096,
        };
}

static void domain_start_conversations(Domain *d) {
        SourceSettings settings = settings_of(d);
        usec_t now = manager_now(d->manager);

        if (d->source || d->manager->stopping)
                return;
        if (source_new(&settings, send_to_qemu, d, &d->source) < 0 ||
            agent_link_new(send_to_agent, d, &d->agent) < 0) {
                log_full(LOG_ERR, ENOMEM, d->name, d->uuid, "Domain '%s' is not watched", d->name);
                d->source = source_free(d->source);
                return;
        }
        d->watched_since = now;
        agent_link_set_connected(d->agent, d->agent_connected, now);
        manager_tick_wake(d->manager);
}

static bool same_in_market(const DomainPolicy *a, const DomainPolicy *b) {
        return a->trading == b->trading && a->dry_run == b->dry_run &&
               memcmp(a->entitled_bytes, b->entitled_bytes, sizeof(a->entitled_bytes)) == 0 &&
               memcmp(a->floor_bytes, b->floor_bytes, sizeof(a->floor_bytes)) == 0 &&
               memcmp(a->ceiling_bytes, b->ceiling_bytes, sizeof(a->ceiling_bytes)) == 0;
}

/* The policy that counts: the configuration's, changed by what the domain's metadata says. */
void domain_apply_policy(Domain *d) {
        DomainPolicy p;
        Outcome o = {};

        manager_conf_for_domain(d->manager, &p);
        if (policy_parse(d->info.policy_text, &p, &o) < 0) {
                manager_conf_for_domain(d->manager, &p);
                log_full(LOG_WARNING, 0, d->name, d->uuid,
                         "Domain '%s': ignoring the policy in its metadata: %s", d->name, o.text);
        }
        d->market_known = d->market_known && same_in_market(&d->policy, &p);
        d->policy = p;
        domain_evaluate(d);
}

void domain_apply_conf(Domain *d, bool settings_changed) {
        SourceSettings settings = settings_of(d);

        if (settings_changed && d->source)
                source_restart(d->source, &settings);
        domain_apply_policy(d);
}

static void on_xml(Domain *d, const VirtResult *r) {
        DomainInfo info;
        Outcome o = {};
        bool bound = d->info.hmvisor_bound;

        d->xml_asked = false;
        if (d->xml_again) {
                domain_read_xml(d);
                return;
        }
        if (!r->text || domain_xml_read(r->text, &info, &o) < 0) {
                const char *why = r->text ? o.text : r->outcome.text;

                if (r->outcome.code != OUTCOME_NO_DOMAIN && r->outcome.code != OUTCOME_NO_LIBVIRT)
                        log_full(LOG_WARNING, 0, d->name, d->uuid,
                                 "Domain '%s' cannot be read, ignoring it: %s", d->name, why);
                return;
        }
        d->info = info;
        d->info_known = true;
        domain_size_seen(d);
        if (d->id >= 0 && info.hmvisor_bound) {
                d->agent_connected = info.agent_connected;
                if (d->agent)
                        agent_link_set_connected(d->agent, d->agent_connected, manager_now(d->manager));
                domain_start_conversations(d);
        }
        domain_apply_policy(d);
        if (bound != info.hmvisor_bound && d->manager->hooks.domain_changed)
                d->manager->hooks.domain_changed(d->uuid, d->manager->hooks.userdata);
}

/* At most one is asked for at a time; another one is noted. */
void domain_read_xml(Domain *d) {
        DomainCall *c;

        d->xml_again = d->xml_asked;
        if (d->xml_asked || !d->manager->connected || domain_call_new(d, on_xml, &c) < 0)
                return;
        if (virt_get_xml(d->manager->virt, d->uuid, d->id < 0, domain_on_call, c) < 0)
                free(c);
        else
                d->xml_asked = true;
}

Domain *manager_add_domain(Manager *m, const VirtEvent *e) {
        Domain *d = calloc(1, sizeof(*d));

        if (!d)
                return NULL;
        d->manager = m;
        d->id = -1;
        manager_give_key(d);
        snprintf(d->name, sizeof(d->name), "%s", e->name);
        snprintf(d->uuid, sizeof(d->uuid), "%s", e->uuid);
        manager_conf_for_domain(m, &d->policy);
        HASH_ADD_STR(m->domains, uuid, d);
        return d;
}

void manager_drop_domain(Domain *d) {
        (void) domain_set_phase(d, PHASE_GONE, "");
        HASH_DEL(d->manager->domains, d);
        manager_take_key(d);
        source_free(d->source);
        agent_link_free(d->agent);
        free(d);
}

/* The process stays what it is until the domain has another id. */
int domain_pid(Domain *d, usec_t now) {
        if (d->pid <= 0 && now >= d->pid_next) {
                d->pid_next = now + PID_USEC;
                d->pid = virt_domain_pid(d->manager->virt, d->name);
        }
        return d->pid;
}

void domain_update(Domain *d, const VirtEvent *e) {
        bool renamed = !streq(d->name, e->name), other = d->id != e->id;

        snprintf(d->name, sizeof(d->name), "%s", e->name);
        d->state = e->state;
        d->listed = true;
        if (other) {
                d->id = e->id;
                d->info = (DomainInfo){}; /* other sizes, too */
                d->resize = (Resize){};
                d->swap = (Swap){};
                d->pid = 0;
                d->pid_next = d->own_next = 0;
                d->cpu_seen = 0;
                d->own_known = false;
                d->job = false;
                d->info_known = false;
                d->agent_connected = false;
                domain_drop_conversations(d);
        }
        domain_read_xml(d);
        domain_evaluate(d);
        if ((renamed || other) && d->manager->hooks.domain_changed)
                d->manager->hooks.domain_changed(d->uuid, d->manager->hooks.userdata);
}

/* The frames hold other things now, virtio-mem is unplugged and the agent starts anew: so do we. QEMU and
 * its extension stay, so the source is only asked to start again. */
void domain_rebooted(Domain *d) {
        if (d->id < 0)
                return;
        domain_drop_conversations(d);
        d->agent_connected = false;
        d->info_known = false;
        domain_read_xml(d);
        domain_evaluate(d);
}

void domain_set_agent_connected(Domain *d, bool connected) {
        d->agent_connected = connected;
        if (d->agent)
                agent_link_set_connected(d->agent, connected, manager_now(d->manager));
        if (d->xml_asked)
                domain_read_xml(d);   /* what is under way may be older than this */
        domain_evaluate(d);
}

bool domain_is_frozen(const Domain *d) {
        return d->state == VIRT_STATE_PAUSED || d->job || !d->manager->connected;
}

bool domain_is_dry(const Domain *d) {
        return d->policy.dry_run || d->manager->conf->host.dry_run;
}

static bool source_works(const Domain *d) {
        SourceHealth h = d->source ? source_health(d->source) : SOURCE_STOPPED;

        return h == SOURCE_TRACKING || h == SOURCE_BLOCKED;
}

/* Counted in epochs with samples: where tracking is dear and rests, seconds pass in which nothing is
 * learned. */
static bool is_balanced(const Domain *d) {
        DomainTotals totals;

        return d->balanced_since > 0 && core_get_totals(d->manager->core, d->key, &totals) == 0 &&
               totals.epochs >= d->balanced_epochs + BALANCED_EPOCHS;
}

/* What the domain's state is worth; another duty cycle starts the source anew, its ranges and heat kept. */
static void domain_set_effort(Domain *d) {
        SourceSettings settings = settings_of(d), before = settings;
        Effort e = EFFORT_GLANCE;

        if (d->policy.managed && agent_link_health(d->agent) == AGENT_READY && !d->manager->stopping)
                e = is_balanced(d) ? EFFORT_WATCH : EFFORT_FULL;
        if (e == d->effort)
                return;
        d->effort = e;
        settings = settings_of(d);
        if (settings.duty_on_usec != before.duty_on_usec || settings.duty_off_usec != before.duty_off_usec)
                source_restart(d->source, &settings);
}

/* Why it is DEGRADED; false when it is not. */
static bool find_defect(const Domain *d, char *buf, size_t size) {
        if (source_health(d->source) == SOURCE_FAILED) {
                snprintf(buf, size, "%s", source_outcome(d->source)->text);
                return true;
        }
        if (!d->info.has_agent_channel) {
                snprintf(buf, size,
                         "it has no agent channel; unbind and bind it again, then power it off and on");
                return true;
        }
        switch (agent_link_health(d->agent)) {
        case AGENT_ABSENT:
                snprintf(buf, size,
                         "no agent is connected from the guest; install hmvisor-guest-agent in it, or wait "
                         "until it has booted");
                return true;
        case AGENT_FAILING:
                snprintf(buf, size, "%s", agent_link_outcome(d->agent)->text);
                return true;
        default:
                return false;
        }
}

/* What is worth knowing while it works. */
static const char *find_note(const Domain *d) {
        const HotnessStatus *s = source_status(d->source);

        if (source_health(d->source) == SOURCE_BLOCKED)
                return source_outcome(d->source)->text;
        if (domain_is_dry(d) && d->policy.managed)
                return "dry run: orders are decided and explained, and not carried out";
        if (s && s->ring && d->manager->conf->dirty_ring_size == 0)
                return "tracked by its dirty ring, at more cost than by the bitmap; unbind and bind it "
                       "again to be rid of it";
        if (s && !s->ring && d->manager->conf->dirty_ring_size > 0)
                return d->info.has_dirty_ring
                               ? "tracked by the dirty bitmap: the host's kernel has no dirty ring"
                               : "tracked by the dirty bitmap: the domain has no <dirty-ring>; unbind and "
                                 "bind it again for one";
        return "";
}

void domain_evaluate(Domain *d) {
        usec_t now = manager_now(d->manager);
        char reason[512];
        bool wanted;

        if (d->id < 0 || (d->info_known && !d->info.hmvisor_bound)) {
                (void) domain_set_phase(d, PHASE_DISCOVERED, "");
                return;
        }
        if (!d->info_known || !d->source) {
                /* not known to be bound before its XML was read */
                if (d->phase != PHASE_DISCOVERED || d->info_known)
                        (void) domain_set_phase(d, PHASE_PROBING, "");
                return;
        }

        /* The guest is changed only while its hotness can be seen, and never in a dry run. */
        wanted = d->policy.managed && source_works(d) && !domain_is_dry(d) && !d->manager->stopping;
        d->booted = d->booted || agent_link_health(d->agent) == AGENT_READY;
        agent_link_set_frozen(d->agent, domain_is_frozen(d), now);
        agent_link_set_manage(d->agent, wanted, now);
        domain_set_effort(d);

        if (d->phase == PHASE_DISCOVERED)
                (void) domain_set_phase(d, PHASE_PROBING, "");
        if (find_defect(d, reason, sizeof(reason))) {
                (void) domain_set_phase(d, PHASE_DEGRADED, reason);
                return;
        }
        if (source_health(d->source) == SOURCE_STARTING)
                return;   /* PROBING until it answered */
        if (agent_link_health(d->agent) != AGENT_READY) {
                if (d->phase == PHASE_MANAGED && !d->policy.managed)
                        (void) domain_set_phase(d, PHASE_OBSERVING, find_note(d));
                return;   /* asked, and not answered yet */
        }
        if (d->phase == PHASE_PROBING)
                (void) domain_set_phase(d, PHASE_OBSERVING, find_note(d));
        (void) domain_set_phase(d,
                                d->policy.managed && !d->manager->stopping ? PHASE_MANAGED : PHASE_OBSERVING,
                                find_note(d));
}

/* A clean stop: what we changed in the guest is undone, and QEMU stops tracking. */
void domain_start_stop(Domain *d) {
        usec_t now = manager_now(d->manager);

        if (d->agent)
                agent_link_set_manage(d->agent, false, now);
        if (d->source)
                source_stop(d->source, now);
}

/* A guest that is frozen cannot be asked: its agent's lease undoes it. */
bool domain_is_stopped(const Domain *d) {
        bool agent = !d->agent || domain_is_frozen(d) || !d->agent_connected || agent_link_is_idle(d->agent);

        return agent && (!d->source || source_health(d->source) == SOURCE_STOPPED);
}
