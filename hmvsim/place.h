/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Competitors for DRAM on one trace: each says before every second which pages are to lie in DRAM, and the
 * contest counts, for all of them alike, what goes to slow memory and what was moved. Owns the accounting;
 * how a competitor decides is its own file's.
 */
#pragma once

#include "core/policy.h"
#include "trace.h"

typedef struct PlaceSetup {
        const Trace *trace;
        uint32_t dram_pages; /* of the trace's; the others lie in slow memory */
        uint64_t seed;
} PlaceSetup;

/* in_dram has a byte per page: 1 in DRAM, 0 not; never more than dram_pages of them. */
typedef struct Competitor {
        const char *name;
        /* Where pages lie at first; state NULL where none is needed. Returns 0 or -errno. */
        int (*start)(const PlaceSetup *s, uint8_t *in_dram, void **ret_state);
        /* Before each second but the first. Only the oracles look at it or beyond. NULL: nothing moves. */
        int (*step)(const PlaceSetup *s, void *state, size_t second, uint8_t *in_dram);
        void (*done)(void *state);
} Competitor;

extern const Competitor place_static, place_interleave, place_oracle, place_windows, place_worst;
extern const Competitor place_hmvisor, place_hmvisor_ring, place_cmq;

/* Stores in a page's favour before it counts as useful that it was moved: in so many different seconds. */
#define USEFUL_SECONDS 2
#define NEVER UINT64_MAX
#define LINES_PER_PAGE 64 /* that a page's demotion writes to slow memory */

typedef struct PlaceResult {
        const Competitor *competitor;
        uint64_t stores, slow_stores, loads, slow_loads;
        uint64_t moved, demoted;   /* pages, in both directions; of these, to slow memory */
        uint64_t useful;           /* promotions of pages that were stored to afterwards, before they left */
        uint64_t *slow_by_second;  /* stores */
        uint64_t seconds_to_90;    /* of what the oracle saves, in the slowest phase; NEVER */
} PlaceResult;

typedef struct Contest {
        PlaceSetup setup;
        PlaceResult results[8];
        size_t n_results;
        bool gains; /* the oracle saves at least a twentieth of static's slow stores */
} Contest;

/* All of them on one trace, of which dram_permyriad of the pages fit DRAM. Returns 0, -ENOMEM, or -EPROTO
 * when the accounting contradicts itself (the planted placements are not what they must be), with the reason
 * in *o. */
int contest_run(const Trace *trace, uint32_t dram_permyriad, uint64_t seed, Contest *ret, Outcome *o);
void contest_done(Contest *c);
const PlaceResult *contest_find(const Contest *c, const Competitor *competitor);

/* What a competitor saves of what the oracle saves, against static; permyriad, negative where it is worse.
 */
int64_t contest_saved(const Contest *c, const PlaceResult *r);

/* Lets a single competitor run, accounted as the others are. The caller frees ret->slow_by_second. */
int place_run(const PlaceSetup *s, const Competitor *competitor, PlaceResult *ret, Outcome *o);

/* The pages with the most stores (or the fewest) in [from, to), in the order of pages where they are equal.
 */
int place_choose(const PlaceSetup *s, size_t from, size_t to, bool fewest, uint8_t *in_dram);

/* In which halves of a second a page was stored to (bit 0, bit 1): its stores lie at random in it, and the
 * same for everybody who asks. */
unsigned place_halves(const PlaceSetup *s, size_t second, const Access *a);
