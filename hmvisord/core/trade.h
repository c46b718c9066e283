/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The market over time: accounts that come and go with their VMs, a clearing at each epoch of the market,
 * and a step of settlement at each tick. Owns the ledger, the clock of the epochs, users' commands, and what
 * became of the last trades; decides no wish (it is handed in) and carries nothing out.
 */
#pragma once

#include "core/settlement.h"

#define TRADE_HISTORY 256 /* ended trades that are remembered */

/* What is known of one VM. Bytes are whole blocks, of boot memory and device together. */
typedef struct TradeFacts {
        SettleFacts seen;
        bool trading;                         /* its wish counts; else it only gives back and withdraws */
        uint64_t entitled_bytes[_TIER_MAX]; /* both 0: what it was asked to have when its account opens. More
                                             * than the host has beside what the others are entitled to is
                                             * refused: no account is opened, or it keeps what it was */
        uint64_t floor_bytes[_TIER_MAX];      /* it never trades below */
        uint64_t ceiling_bytes[_TIER_MAX];    /* nor above; 0: as far as its devices go */
        int64_t wish;                         /* lots of DRAM to buy (> 0) or sell now */
} TradeFacts;

typedef enum TradeCommandType {
        TRADE_LOTS,     /* trade so many lots at the next clearing, whatever the VM wishes */
        TRADE_WITHDRAW, /* back to the entitlement, over as many epochs as it takes */
} TradeCommandType;

/* A VM's trade that ended. */
typedef struct TradeRecord {
        usec_t when;
        AccountId id;
        int64_t wanted, got; /* lots of DRAM bought */
        Terms terms;
} TradeRecord;

/* Why a VM takes part in the next clearing as it does. */
typedef enum TradeStanding {
        STANDING_WISH,       /* by its wish */
        STANDING_COMMAND,    /* by a user's command */
        STANDING_WITHDRAWS,
        STANDING_OFF,        /* trading is off */
        STANDING_FROZEN,
        STANDING_BUSY,       /* a ticket is open */
        STANDING_COOLING,    /* a trade ended a short while ago */
        STANDING_UNWILLING,  /* the same, of trades for which it gave nothing */
        STANDING_DWELLING,   /* it would trade the other way too soon */
        STANDING_AT_BOUND,   /* floors, ceilings or devices allow nothing of what it wants */
        _STANDING_MAX,
} TradeStanding;
const char *trade_standing_to_string(TradeStanding s); /* "wish", "cooling-down", ... */

/* Where the price stands: whether it is the one that it should be, by the configuration or, where it moves,
 * by the last clearing; and what it waits for. */
typedef enum TradePrice {
        PRICE_STANDS,
        PRICE_CHANGES,         /* slow memory is given back for the one to come; nothing is cleared */
        PRICE_WAITS_TRADES,    /* for open trades; nothing is cleared */
        PRICE_WAITS_BOUNDS,    /* at it, a VM's holding would leave its floors, ceilings or devices */
        PRICE_WAITS_ROOM,      /* the host has not the slow memory that its own position would owe */
        PRICE_WAITS_FROZEN,    /* one that has to give is frozen */
        PRICE_WAITS_TIME,      /* the last one was given up, or it swings */
        PRICE_WAITS_POSITIONS, /* another lot of DRAM, or block: all have to be back at their entitlement */
        _PRICE_MAX,
} TradePrice;
const char *trade_price_to_string(TradePrice p); /* "stands", "waits-for-trades", ... */

/* One VM as people see it. */
typedef struct TradeView {
        Account account;
        TradeStanding standing;
        int64_t offer;                        /* of the last clearing: lots that it would trade */
        int64_t low, high;                    /* positions that its bounds allow */
        usec_t rests_usec;                    /* until a wish of it counts again */
        uint64_t owned_bytes[_TIER_MAX];
} TradeView;

typedef struct Trade Trade;

/* Terms at the policy's price. Returns 0, -EINVAL (terms_make()) or -ENOMEM. */
int trade_new(const MarketPolicy *policy, Trade **ret);
/* Goes on with a ledger of an earlier life, which is taken over on success; its clocks start at now: what
 * rested, rests in full again, so that no restart shortens a rest. -EINVAL when ledger_check() finds a
 * fault. */
int trade_resume(const MarketPolicy *policy, Ledger *ledger, usec_t now, Trade **ret);
Trade *trade_free(Trade *t); /* NULL-safe; returns NULL */
DEFINE_CLEANUP(Trade *, trade_free);

/* For the journal, and for people; valid until the next step. */
const Ledger *trade_ledger(const Trade *t);
const Clearing *trade_last_clearing(const Trade *t);
uint64_t trade_epoch(const Trade *t);
/* The n-th of the last trades, 0 the newest; NULL: there are not so many. */
const TradeRecord *trade_history(const Trade *t, size_t n);
/* Returns 0 or -ENOENT. One that was refused has an account only if it had one before. */
int trade_view(const Trade *t, AccountId id, TradeView *ret);

/* Whether it is not entitled to what its facts said at the last step. */
bool trade_is_refused(const Trade *t, AccountId id);

/* Kept in the ledger until the next clearing, a withdrawal until it is done; another one replaces it. lots:
 * of TRADE_LOTS.
 * Returns 0, -ENOENT, or -ERANGE when the VM's bounds do not allow it. */
int trade_command(Trade *t, AccountId id, TradeCommandType type, int64_t lots);

/* A price that changed in the configuration. Returns 1 when the terms are as they should be (where the price
 * moves, whatever it is within its bounds), also as there was nobody whom it concerns; 0 when they are not
 * yet: trade_step() sees to that, but another lot of DRAM waits until all are back at their entitlement;
 * -EINVAL for no terms. */
int trade_set_terms(Trade *t, const MarketPolicy *policy);
/* As of the last step. ret_next, which may be NULL: the terms that it should come to. */
TradePrice trade_price(const Trade *t, Terms *ret_next);

/* One tick: accounts for new VMs; a change of price, where one is due, and while it is under way no
 * clearing; else at the market's epoch a clearing, whose results become tickets; one step of settlement.
 * facts ascend by id. The ledger must be on disk, if ret->changed, before anything of ret is carried out.
 * Returns 0, -EINVAL or -ENOMEM; after -ENOMEM the ledger is consistent, and no size is asked for. */
int trade_step(Trade *t, const MarketPolicy *policy, const TradeFacts facts[], size_t n_facts,
               const uint64_t capacity_bytes[_TIER_MAX], usec_t now, Settlement *ret);
