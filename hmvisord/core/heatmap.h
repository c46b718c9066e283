/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The heat of a domain's frames: one byte per 4 KiB, kept per contiguous range, with a histogram per cell.
 * Owns the decay and the arithmetic of heat; never decides what to move.
 *
 * Heat is the share of recent samples in which a frame was found written, 0..255: an exponentially weighted
 * mean over about HEAT_MEMORY epochs. A frame written in every sample approaches 255; one that is never
 * written again reaches 0, the last HEAT_TAIL more slowly: that tells what is written now and then from what
 * never is, or each would take the other's place time and again.
 */
#pragma once

#include "core/facts.h"
#include "core/order.h"

#define HEAT_VALUES 256
#define HEAT_MEMORY 8 /* weight of one epoch is 1/8: half of the heat is gone after 5 epochs */
#define HEAT_TAIL 16      /* heat of one sighting at two samples an epoch; from there on down */
#define HEAT_TAIL_EPOCHS 4 /* ... by 1 in so many epochs: a sighting is remembered for about a minute */
#define HEAT_CHUNK 64 /* frames whose heat fills a cache line: cold ones are passed over together */

typedef struct HeatRange {
        uint64_t gfn;
        uint64_t n_pages;
        uint32_t cell;
        uint32_t slot;  /* index of the cell in the heatmap's histograms */
        uint8_t *heat;  /* per frame, 0 behind the last one up to a whole chunk */
        uint64_t *live; /* one bit per chunk: clear if all of it has heat 0 */
        uint64_t histogram[HEAT_VALUES]; /* its part of its cell's */
        bool looked_at;                  /* in the last epoch with samples */
} HeatRange;

typedef struct Heatmap {
        HeatRange *ranges; /* ascending by gfn */
        size_t n_ranges;
        uint32_t cells[CELLS_MAX]; /* slot -> cell */
        size_t n_cells;
        uint32_t epoch;
        uint64_t histogram[CELLS_MAX][HEAT_VALUES]; /* pages per slot and heat */
        PageRange *barred; /* not to be promoted for now: ascending, without overlap */
        size_t n_barred;
} Heatmap;

/* What the samples of an epoch looked at. */
typedef struct HeatLook {
        uint64_t pages, warm_pages;           /* and of those, those that have heat */
        uint64_t left_pages, left_warm_pages; /* that the epoch before looked at, and this one did not */
        uint64_t sightings; /* how often frames were found written: the sum of all counters */
} HeatLook;

void heatmap_done(Heatmap *m);

/* Takes new ranges over: frames that stay in the same cell keep their heat. The ranges must be valid
 * (ascending, at most CELLS_MAX different cells). Returns 0, or -ENOMEM with m unchanged. */
int heatmap_set_ranges(Heatmap *m, const RangeFacts *ranges, size_t n_ranges);
bool heatmap_has_ranges(const Heatmap *m, const RangeFacts *ranges, size_t n_ranges);

/* One epoch: decays heat and adds what was seen in this epoch's samples (> 0). The ranges are those of
 * heatmap_set_ranges(); without counters they keep their heat. Every counter is read once; any value is
 * valid. */
HeatLook heatmap_update(Heatmap *m, const RangeFacts *ranges, uint32_t samples);

/* Gives frames a heat; frames that are not in the map are passed over. */
void heatmap_set_heat(Heatmap *m, uint64_t gfn, uint64_t n_pages, uint8_t heat);

/* Bars frames from promotion, until heatmap_unbar() or other ranges. Returns 0 or -ENOMEM. */
int heatmap_bar(Heatmap *m, const PageRange *frames, size_t n);
void heatmap_unbar(Heatmap *m);
bool heatmap_is_barred(const Heatmap *m, uint64_t gfn);

/* The slot of a cell, or -ENOENT when no range lies in it. */
int heatmap_find_slot(const Heatmap *m, uint32_t cell);

/* The heat of a frame, or -ENOENT. */
int heatmap_get_heat(const Heatmap *m, uint64_t gfn);

/* What a frame has after it was seen in a single sample, of so many per epoch. */
uint32_t heat_of_one_sighting(uint32_t samples);

/* What is left of a heat, at most, where a frame is not written for so many epochs. */
uint32_t heat_after_rest(uint32_t heat, unsigned epochs);

/* Band of a heat: 0 is heat 0, band i >= 1 holds [2^(i-1), 2^i). */
static inline unsigned heat_band(unsigned heat) {
        return heat ? 32U - (unsigned) __builtin_clz(heat) : 0;
}

/* Whether any of the chunk has heat. */
static inline bool heat_range_is_live(const HeatRange *r, uint64_t chunk) {
        return r->live[chunk / 64] >> (chunk % 64) & 1;
}

/* Live chunks lie scattered, and waiting for each in turn is most of what they cost: asks for all of the
 * heat that a word of `live` stands for. (Where all of them are live, the processor foresees it.) */
static inline void heat_range_prefetch(const HeatRange *r, uint64_t word) {
        if (word * 64 * HEAT_CHUNK >= r->n_pages || r->live[word] == UINT64_MAX)
                return;
        __asm__ volatile(""); /* gcc 12 takes a function that does nothing but this for one without effect */
        for (uint64_t bits = r->live[word]; bits != 0; bits &= bits - 1)
                __builtin_prefetch(r->heat + (word * 64 + (unsigned) __builtin_ctzll(bits)) * HEAT_CHUNK);
}
