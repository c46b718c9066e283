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
 *   manager-market.c    the market: facts gathered, its ledger on disk, sizes carried out
 *   manager-market-ask.c    what people ask of it
 *   manager-market-view.c   what people see of it
 *   manager-journal.c   the core's ledger to the journal and back
 *   manager-swap.c      what a guest swaps, by the disk's statistics
 *   manager-size.c      one size asked for at a time
 *   manager-metrics.c   counters that nobody else keeps
 */
#pragma once

#include <uthash.h>

#include "base/log.h"
#include "io/agent-link.h"
#include "io/source.h"
#include "io/virt.h"
#include "manager-journal.h"
#include "manager.h"

#define BEAT_USEC (250 * USEC_PER_MSEC)
#define CALM_BEAT_USEC USEC_PER_SEC /* while nobody's answer is waited for */
#define STOP_USEC (10 * USEC_PER_SEC)
#define DECISIONS_KEPT 64
#define EXPLAIN_TEXT_MAX 256
#define MARKET_NO_LOT                                                                                       \
        "DramPrice=, SlowPrice=, MinTrade= and MaxTrade= leave no trade of whole blocks on both sides; "    \
        "use "                                                                                              \
        "smaller prices, such as 4 and 1, or a larger MaxTrade="
#define COMMANDS_MAX 256               /* of users to the market, in one epoch */

typedef struct Domain Domain;

typedef struct KeptDecision {
        usec_t realtime;
        Decision decision;             /* of pages; where there is a text, the last one before it */
        char text[EXPLAIN_TEXT_MAX];   /* of the market; "": it is about pages */
} KeptDecision;

/* How much of the time writes are tracked. Tracking costs the guest a fault for each page it writes, so it
 * is done for as long as it pays. */
typedef enum Effort {
        EFFORT_GLANCE,                 /* nothing can be moved: enough for `hmvctl heat` */
        EFFORT_WATCH,                  /* managed and balanced for some time */
        EFFORT_FULL,                   /* managed, as configured */
} Effort;

/* A size that was asked for, and what is known of it. */
typedef struct Resize {
        enum {
                RESIZE_IDLE,
                RESIZE_ASKED,          /* libvirt works on it */
                RESIZE_DONE,           /* or refused; XML that is newer than that is being read */
                RESIZE_UNSURE,         /* no answer came: it may take effect yet */
        } state;
        uint32_t cell;
        uint64_t boot_bytes, bytes;    /* bytes: of boot memory and device together */
        unsigned failures;             /* in a row */
} Resize;

/* What a guest reads from and writes to the disk that it swaps to. */
typedef struct Swap {
        bool asked, failed;            /* failed: said once for this disk */
        char device[POLICY_NAME_SIZE];
        uint64_t bytes, wait_ns;       /* ever, at `when`; wait_ns: of reads, 0: not counted */
        usec_t when;                   /* 0: not known */
        uint64_t bytes_per_sec, wait_usec;   /* wait_usec: per second; UINT64_MAX: not known */
} Swap;

typedef struct MarketAsk MarketAsk;

typedef struct Market {
        JournalFile *journal;          /* NULL: not opened yet */
        bool listed;                   /* all domains that run are known */
        bool unsaved;                  /* the ledger is newer than the journal */
        bool journal_failed;           /* to be read or written, the last time */
        usec_t tiers_known;
        uint64_t tier_bytes[_TIER_MAX];
        uint64_t capacity[_TIER_MAX];  /* what domains of the market may hold, as last told to the core */
        MarketCommand commands[COMMANDS_MAX];
        size_t n_commands;
        MarketAsk *asks;               /* users who wait for the next tick, the first one first */
        Outcome fault;                 /* why the market stands still; OK: it does not */
} Market;

struct Domain {
        UT_hash_handle hh, hh_key;     /* by uuid, by key */
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
        usec_t watched_since;          /* this incarnation */
        bool booted;                   /* its agent has answered */
        Effort effort;                 /* how much of the time the source tracks */
        usec_t balanced_since;         /* the core has found nothing to move since then; 0: it has */
        uint64_t balanced_epochs;      /* it had seen then */
        Decision balanced;             /* and what it found then */
        AgentLink *agent;
        bool agent_connected;
        bool held;                     /* its counters are ours in this epoch */
        uint32_t samples;              /* of this epoch */
        uint64_t dram_blocks; /* bits of source_skip(): DRAM, where samples can leave all of it out */
        Resize resize;
        Swap swap;
        int pid;                       /* of QEMU; <= 0: not known */
        usec_t pid_next;
        usec_t cpu_usec, cpu_seen;     /* processor time that it had taken, and when; 0: not known */
        uint32_t busy_permille;        /* of one processor, in the last epoch */
        bool usage_known, own_known;
        usec_t own_next;
        uint64_t usage_bytes[HOST_NODES_MAX];   /* of QEMU's memory, by host node ... */
        uint64_t own_bytes[HOST_NODES_MAX];     /* ... and what of it is not the guest's */
        bool market_known;             /* the market has seen its present settings */
        WishDecision wish;             /* as last explained */
        bool wish_known;
        uint64_t lost_order;           /* could not be sent: the core is told at the next epoch */

        KeptDecision decisions[DECISIONS_KEPT];
        size_t n_decisions;            /* ever; the last ones are kept */
        char mover[16];
        usec_t counters_told;
        uint64_t counters_sum;         /* of those told */
        usec_t order_sent;             /* of the last order */
        DomainMetrics metrics;
};

struct Manager {
        sd_event *event;
        Conf *conf;
        char *config_root, *uri;
        Virt *virt;
        Core *core;
        ManagerHooks hooks;
        Domain *domains, *domains_by_key;      /* the same ones, by uuid and by key */
        uint64_t last_key;
        uint64_t order_base; /* added to the core's ids, so that no guest takes one for an older one */
        uint64_t fault_cost_ns; /* what a page's first write costs a tracked guest */
        bool connected, stopping, freeing;
        Market market;
        sd_event_source *beat, *epoch, *stop;
};

/* What came of a call about d, which is still the incarnation that it was made for. */
typedef void (*DomainReply)(Domain *d, const VirtResult *result);
typedef struct DomainCall DomainCall;

usec_t manager_now(Manager *m);
Domain *manager_domain(const Manager *m, const char *uuid);
Domain *manager_domain_by_key(Manager *m, uint64_t key);
void manager_give_key(Domain *d);      /* another one than any before */
void manager_take_key(Domain *d);      /* it is found by none any more */
void manager_tell_event(Manager *m, const Domain *d, LogEvent event, int level, const char *kind,
                        const char *format, ...) _printf_(6, 7);
#define manager_tell(m, d, kind, ...)                                                                      \
        manager_tell_event(m, d, LOG_EVENT_NONE, LOG_INFO, kind, __VA_ARGS__)
void manager_conf_for_domain(const Manager *m, DomainPolicy *ret);

/* manager-tracking.c */
void tracking_start(Manager *m);       /* finds out what a fault costs; again after a reload */
/* Once an epoch: how busy the domain is. */
void tracking_look(Domain *d);
/* Faults a second that tracking may cost the domain now; 0: no limit. */
uint64_t tracking_limit(const Domain *d);
/* Whether nothing is to be tracked until the next epoch. */
bool tracking_rests(const Domain *d);
/* What samples leave out, bits of source_skip(). */
uint64_t tracking_skips(const Domain *d);
/* Whether its writes are logged by a dirty ring; false, too, while that is not known. */
bool tracking_has_ring(const Domain *d);

/* manager-phase.c */
bool phase_may_follow(Phase from, Phase to);
/* What is worth an id in the journal. */
LogEvent phase_event(Phase from, Phase to, bool tracking_failed);
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
/* The process that it is, looked for now and then; <= 0: not known. */
int domain_pid(Domain *d, usec_t now);
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
void decision_keep_text(Domain *d, const char *text);
int decisions_explain(const Domain *d, size_t n, char **ret);

/* manager-metrics.c */
void metrics_order_sent(Domain *d);
void metrics_order_acknowledged(Domain *d);
void metrics_trade_ended(Domain *d, const Ticket *t, const Terms *terms);

/* manager-size.c */
/* Asks for a size of boot memory and device together. Returns 0, -EBUSY (another one is under way), or
 * -errno. */
int domain_resize(Domain *d, const DomainCell *cell, uint64_t bytes);
/* The same size once more, where it is not known what came of it. */
void domain_resize_again(Domain *d);
void domain_size_seen(Domain *d);
uint64_t domain_size_asked(const Domain *d, const DomainCell *cell);

/* manager-swap.c */
/* Asks for it, at most once at a time; the rates are those between the last two answers. UINT64_MAX: not
 * known. */
void domain_look_at_swap(Domain *d);
uint64_t domain_swap_rate(const Domain *d);   /* bytes per second */
uint64_t domain_swap_wait(const Domain *d);   /* what its reads took, in us per second */

/* manager-market.c */
AccountId market_account(const Domain *d);
Domain *market_domain(Manager *m, const AccountId *id);
const DomainCell *market_cell(const Domain *d, Tier tier);   /* NULL: none, or more than one */
bool market_can_trade(const Domain *d);
bool market_has_dealings(const Domain *d);
bool market_takes_part(const Domain *d);
/* Bytes of each tier that domains may hold: of its nodes, less the reserve. */
int market_capacity(Manager *m, uint64_t ret[_TIER_MAX], Outcome *o);
void market_facts(const Domain *d, MarketFacts *ret);
void market_inputs(Manager *m, Inputs *in);
void market_carry(Manager *m, const Inputs *in, const OrderList *list);
/* What of a settlement is worth an id in the journal. */
LogEvent market_event(const SettleEvent *e);
void market_reload(Manager *m);
void market_done(Manager *m);

/* manager-market-ask.c */
void market_answer(Manager *m);        /* after each tick */
void market_drop_asks(Manager *m);
/* Entitlements that the host or the domain could never hold, floors and ceilings that nothing could meet. */
int market_check_policy(Manager *m, const Domain *d, const DomainPolicy *p, Outcome *o);
