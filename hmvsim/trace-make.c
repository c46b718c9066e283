/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Synthetic traces. Hot pages lie scattered over the memory, as a program's do that allocated them before it
 * knew which would be hot.
 */
#include <math.h>

#include "trace.h"

#define LINES 64 /* of a page */
#define PAGES 65536 /* 256 MiB */

static const struct {
        const char *name;
        TraceRecipe recipe;
} recipes[] = {
        /* As a key-value store is updated: the skew of YCSB's default. */
        { "zipf", { .pages = PAGES, .seconds = 400, .stores_per_sec = 30000, .skew = 0.99 } },
        { "zipf-steep", { .pages = PAGES, .seconds = 400, .stores_per_sec = 30000, .skew = 1.2 } },
        /* So many stores that thousands of pages are found written whenever one looks, and look alike. */
        { "zipf-busy", { .pages = PAGES, .seconds = 200, .stores_per_sec = 200000, .skew = 0.99 } },
        { "moving",
          { .pages = PAGES, .seconds = 480, .stores_per_sec = 30000, .hot_pages = PAGES / 8,
            .hot_permyriad = 9000, .move_every = 120 } },
        /* Twice as large as a quarter of the memory, all pages alike: nothing tells which to prefer. */
        { "larger",
          { .pages = PAGES, .seconds = 300, .stores_per_sec = 60000, .hot_pages = PAGES / 2,
            .hot_permyriad = 10000 } },
        { "stream", { .pages = PAGES, .seconds = 300, .stream_per_sec = 2000 } },
        { "mixed",
          { .pages = PAGES, .seconds = 300, .stores_per_sec = 30000, .hot_pages = PAGES / 16 * 3,
            .hot_permyriad = 9000, .read_hot_pages = PAGES / 16 * 3 } },
};

const char *const trace_names[] = { "zipf",   "zipf-steep", "zipf-busy", "moving",
                                    "larger", "stream",     "mixed",     NULL };

typedef struct Maker {
        const TraceRecipe *recipe;
        uint64_t random;
        uint32_t *order;       /* pages, most popular first */
        uint64_t *chance;      /* of Zipf's law: up to this rank, of 2^32 */
        uint32_t *stores, *loads;
        Trace trace;
} Maker;

/* xorshift64*: the same numbers on every machine. */
static uint32_t maker_random(Maker *m) {
        m->random ^= m->random >> 12;
        m->random ^= m->random << 25;
        m->random ^= m->random >> 27;
        return (uint32_t) ((m->random * UINT64_C(2685821657736338717)) >> 32);
}

static uint32_t maker_below(Maker *m, uint32_t n) {
        return (uint32_t) ((uint64_t) maker_random(m) * n >> 32);
}

static void maker_shuffle(Maker *m) {
        for (uint32_t i = m->recipe->pages; i-- > 1;) {
                uint32_t k = maker_below(m, i + 1), page = m->order[i];

                m->order[i] = m->order[k];
                m->order[k] = page;
        }
}

static void maker_init_zipf(Maker *m) {
        double sum = 0, at = 0;

        for (uint32_t i = 1; i <= m->recipe->pages; i++)
                sum += pow(i, -m->recipe->skew);
        for (uint32_t i = 1; i <= m->recipe->pages; i++) {
                at += pow(i, -m->recipe->skew);
                m->chance[i - 1] = (uint64_t) (at / sum * 4294967296.0);
        }
        m->chance[m->recipe->pages - 1] = UINT64_C(1) << 32;
}

/* The rank of the page that is stored to next. */
static uint32_t maker_rank(Maker *m) {
        const TraceRecipe *r = m->recipe;
        uint32_t low = 0, high = r->pages - 1, at;

        if (r->hot_pages > 0)
                return maker_below(m, maker_below(m, 10000) < r->hot_permyriad ? r->hot_pages : r->pages);
        at = maker_random(m);
        while (low < high) {
                uint32_t middle = low + (high - low) / 2;

                if (at < m->chance[middle])
                        high = middle;
                else
                        low = middle + 1;
        }
        return low;
}

static void maker_second(Maker *m, uint32_t second) {
        const TraceRecipe *r = m->recipe;

        for (uint32_t i = 0; i < r->stream_per_sec; i++)
                m->stores[((uint64_t) second * r->stream_per_sec + i) % r->pages] = LINES;
        for (uint32_t i = 0; i < r->stores_per_sec; i++)
                m->stores[m->order[maker_rank(m)]]++;
        /* The least popular pages are never stored to much: they are the ones that are read. */
        for (uint32_t i = 0; r->read_hot_pages > 0 && i < r->stores_per_sec; i++)
                m->loads[m->order[r->pages - 1 - maker_below(m, r->read_hot_pages)]]++;
}

static int maker_emit(Maker *m) {
        for (uint32_t p = 0; p < m->recipe->pages; p++) {
                int r;

                if (m->stores[p] == 0 && m->loads[p] == 0)
                        continue;
                r = trace_add(&m->trace,
                              (Access){ .page = p, .stores = m->stores[p], .loads = m->loads[p] });
                if (r < 0)
                        return r;
        }
        return 0;
}

static int maker_run(Maker *m) {
        const TraceRecipe *r = m->recipe;

        for (uint32_t i = 0; i < r->pages; i++)
                m->order[i] = i;
        maker_shuffle(m);
        maker_init_zipf(m);
        m->trace.pages = r->pages;
        for (uint32_t s = 0; s < r->seconds; s++) {
                bool moves = r->move_every > 0 && s > 0 && s % r->move_every == 0;
                int k;

                if (moves)
                        maker_shuffle(m);
                memset(m->stores, 0, r->pages * sizeof(*m->stores));
                memset(m->loads, 0, r->pages * sizeof(*m->loads));
                maker_second(m, s);
                k = trace_begin_second(&m->trace, moves);
                if (k >= 0)
                        k = maker_emit(m);
                if (k < 0)
                        return k;
        }
        return 0;
}

int trace_generate(const TraceRecipe *recipe, uint64_t seed, Trace *ret) {
        Maker m = {
                .recipe = recipe,
                .random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1,
                .order = calloc(recipe->pages, sizeof(*m.order)),
                .chance = calloc(recipe->pages, sizeof(*m.chance)),
                .stores = calloc(recipe->pages, sizeof(*m.stores)),
                .loads = calloc(recipe->pages, sizeof(*m.loads)),
        };
        int r = m.order && m.chance && m.stores && m.loads ? maker_run(&m) : -ENOMEM;

        free(m.order);
        free(m.chance);
        free(m.stores);
        free(m.loads);
        if (r < 0)
                trace_done(&m.trace);
        else
                *ret = m.trace;
        return r;
}

int trace_make(const char *name, uint64_t seed, Trace *ret) {
        for (size_t i = 0; i < ELEMENTSOF(recipes); i++)
                if (streq(name, recipes[i].name)) {
                        int r = trace_generate(&recipes[i].recipe, seed, ret);

                        if (r >= 0)
                                snprintf(ret->name, sizeof(ret->name), "%s", name);
                        return r;
                }
        return -ENOENT;
}
