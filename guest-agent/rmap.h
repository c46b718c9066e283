/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A reverse map: for chosen units, one process and address that maps each. Made by reading the page tables
 * of every process through /proc/PID/pagemap and dropping what is not asked for. A snapshot: an entry can be
 * out of date as soon as it is made, so its user asks rmap_revalidate() right before acting.
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

/* Kept between orders: which processes to read first, as they owned pages of earlier orders, and a buffer
 * that would cost milliseconds of page faults each time. */
typedef struct RmapScratch {
        pid_t pids[16];
        uint64_t *buf;
} RmapScratch;

void rmap_scratch_free(RmapScratch *scratch);

/* Returns 0, -ECANCELED or -ETIME (stopped early), or another -errno. */
int rmap_build(int root, Unit *const units[], size_t n, RmapScratch *scratch, const Stop *stop, Rmap *ret);
void rmap_done(Rmap *map);

/* The entry of a unit, or NULL where nobody was found to map it. */
RmapEntry *rmap_find(const Rmap *map, const Unit *unit);

/* Sorts entries by process and address and drops those whose page is another one by now: their unit becomes
 * UNREACHED. Returns the number of those kept, at the front. */
size_t rmap_revalidate(int root, RmapEntry *entries[], size_t n);
