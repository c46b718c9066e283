/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Which pages of a VM are stored to, and loaded from, in each second: a trace. Owns its file format
 * (hmvsim(1)) and the synthetic ones; knows nothing of placement.
 */
#pragma once

#include "base/outcome.h"

#define TRACE_PAGES_MAX (UINT32_C(1) << 24) /* 64 GiB */
#define TRACE_SECONDS_MAX 86400
#define TRACE_COUNT_MAX (UINT32_C(1) << 24) /* of stores, or loads, of a page in a second */

typedef struct Access {
        uint32_t page;
        uint32_t stores, loads;
} Access;

typedef struct Trace {
        char name[64];
        uint32_t pages;
        size_t n_seconds;
        Access *accesses;           /* by second, then ascending by page, each page once */
        size_t n_accesses, room;    /* room: allocated */
        size_t *first;              /* second -> its first access; n_seconds + 1 of them */
        size_t *phases, n_phases;   /* seconds in which another hot set begins, ascending; the first is 0 */
} Trace;

void trace_done(Trace *t);

/* Adding to a trace that was all 0 but for its pages, in order. Return 0 or -ENOMEM. */
int trace_begin_second(Trace *t, bool new_phase);
int trace_add(Trace *t, Access access);

/* Returns 0, or -EINVAL or another errno with the file, the line and the remedy in *o. */
int trace_read(const char *path, Trace *ret, Outcome *o);
int trace_write(const Trace *t, FILE *to); /* 0 or -EIO */

/* The synthetic ones, by name and seed. Returns 0, -ENOENT (no such name) or -ENOMEM. */
extern const char *const trace_names[]; /* ends with NULL */
int trace_make(const char *name, uint64_t seed, Trace *ret);

/* What describes a synthetic trace, for trace_generate(): parameters of all of them. */
typedef struct TraceRecipe {
        uint32_t pages, seconds;
        uint32_t stores_per_sec;   /* of hot pages and of all, as the kind says */
        uint32_t hot_pages;        /* 0: the popularity of pages follows Zipf's law */
        double skew;               /* of Zipf's law */
        uint32_t hot_permyriad;    /* of the stores; the others go to any page */
        uint32_t move_every;       /* seconds; 0: never */
        uint32_t read_hot_pages;   /* that are only loaded, as often as hot ones are stored to */
        uint32_t stream_per_sec; /* pages written one after the other, all of their 64 lines; nothing else */
} TraceRecipe;
int trace_generate(const TraceRecipe *recipe, uint64_t seed, Trace *ret);
