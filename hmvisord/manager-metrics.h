/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the manager counts beside the core's totals, for `hmvctl metrics`; the bus sees it by way of
 * manager.h. Values only.
 */
#pragma once

#include "base/cleanup.h"
#include "base/tier.h"

/* Upper bounds of the buckets, as they are told; beyond the last one there is one bucket more. An order is
 * taken for done at an epoch, 1 s by default, has 10 s to complete, and is given up after 60 s. */
#define LATENCY_BOUNDS_USEC                                                                                 \
        { 100000, 250000, 500000, 1000000, 2000000, 3000000, 5000000, 10000000, 20000000, 60000000 }
#define LATENCY_BOUNDS 10

typedef struct Latency {
        uint64_t counts[LATENCY_BOUNDS + 1]; /* by bucket, not summed up */
        uint64_t sum_usec;
} Latency;

typedef enum TradeResult {
        TRADE_WHOLE,
        TRADE_PARTIAL,
        TRADE_NOTHING,
        _TRADE_RESULT_MAX,
} TradeResult;

/* Since hmvisord knows the domain, through all starts of its guest. */
typedef struct DomainMetrics {
        char uuid[37];
        Latency order_latency; /* from sent to acknowledged, by the host's clock */
        uint64_t trades[_TRADE_RESULT_MAX];
        uint64_t bought_bytes[_TIER_MAX], sold_bytes[_TIER_MAX];
} DomainMetrics;

typedef struct DaemonMetrics {
        uint64_t memory_bytes; /* resident; 0: not known */
        usec_t cpu_usec;
} DaemonMetrics;
