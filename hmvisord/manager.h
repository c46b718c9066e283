/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Owns everything that the daemon knows: domains and their phases, the core, adapters and timers. Gathers
 * facts, calls core_step(), carries orders out. The bus changes things only through these functions.
 */
#pragma once

#include <systemd/sd-event.h>

#include "conf.h"
#include "core/core.h"
#include "io/domain-xml.h"
#include "io/host.h"
#include "manager-market.h"
#include "manager-metrics.h"

typedef struct Manager Manager;

typedef enum Phase {
        PHASE_DISCOVERED,   /* libvirt told of it; off, or not bound: nothing to do */
        PHASE_PROBING,      /* running and bound: XML, extension and agent are being asked */
        PHASE_OBSERVING,    /* tracked, not managed */
        PHASE_MANAGED,      /* tracked, and orders go to the guest */
        PHASE_DEGRADED,     /* running, but something is missing: the reason says what, and the remedy */
        PHASE_GONE,
        _PHASE_MAX,
} Phase;
const char *phase_to_string(Phase p);

typedef struct CellView {
        DomainCell cell;
        uint64_t guest_total_bytes, guest_free_bytes;   /* the guest's word; UINT64_MAX: not known */
        uint64_t heat_pages[HEAT_BANDS];
} CellView;

typedef struct DomainView {
        char name[256];
        char uuid[37];
        int id;                        /* -1: off */
        Phase phase;
        char reason[512];              /* why DEGRADED; in other phases a note ("dry run: ..."), or "" */
        bool bound, managed;
        DomainPolicy policy;
        CellView cells[DOMAIN_CELLS_MAX];
        size_t n_cells;
        DomainTotals totals;
        char tracking_state[16];       /* of the extension; "" when there is none */
        char tracking_log[8];          /* "ring" or "bitmap" */
        char tracking_scope[8];        /* "all", or "slow": DRAM is left out */
        uint64_t tracking_epochs, tracking_dropped, tracking_cost_ns, tracking_last_cost_ns;
        char agent_version[64], agent_kernel[128];     /* "" when the agent is not ours */
        int32_t agent_kernel_node;     /* of the guest's kernel's own data; -1: not known */
        char agent_online_policy[32];  /* of the guest's kernel for plugged memory */
        char mover[16];                /* of the last order */
} DomainView;

/* One line of `events --loop` and of the D-Bus signal. */
typedef struct ManagerEvent {
        usec_t realtime;
        const char *name, *uuid;       /* of the domain; "" for the daemon's own */
        const char *kind;              /* "phase", "order", "bind", "connected", ... */
        const char *message;
} ManagerEvent;

/* What the bus wants to be told. Any may be NULL. */
typedef struct ManagerHooks {
        void (*domain_added)(const char *uuid, void *userdata);
        void (*domain_removed)(const char *uuid, void *userdata);
        void (*domain_changed)(const char *uuid, void *userdata);   /* phase, cells, policy: EmitsChanged */
        void (*counters_changed)(const char *uuid, void *userdata); /* at most once a second */
        void (*event)(const ManagerEvent *event, void *userdata);
        void *userdata;
} ManagerHooks;

int manager_new(sd_event *event, Conf *conf /* taken over */, Manager **ret);
/* Undoes what was changed in guests (bounded wait), stops tracking. */
Manager *manager_free(Manager *m);
DEFINE_CLEANUP(Manager *, manager_free);
void manager_set_hooks(Manager *m, const ManagerHooks *hooks);
/* Starts a clean stop: guests unprepared, tracking off; then exits the loop, within 10 s at most. */
void manager_stop(Manager *m);
int manager_reload(Manager *m, Outcome *o);
/* Where reload looks for configuration, "" for the real files. */
int manager_set_config_root(Manager *m, const char *root);

bool manager_is_connected(const Manager *m);
const Conf *manager_conf(const Manager *m);
int manager_get_tiers(Manager *m, HostTiers *ret, Outcome *o);

/* UUIDs of all domains, ascending by name; the caller frees the array (entries live in it). */
size_t manager_list_domains(const Manager *m, char (**ret_uuids)[37]);
/* By name, id or UUID. Returns 0 or -ENOENT with NO_DOMAIN (or NO_LIBVIRT). */
int manager_find_domain(const Manager *m, const char *name, char ret_uuid[static 37], Outcome *o);
int manager_get_domain(const Manager *m, const char *uuid, DomainView *ret, Outcome *o);
/* What nothing else tells; of a domain: 0 or -ENOENT. */
void manager_get_metrics(const Manager *m, DaemonMetrics *ret);
int manager_get_domain_metrics(const Manager *m, const char *uuid, DomainMetrics *ret);
/* The last n decisions, oldest first, one line each; the caller frees the text. */
int manager_explain(const Manager *m, const char *uuid, size_t n, char **ret_text, Outcome *o);

/* Longer actions: the callback comes exactly once, from the loop, unless the call itself fails (< 0, o
 * filled). text: what the action has to say (a diff, a table as JSON), valid in the callback only, "" if
 * nothing. */
typedef void (*ManagerReply)(const Outcome *outcome, const char *text, void *userdata);

typedef struct BindRequest {
        uint64_t dram_bytes, slow_bytes;
        uint64_t max_dram_bytes, max_slow_bytes, min_dram_bytes, min_slow_bytes;   /* 0: default */
        bool dry_run;
} BindRequest;
int manager_bind(Manager *m, const char *uuid, const BindRequest *request, ManagerReply reply,
                 void *userdata, Outcome *o);
int manager_unbind(Manager *m, const char *uuid, bool dry_run, ManagerReply reply, void *userdata,
                   Outcome *o);
/* text: JSON {"cells":[{"cell":n,"tier":s,"expected":"0","bytes":{"0":n,"1":n},"ok":bool}],"ok":bool} */
int manager_verify(Manager *m, const char *uuid, ManagerReply reply, void *userdata, Outcome *o);
/* live: now; config: kept in the domain's metadata. words: policy_parse() words, e.g. "Managed=yes". */
int manager_set_policy(Manager *m, const char *uuid, const char *words, bool live, bool config,
                       ManagerReply reply, void *userdata, Outcome *o);

void manager_market_get(const Manager *m, MarketView *ret);
/* Of each bound domain, ascending by name; the caller frees the array. */
size_t manager_market_holdings(const Manager *m, MarketHolding **ret);
/* The last n trades, newest first; the caller frees the array. */
size_t manager_market_history(Manager *m, size_t n, MarketTrade **ret);
/* Buys (> 0) or sells DRAM for slow memory at the next epoch of the market. The text says what that will
 * come to, if others take the other side. Both: where the market has not seen the domain's settings yet, the
 * reply comes after the tick that does, within 10 s; else at once, before they return. */
int manager_market_trade(Manager *m, const char *uuid, int64_t dram_bytes, bool dry_run, ManagerReply reply,
                         void *userdata, Outcome *o);
int manager_market_withdraw(Manager *m, const char *uuid, ManagerReply reply, void *userdata, Outcome *o);
