/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What tracking costs a guest, held below a limit. Owns a budget of faults; never knows what a fault takes
 * (the daemon measures that) nor what tracking is good for.
 *
 * With tracking on, a page's first write after each sample is a fault. What that comes to is known only
 * afterwards, so that the budget may go into debt; then tracking rests until the debt is paid. Over any long
 * time the guest thus has as many faults a second as it may have, in turns.
 */
#pragma once

#include "core/heatmap.h"

/* All zero is a new budget: it starts with TRACKING_BURST_USEC's worth, so that a new guest is soon known.
 */
typedef struct TrackingBudget {
        int64_t fault_usec; /* faults that may still be spent, times USEC_PER_SEC; below 0: a debt */
        int64_t most_fault_usec;       /* of them, however long nothing is spent */
        int64_t stop_fault_usec;       /* what the end of this turn will cost, or that of the last one did */
        usec_t last;
        bool started, on; /* on: the last epoch had samples */
} TrackingBudget;

#define TRACKING_BURST_USEC (30 * USEC_PER_SEC)
#define TRACKING_FAULTS_MAX 1000000000 /* a second: above it there is no limit worth the name */

static inline bool tracking_is_limited(uint64_t faults_per_sec) {
        return faults_per_sec > 0 && faults_per_sec <= TRACKING_FAULTS_MAX;
}

/* What it cost a guest that samples found pages written `sightings` times in all, with a dirty ring or
 * without. */
uint64_t tracking_faults(uint64_t sightings, bool has_ring);

/* One epoch, in which samples cost so many faults, and saw this (NULL: there were none, tracking rested).
 * faults_per_sec is what the guest may have from now on; 0: no limit. */
void tracking_step(TrackingBudget *b, uint64_t faults_per_sec, uint64_t faults, const HeatLook *look,
                   usec_t now);

/* Whether tracking may go on, or begin again. */
bool tracking_is_affordable(const TrackingBudget *b);

/* Whether a turn is under way that may go on, and whose end is to be paid for. */
bool tracking_goes_on(const TrackingBudget *b);
