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
                .market = market_policy_default(),
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
                .trading = false, /* what a VM holds is its owner's choice, too */
        };
}

MarketPolicy market_policy_default(void) {
        return (MarketPolicy){
                .enabled = false, /* resizing VMs is their owners' choice */
                /* What a byte of DRAM costs against one of slow memory: persistent DIMMs sold at a third to
                   a quarter of DRAM's price, and reused DIMMs behind CXL cost no more. */
                .dram_price = 4,
                .slow_price = 1,
                /* virtio-mem's smallest block where the host has huge pages of 2 MiB. */
                .block_bytes = MARKET_BLOCK_BYTES,
                /* Each trade resizes two devices twice over: below this that work is worth more than what a
                   VM gains, and small trades would tell more of others' load. */
                .min_trade_bytes = UINT64_C(32) << 20,
                /* At 4:1 the other way is 2 GiB of slow memory, which a willing guest takes offline well
                   within settle_usec; and a wrong decision costs a VM no more than this. */
                .max_trade_bytes = UINT64_C(512) << 20,
                /* Ten ticks: heat and swapping have been seen for long enough to act on. */
                .epoch_usec = 10 * USEC_PER_SEC,
                /* What a trade did shows once heat has settled: a few epochs of the market. */
                .cooldown_usec = 30 * USEC_PER_SEC,
                /* Longer than bursts of a load last: whoever turns round at once pays for both ways. */
                .dwell_usec = 120 * USEC_PER_SEC,
                /* Linux's driver tries again 50 s after memory that it could not move at once: one more try
                   fits. A guest that has not given by then is unwilling or unable; others wait. */
                .settle_usec = 120 * USEC_PER_SEC,
                /* Offlining half a memory section of x86 (128 MiB) keeps a guest's kernel busy for less than
                   a second, and a guest that stops half-way has lost no more than this. */
                .step_bytes = UINT64_C(64) << 20,
                /* Free memory may be meant for the next VM to start: the administrator says so. */
                .use_pool = false,
                /* A price that stands is one that a user can plan with, and that tells nothing of others. */
                .moving_price = false,
                .dram_price_min =
                        2, /* half of and twice the default: where the market may drift unattended */
                .dram_price_max = 8,
        };
}
