/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the core remembers of one domain, and what happens to it at each tick: heat, the order under way, its
 * acknowledgement, back-off. Owns the domain's state machine; never looks at other domains or at the host's
 * cap.
 */
#pragma once

#include "core/core.h"
#include "core/pacer.h"
#include "core/payoff.h"
#include "core/planner.h"
#include "core/room.h"
#include "core/scope.h"
#include "core/tracking.h"
#include "core/wish.h"

#define PAGE_BYTES UINT64_C(4096)
#define ORDER_TIMEOUT_USEC                                                                                  \
        (60 * USEC_PER_SEC) /* several times the longest deadline that orders are sent with */
#define BACKOFF_MAX 6       /* doublings: at most 64 times the usual pause */
#define HEAT_KEEPS_USEC (300 * USEC_PER_SEC) /* without new samples: tracking seldom rests for longer */
#define GAIN_AT_ONCE 16 /* what brings one part in so many of all heat to DRAM does not wait */
#define LACK_FACTOR 4       /* of demotions for each promotion that lacked room, the next time */
#define BAR_EPOCHS 60       /* pages that a guest would or could not move are asked for again after */

typedef enum DomainState {
        DOMAIN_WARMING,  /* until warmup_epochs have been seen */
        DOMAIN_READY,    /* the next order may be made */
        DOMAIN_BUSY,     /* an order is with the guest */
        DOMAIN_SETTLING, /* some epochs after it, until heat is true again */
        _DOMAIN_STATE_MAX,
} DomainState;

typedef struct Domain {
        uint64_t domain;
        DomainState state;
        bool has_ranges;
        uint64_t ranges_generation;
        Heatmap heatmap;
        bool sampled; /* the heat of this tick is fresh */
        uint64_t epochs_since; /* the last one with samples */
        usec_t sampled_at;
        Pacer pacer;
        TrackingBudget tracking;
        Scope scope;
        RoomAccount room;
        Payoff payoff;
        DomainTotals totals;
        Decision decision; /* the last one; verdict _VERDICT_MAX: none yet */

        Order under_way; /* a copy, while DOMAIN_BUSY */
        usec_t ordered_at;
        uint8_t least_heat;       /* of the pages it promotes */
        uint64_t epochs_left;     /* while DOMAIN_SETTLING */
        unsigned learning_epochs; /* for which an order has waited until tracking has to rest */
        unsigned backoff;         /* doublings of the pause after an order */
        uint64_t bar_epochs_left; /* until barred pages may be asked for again */
        uint64_t stuck_pages;     /* cold DRAM pages that the guest could not move */
        uint64_t lack_pages;      /* demoted beside those that make room, as it lacked some the last time */
        uint64_t stuck_epochs_left; /* until they are asked for again */
        uint64_t demote_from;     /* frame at which the next demote list starts */

        Wish wish; /* what it would trade; of a domain in the market only */
        WishDecision wish_decision;

        /* This tick's plan, if the domain wants an order. */
        bool wants;
        PlanQuestion question;
        Plan plan;
        uint64_t room_pages; /* of an order that only makes room; else 0 */
} Domain;

int domain_new(uint64_t key, Domain **ret);
Domain *domain_free(Domain *d);
DEFINE_CLEANUP(Domain *, domain_free);

/* Whether the table of transitions has it; exported for its test. */
bool domain_state_may_become(DomainState from, DomainState to);

/* Takes the facts of this tick in: ranges, counters, acknowledgement, the passing of time. Returns 0 or
 * -ENOMEM. */
int domain_observe(Domain *d, const DomainFacts *facts, usec_t now);

/* Decides whether the domain wants an order (then d->wants, and d->plan says how large), and fills ret with
 * the verdict so far. */
void domain_plan(Domain *d, const DomainFacts *facts, usec_t now, Decision *ret);

/* Makes an order of at most n_pages promotions, with this id, and completes the decision. ret is the
 * caller's. Unless it is a dry run, the domain is busy afterwards. Returns 0 or -ENOMEM. */
int domain_order(Domain *d, const DomainPolicy *policy, uint64_t id, uint64_t n_pages, bool dry_run,
                 usec_t now, Order *ret, Decision *decision);

/* Takes back an order that could not be handed out. */
void domain_cancel_order(Domain *d);

/* Bytes that an order of so many promotions may move, demotions included. */
uint64_t order_bytes(uint64_t promote_pages);

/* The fewest pages of an order, at least 1 and no more than an order can hold. */
uint64_t policy_min_order_pages(const DomainPolicy *p);

/* The least order that this tick's plan is worth. */
uint64_t domain_min_order_pages(const Domain *d, const DomainPolicy *p);
