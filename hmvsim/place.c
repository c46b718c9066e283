/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The contest: one second after the other, the same for every competitor. What moved is seen by comparing
 * where pages lay before and after; nobody's word is taken for it.
 */
#include "place.h"

#include <inttypes.h>

#define SMOOTH_SECONDS 5 /* a placement has reached 90% when it does on average over so long */

/* What the contest knows of each page. */
typedef struct PageState {
        uint8_t was_in_dram;
        uint8_t promoted;     /* it moved in, and has not left since */
        uint8_t seconds;      /* stored to since, up to USEFUL_SECONDS */
} PageState;

static int account_moves(const PlaceSetup *s, const uint8_t *in_dram, PageState *pages, PlaceResult *r,
                         Outcome *o) {
        uint32_t n = 0;

        for (uint32_t p = 0; p < s->trace->pages; p++) {
                n += in_dram[p];
                if (in_dram[p] == pages[p].was_in_dram)
                        continue;
                r->moved++;
                r->demoted += !in_dram[p];
                pages[p] = (PageState){ .was_in_dram = in_dram[p], .promoted = in_dram[p] };
        }
        if (n > s->dram_pages)
                return outcome_set(o, OUTCOME_FAILED,
                                   "%s holds %" PRIu32 " pages in DRAM, which has room for %" PRIu32,
                                   r->competitor->name, n, s->dram_pages),
                       -EPROTO;
        return 0;
}

static void account_second(const PlaceSetup *s, size_t second, const uint8_t *in_dram, PageState *pages,
                           PlaceResult *r) {
        const Trace *t = s->trace;

        for (size_t i = t->first[second]; i < t->first[second + 1]; i++) {
                const Access *a = &t->accesses[i];
                PageState *p = &pages[a->page];

                r->stores += a->stores;
                r->loads += a->loads;
                if (!in_dram[a->page]) {
                        r->slow_stores += a->stores;
                        r->slow_loads += a->loads;
                        r->slow_by_second[second] += a->stores;
                } else if (p->promoted && a->stores > 0 && p->seconds < USEFUL_SECONDS)
                        r->useful += ++p->seconds == USEFUL_SECONDS;
        }
}

int place_run(const PlaceSetup *s, const Competitor *competitor, PlaceResult *ret, Outcome *o) {
        _cleanup_free_ uint8_t *in_dram = calloc(s->trace->pages, 1);
        _cleanup_free_ PageState *pages = calloc(s->trace->pages, sizeof(*pages));
        PlaceResult r = { .competitor = competitor, .seconds_to_90 = NEVER };
        void *state = NULL;
        int k;

        r.slow_by_second = calloc(s->trace->n_seconds, sizeof(*r.slow_by_second));
        if (!in_dram || !pages || !r.slow_by_second)
                k = -ENOMEM;
        else
                k = competitor->start(s, in_dram, &state);
        for (size_t second = 0; k >= 0 && second < s->trace->n_seconds; second++) {
                if (second > 0 && competitor->step)
                        k = competitor->step(s, state, second, in_dram);
                for (uint32_t p = 0; second == 0 && p < s->trace->pages; p++)
                        pages[p].was_in_dram = in_dram[p];
                if (k >= 0)
                        k = account_moves(s, in_dram, pages, &r, o);
                if (k >= 0)
                        account_second(s, second, in_dram, pages, &r);
        }
        if (competitor->done)
                competitor->done(state);
        if (k < 0)
                free(r.slow_by_second);
        else
                *ret = r;
        return k;
}

unsigned place_halves(const PlaceSetup *s, size_t second, const Access *a) {
        uint64_t x = (s->seed * 31 + second) * UINT64_C(0x9e3779b97f4a7c15) + a->page;
        uint64_t mask = (UINT64_C(1) << MIN(a->stores, 40U)) - 1;

        if (a->stores == 0)
                return 0;
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        x = (x ^ x >> 31) & mask; /* a coin for each store */
        return x == 0 ? 1 : x == mask ? 2 : 3;
}

/* ---- the phases ---- */

/* The best that one placement could do in each phase: stores to slow memory, by second. */
static int phases_best(const PlaceSetup *s, uint64_t *slow_by_second) {
        _cleanup_free_ uint8_t *in_dram = calloc(s->trace->pages, 1);
        const Trace *t = s->trace;

        if (!in_dram)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_phases; i++) {
                size_t end = i + 1 < t->n_phases ? t->phases[i + 1] : t->n_seconds;
                int r = place_choose(s, t->phases[i], end, false, in_dram);

                if (r < 0)
                        return r;
                for (size_t k = t->first[t->phases[i]]; k < t->first[end]; k++)
                        if (!in_dram[t->accesses[k].page]) {
                                size_t second = t->phases[i];

                                while (t->first[second + 1] <= k)
                                        second++;
                                slow_by_second[second] += t->accesses[k].stores;
                        }
        }
        return 0;
}

/* Seconds from the start of a phase until static's slow stores are down by 90% of what the best placement
 * would save. */
static uint64_t phase_time(const uint64_t *slow, const uint64_t *as_static, const uint64_t *best,
                           size_t from, size_t to) {
        for (size_t s = from; s + SMOOTH_SECONDS <= to; s++) {
                int64_t saved = 0, possible = 0;

                for (size_t i = s; i < s + SMOOTH_SECONDS; i++) {
                        saved += (int64_t) as_static[i] - (int64_t) slow[i];
                        possible += (int64_t) as_static[i] - (int64_t) best[i];
                }
                if (saved * 10 >= possible * 9)
                        return s - from;
        }
        return NEVER;
}

static int contest_time(Contest *c) {
        const Trace *t = c->setup.trace;
        _cleanup_free_ uint64_t *best = calloc(t->n_seconds, sizeof(*best));
        const uint64_t *as_static = contest_find(c, &place_static)->slow_by_second;
        int r = best ? phases_best(&c->setup, best) : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < c->n_results; i++) {
                c->results[i].seconds_to_90 = 0;
                for (size_t k = 0; k < t->n_phases; k++) {
                        size_t end = k + 1 < t->n_phases ? t->phases[k + 1] : t->n_seconds;
                        uint64_t took = phase_time(c->results[i].slow_by_second, as_static, best,
                                                   t->phases[k], end);

                        c->results[i].seconds_to_90 = MAX(c->results[i].seconds_to_90, took);
                }
        }
        return r;
}

/* ---- all together ---- */

const PlaceResult *contest_find(const Contest *c, const Competitor *competitor) {
        for (size_t i = 0; i < c->n_results; i++)
                if (c->results[i].competitor == competitor)
                        return &c->results[i];
        abort();
}

int64_t contest_saved(const Contest *c, const PlaceResult *r) {
        int64_t as_static = (int64_t) contest_find(c, &place_static)->slow_stores;
        int64_t possible = as_static - (int64_t) contest_find(c, &place_oracle)->slow_stores;

        return possible <= 0 ? 0 : (as_static - (int64_t) r->slow_stores) * 10000 / possible;
}

/* A harness that a bad placement can pass, or a good one fail, measures nothing: the planted ones must come
 * out as they are. */
static int contest_check(const Contest *c, Outcome *o) {
        const PlaceResult *good = contest_find(c, &place_oracle), *bad = contest_find(c, &place_worst),
                          *windows = contest_find(c, &place_windows);

        for (size_t i = 0; i < c->n_results; i++) {
                const PlaceResult *r = &c->results[i];
                bool stays = !r->competitor->step;

                if (r->stores != good->stores || r->loads != good->loads ||
                    windows->slow_stores > good->slow_stores ||
                    (stays && (r->moved > 0 || r->slow_stores < good->slow_stores ||
                               r->slow_stores > bad->slow_stores)))
                        return outcome_set(o, OUTCOME_FAILED,
                                           "the harness contradicts itself on trace '%s': %s has %" PRIu64
                                           " stores to slow memory, the planted good placement %" PRIu64
                                           ", the bad one %" PRIu64,
                                           c->setup.trace->name, r->competitor->name, r->slow_stores,
                                           good->slow_stores, bad->slow_stores),
                               -EPROTO;
        }
        return 0;
}

int contest_run(const Trace *trace, uint32_t dram_permyriad, uint64_t seed, Contest *ret, Outcome *o) {
        static const Competitor *const all[] = { &place_static, &place_interleave, &place_cmq,
                                                 &place_hmvisor, &place_hmvisor_ring, &place_oracle,
                                                 &place_windows, &place_worst };
        Contest c = { .setup = { .trace = trace, .seed = seed } };
        const PlaceResult *as_static, *oracle;
        int r = 0;

        _Static_assert(ELEMENTSOF(all) <= ELEMENTSOF(c.results), "a result for each");
        c.setup.dram_pages = (uint32_t) ((uint64_t) trace->pages * dram_permyriad / 10000);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(all); i++) {
                r = place_run(&c.setup, all[i], &c.results[c.n_results], o);
                c.n_results += r >= 0;
        }
        if (r >= 0)
                r = contest_check(&c, o);
        if (r >= 0)
                r = contest_time(&c);
        if (r < 0) {
                contest_done(&c);
                return r;
        }
        as_static = contest_find(&c, &place_static);
        oracle = contest_find(&c, &place_oracle);
        c.gains = as_static->slow_stores > oracle->slow_stores &&
                  as_static->slow_stores - oracle->slow_stores >= as_static->slow_stores / 20;
        *ret = c;
        return 0;
}

void contest_done(Contest *c) {
        for (size_t i = 0; i < c->n_results; i++)
                free(c->results[i].slow_by_second);
        *c = (Contest){ 0 };
}
