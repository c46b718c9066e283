/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What users ask for that changes a domain: bind, unbind, policy. Each is a chain of calls to libvirt; the
 * first failure ends it with what libvirt or the XML said, and nothing is changed before the last step.
 */
#include <inttypes.h>
#include <stdarg.h>

#include "base/log.h"
#include "base/units.h"
#include "manager-action.h"

const char *action_name(const Action *a) {
        Domain *d = manager_domain(a->manager, a->uuid);

        return d ? d->name : a->uuid;
}

int action_outcome(const Action *a, Outcome *o, OutcomeCode code, const char *format, ...) {
        char text[400];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        return outcome_set(o, code, "domain '%.80s': %s", action_name(a), text);
}

int action_new(Manager *m, const char *uuid, ManagerReply reply, void *userdata, Action **ret, Outcome *o) {
        Domain *d = manager_domain(m, uuid);
        Action *a;

        if (!d)
                return outcome_set(o, OUTCOME_NO_DOMAIN,
                                   "no domain has the UUID '%.40s'; 'hmvctl list' shows them", uuid);
        if (!m->connected)
                return outcome_set(o, OUTCOME_NO_LIBVIRT,
                                   "domain '%s': libvirt cannot be reached; see 'systemctl status "
                                   "libvirtd', hmvisord reconnects by itself",
                                   d->name);
        if (m->stopping || d->action)
                return outcome_set(o, OUTCOME_DOMAIN_BUSY, "domain '%s': %s; try again when it is done",
                                   d->name,
                                   m->stopping ? "hmvisord is stopping" : "another change is under way");
        a = calloc(1, sizeof(*a));
        if (!a)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        *a = (Action) { .manager = m, .reply = reply, .userdata = userdata };
        memcpy(a->uuid, d->uuid, sizeof(a->uuid));
        d->action = true;
        *ret = a;
        return 0;
}

Action *action_free(Action *a) {
        Domain *d;

        if (!a)
                return NULL;
        d = manager_domain(a->manager, a->uuid);
        if (d)
                d->action = false;
        free(a->words);
        free(a->text);
        free(a);
        return NULL;
}

void action_end(Action *a, const Outcome *o, const char *text) {
        ManagerReply reply = a->reply;
        void *userdata = a->userdata;
        _cleanup_free_ char *copy = text ? strdup(text) : NULL;

        action_free(a);
        reply(o, copy ?: "", userdata);
}

/* The first call of a chain could not even be queued. */
static int action_not_started(Action *a, int r, Outcome *o) {
        if (r >= 0)
                return 0;
        (void) action_outcome(a, o, OUTCOME_DOMAIN_BUSY,
                              "too much is asked of libvirt at once (%s); try again later", strerror(-r));
        action_free(a);
        return -EIO;
}

static void action_next(Action *a, int r) {
        Outcome o = {};

        if (r >= 0)
                return;
        (void) action_outcome(a, &o, OUTCOME_DOMAIN_BUSY,
                              "too much is asked of libvirt at once (%s); try again later", strerror(-r));
        action_end(a, &o, NULL);
}

static void on_defined(Virt *v, const VirtResult *r, void *userdata) {
        Action *a = userdata;
        Domain *d = manager_domain(a->manager, a->uuid);

        if (r->outcome.code == OUTCOME_OK && d) {
                manager_tell(a->manager, d, a->unbind ? "unbind" : "bind", "%s%s",
                             a->unbind ? "unbound" : "bound",
                             d->id >= 0
                                     ? "; it runs on as it is: power it off and on for this to take effect"
                                     : "");
                domain_read_xml(d);
        }
        action_end(a, &r->outcome, NULL);
}

static void on_xml_to_change(Virt *v, const VirtResult *r, void *userdata) {
        _cleanup_free_ char *xml = NULL, *diff = NULL;
        Action *a = userdata;
        Outcome o = {};

        if (!r->text) {
                action_end(a, &r->outcome, NULL);
                return;
        }
        if ((a->unbind ? domain_xml_unbind(r->text, &xml, &o)
                       : domain_xml_bind(r->text, &a->bind, &xml, &o)) < 0) {
                action_end(a, &o, NULL);
                return;
        }
        if (!a->dry_run) {
                action_next(a, virt_define_xml(v, a->uuid, xml, on_defined, a));
                return;
        }
        if (domain_xml_diff(r->text, xml, &diff) < 0)
                (void) outcome_set(&o, OUTCOME_FAILED, "out of memory");
        action_end(a, &o, diff);
}

/* What a tier is made of, as libvirt and the guest's HMAT want it. */
static void bind_tier_fill(const HostTiers *t, Tier tier, BindTier *ret) {
        size_t used = 0;

        *ret = (BindTier) { .distance = tier == TIER_DRAM ? 10 : UINT32_MAX };
        host_tiers_nodelist(t, tier, false, ret->nodes, sizeof(ret->nodes));
        for (size_t i = 0; i < t->n_nodes; i++) {
                const HostNode *n = &t->nodes[i];

                if (n->tier != tier || n->source == TIER_FROM_DISTANCE)
                        continue;
                ret->latency_ns = MAX(ret->latency_ns, n->latency_ns);
                ret->bandwidth_mibs = ret->bandwidth_mibs == 0 ? n->bandwidth_mibs :
                                                                 MIN(ret->bandwidth_mibs, n->bandwidth_mibs);
                if (tier == TIER_SLOW)
                        ret->distance = MIN(ret->distance, n->distance_from_dram);
                if (*n->cpus && used + strlen(n->cpus) + 2 < sizeof(ret->cpus))
                        used += (size_t) snprintf(ret->cpus + used, sizeof(ret->cpus) - used, "%s%s",
                                                  used ? "," : "", n->cpus);
        }
}

static int bind_tiers(Action *a, const HostTiers *t, Outcome *o) {
        uint64_t wanted[_TIER_MAX] = { a->bind.dram_bytes, a->bind.slow_bytes };
        char want[SIZE_TEXT_MAX], have[SIZE_TEXT_MAX], suggested[64];

        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                const char *key = tier == TIER_DRAM ? "DramNodes" : "SlowNodes";
                uint64_t total = 0;

                bind_tier_fill(t, tier, &a->bind.tiers[tier]);
                host_tiers_nodelist(t, tier, true, suggested, sizeof(suggested));
                if (a->bind.tiers[tier].nodes[0] == '\0')
                        return outcome_set(o, OUTCOME_NO_TIER,
                                           "this host has no %s tier%s%s; name its nodes by %s= below "
                                           "[Tiers] in /etc/hmvisor/hmvisord.conf",
                                           tier_to_string(tier),
                                           *suggested ? ", though by its distance this looks like one: node "
                                                      : "",
                                           suggested, key);
                for (size_t i = 0; i < t->n_nodes; i++)
                        if (t->nodes[i].tier == tier && t->nodes[i].source != TIER_FROM_DISTANCE)
                                total += t->nodes[i].total_bytes;
                if (wanted[tier] > total)
                        return action_outcome(a, o, OUTCOME_NO_ROOM,
                                              "%s of %s memory are wanted, and the tier (node %s) has "
                                              "%s; ask for less",
                                              size_format(want, wanted[tier]), tier_to_string(tier),
                                              a->bind.tiers[tier].nodes, size_format(have, total));
        }
        return 0;
}

int manager_bind(Manager *m, const char *uuid, const BindRequest *request, ManagerReply reply,
                 void *userdata, Outcome *o) {
        _cleanup_(action_freep) Action *a = NULL;
        HostTiers tiers;
        int r;

        r = action_new(m, uuid, reply, userdata, &a, o);
        if (r < 0)
                return r;
        a->dry_run = request->dry_run;
        a->bind = (BindOptions) {
                .dram_bytes = request->dram_bytes,
                .slow_bytes = request->slow_bytes,
                .max_dram_bytes = request->max_dram_bytes,
                .max_slow_bytes = request->max_slow_bytes,
                .min_dram_bytes = request->min_dram_bytes,
                .min_slow_bytes = request->min_slow_bytes,
                .dirty_ring_size = m->conf->dirty_ring_size,
                .extension_path = m->conf->extension_path,
        };
        r = manager_get_tiers(m, &tiers, o);
        if (r >= 0)
                r = bind_tiers(a, &tiers, o);
        if (r < 0)
                return r;
        r = virt_get_xml(m->virt, a->uuid, true, on_xml_to_change, a);
        return action_not_started(TAKE_PTR(a), r, o);
}

int manager_unbind(Manager *m, const char *uuid, bool dry_run, ManagerReply reply, void *userdata,
                   Outcome *o) {
        Action *a;
        int r;

        r = action_new(m, uuid, reply, userdata, &a, o);
        if (r < 0)
                return r;
        a->unbind = true;
        a->dry_run = dry_run;
        return action_not_started(a, virt_get_xml(m->virt, a->uuid, true, on_xml_to_change, a), o);
}

static bool word_is_named(const char *words, const char *word, size_t key_len) {
        for (const char *p = words; *p; p += strspn(p, " \t\n")) {
                size_t n = strcspn(p, " \t\n");

                if (n > key_len && p[key_len] == '=' && strncasecmp(p, word, key_len) == 0)
                        return true;
                p += n;
        }
        return false;
}

/* The words kept so far, without those that `words` says anew, then `words`: what the user said stays said,
 * also where it equals today's default. */
static int words_merge(const char *kept, const char *words, char **ret) {
        char *merged = malloc(strlen(kept) + strlen(words) + 2);
        size_t used = 0;

        if (!merged)
                return -ENOMEM;
        for (const char *p = kept + strspn(kept, " \t\n"); *p; p += strspn(p, " \t\n")) {
                size_t n = strcspn(p, " \t\n"), key = strcspn(p, "= \t\n");

                if (!word_is_named(words, p, key)) {
                        memcpy(merged + used, p, n);
                        used += n;
                        merged[used++] = ' ';
                }
                p += n;
        }
        strcpy(merged + used, words);
        *ret = merged;
        return 0;
}

static void on_policy_kept(Virt *v, const VirtResult *r, void *userdata) {
        Action *a = userdata;
        Domain *d = manager_domain(a->manager, a->uuid);

        if (r->outcome.code == OUTCOME_OK && d) {
                manager_tell(a->manager, d, "policy", "policy is now '%s'%s", a->words,
                             a->live ? "" : " from its next start");
                if (a->live || d->id < 0) {
                        /* at once, and not only when libvirt tells of it */
                        snprintf(d->info.policy_text, sizeof(d->info.policy_text), "%s", a->words);
                        domain_apply_policy(d);
                        if (d->manager->hooks.domain_changed)
                                d->manager->hooks.domain_changed(d->uuid, d->manager->hooks.userdata);
                }
        }
        action_end(a, &r->outcome, NULL);
}

static void on_policy_read(Virt *v, const VirtResult *r, void *userdata) {
        _cleanup_free_ char *kept = NULL, *merged = NULL, *element = NULL;
        DomainPolicy p;
        Action *a = userdata;
        Outcome o = {};

        if (!r->text) {
                action_end(a, &r->outcome, NULL);
                return;
        }
        manager_conf_for_domain(a->manager, &p);
        if (domain_xml_get_policy(r->text, &kept) < 0 || policy_parse(kept, &p, NULL) < 0) {
                free(kept);
                kept = strdup("");   /* what cannot be read is replaced */
        }
        if (!kept || words_merge(kept, a->words, &merged) < 0 ||
            domain_xml_policy_element(merged, &element) < 0)
                (void) outcome_set(&o, OUTCOME_FAILED, "out of memory");
        else if (strlen(merged) >= sizeof(a->info.policy_text))
                (void) action_outcome(a, &o, OUTCOME_BAD_ARGUMENT, "the policy would be too long");
        if (o.code != OUTCOME_OK) {
                action_end(a, &o, NULL);
                return;
        }
        free(a->words);
        a->words = TAKE_PTR(merged);
        action_next(a, virt_set_metadata(v, a->uuid, element, a->live, a->config, on_policy_kept, a));
}

int manager_set_policy(Manager *m, const char *uuid, const char *words, bool live, bool config,
                       ManagerReply reply, void *userdata, Outcome *o) {
        _cleanup_(action_freep) Action *a = NULL;
        const Domain *d;
        DomainPolicy p;
        int r;

        r = action_new(m, uuid, reply, userdata, &a, o);
        if (r < 0)
                return r;
        d = manager_domain(m, uuid);
        p = d->policy; /* what was said before stays: all of it together must make sense */
        r = policy_parse(words, &p, o);
        if (r >= 0)
                r = market_check_policy(m, d, &p, o);
        if (r < 0)
                return r;
        if (live && d->id < 0)
                return outcome_set(o, OUTCOME_DOMAIN_OFF,
                                   "domain '%s' is off; use --config to change what it starts with",
                                   d->name);
        a->live = live || (!config && d->id >= 0);
        a->config = config || !a->live;
        a->words = strdup(words + strspn(words, " \t\n"));
        if (!a->words)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        r = virt_get_metadata(m->virt, a->uuid, !a->live, on_policy_read, a);
        return action_not_started(TAKE_PTR(a), r, o);
}
