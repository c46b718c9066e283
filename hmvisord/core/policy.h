/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The tunables of the policy, for the host and per domain, with their defaults and the reason for each.
 * Plain values: reading them from files and metadata is conf's and the manager's work.
 */
#pragma once

#include "base/cleanup.h"
#include "base/tier.h"

#define POLICY_NAME_SIZE 16
#define MARKET_BLOCK_BYTES (UINT64_C(2) << 20) /* the block of the devices that bind makes */

/* The market: what DRAM is worth, how much is traded at a time, and how often. */
typedef struct MarketPolicy {
        bool enabled;
        uint32_t dram_price,
                slow_price; /* so many units of money for a byte of each; only their ratio counts */
        uint64_t block_bytes;            /* all sizes are multiples of it: virtio-mem's block on this host */
        uint64_t min_trade_bytes;        /* of DRAM: the least lot; whole blocks */
        uint64_t max_trade_bytes;        /* of DRAM: the most per domain and epoch; whole blocks */
        usec_t epoch_usec;               /* one clearing of the market */
        usec_t cooldown_usec;            /* a domain rests so long after a trade */
        usec_t dwell_usec;               /* and so long before it trades the other way round */
        usec_t settle_usec;              /* a trade that has not delivered by then ends with what it has */
        uint64_t step_bytes;             /* a device is asked to shrink by so much at a time; whole blocks */
        bool use_pool; /* the host's free memory takes the other side of what is left over */
        bool moving_price;               /* the price follows demand and supply, between these bounds */
        uint32_t dram_price_min, dram_price_max; /* as dram_price, against the same slow_price */
} MarketPolicy;

typedef struct HostPolicy {
        usec_t epoch_usec;              /* one tick of the policy; samples of the extension are shorter */
        uint64_t migrate_bytes_per_sec; /* cap over all domains together, promotions plus demotions */
        bool dry_run;                   /* decide and explain, carry nothing out */
        MarketPolicy market;
} HostPolicy;

typedef struct DomainPolicy {
        bool managed; /* receives orders; else it is observed only */
        bool dry_run;
        uint64_t migrate_bytes_per_sec; /* cap of this domain, promotions plus demotions */
        uint32_t hot_heat;   /* least heat (1..255) of a page worth promoting; 0: by the DRAM cell's size */
        uint32_t hysteresis; /* a page must be hotter by so much than the one it displaces (heat units) */
        uint32_t warmup_epochs;   /* epochs observed before the first order */
        uint32_t settle_epochs;   /* whole epochs between an order's end and the next order */
        uint64_t min_order_pages; /* fewer candidates are not worth an order, unless always found written */

        bool trading;                        /* takes part in the market */
        uint64_t entitled_bytes[_TIER_MAX];  /* what it is paid for; 0: the size that it started with */
        uint64_t floor_bytes[_TIER_MAX];     /* it never sells below; 0: boot memory, the least possible */
        uint64_t ceiling_bytes[_TIER_MAX];   /* and never buys above; 0: what its devices take */
        char swap_device[POLICY_NAME_SIZE];  /* target of the disk that it swaps to ("vdb"); "": none */
} DomainPolicy;

/* Defaults, each with its reason in policy.c. */
HostPolicy host_policy_default(void);
DomainPolicy domain_policy_default(void);
MarketPolicy market_policy_default(void);
