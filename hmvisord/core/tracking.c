/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The account of faults that tracking costs a guest.
 */
#include "core/tracking.h"

#define SIGHTINGS_MAX (UINT64_C(1) << 40) /* of pages in an epoch; so many that no sum below overflows */
#define PAGES_PER_HUGE_PAGE 512

static int64_t fault_usec(uint64_t faults) {
        return (int64_t) (MIN(faults, SIGHTINGS_MAX) * USEC_PER_SEC);
}

/* QEMU collects a ring once a second by itself (its reaper thread) and protects those pages anew: of pages
 * that are always written, up to one more fault a second beside those that our samples found. At two samples
 * a second that is half as many again, and with rarer ones no more than the samples themselves. */
uint64_t tracking_faults(uint64_t sightings, bool has_ring) {
        sightings = MIN(sightings, SIGHTINGS_MAX);
        return has_ring ? sightings + sightings / 2 : sightings;
}

/* Switched off, tracking leaves all pages protected that were not written since the last sample, and each
 * costs a fault when it is written: in time, all that have been found written so far. Huge pages were split;
 * each is put together upon its first access. */
static int64_t cost_of_stop(uint64_t warm_pages, uint64_t n_pages) {
        return fault_usec(MIN(warm_pages, SIGHTINGS_MAX / 2) + n_pages / PAGES_PER_HUGE_PAGE);
}

static void tracking_earn(TrackingBudget *b, uint64_t faults_per_sec, usec_t now) {
        b->most_fault_usec = (int64_t) (faults_per_sec * TRACKING_BURST_USEC);
        if (!b->started)
                b->fault_usec = b->most_fault_usec;
        else if (now > b->last)
                b->fault_usec += (int64_t) (faults_per_sec * MIN(now - b->last, TRACKING_BURST_USEC));
        b->fault_usec = MIN(b->fault_usec, b->most_fault_usec);
        b->last = b->started ? MAX(b->last, now) : now;
        b->started = true;
}

void tracking_step(TrackingBudget *b, uint64_t faults_per_sec, uint64_t faults, const HeatLook *look,
                   usec_t now) {
        int64_t spent = 0;

        if (!tracking_is_limited(faults_per_sec)) {
                *b = (TrackingBudget){ 0 };
                return;
        }
        tracking_earn(b, faults_per_sec, now);
        if (look) {
                spent = fault_usec(faults);
                if (b->on) /* what is no longer looked at has its end now */
                        spent += cost_of_stop(look->left_warm_pages, look->left_pages);
                b->stop_fault_usec = cost_of_stop(look->warm_pages, look->pages);
        } else if (b->on)
                spent = b->stop_fault_usec;
        b->on = look != NULL;
        b->fault_usec = MAX(b->fault_usec - spent, -INT64_MAX / 2);
}

/* Each turn costs its end, however short it is: one is worth beginning once as much can be spent on samples.
 */
bool tracking_is_affordable(const TrackingBudget *b) {
        return b->fault_usec >= (b->on ? 0 : MIN(b->stop_fault_usec, b->most_fault_usec / 2));
}

bool tracking_goes_on(const TrackingBudget *b) {
        return b->on && tracking_is_affordable(b);
}
