/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What tracking looks at: all of a domain's memory, or slow memory alone, at once or a part at a time. Owns
 * the rules; never looks at a page.
 *
 * Most writes go to DRAM once pages are in their place, and to learn that they still do costs a fault each.
 * What would have to be moved shows in slow memory. So where nothing has been worth moving for a while, only
 * slow memory is looked at, and DRAM keeps the heat that it had, until an order is made, much more is
 * written in slow memory than then, or that heat is old.
 *
 * A guest that writes many pages would spend most of its time in faults while all of them are looked at, and
 * then be left alone for long; and who is slowed down so much hardly comes to write a page twice, which is
 * what tells a hot one. So its memory is looked at in parts, in turn: more of them, the more it writes.
 */
#pragma once

#include "base/cleanup.h"
#include "base/tier.h"

#define SCOPE_CALM_EPOCHS 8 /* as many as heat remembers: with all looked at, and nothing to move */
#define SCOPE_USEC (60 * USEC_PER_SEC) /* as long as heat remembers a sighting, DRAM's is good for */
#define SCOPE_NEWS 16 /* one part in so many of all heat: more in slow memory than when that began */
#define SCOPE_DEAR 8 /* an epoch costs so many times what it may, on average: smaller parts from then on */
#define SCOPE_PART_EPOCHS 2 /* with samples, until the next part's turn: the first sample is thrown away */
#define SCOPE_PARTS_SHIFT_MOST 4

/* All zero looks at everything. */
typedef struct Scope {
        bool slow_only;
        unsigned calm_epochs; /* in a row, while all is looked at */
        uint64_t slow_heat;   /* of slow memory, when slow_only began */
        usec_t until;         /* slow_only at most */
        unsigned parts_shift; /* there are 2^parts_shift parts */
        unsigned part;        /* the one whose turn it is */
        unsigned part_epochs; /* with samples, in this turn so far */
        uint64_t turn_faults; /* that it has cost */
} Scope;

/* An epoch with samples has cost `faults` of `affordable` (0: no limit) that epochs may cost on average;
 * slow memory has n_pieces that can be looked at alone. */
void scope_look(Scope *s, uint64_t faults, uint64_t affordable, uint32_t n_pieces);

/* A plan was made from what this epoch's samples saw: wants to move pages, or has nothing worth it; and what
 * there is of heat in slow memory, and in all. */
void scope_plan(Scope *s, bool wants, uint64_t slow_heat, uint64_t total_heat, usec_t now);

/* From now on no tier is left out. */
void scope_widen(Scope *s);

/* Whether the n-th piece (from 0) of a tier is to be looked at. */
bool scope_has_piece(const Scope *s, Tier tier, uint32_t n);
