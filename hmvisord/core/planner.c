/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The plan: counts from histograms of 256 values, then one walk over the heat bytes to name the pages.
 */
#include "core/planner.h"

uint32_t heat_to_displace(uint32_t dram_heat, uint32_t hysteresis) {
        uint32_t root = 0;

        while ((root + 1) * (root + 1) <= 144 * dram_heat)
                root++;
        return dram_heat + hysteresis + root;
}

static void histogram_add(uint64_t *to, const Heatmap *m, uint32_t cell) {
        int slot = heatmap_find_slot(m, cell);

        for (size_t h = 0; slot >= 0 && h < HEAT_VALUES; h++)
                to[h] += m->histogram[slot][h];
}

static void histogram_remove_barred(uint64_t *from, const Heatmap *m, const uint32_t *cells,
                                    size_t n_cells) {
        for (size_t i = 0; i < m->n_barred * n_cells; i++) {
                const PageRange *b = &m->barred[i / n_cells];

                for (const HeatRange *r = m->ranges; r < m->ranges + m->n_ranges; r++)
                        for (uint64_t gfn = MAX(b->gfn, r->gfn);
                             r->cell == cells[i % n_cells] &&
                             gfn < MIN(b->gfn + b->n_pages, r->gfn + r->n_pages);
                             gfn++)
                                from[r->heat[gfn - r->gfn]]--;
        }
}

static void histogram_remove_coldest(uint64_t *from, uint64_t n_pages) {
        for (uint32_t h = 0; h < HEAT_VALUES && n_pages > 0; h++) {
                uint64_t n = MIN(from[h], n_pages);

                from[h] -= n;
                n_pages -= n;
        }
}

/* The least heat among the hottest `room` pages of all, but never below `least`. Pages that share this heat
 * may be more than there is room for: heat_to_displace() keeps them from displacing each other. */
static uint32_t threshold_by_size(const Plan *plan, uint64_t room, uint32_t least) {
        uint64_t hotter = 0;
        uint32_t heat = HEAT_VALUES - 1;

        for (; heat > least; heat--) {
                hotter += plan->slow[heat] + plan->dram[heat];
                if (hotter >= room)
                        break;
        }
        return heat;
}

/* Pairs the hottest slow page with the coldest DRAM page and so on, while the move pays. */
static void plan_pair(Plan *plan) {
        uint64_t slow = 0, dram = plan->dram[0]; /* what is left of the current heat */
        uint32_t hot = HEAT_VALUES, cold = 0;

        for (;;) {
                while (slow == 0 && hot > plan->threshold)
                        slow = plan->slow[--hot];
                while (dram == 0 && cold < HEAT_VALUES - 1)
                        dram = plan->dram[++cold];
                if (slow == 0 || dram == 0 || hot < heat_to_displace(cold, plan->hysteresis))
                        return;

                uint64_t n = MIN(slow, dram);
                plan->pages += n;
                plan->steady_pages += hot >= STEADY_HEAT ? n : 0;
                plan->gain += n * (hot - cold);
                slow -= n;
                dram -= n;
        }
}

void plan_compute(const PlanQuestion *q, Plan *ret) {
        uint32_t once = heat_of_one_sighting(q->samples);
        uint64_t in_ranges = 0;

        *ret = (Plan){ 0 };
        histogram_add(ret->dram, q->heatmap, q->dram_cell);
        for (size_t i = 0; i < q->n_slow_cells; i++)
                histogram_add(ret->slow, q->heatmap, q->slow_cells[i]);
        histogram_remove_barred(ret->slow, q->heatmap, q->slow_cells, q->n_slow_cells);

        /* Memory that is not plugged is never written: it is counted as cold, and is none. */
        for (size_t h = 0; h < HEAT_VALUES; h++)
                in_ranges += ret->dram[h];
        if (in_ranges > q->dram_pages)
                ret->dram[0] -= MIN(in_ranges - q->dram_pages, ret->dram[0]);
        histogram_remove_coldest(ret->dram, q->stuck_pages);

        /* More than one sighting more than the displaced page, whatever the policy: a single one is chance.
         * (Two may be one burst that a sample cut in two. On traces, a third neither saved nor cost stores;
         * and where samples are dear, it is long in coming.) */
        ret->hysteresis = MAX(q->hysteresis, once + 1);
        ret->threshold = q->hot_heat ? MIN(MAX(q->hot_heat, once + 1), HEAT_VALUES - 1U)
                                     : threshold_by_size(ret, q->dram_pages - q->dram_pages / DRAM_RESERVE,
                                                         MAX(once + 1, MIN(ret->hysteresis, 255U)));
        for (uint32_t h = 0; h < HEAT_VALUES; h++) {
                ret->slow_heat += h * ret->slow[h];
                ret->total_heat += h * (ret->slow[h] + ret->dram[h]);
                if (h >= ret->threshold) {
                        ret->hot_slow_pages += ret->slow[h];
                        ret->hot_dram_pages += ret->dram[h];
                } else if (heat_to_displace(h, ret->hysteresis) <= ret->threshold)
                        ret->cold_dram_pages += ret->dram[h];
        }
        plan_pair(ret);
        if (ret->gain < ret->total_heat / GAIN_LEAST) {
                ret->pages = ret->steady_pages;
                ret->gain = 0;
        }
}

/* A list in the making: how many pages of each heat are still wanted, and where the next of each band goes.
 */
typedef struct Picker {
        uint64_t wanted[HEAT_VALUES];
        uint32_t least, most; /* of the heats that are wanted */
        uint64_t n_wanted;
        uint64_t *gfns;
        uint64_t next[HEAT_BANDS], end[HEAT_BANDS], start[HEAT_BANDS];
} Picker;

static void picker_narrow(Picker *p) {
        while (p->least < p->most && p->wanted[p->least] == 0)
                p->least++;
        while (p->most > p->least && p->wanted[p->most] == 0)
                p->most--;
}

/* Lays the bands out one behind the other, in the order of the list. */
static int picker_begin(Picker *p, bool hottest_first) {
        uint64_t at = 0;

        p->gfns = calloc(MAX(p->n_wanted, 1U), sizeof(*p->gfns));
        if (!p->gfns)
                return -ENOMEM;
        for (unsigned i = 0; i < HEAT_BANDS; i++) {
                unsigned band = hottest_first ? HEAT_BANDS - 1 - i : i;

                p->start[band] = p->next[band] = at;
                for (unsigned h = 0; h < HEAT_VALUES; h++)
                        if (heat_band(h) == band)
                                at += p->wanted[h];
                p->end[band] = at;
        }
        p->least = 0;
        p->most = HEAT_VALUES - 1;
        picker_narrow(p);
        return 0;
}

static bool picker_wants_of(const Picker *p, const HeatRange *r, uint64_t chunk) {
        const uint8_t *heat = r->heat + chunk * HEAT_CHUNK;
        uint8_t least = UINT8_MAX, most = 0;

        if (!heat_range_is_live(r, chunk))
                return p->least == 0;
        for (size_t i = 0; i < HEAT_CHUNK; i++) {
                least = MIN(least, heat[i]);
                most = MAX(most, heat[i]);
        }
        return most >= p->least && least <= p->most;
}

/* m: frames that are barred in it are left out; or NULL. */
static void picker_walk(Picker *p, const HeatRange *r, uint64_t from, uint64_t to, const Heatmap *m) {
        for (uint64_t i = from, end; i < to && p->n_wanted > 0; i = end) {
                end = MIN(to, (i / HEAT_CHUNK + 1) * HEAT_CHUNK);
                if (i / HEAT_CHUNK % 64 == 0)
                        heat_range_prefetch(r, i / HEAT_CHUNK / 64 + 1);
                if (!picker_wants_of(p, r, i / HEAT_CHUNK))
                        continue;
                for (; i < end; i++) {
                        uint8_t heat = r->heat[i];

                        if (p->wanted[heat] == 0 || (m && heatmap_is_barred(m, r->gfn + i)))
                                continue;
                        p->gfns[p->next[heat_band(heat)]++] = r->gfn + i;
                        p->n_wanted--;
                        if (--p->wanted[heat] == 0)
                                picker_narrow(p);
                }
        }
}

/* The pages picked, as ranges; adjacent pages of a band become one. What does not fit ORDER_RANGES_MAX is
 * left out: the list's end is its least. */
static int picker_finish(Picker *p, bool hottest_first, PageList *ret) {
        _cleanup_free_ PageRange *ranges = NULL;
        size_t n = 0;
        uint64_t pages = 0,
                 capacity = MIN(p->end[hottest_first ? 0 : HEAT_BANDS - 1], (uint64_t) ORDER_RANGES_MAX);

        ranges = calloc(MAX(capacity, 1U), sizeof(*ranges));
        if (!ranges)
                return -ENOMEM;
        for (unsigned i = 0; i < HEAT_BANDS; i++) {
                unsigned band = hottest_first ? HEAT_BANDS - 1 - i : i;

                for (uint64_t at = p->start[band]; at < p->next[band]; at++) {
                        if (at > p->start[band] && ranges[n - 1].gfn + ranges[n - 1].n_pages == p->gfns[at])
                                ranges[n - 1].n_pages++;
                        else if (n == capacity)
                                goto full;
                        else
                                ranges[n++] = (PageRange){ .gfn = p->gfns[at], .n_pages = 1 };
                        pages++;
                }
        }
full:
        ret->ranges = TAKE_PTR(ranges);
        ret->n_ranges = n;
        ret->n_pages = pages;
        return 0;
}

static int list_hottest(const PlanQuestion *q, const Plan *plan, uint64_t n_pages, PageList *ret,
                        uint32_t *ret_least) {
        Picker p = { 0 };
        uint32_t least = HEAT_VALUES;
        int r;

        while (p.n_wanted < n_pages && least > plan->threshold) {
                least--;
                p.wanted[least] = MIN(plan->slow[least], n_pages - p.n_wanted);
                p.n_wanted += p.wanted[least];
        }
        r = picker_begin(&p, true);
        if (r < 0)
                return r;
        for (const HeatRange *range = q->heatmap->ranges; range < q->heatmap->ranges + q->heatmap->n_ranges;
             range++)
                for (size_t i = 0; i < q->n_slow_cells; i++)
                        if (range->cell == q->slow_cells[i])
                                picker_walk(&p, range, 0, range->n_pages, q->heatmap);
        r = picker_finish(&p, true, ret);
        free(p.gfns);
        *ret_least = least;
        return r;
}

/* Pages that one of heat `least` may displace. */
static int list_coldest(const PlanQuestion *q, uint32_t hysteresis, uint64_t n_pages, uint64_t from,
                        uint32_t least, PageList *ret) {
        const Heatmap *m = q->heatmap;
        int slot = heatmap_find_slot(m, q->dram_cell);
        Picker p = { 0 };
        int r;

        for (uint32_t h = 0; slot >= 0 && h < HEAT_VALUES && p.n_wanted < n_pages; h++) {
                if (heat_to_displace(h, hysteresis) > least)
                        break;
                /* All that the ranges hold: which of them are not plugged is not known. */
                p.wanted[h] = MIN(m->histogram[slot][h], n_pages - p.n_wanted);
                p.n_wanted += p.wanted[h];
        }
        r = picker_begin(&p, false);
        if (r < 0)
                return r;
        for (int wrapped = 0; wrapped < 2; wrapped++)
                for (const HeatRange *range = m->ranges; range < m->ranges + m->n_ranges; range++) {
                        uint64_t split = from <= range->gfn ? 0 : MIN(from - range->gfn, range->n_pages);

                        if (range->cell != q->dram_cell)
                                continue;
                        if (wrapped)
                                picker_walk(&p, range, 0, split, NULL);
                        else
                                picker_walk(&p, range, split, range->n_pages, NULL);
                }
        r = picker_finish(&p, false, ret);
        free(p.gfns);
        return r;
}

int plan_list(const PlanQuestion *q, const Plan *plan, uint64_t n_pages, uint64_t demote_from,
              PageList *ret_promote, PageList *ret_demote, uint8_t *ret_least_heat) {
        PageList promote = { .target_cell = q->dram_cell };
        PageList demote = { .target_cell = q->slow_cells[0] };
        uint32_t least;
        int r;

        n_pages = MIN(MIN(n_pages, plan->pages), (uint64_t) ORDER_PAGES_MAX);
        r = list_hottest(q, plan, n_pages, &promote, &least);
        if (r < 0)
                return r;
        r = list_coldest(q, plan->hysteresis,
                         MIN((promote.n_pages + q->lack_pages) * DEMOTE_OVERPROVISION,
                             (uint64_t) ORDER_PAGES_MAX),
                         demote_from, least, &demote);
        if (r < 0) {
                free(promote.ranges);
                return r;
        }
        *ret_promote = promote;
        *ret_demote = demote;
        *ret_least_heat = (uint8_t) MIN(least, 255U);
        return 0;
}

int plan_list_room(const PlanQuestion *q, uint64_t n_pages, uint64_t demote_from, PageList *ret) {
        PageList demote = { .target_cell = q->slow_cells[0] };
        int r;

        r = list_coldest(q, 0, MIN(n_pages * DEMOTE_OVERPROVISION, (uint64_t) ORDER_PAGES_MAX), demote_from,
                         0, &demote);
        if (r >= 0)
                *ret = demote;
        return r;
}
