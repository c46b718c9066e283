/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The whole policy behind one seam. Pure: no clock, I/O, random, global or log; integers only, fixed
 * tie-breaks, no hash-order iteration, so that a recorded run replays to byte-equal orders.
 */
#pragma once

#include "core/facts.h"
#include "core/order.h"
#include "core/wish.h"

typedef struct Core Core;

/* Returns 0 or -ENOMEM. */
int core_new(Core **ret);
Core *core_free(Core *c); /* NULL-safe; returns NULL */
DEFINE_CLEANUP(Core *, core_free);

/* One tick. `now` never goes back (an earlier value counts as the last one). On success ret holds the orders
 * and decisions of this tick, owned by the caller (order_list_done()). Returns 0, -ENOMEM, or -EINVAL when
 * the inputs break their contract (nothing changed). */
int core_step(Core *c, const Inputs *in, usec_t now, OrderList *ret);

/* Heat of a domain for people: pages per cell and band of heat; band 0 is heat 0, band i >= 1 holds heat in
 * [2^(i-1), 2^i). Returns 0 or -ENOENT (domain not known to the core yet). */
typedef struct HeatHistogram {
        size_t n_cells;
        struct {
                uint32_t cell;
                uint64_t pages[HEAT_BANDS];
        } cells[CELLS_MAX];
} HeatHistogram;
int core_get_heat(const Core *c, uint64_t domain, HeatHistogram *ret);

/* Whether the guest can afford to be tracked from now on: what it may have, DomainFacts.faults_per_sec, is
 * not spent. True of a domain not known. */
bool core_may_track(const Core *c, uint64_t domain);

/* Whether samples may leave DRAM out from now on (core/scope.h). False of a domain not known. */
bool core_skips_dram(const Core *c, uint64_t domain);

/* The market, for people and for the journal; NULL until it first stepped. Valid until the next step. */
const Trade *core_get_trade(const Core *c);

/* Goes on with the ledger of an earlier life (trade_resume()); before the first step. */
int core_resume_trade(Core *c, const MarketPolicy *policy, Ledger *ledger, usec_t now);

/* What a domain would trade as of the last step, and why; of one outside the market: nothing, for want of a
 * signal. Returns 0 or -ENOENT. */
int core_get_wish(const Core *c, uint64_t domain, WishDecision *ret);

/* Totals of a domain since the core knows it. Returns 0 or -ENOENT. */
typedef struct DomainTotals {
        uint64_t epochs;    /* with samples */
        uint64_t sightings; /* of pages that were found written, in all samples: each had cost a fault */
        uint64_t orders;
        uint64_t promoted_pages, demoted_pages; /* as acknowledged, never more than was ordered */
        uint64_t skipped_pages[_SKIP_MAX];
        uint64_t failed_orders;
} DomainTotals;
int core_get_totals(const Core *c, uint64_t domain, DomainTotals *ret);
