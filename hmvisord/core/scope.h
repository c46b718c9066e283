/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What tracking looks at: all of a domain's memory, or slow memory alone. Owns the rule; never looks at a
 * page.
 *
 * Most writes go to DRAM once pages are in their place, and to learn that they still do costs a fault each.
 * What would have to be moved shows in slow memory. So where nothing has been worth moving for a while, only
 * slow memory is looked at, and DRAM keeps the heat that it had, until an order is made, much more is
 * written in slow memory than then, or that heat is old.
 */
#pragma once

#include "base/cleanup.h"

#define SCOPE_CALM_EPOCHS 8 /* as many as heat remembers: with all looked at, and nothing to move */
#define SCOPE_USEC (60 * USEC_PER_SEC) /* as long as heat remembers a sighting, DRAM's is good for */
#define SCOPE_NEWS 16 /* one part in so many of all heat: more in slow memory than when that began */

/* All zero looks at everything. */
typedef struct Scope {
        bool slow_only;
        unsigned calm_epochs; /* in a row, while all is looked at */
        uint64_t slow_heat;   /* of slow memory, when slow_only began */
        usec_t until;         /* slow_only at most */
} Scope;

/* A plan was made from what this epoch's samples saw: wants to move pages, or has nothing worth it; and what
 * there is of heat in slow memory, and in all. */
void scope_step(Scope *s, bool wants, uint64_t slow_heat, uint64_t total_heat, usec_t now);
