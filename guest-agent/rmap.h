/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A reverse map: for chosen units, one process and address that maps each. Made by reading the page tables of
 * every process through /proc/PID/pagemap and dropping what is not asked for. A snapshot: an entry can be out
 * of date as soon as it is made, so its user asks rmap_revalidate() right before acting.
 */
#pragma once

#include <sys/types.h>

#include "mover.h"

typedef struct RmapEntry {
        Unit *unit;
        uint64_t address;
        pid_t pid; /* 0: nobody found */
} RmapEntry;

typedef struct Rmap {
        RmapEntry *entries; /* one per unit, ascending by the unit's first frame */
        size_t n_entries, n_found;
        uint64_t *bitmap; /* frames of the units, from base on */
        uint64_t base, bits;
        uint64_t scanned; /* page table entries read */
} Rmap;

/* Which processes to read first: those that owned pages of earlier orders. Kept between orders. */
typedef struct RmapHint {
        pid_t pids[16];
} RmapHint;

/* Returns 0, -ECANCELED or -ETIME (stopped early: what was found until then is there), or -errno. */
int rmap_build(int root, Unit *const units[], size_t n, RmapHint *hint, const Stop *stop, Rmap *ret);
void rmap_done(Rmap *map);

/* The entry of a unit, or NULL where nobody was found to map it. */
RmapEntry *rmap_find(const Rmap *map, const Unit *unit);

/* Sorts entries by process and address and drops those whose page is another one by now: their unit becomes
 * UNREACHED. Returns the number of those kept, at the front. */
size_t rmap_revalidate(int root, RmapEntry *entries[], size_t n);
