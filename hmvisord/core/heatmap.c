/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Heat per frame. The update reads the counters once, through a local copy, because a hostile QEMU may write
 * them meanwhile; it is arranged for the common case, memory that is cold and stays cold, which costs one
 * read of the counters and nothing else.
 */
#include "core/heatmap.h"

#define CHUNK 64 /* bytes looked at together: a cache line */

static void range_done(HeatRange *r) {
        free(r->heat);
        free(r->live);
        free(r->barred);
}

static void ranges_free(HeatRange *ranges, size_t n) {
        for (size_t i = 0; i < n; i++)
                range_done(&ranges[i]);
        free(ranges);
}

void heatmap_done(Heatmap *m) {
        ranges_free(m->ranges, m->n_ranges);
        *m = (Heatmap){ 0 };
}

static uint64_t range_blocks(uint64_t n_pages) {
        return (n_pages + HEAT_BLOCK - 1) / HEAT_BLOCK;
}

static int slot_get(Heatmap *m, uint32_t cell) {
        int slot = heatmap_find_slot(m, cell);

        if (slot >= 0)
                return slot;
        m->cells[m->n_cells] = cell;
        return (int) m->n_cells++;
}

static void range_count(Heatmap *m, const HeatRange *r) {
        for (uint64_t i = 0; i < r->n_pages; i++)
                m->histogram[r->slot][r->heat[i]]++;
}

/* Copies the heat of the frames that both have. */
static void range_inherit(HeatRange *to, const HeatRange *from) {
        uint64_t start = MAX(to->gfn, from->gfn);
        uint64_t end = MIN(to->gfn + to->n_pages, from->gfn + from->n_pages);

        if (to->cell != from->cell)
                return;
        for (uint64_t gfn = start; gfn < end; gfn++) {
                uint8_t heat = from->heat[gfn - from->gfn];

                if (heat == 0)
                        continue;
                to->heat[gfn - to->gfn] = heat;
                to->live[(gfn - to->gfn) / HEAT_BLOCK] = 1;
        }
}

int heatmap_set_ranges(Heatmap *m, const RangeFacts *ranges, size_t n_ranges) {
        Heatmap fresh = { 0 };

        fresh.ranges = calloc(MAX(n_ranges, 1U), sizeof(*fresh.ranges));
        if (!fresh.ranges)
                return -ENOMEM;
        for (size_t i = 0; i < n_ranges; i++) {
                HeatRange *r = &fresh.ranges[fresh.n_ranges++];

                *r = (HeatRange){
                        .gfn = ranges[i].gfn,
                        .n_pages = ranges[i].n_pages,
                        .cell = ranges[i].cell,
                        .slot = (uint32_t) slot_get(&fresh, ranges[i].cell),
                        .heat = calloc(ranges[i].n_pages, 1),
                        .live = calloc(range_blocks(ranges[i].n_pages), 1),
                };
                if (!r->heat || !r->live) {
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
        for (size_t i = 0; i < fresh.n_ranges; i++)
                range_count(&fresh, &fresh.ranges[i]);

        heatmap_done(m);
        *m = fresh;
        return 0;
}

bool heatmap_has_ranges(const Heatmap *m, const RangeFacts *ranges, size_t n_ranges) {
        if (m->n_ranges != n_ranges)
                return false;
        for (size_t i = 0; i < n_ranges; i++)
                if (m->ranges[i].gfn != ranges[i].gfn || m->ranges[i].n_pages != ranges[i].n_pages ||
                    m->ranges[i].cell != ranges[i].cell)
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

typedef struct UnalignedWord {
        uint64_t value;
} __attribute__((packed, may_alias)) UnalignedWord;

/* Takes n <= CHUNK hostile bytes over, each read once (volatile): what follows can only see the copy.
 * Returns whether any is not 0. */
static inline bool chunk_take(uint64_t to[static CHUNK / 8], const uint8_t *from, size_t n) {
        const volatile UnalignedWord *words = (const volatile UnalignedWord *) from;
        uint64_t any = 0;

        if (n != CHUNK) {
                const volatile uint8_t *bytes = from;

                memset(to, 0, CHUNK);
                for (size_t i = 0; i < n; i++)
                        any |= ((uint8_t *) to)[i] = bytes[i];
                return any;
        }
        for (size_t i = 0; i < CHUNK / 8; i++)
                any |= to[i] = words[i].value;
        return any;
}

/* heat' = heat + (seen - heat) / 8, where seen = 255 * written / samples. Rounded down while the frame is
 * not written, so that heat ends at 0; up where it is, so that a steady writer ends at exactly `seen`. scale
 * is ceil(255 * 256 / samples): the product stays below 2^16, and all lanes are 16 bits wide. */
static inline void chunk_update(uint8_t *heat, const uint8_t *counters, size_t n, uint8_t samples,
                                uint16_t scale) {
        for (size_t i = 0; i < n; i++) {
                uint8_t written = MIN(counters[i], samples);
                uint16_t seen = (uint16_t) (written * scale) >> 8;
                uint16_t up = written ? HEAT_MEMORY - 1 : 0;

                heat[i] = (uint8_t) ((uint16_t) (heat[i] * (HEAT_MEMORY - 1) + seen + up) / HEAT_MEMORY);
        }
}

static inline bool chunk_is_cold(const uint8_t *heat, size_t n) {
        uint64_t words[CHUNK / 8], any = 0;

        if (n != CHUNK)
                return false;
        memcpy(words, heat, CHUNK);
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                any |= words[i];
        return any == 0;
}

/* Histograms in the making: neighbours often have the same heat, and one counter would wait for itself. */
#define LANES 4
typedef uint64_t Lanes[LANES][HEAT_VALUES];

/* Returns the pages that are cold, which are not counted in lanes. */
static inline size_t chunk_count(const uint8_t *heat, size_t n, Lanes lanes) {
        size_t cold = 0;

        for (size_t i = 0; i < n; i += 8) {
                uint64_t word;

                if (i + 8 <= n && (memcpy(&word, heat + i, 8), word == 0)) {
                        cold += 8;
                        continue;
                }
                for (size_t k = i; k < MIN(i + 8, n); k++)
                        lanes[k % LANES][heat[k]]++;
        }
        return cold;
}

/* Returns the pages that are cold, which are not counted in lanes. */
static uint64_t block_update(uint8_t *heat, uint8_t *live, const uint8_t *counters, size_t n,
                             uint8_t samples, uint16_t scale, Lanes lanes) {
        uint64_t cold = 0;
        bool was_live = *live;
        uint8_t now_live = 0;

        for (size_t at = 0; at < n; at += CHUNK) {
                size_t len = MIN(n - at, (size_t) CHUNK);
                uint64_t seen[CHUNK / 8];
                bool any = chunk_take(seen, counters + at, len);

                if (!any && (!was_live || chunk_is_cold(heat + at, len))) {
                        cold += len;
                        continue;
                }
                if (len == CHUNK) /* a constant length makes vectors of it */
                        chunk_update(heat + at, (const uint8_t *) seen, CHUNK, samples, scale);
                else
                        chunk_update(heat + at, (const uint8_t *) seen, len, samples, scale);
                cold += chunk_count(heat + at, len, lanes);
                now_live = 1;
        }
        if (now_live || was_live)
                *live = now_live;
        return cold;
}

static void range_update(HeatRange *r, const uint8_t *counters, uint8_t samples, uint64_t *histogram) {
        uint16_t scale = (uint16_t) ((255 * 256 + samples - 1) / samples);
        Lanes lanes = { 0 };
        uint64_t cold = 0;

        for (uint64_t at = 0; at < r->n_pages; at += HEAT_BLOCK)
                cold += block_update(r->heat + at, &r->live[at / HEAT_BLOCK], counters + at,
                                     MIN(r->n_pages - at, (uint64_t) HEAT_BLOCK), samples, scale, lanes);
        histogram[0] += cold;
        for (size_t h = 0; h < HEAT_VALUES; h++)
                for (size_t lane = 0; lane < LANES; lane++)
                        histogram[h] += lanes[lane][h];
}

void heatmap_update(Heatmap *m, const RangeFacts *ranges, uint32_t samples) {
        memset(m->histogram, 0, sizeof(m->histogram));
        for (size_t i = 0; i < m->n_ranges; i++)
                range_update(&m->ranges[i], ranges[i].counters, (uint8_t) samples_bound(samples),
                             m->histogram[m->ranges[i].slot]);
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
                r->heat[i] = heat;
                if (heat)
                        r->live[i / HEAT_BLOCK] = 1;
        }
}

int heatmap_bar(Heatmap *m, uint64_t gfn, uint64_t n_pages) {
        FOREACH_OVERLAP(m, r, first, last, gfn, n_pages) {
                if (!r->barred)
                        r->barred = calloc((r->n_pages + 63) / 64, sizeof(*r->barred));
                if (!r->barred)
                        return -ENOMEM;
                for (uint64_t i = first - r->gfn; i < last - r->gfn; i++)
                        r->barred[i / 64] |= UINT64_C(1) << (i % 64);
        }
        return 0;
}

void heatmap_unbar(Heatmap *m) {
        for (size_t i = 0; i < m->n_ranges; i++) {
                free(m->ranges[i].barred);
                m->ranges[i].barred = NULL;
        }
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
