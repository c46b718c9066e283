/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The defaults of all tunables, each with its reason. Owns nothing else.
 */
#include "core/policy.h"

HostPolicy host_policy_default(void) {
        return (HostPolicy){
                /* Long enough for several samples of 100 ms, short against the life of a hot set. */
                .epoch_usec = USEC_PER_SEC,
                /* A few percent of what one memory channel or a CXL link carries. */
                .migrate_bytes_per_sec = UINT64_C(512) << 20,
                .dry_run = false,
        };
}

DomainPolicy domain_policy_default(void) {
        return (DomainPolicy){
                .managed = false, /* moving a VM's pages is its owner's choice */
                .dry_run = false,
                /* 32,768 pages a second, about what one guest CPU moves: larger orders would only queue
                   there. */
                .migrate_bytes_per_sec = UINT64_C(128) << 20,
                .hot_heat = 0, /* the DRAM cell's size says what is worth keeping in it */
                /* Written in 3% of the samples: below it, a move costs more than the writes that it saves.
                 */
                .hysteresis = 8,
                /* A page that is written once at start-up has cooled below a steady writer by then. */
                .warmup_epochs = 3,
                /* Heat does not follow a page to its new frame: two epochs show which frames are in use. */
                .settle_epochs = 2,
                /* An order has a fixed cost in the guest (milliseconds), worth it from some tens of pages
                   on. */
                .min_order_pages = 64,
        };
}
