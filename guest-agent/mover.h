/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What both ways of moving pages have in common. A mover is given units and sets what became of each; it
 * claims MOVED only for what it has seen on the target node afterwards. It decides nothing: which pages, in
 * which order and how many at once is the business of execute.c.
 */
#pragma once

#include <stdatomic.h>

#include "base/cleanup.h"
#include "sysfile.h"

#define ORDER_PAGES_MAX 65536
#define ORDER_RANGES_MAX 16384
#define ORDER_PFN_MAX (UINT64_C(1) << 52)

typedef struct PageRange {
        uint64_t pfn;
        uint64_t count;
} PageRange;

typedef enum PageResult {
        PAGE_PENDING, /* not tried */
        PAGE_MOVED,
        PAGE_UNREACHED, /* this mover has no way to it; the other one may */
        PAGE_FREE,
        PAGE_ALREADY_THERE,
        PAGE_UNMOVABLE,
        PAGE_PINNED,
        PAGE_NO_ROOM,
        PAGE_NOT_RAM,
        PAGE_OTHER,
        PAGE_RESULT_MAX,
} PageResult;

typedef enum UnitKind {
        UNIT_MAPPED,   /* in some process's page tables */
        UNIT_UNMAPPED, /* page cache that nobody maps */
        UNIT_HUGETLB,
} UnitKind;

/* What moves in one piece. */
typedef struct Unit {
        uint64_t pfn;   /* first frame */
        uint32_t pages; /* frames in it */
        uint32_t named; /* of these, the ones that the order named */
        UnitKind kind;
        bool referenced; /* page cache: somebody has read it since the kernel last looked */
        PageResult result;
} Unit;

/* Why to stop before the end. */
typedef struct Stop {
        usec_t deadline;
        const atomic_bool *cancel;
} Stop;

static inline int stop_check(const Stop *stop) {
        if (stop->cancel && atomic_load_explicit(stop->cancel, memory_order_relaxed))
                return -ECANCELED;
        return now_usec() >= stop->deadline ? -ETIME : 0;
}

typedef struct Mover Mover;

/* begin: once per order, with all units that may be handed to move() later.
 * move: tries each unit whose result is PENDING; those it does not come to before stop stay PENDING.
 * end: drops what belongs to the order. release: gives back all that is held in the kernel.
 * All return 0 or -errno; -EBUSY: somebody else has the facility; -EOPNOTSUPP: this kernel has none. */
struct Mover {
        const char *name;
        int (*begin)(Mover *m, Unit *const units[], size_t n, const Stop *stop);
        int (*move)(Mover *m, Unit *const units[], size_t n, int node, const Stop *stop);
        void (*end)(Mover *m);
        void (*release)(Mover *m);
        void (*free)(Mover *m);
};

static inline Mover *mover_free(Mover *m) {
        if (m)
                m->free(m);
        return NULL;
}
DEFINE_CLEANUP(Mover *, mover_free);

/* Do they exist in this kernel, for this process? Cheap; changes nothing. */
bool mover_damon_available(int root);
bool mover_pagemap_available(int root);

int mover_damon_new(int root, Mover **ret);
int mover_pagemap_new(int root, Mover **ret);

/* Stops a kdamond that an earlier run of this agent left behind; touches nobody else's. */
void mover_damon_cleanup_stale(int root);
