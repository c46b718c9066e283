/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Chooses what to move: how many pages are worth it (from histograms alone), then which. Owns the threshold,
 * the cost-benefit rule and the lists' order; never knows about time, rates or guests.
 */
#pragma once

#include "core/heatmap.h"
#include "core/order.h"

#define DEMOTE_OVERPROVISION 4 /* the guest skips free and unmovable frames, which the host cannot see */
#define DRAM_RESERVE 16        /* one part in 16 of a DRAM cell is taken to be the guest kernel's own */

typedef struct PlanQuestion {
        const Heatmap *heatmap;
        uint32_t dram_cell;  /* to which pages are promoted, and from which they are demoted */
        uint64_t dram_pages; /* its size now; its ranges may hold more (memory not plugged) */
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
        uint64_t slow[HEAT_VALUES]; /* pages that may be promoted, by heat */
        uint64_t dram[HEAT_VALUES]; /* pages of the DRAM cell, by heat */
} Plan;

/* The least heat of a slow page that may displace a DRAM page of this heat: twice as hot, and hysteresis
 * more. Twice, because heat is a noisy count whose spread grows with it: of two equal pages one always looks
 * hotter. */
static inline uint32_t heat_to_displace(uint32_t dram_heat, uint32_t hysteresis) {
        return 2 * dram_heat + hysteresis;
}

void plan_compute(const PlanQuestion *q, Plan *ret);

/* Lists n_pages (at most plan->pages) to promote, hottest first, and up to DEMOTE_OVERPROVISION times as
 * many to demote, coldest first, all cold enough for the least of those promoted. Within a band of heat the
 * demote list starts at frame demote_from and wraps: frames that a guest cannot move do not head every list.
 * ret_least_heat: of the pages promoted. Returns 0 or -ENOMEM. */
int plan_list(const PlanQuestion *q, const Plan *plan, uint64_t n_pages, uint64_t demote_from,
              PageList *ret_promote, PageList *ret_demote, uint8_t *ret_least_heat);
