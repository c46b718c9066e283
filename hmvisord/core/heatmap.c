/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Heat per frame. The update reads the counters once, through a local copy, because a hostile QEMU may write
 * them meanwhile; it is arranged for the common case, memory that is cold and stays cold, which costs one
 * read of the counters and nothing else.
 */
#include "core/heatmap.h"

#define ROUND_UP(n, to) (((n) + (to) - 1) / (to) * (to))

static void range_done(HeatRange *r) {
        free(r->heat);
        free(r->live);
}

void heatmap_done(Heatmap *m) {
        for (size_t i = 0; i < m->n_ranges; i++)
                range_done(&m->ranges[i]);
        free(m->ranges);
        free(m->barred);
        *m = (Heatmap){ 0 };
}

static void range_mark_live(HeatRange *r, uint64_t chunk, bool live) {
        uint64_t bit = UINT64_C(1) << (chunk % 64);

        r->live[chunk / 64] = live ? r->live[chunk / 64] | bit : r->live[chunk / 64] & ~bit;
}

static int slot_get(Heatmap *m, uint32_t cell) {
        int slot = heatmap_find_slot(m, cell);

        if (slot >= 0)
                return slot;
        m->cells[m->n_cells] = cell;
        return (int) m->n_cells++;
}

static void range_count(HeatRange *r) {
        memset(r->histogram, 0, sizeof(r->histogram));
        for (uint64_t i = 0; i < r->n_pages; i++)
                r->histogram[r->heat[i]]++;
}

static uint64_t range_warm_pages(const HeatRange *r) {
        return r->n_pages - r->histogram[0];
}

static void heatmap_sum_up(Heatmap *m) {
        memset(m->histogram, 0, sizeof(m->histogram));
        for (size_t i = 0; i < m->n_ranges; i++)
                for (size_t heat = 0; heat < HEAT_VALUES; heat++)
                        m->histogram[m->ranges[i].slot][heat] += m->ranges[i].histogram[heat];
}

static bool range_is_same(const HeatRange *r, const RangeFacts *facts) {
        return r->gfn == facts->gfn && r->n_pages == facts->n_pages && r->cell == facts->cell;
}

static HeatRange *range_find_same(const Heatmap *m, const RangeFacts *facts) {
        for (size_t i = 0; i < m->n_ranges; i++)
                if (range_is_same(&m->ranges[i], facts))
                        return &m->ranges[i];
        return NULL;
}

/* Copies the heat of the frames that both have. */
static void range_inherit(HeatRange *to, const HeatRange *from) {
        uint64_t start = MAX(to->gfn, from->gfn);
        uint64_t end = MIN(to->gfn + to->n_pages, from->gfn + from->n_pages);

        if (to->cell != from->cell || !to->heat)
                return;
        for (uint64_t gfn = start; gfn < end; gfn++) {
                uint8_t heat = from->heat[gfn - from->gfn];

                if (heat == 0)
                        continue;
                to->heat[gfn - to->gfn] = heat;
                range_mark_live(to, (gfn - to->gfn) / HEAT_CHUNK, true);
        }
}

static int range_init(HeatRange *r, const RangeFacts *facts, uint32_t slot, bool inherits_all) {
        *r = (HeatRange){ .gfn = facts->gfn, .n_pages = facts->n_pages, .cell = facts->cell, .slot = slot };
        if (inherits_all)
                return 0;
        r->heat = calloc(ROUND_UP(r->n_pages, HEAT_CHUNK), 1);
        r->live = calloc(ROUND_UP(r->n_pages, HEAT_CHUNK * 64) / (HEAT_CHUNK * 64), sizeof(*r->live));
        return r->heat && r->live ? 0 : -ENOMEM;
}

/* A range that stays as it is hands its heat over as a whole, so that a large guest of which a small device
 * changes needs no memory twice. */
int heatmap_set_ranges(Heatmap *m, const RangeFacts *ranges, size_t n_ranges) {
        Heatmap fresh = { .epoch = m->epoch };

        fresh.ranges = calloc(MAX(n_ranges, 1U), sizeof(*fresh.ranges));
        if (!fresh.ranges)
                return -ENOMEM;
        for (size_t i = 0; i < n_ranges; i++) {
                uint32_t slot = (uint32_t) slot_get(&fresh, ranges[i].cell);

                if (range_init(&fresh.ranges[fresh.n_ranges++], &ranges[i], slot,
                               range_find_same(m, &ranges[i])) < 0) {
                        heatmap_done(&fresh);
                        return -ENOMEM;
                }
        }

        /* Both are ascending and without overlap: one walk over the two. */
        for (size_t i = 0, j = 0; i < fresh.n_ranges && j < m->n_ranges;) {
                HeatRange *to = &fresh.ranges[i];
                const HeatRange *from = &m->ranges[j];

                range_inherit(to, from);
                if (to->gfn + to->n_pages <= from->gfn + from->n_pages)
                        i++;
                else
                        j++;
        }
        for (size_t i = 0; i < fresh.n_ranges; i++) {
                HeatRange *r = &fresh.ranges[i];

                if (!r->heat) {
                        HeatRange *same = range_find_same(m, &ranges[i]);

                        r->heat = TAKE_PTR(same->heat);
                        r->live = TAKE_PTR(same->live);
                }
                range_count(r);
        }
        heatmap_sum_up(&fresh);

        heatmap_done(m);
        *m = fresh;
        return 0;
}

bool heatmap_has_ranges(const Heatmap *m, const RangeFacts *ranges, size_t n_ranges) {
        if (m->n_ranges != n_ranges)
                return false;
        for (size_t i = 0; i < n_ranges; i++)
                if (!range_is_same(&m->ranges[i], &ranges[i]))
                        return false;
        return true;
}

/* Counters saturate at 255, so more samples than that say no more. */
static uint32_t samples_bound(uint32_t samples) {
        return MIN(MAX(samples, 1U), 255U);
}

uint32_t heat_of_one_sighting(uint32_t samples) {
        return (255 / samples_bound(samples) + HEAT_MEMORY - 1) / HEAT_MEMORY;
}

uint32_t heat_after_rest(uint32_t heat, unsigned epochs) {
        while (epochs-- > 0 && heat > HEAT_TAIL)
                heat = heat * (HEAT_MEMORY - 1) / HEAT_MEMORY; /* as chunk_update() has it */
        return heat;
}

/* As wide as every machine has it; the compiler knows how to make it of smaller ones. */
typedef uint64_t Vector __attribute__((vector_size(16), aligned(1), may_alias));
typedef struct Chunk {
        Vector v[HEAT_CHUNK / sizeof(Vector)];
} Chunk;

/* Takes HEAT_CHUNK hostile bytes over, each read once (volatile): what follows can only see the copy.
 * Returns whether any is not 0. */
static inline bool chunk_take(Chunk *to, const uint8_t *from) {
        const volatile Vector *v = (const volatile Vector *) from;
        Vector any = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(to->v); i++)
                any |= to->v[i] = v[i];
        return (any[0] | any[1]) != 0;
}

/* The same of the last bytes of a range; those behind it are 0. */
static bool chunk_take_part(Chunk *to, const uint8_t *from, size_t n) {
        uint8_t bytes[HEAT_CHUNK] = { 0 };
        const volatile uint8_t *b = from;

        for (size_t i = 0; i < n; i++)
                bytes[i] = b[i];
        return chunk_take(to, bytes);
}

/* What an epoch does to heat. */
typedef struct Ageing {
        uint8_t samples;
        uint16_t scale; /* ceil(255 * 256 / samples) */
        uint8_t stays;  /* heat up to this does not fall in this epoch */
} Ageing;

/* heat' = heat + (seen - heat) / 8, where seen = 255 * written / samples. Rounded down while the frame is
 * not written, so that heat ends at 0; up where it is, so that a steady writer ends at exactly `seen`. With
 * that scale the product stays below 2^16, and all lanes are 16 bits wide. */
static inline void chunk_update(uint8_t *heat, const Chunk *chunk, Ageing age) {
        const uint8_t *counters = (const uint8_t *) chunk;

        for (size_t i = 0; i < HEAT_CHUNK; i++) {
                uint8_t written = MIN(counters[i], age.samples);
                uint16_t seen = (uint16_t) (written * age.scale) >> 8;
                uint16_t up = written ? HEAT_MEMORY - 1 : 0;
                uint8_t aged =
                        (uint8_t) ((uint16_t) (heat[i] * (HEAT_MEMORY - 1) + seen + up) / HEAT_MEMORY);

                heat[i] = heat[i] <= age.stays ? MAX(heat[i], aged) : aged;
        }
}

/* Histograms in the making, one for each byte of a word: neighbours often have the same heat, and one
 * counter would wait for itself. */
typedef uint64_t Lanes[8][HEAT_VALUES];

/* Counts pages that have heat; of the others it may count some, too. Returns whether there is any heat. This
 * is most of what a page that is written costs, so the loop over a word's bytes is written out. */
static inline bool chunk_count(const uint8_t *heat, Lanes lanes) {
        uint64_t any = 0;

        for (size_t i = 0; i < HEAT_CHUNK; i += 8) {
                uint64_t w;

                memcpy(&w, heat + i, 8);
                any |= w;
                if (w == 0)
                        continue;
                lanes[0][w & 255]++;
                lanes[1][w >> 8 & 255]++;
                lanes[2][w >> 16 & 255]++;
                lanes[3][w >> 24 & 255]++;
                lanes[4][w >> 32 & 255]++;
                lanes[5][w >> 40 & 255]++;
                lanes[6][w >> 48 & 255]++;
                lanes[7][w >> 56]++;
        }
        return any != 0;
}

static uint64_t chunk_sum(const Chunk *chunk) {
        const uint8_t *counters = (const uint8_t *) chunk;
        uint16_t sum = 0; /* of 64 bytes: below 2^14 */

        for (size_t i = 0; i < HEAT_CHUNK; i++)
                sum += counters[i];
        return sum;
}

static uint64_t range_update(HeatRange *r, const uint8_t *counters, Ageing age) {
        uint64_t cold = r->n_pages, sightings = 0;
        Lanes lanes = { 0 };

        for (uint64_t chunk = 0, at = 0; at < r->n_pages; chunk++, at += HEAT_CHUNK) {
                bool live = heat_range_is_live(r, chunk), any;
                Chunk seen;

                if (chunk % 64 == 0)
                        heat_range_prefetch(r, chunk / 64 + 1);
                if (r->n_pages - at >= HEAT_CHUNK)
                        any = chunk_take(&seen, counters + at);
                else
                        any = chunk_take_part(&seen, counters + at, r->n_pages - at);
                if (!any && !live)
                        continue;
                if (any)
                        sightings += chunk_sum(&seen);
                chunk_update(r->heat + at, &seen, age);
                any = chunk_count(r->heat + at, lanes);
                if (any != live)
                        range_mark_live(r, chunk, any);
        }
        memset(r->histogram, 0, sizeof(r->histogram));
        for (size_t h = 1; h < HEAT_VALUES; h++)
                for (size_t lane = 0; lane < ELEMENTSOF(lanes); lane++) {
                        r->histogram[h] += lanes[lane][h];
                        cold -= lanes[lane][h];
                }
        r->histogram[0] = cold;
        return sightings;
}

HeatLook heatmap_update(Heatmap *m, const RangeFacts *ranges, uint32_t samples) {
        Ageing age = { .samples = (uint8_t) samples_bound(samples) };
        HeatLook look = { 0 };

        age.scale = (uint16_t) ((255 * 256 + age.samples - 1) / age.samples);
        age.stays = ++m->epoch % HEAT_TAIL_EPOCHS == 0 ? 0 : HEAT_TAIL;
        for (size_t i = 0; i < m->n_ranges; i++) {
                HeatRange *r = &m->ranges[i];

                if (ranges[i].counters) {
                        look.sightings += range_update(r, ranges[i].counters, age);
                        look.pages += r->n_pages;
                        look.warm_pages += range_warm_pages(r);
                } else if (r->looked_at) {
                        look.left_pages += r->n_pages;
                        look.left_warm_pages += range_warm_pages(r);
                }
                r->looked_at = ranges[i].counters != NULL;
        }
        heatmap_sum_up(m);
        return look;
}

/* Calls for the part of [gfn, gfn + n_pages) that lies in each range. */
#define FOREACH_OVERLAP(m, r, first, last, gfn, n_pages)                                                    \
        for (HeatRange *r = (m)->ranges; r < (m)->ranges + (m)->n_ranges; r++)                              \
                for (uint64_t first = MAX((gfn), r->gfn),                                                   \
                              last = MIN((gfn) + (n_pages), r->gfn + r->n_pages);                           \
                     first < last; first = last)

void heatmap_set_heat(Heatmap *m, uint64_t gfn, uint64_t n_pages, uint8_t heat) {
        FOREACH_OVERLAP(m, r, first, last, gfn, n_pages)
        for (uint64_t i = first - r->gfn; i < last - r->gfn; i++) {
                m->histogram[r->slot][r->heat[i]]--;
                m->histogram[r->slot][heat]++;
                r->histogram[r->heat[i]]--;
                r->histogram[heat]++;
                r->heat[i] = heat;
                if (heat)
                        range_mark_live(r, i / HEAT_CHUNK, true);
        }
}

static int compare_gfns(const void *a, const void *b) {
        const PageRange *x = a, *y = b;

        return x->gfn < y->gfn ? -1 : x->gfn > y->gfn;
}

int heatmap_bar(Heatmap *m, const PageRange *frames, size_t n) {
        PageRange *all = reallocarray(m->barred, m->n_barred + n + 1, sizeof(*all));
        size_t last = 0;

        if (!all)
                return -ENOMEM;
        m->barred = all;
        if (n > 0)
                memcpy(all + m->n_barred, frames, n * sizeof(*all));
        m->n_barred += n;
        qsort(all, m->n_barred, sizeof(*all), compare_gfns);
        for (size_t i = 1; i < m->n_barred; i++) {
                uint64_t end = MAX(all[last].gfn + all[last].n_pages, all[i].gfn + all[i].n_pages);

                if (all[i].gfn <= all[last].gfn + all[last].n_pages)
                        all[last].n_pages = end - all[last].gfn;
                else
                        all[++last] = all[i];
        }
        m->n_barred = MIN(m->n_barred, last + 1);
        return 0;
}

void heatmap_unbar(Heatmap *m) {
        free(m->barred);
        m->barred = NULL;
        m->n_barred = 0;
}

bool heatmap_is_barred(const Heatmap *m, uint64_t gfn) {
        size_t low = 0, high = m->n_barred;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (gfn < m->barred[middle].gfn)
                        high = middle;
                else if (gfn - m->barred[middle].gfn < m->barred[middle].n_pages)
                        return true;
                else
                        low = middle + 1;
        }
        return false;
}

int heatmap_find_slot(const Heatmap *m, uint32_t cell) {
        for (size_t i = 0; i < m->n_cells; i++)
                if (m->cells[i] == cell)
                        return (int) i;
        return -ENOENT;
}

int heatmap_get_heat(const Heatmap *m, uint64_t gfn) {
        for (size_t i = 0; i < m->n_ranges; i++)
                if (gfn >= m->ranges[i].gfn && gfn - m->ranges[i].gfn < m->ranges[i].n_pages)
                        return m->ranges[i].heat[gfn - m->ranges[i].gfn];
        return -ENOENT;
}
