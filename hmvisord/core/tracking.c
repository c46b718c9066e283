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

/* QEMU collects the ring once a second by itself (its reaper thread) and protects those pages anew: of pages
 * that are always written, up to one more fault a second beside those that our samples found. At two samples
 * a second that is half as many again, and with rarer ones no more than the samples themselves. */
static uint64_t cost_of_samples(uint64_t sightings) {
        return sightings + sightings / 2;
}

/* Switched off, tracking leaves all pages protected that were not written since the last sample, and each
 * costs a fault when it is written: those that were found written, and as many again that are written less
 * often. Huge pages were split; each is put together upon its first access. */
static uint64_t cost_of_stop(uint64_t sightings_per_sample, uint64_t n_pages) {
        return 2 * sightings_per_sample + n_pages / PAGES_PER_HUGE_PAGE;
}

static void tracking_earn(TrackingBudget *b, uint64_t faults_per_sec, usec_t now) {
        int64_t most = (int64_t) (faults_per_sec * TRACKING_BURST_USEC);

        if (!b->started)
                b->fault_usec = most;
        else if (now > b->last)
                b->fault_usec += (int64_t) (faults_per_sec * MIN(now - b->last, TRACKING_BURST_USEC));
        b->fault_usec = MIN(b->fault_usec, most);
        b->last = b->started ? MAX(b->last, now) : now;
        b->started = true;
}

void tracking_step(TrackingBudget *b, uint64_t faults_per_sec, uint64_t sightings, uint32_t samples,
                   uint64_t n_pages, usec_t now) {
        int64_t spent = 0;

        if (faults_per_sec == 0 || faults_per_sec > TRACKING_FAULTS_MAX) {
                *b = (TrackingBudget){ 0 };
                return;
        }
        tracking_earn(b, faults_per_sec, now);
        if (samples > 0) {
                spent = fault_usec(cost_of_samples(sightings));
                b->sightings_per_sample = MIN(sightings, SIGHTINGS_MAX) / samples;
        } else if (b->on)
                spent = fault_usec(cost_of_stop(b->sightings_per_sample, n_pages));
        b->on = samples > 0;
        b->fault_usec = MAX(b->fault_usec - spent, -INT64_MAX / 2);
}

bool tracking_is_affordable(const TrackingBudget *b) {
        return b->fault_usec >= 0;
}
