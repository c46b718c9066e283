/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the files of the manager share, and nobody else includes.
 *
 *   manager.c           the Manager itself: libvirt's events, views, reload, stop
 *   manager-domain.c    one domain: what is known of it, its phase, its source and its agent
 *   manager-phase.c     the phases, and which may follow which
 *   manager-tick.c      the beat (conversations go on) and the epoch (facts in, orders out)
 *   manager-order.c     orders carried out, acknowledged and explained
 *   manager-action.c    what users ask for: bind, unbind, policy
 *   manager-verify.c    the proof that memory is where it should be
 */
#pragma once

#include <uthash.h>

#include "io/agent-link.h"
#include "io/source.h"
#include "io/virt.h"
#include "manager.h"

#define BEAT_USEC (250 * USEC_PER_MSEC)
#define STOP_USEC (10 * USEC_PER_SEC)
#define DECISIONS_KEPT 64

typedef struct Domain Domain;

typedef struct KeptDecision {
        usec_t realtime;
        Decision decision;
} KeptDecision;

/* How much of the time writes are tracked. Tracking costs the guest a fault for each page it writes, so it
 * is done for as long as it pays. */
typedef enum Effort {
        EFFORT_GLANCE,                 /* nothing can be moved: enough for `hmvctl heat` */
        EFFORT_WATCH,                  /* managed and balanced for some time */
        EFFORT_FULL,                   /* managed, as configured */
} Effort;

struct Domain {
        UT_hash_handle hh;             /* by uuid */
        Manager *manager;
        char name[256], uuid[37];
        uint64_t key;                  /* the core's; another one at each start and reset of the guest */
        int id;
        VirtState state;
        bool listed;                   /* since the last complete list */
        bool job;                      /* a migration is under way */

        Phase phase;
        char reason[512];

        DomainInfo info;
        bool info_known;               /* of this incarnation */
        bool xml_asked, xml_again;
        DomainPolicy policy;
        bool action;                   /* a change of a user's is under way */

        Source *source;                /* both: while it runs bound */
        Effort effort;                 /* how much of the time the source tracks */
        usec_t balanced_since;         /* the core has found nothing to move since then; 0: it has */
        AgentLink *agent;
        bool agent_connected;
        bool held;                     /* its counters are ours in this epoch */
        uint32_t samples;              /* of this epoch */
        uint64_t lost_order;           /* could not be sent: the core is told at the next epoch */

        KeptDecision decisions[DECISIONS_KEPT];
        size_t n_decisions;            /* ever; the last ones are kept */
        char mover[16];
        usec_t counters_told;
};

struct Manager {
        sd_event *event;
        Conf *conf;
        char *config_root, *uri;
        Virt *virt;
        Core *core;
        ManagerHooks hooks;
        Domain *domains;               /* by uuid */
        uint64_t last_key;
        uint64_t order_base; /* added to the core's ids, so that no guest takes one for an older one */
        bool connected, stopping, freeing;
        sd_event_source *beat, *epoch, *stop;
};

/* What came of a call about d, which is still the incarnation that it was made for. */
typedef void (*DomainReply)(Domain *d, const VirtResult *result);
typedef struct DomainCall DomainCall;

usec_t manager_now(Manager *m);
Domain *manager_domain(const Manager *m, const char *uuid);
Domain *manager_domain_by_key(Manager *m, uint64_t key);
void manager_tell(Manager *m, const Domain *d, const char *kind, const char *format, ...) _printf_(4, 5);
void manager_conf_for_domain(const Manager *m, DomainPolicy *ret);

/* manager-phase.c */
bool phase_may_follow(Phase from, Phase to);
/* The one place that changes a phase. Returns true when phase or reason changed, -EINVAL as false is a bug:
 * it logs. */
bool domain_set_phase(Domain *d, Phase phase, const char *reason);

/* manager-domain.c */
Domain *manager_add_domain(Manager *m, const VirtEvent *e);
void manager_drop_domain(Domain *d);
void domain_update(Domain *d, const VirtEvent *e);
void domain_rebooted(Domain *d);
void domain_read_xml(Domain *d);
void domain_apply_policy(Domain *d);
void domain_apply_conf(Domain *d, bool settings_changed);
void domain_set_agent_connected(Domain *d, bool connected);
void domain_evaluate(Domain *d);
/* Whether QEMU's RAM block is memory of this cell; ret_device (may be NULL): of its virtio-mem device. */
bool cell_owns_block(const DomainCell *c, const char *block, bool *ret_device);
bool domain_is_frozen(const Domain *d);
bool domain_is_dry(const Domain *d);
void domain_start_stop(Domain *d);
bool domain_is_stopped(const Domain *d);
int domain_call_new(Domain *d, DomainReply done, DomainCall **ret);
void domain_on_call(Virt *v, const VirtResult *result, void *call);

/* manager-tick.c */
int manager_tick_start(Manager *m);
void manager_tick_wake(Manager *m);
void manager_epoch(Manager *m);        /* for the tests; the timer calls it */

/* manager-order.c */
bool order_is_under_way(const Domain *d);
const AckFacts *order_ack(Domain *d, AckFacts *buf);
void order_acknowledged(Domain *d, const AckFacts *ack);
void order_carry(Domain *d, const Order *order);
void decision_keep(Domain *d, const Decision *decision);
int decisions_explain(const Domain *d, size_t n, char **ret);
