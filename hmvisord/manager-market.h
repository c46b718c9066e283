/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the market shows of itself, and what may be asked of it; the bus sees it by way of manager.h. Values
 * only.
 */
#pragma once

#include "core/trade.h"
#include "core/wish.h"

typedef struct MarketView {
        bool enabled;
        char reason[512];              /* why it stands still, or "" */
        Terms terms, next_terms;       /* next: that the price should come to */
        TradePrice price;              /* what that waits for */
        uint64_t capacity_bytes[_TIER_MAX];   /* what domains may hold, as of the last step */
        uint64_t epoch;
        Clearing clearing;             /* the last one */
        int64_t pool_position;
} MarketView;

typedef struct MarketHolding {
        char name[256], uuid[37];
        bool trading;
        char swap_device[POLICY_NAME_SIZE];
        uint64_t size_bytes[_TIER_MAX]; /* what it has now */
        bool refused;                   /* the host does not have what it should be entitled to */
        bool has_account;               /* else what follows is empty */
        TradeView trade;
        int64_t command_dram_bytes;     /* what a user asked for, and had no clearing yet; 0: nothing */
        bool withdraws;
        int64_t last_lots;              /* of its last trade; 0: none */
        WishDecision wish;
} MarketHolding;

typedef struct MarketTrade {
        usec_t realtime;
        char name[256];                 /* "": the domain is gone */
        int64_t wanted, got;            /* lots of DRAM bought */
        uint64_t lot_bytes[_TIER_MAX];
} MarketTrade;
