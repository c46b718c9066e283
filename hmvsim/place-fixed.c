/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Competitors that do not learn: static first touch, interleaved pages, the oracles, which know the trace's
 * exact counts, and the worst of all placements, which is planted.
 */
#include "place.h"

#define WINDOW_SECONDS 10

typedef struct Count {
        uint64_t stores;
        uint32_t page;
} Count;

static int by_most(const void *a, const void *b) {
        const Count *x = a, *y = b;

        if (x->stores != y->stores)
                return x->stores > y->stores ? -1 : 1;
        return x->page < y->page ? -1 : x->page > y->page;
}

static int by_fewest(const void *a, const void *b) {
        const Count *x = a, *y = b;

        if (x->stores != y->stores)
                return x->stores < y->stores ? -1 : 1;
        return x->page < y->page ? -1 : x->page > y->page;
}

int place_choose(const PlaceSetup *s, size_t from, size_t to, bool fewest, uint8_t *in_dram) {
        const Trace *t = s->trace;
        _cleanup_free_ Count *counts = calloc(t->pages, sizeof(*counts));

        if (!counts)
                return -ENOMEM;
        for (uint32_t p = 0; p < t->pages; p++)
                counts[p].page = p;
        for (size_t i = t->first[from]; i < t->first[to]; i++)
                counts[t->accesses[i].page].stores += t->accesses[i].stores;
        qsort(counts, t->pages, sizeof(*counts), fewest ? by_fewest : by_most);
        memset(in_dram, 0, t->pages);
        for (uint32_t i = 0; i < s->dram_pages; i++)
                in_dram[counts[i].page] = 1;
        return 0;
}

/* Pages are numbered as they were first touched, and the kernel fills DRAM first. */
static int static_start(const PlaceSetup *s, uint8_t *in_dram, void **ret_state) {
        memset(in_dram, 1, s->dram_pages);
        return 0;
}

static int interleave_start(const PlaceSetup *s, uint8_t *in_dram, void **ret_state) {
        for (uint64_t p = 0; p < s->trace->pages; p++)
                in_dram[p] = (p + 1) * s->dram_pages / s->trace->pages > p * s->dram_pages / s->trace->pages;
        return 0;
}

static int oracle_start(const PlaceSetup *s, uint8_t *in_dram, void **ret_state) {
        return place_choose(s, 0, s->trace->n_seconds, false, in_dram);
}

static int worst_start(const PlaceSetup *s, uint8_t *in_dram, void **ret_state) {
        return place_choose(s, 0, s->trace->n_seconds, true, in_dram);
}

static int windows_choose(const PlaceSetup *s, size_t second, uint8_t *in_dram) {
        return place_choose(s, second, MIN(second + WINDOW_SECONDS, s->trace->n_seconds), false, in_dram);
}

static int windows_start(const PlaceSetup *s, uint8_t *in_dram, void **ret_state) {
        return windows_choose(s, 0, in_dram);
}

static int windows_step(const PlaceSetup *s, void *state, size_t second, uint8_t *in_dram) {
        return second % WINDOW_SECONDS == 0 ? windows_choose(s, second, in_dram) : 0;
}

const Competitor place_static = { .name = "static", .start = static_start };
const Competitor place_interleave = { .name = "interleave", .start = interleave_start };
const Competitor place_oracle = { .name = "oracle", .start = oracle_start };
const Competitor place_worst = { .name = "worst", .start = worst_start };
const Competitor place_windows = { .name = "windows", .start = windows_start, .step = windows_step };
