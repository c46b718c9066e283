/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the files of the market over time share (trade.h). Beside the ledger, each account has a Party: what
 * its VM allows and wants, of the last tick.
 */
#pragma once

#include "core/trade.h"

typedef struct Party {
        AccountId id;
        uint64_t least[_TIER_MAX], most[_TIER_MAX]; /* bytes */
        TradeStanding standing;
        int64_t offer;
        int64_t low, high; /* positions */
        usec_t rests_until;
} Party;

struct Trade {
        Ledger ledger;
        Party *parties; /* as ledger.accounts */
        AccountId *refused; /* ascending: not entitled to what their facts say */
        size_t n_refused;
        bool changed;   /* since the last step that was handed out */
        usec_t next_clearing;
        uint64_t epoch;
        Clearing clearing; /* the last one */
        Clearing wished;   /* what it would have been of wishes alone: without rests and caps */
        TradePrice price;
        Terms next_terms; /* that the price should come to */
        TradeRecord history[TRADE_HISTORY];
        uint64_t n_history; /* ever */
};

/* ---- trade-party.c ---- */

/* Of an account of the ledger. */
Party *party_of(const Trade *t, const Account *a);
/* Opens accounts, entitles and bounds them by the facts. refused: room for all of them, whose entitlement
 * the host does not hold; returns how many, or -ENOMEM. */
int parties_update(Trade *t, const TradeFacts facts[], size_t n_facts, const uint64_t capacity[_TIER_MAX],
                   AccountId refused[]);
/* Adds to the events who is refused that was not before. Takes the list over, and returns 0, or -ENOMEM. */
int parties_refuse(Trade *t, AccountId **refused, size_t n, Settlement *s);
/* Follows the ledger, which settlement_step() takes accounts from. */
void parties_forget(Trade *t);

/* ---- trade-price.c ---- */

/* One tick of the price. With PRICE_CHANGES and PRICE_WAITS_TRADES nothing may be cleared. */
TradePrice price_step(Trade *t, const MarketPolicy *policy, const SettleFacts seen[], size_t n,
                      uint64_t slow_capacity);
