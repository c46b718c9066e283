/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Chooses what to move: how many pages are worth it (from histograms alone), then which. Owns the threshold,
 * the cost-benefit rule and the lists' order; never knows about time, rates or guests.
 */
#pragma once

#include "core/heatmap.h"
#include "core/order.h"

#define DEMOTE_OVERPROVISION 4 /* the guest skips free and unmovable frames, which the host cannot see */
#define GAIN_LEAST 256         /* moves bring at least one part in 256 of all heat to DRAM, or stay undone */
#define STEADY_HEAT 160        /* of a page found written in every sample of HEAT_MEMORY epochs, about */
#define DRAM_RESERVE 16        /* one part in 16 of a DRAM cell is taken to be the guest kernel's own */

typedef struct PlanQuestion {
        const Heatmap *heatmap;
        uint32_t dram_cell;  /* to which pages are promoted, and from which they are demoted */
        uint64_t dram_pages; /* its size now; its ranges may hold more (memory not plugged) */
        uint64_t stuck_pages; /* of its cold ones, which the guest could not move: they give no room */
        uint64_t lack_pages; /* to be demoted beside those that make room for what is promoted */
        uint32_t slow_cells[CELLS_MAX];
        size_t n_slow_cells;
        uint32_t hot_heat; /* 0: by the size of the DRAM cell */
        uint32_t hysteresis;
        uint32_t samples; /* per epoch, > 0 */
} PlanQuestion;

typedef struct Plan {
        uint32_t threshold;
        uint32_t hysteresis; /* as used */
        uint64_t hot_slow_pages, hot_dram_pages, cold_dram_pages;
        uint64_t pages;             /* worth promoting now */
        uint64_t steady_pages;      /* of them, those of STEADY_HEAT: heat does not tell how often they are
                                       written, one may have half of all stores; worth an order of its own */
        uint64_t gain;              /* what that brings to DRAM: a sum of heat */
        uint64_t slow_heat, total_heat; /* what there is, in slow memory and in all */
        uint64_t slow[HEAT_VALUES]; /* pages that may be promoted, by heat */
        uint64_t dram[HEAT_VALUES]; /* pages of the DRAM cell, by heat */
} Plan;

/* The least heat of a slow page that may displace a DRAM page of this heat: hysteresis more, and 12 times
 * its square root. Heat is a noisy count, whose standard deviation is about 1.3 times its root at 10 samples
 * an epoch: four and a half of them on either side, or equal pages would change places for ever, as in so
 * many pages some always look lucky. From heat 120 on a page is not displaced at all: it earns its place. */
uint32_t heat_to_displace(uint32_t dram_heat, uint32_t hysteresis);

void plan_compute(const PlanQuestion *q, Plan *ret);

/* Lists n_pages (at most plan->pages) to promote, hottest first, and up to DEMOTE_OVERPROVISION times as
 * many, and as lack_pages, to demote, coldest first, all cold enough for the least of those promoted. Within
 * a band of heat the demote list starts at frame demote_from and wraps: frames that a guest cannot move do
 * not head every list. ret_least_heat: of the pages promoted. Returns 0 or -ENOMEM. */
int plan_list(const PlanQuestion *q, const Plan *plan, uint64_t n_pages, uint64_t demote_from,
              PageList *ret_promote, PageList *ret_demote, uint8_t *ret_least_heat);

/* Lists pages of heat 0 to demote, DEMOTE_OVERPROVISION times as many as n_pages, for room and nothing else.
 * Returns 0 or -ENOMEM. */
int plan_list_room(const PlanQuestion *q, uint64_t n_pages, uint64_t demote_from, PageList *ret);
