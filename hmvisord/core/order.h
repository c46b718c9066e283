/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the core decides at each tick: plain values, carried out by the manager.
 */
#pragma once

#include "base/cleanup.h"
#include "core/settlement.h"

typedef struct PageRange {
        uint64_t gfn;
        uint64_t n_pages;
} PageRange;

typedef struct PageList {
        uint32_t target_cell;
        PageRange *ranges; /* best candidates first, by band of heat; ascending by gfn within a band */
        size_t n_ranges;
        uint64_t n_pages;
} PageList;

/* One order to one guest. At most ORDER_PAGES_MAX pages and ORDER_RANGES_MAX ranges per list
 * (docs/protocol.md). The demote list holds more pages than promotion needs: the guest demotes only as many
 * as it lacks room for, and skips what it cannot move. */
/* Within a band the demote list starts where the last one ended, and wraps once. */
#define ORDER_PAGES_MAX 65536
#define ORDER_RANGES_MAX 16384
typedef struct Order {
        uint64_t domain;
        uint64_t order; /* id, unique over the life of the core, > 0 */
        bool dry_run;   /* show it, do not send it */
        PageList promote;
        PageList demote;
        uint64_t demote_most; /* pages of an order that only makes room, with nothing to promote; else 0 */
} Order;

/* Why moves were or were not made, one per domain and tick in which the verdict changed or an order was
 * made. */
typedef enum Verdict {
        VERDICT_ORDERED,    /* an order was made */
        VERDICT_DRY_RUN,    /* an order would have been made */
        VERDICT_WARMING_UP, /* not enough epochs seen yet */
        VERDICT_NO_SAMPLES, /* tracking rests or is blocked */
        VERDICT_FROZEN,
        VERDICT_NOT_MANAGED,
        VERDICT_NO_AGENT,
        VERDICT_BUSY,        /* an order is under way */
        VERDICT_SETTLING,    /* just after an order */
        VERDICT_LEARNING,    /* tracking, which an order would end, goes on first */
        VERDICT_BALANCED,    /* nothing hot outside DRAM that is worth its move */
        VERDICT_VAIN,        /* next to nothing of what the last orders promoted was written again */
        VERDICT_RATE_CAPPED, /* candidates wait for the rate cap */
        VERDICT_NO_TIERS,    /* no DRAM cell or no slow cell */
        _VERDICT_MAX,
} Verdict;

typedef struct Decision {
        uint64_t domain;
        usec_t when;
        Verdict verdict;
        uint64_t order;           /* 0: none */
        uint32_t threshold;       /* heat from which a slow page counted as hot */
        uint64_t hot_slow_pages;  /* at or above it, on slow cells */
        uint64_t hot_dram_pages;  /* at or above it, on DRAM cells */
        uint64_t cold_dram_pages; /* candidates for demotion */
        uint64_t promote_pages;   /* ordered (or would be); 0: the order only makes room */
        uint64_t demote_pages;
        uint64_t lacked_pages; /* that found no room in DRAM, where an order makes some */
} Decision;

typedef struct OrderList {
        Order *orders;
        size_t n_orders;
        Decision *decisions;
        size_t n_decisions;
        Settlement market;    /* changed: the ledger must be on disk before any size is asked for */
        int market_result;    /* < 0: the market did not step, and asks for nothing */
        int *command_results; /* of each command: 0, -ENOENT (no account), -EINVAL (no whole lots), -ERANGE
                               * (its bounds do not allow it), -EOPNOTSUPP (no market); NULL: no commands */
} OrderList;

/* Whether there is nothing to be moved for now. */
static inline bool verdict_is_rest(Verdict v) {
        return v == VERDICT_BALANCED || v == VERDICT_VAIN;
}

const char *verdict_to_string(Verdict v); /* "ordered", "warming-up", ... */
/* One line for people, with figures: "promoted nothing: 312 hot pages on slow memory, fewer than ..." */
int decision_describe(const Decision *d, char *buf, size_t size);

/* Takes note, from decision to decision, of since when placement has been at rest: nothing to move, or so
 * little that it changes nothing. *since: 0 when it is not. *then: the decision with which it came to rest,
 * to be kept for the next call; where more pages are hot on slow memory since, the hot set has moved, though
 * nothing in DRAM is cold enough yet, and the rest begins anew. */
void decision_note_balance(const Decision *d, usec_t *since, Decision *then);

void order_list_done(OrderList *l); /* frees all lists within; l itself is the caller's */
