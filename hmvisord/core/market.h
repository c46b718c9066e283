/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The market: what a lot is at the posted price, and how one round of offers is cleared. Owns the arithmetic
 * of value and the rule that rations; never knows about VMs, devices, time, or how a trade is settled.
 *
 * A lot is the smallest trade: so many blocks of DRAM against so many of slow memory of exactly equal value.
 * All that follows is in whole lots of DRAM, bought (> 0) or sold (< 0), so no trade can change what
 * anybody's memory is worth, and one integer, the position (lots bought since entitlement), is a VM's whole
 * account.
 *
 * Clearing is the uniform rule (Y. Sprumont, "The division problem with single-peaked preferences: a
 * characterization of the uniform allocation rule", Econometrica 59, 1991; with endowments: B. Klaus, H.
 * Peters, T. Storcken, "Strategy-proof division with single-peaked preferences and individual endowments",
 * Social Choice and Welfare 15, 1998), on integers. The side of the market that wants less gets all of its
 * wishes. On the other, everybody gets min(wish, level), with one level for all. Who asks for more than the
 * level gets the same whatever more it asks for, and who asks for less gets less than it wants: nobody gains
 * by an untrue wish.
 */
#pragma once

#include "base/cleanup.h"
#include "base/tier.h"
#include "core/policy.h"

#define LOT_BYTES_MAX                                                                                       \
        (UINT64_C(64) << 30) /* of either tier; a price like 997:251 makes lots that none can use */
#define MARKET_LOTS_MAX (INT64_C(1) << 40)   /* of an offer or a position: far above any host's memory */
#define MARKET_OFFERS_MAX (UINT64_C(1) << 20) /* with the above, no sum of lots leaves 61 bits */

/* The price and the lots that follow from it: lot_dram_blocks * dram_price == lot_slow_blocks * slow_price.
 */
typedef struct Terms {
        uint64_t block_bytes;
        uint32_t dram_price, slow_price; /* in lowest terms */
        uint32_t lot_dram_blocks, lot_slow_blocks;
} Terms;

/* The terms at the policy's price: the smallest lot of at least min_trade_bytes of DRAM (at least one
 * block). Returns 0, or -EINVAL when a price is zero, the block is no power of two from 4 KiB to 1 GiB,
 * min_trade_bytes, max_trade_bytes or step_bytes are not whole blocks, a lot is above LOT_BYTES_MAX or above
 * max_trade_bytes (so that nothing could ever be traded), or a moving price has bounds that do not hold the
 * price. */
int terms_make(const MarketPolicy *p, Terms *ret);

/* The same lot of DRAM against another number of slow blocks: one point of a moving price's grid.
 * Returns 0, or -EINVAL when that is none or above LOT_BYTES_MAX. */
int terms_at_price(const Terms *t, uint32_t lot_slow_blocks, Terms *ret);

uint64_t terms_lot_blocks(const Terms *t, Tier tier);
uint64_t terms_lot_bytes(const Terms *t, Tier tier);

/* Worth of a holding, in dram_price and slow_price per byte. Cannot overflow. Comparable at the same terms
 * only. */
unsigned __int128 terms_value(const Terms *t, uint64_t dram_bytes, uint64_t slow_bytes);

/* What a VM owns at a position (escrow aside): entitlement + position lots of DRAM, - position lots of slow
 * memory; of exactly the entitlement's value. Returns 0, or -ERANGE when the position asks for more than
 * there is of a tier (or more than 64 bits hold). */
int terms_holding(const Terms *t, const uint64_t entitlement_blocks[_TIER_MAX], int64_t position,
                  uint64_t ret_blocks[_TIER_MAX]);

/* One VM's offer. Everything is in lots of DRAM; low <= 0 <= high, low <= wish <= high. Bounds, caps,
 * cool-down and dwell come from the host, and are applied to the wish before: a VM has no say in them, so no
 * gain from them. */
typedef struct Offer {
        uint64_t key;     /* unique among the offers; decides whose turn the odd lot is */
        int64_t wish;     /* to buy (> 0) or sell (< 0) now */
        int64_t low, high; /* the changes that its floors, ceilings and devices allow now; 0, 0: frozen */
        int64_t position; /* bought since entitlement, before this clearing */
        bool withdraw;    /* its right to go back: the wish is opposite to the position, and not larger */
} Offer;

/* The host's free memory, which takes what is left over of either side. 0, 0: no pool. A pool whose position
 * left its limits (a VM is gone) is brought back by an Offer of its own, with withdraw set. */
typedef struct PoolOffer {
        uint64_t buys_at_most, sells_at_most; /* DRAM lots */
} PoolOffer;

typedef struct Clearing {
        int64_t pool;            /* DRAM lots that the pool buys (> 0) or sells (< 0) */
        uint64_t demand, supply; /* sums of all wishes to buy and to sell */
        uint64_t traded;         /* lots that change hands: all that is bought, by the pool too */
        uint64_t recalled;       /* of these, taken back from VMs that did not offer them */
} Clearing;

/* Clears one round.
 *
 * - The side that wants less gets its wishes; the pool adds to it within its limits; the other side is
 * rationed.
 * - On that side withdrawals come first, then voluntary wishes, each by the uniform rule.
 * - What withdrawals still lack is recalled from VMs whose position is on the other side of their
 * entitlement, down to it at most and within low..high: the largest positions come down first, to one level
 * for all.
 * - The last, incomplete lot a head goes to those with the smallest mix of key and epoch. So equals differ
 * by one lot at most, and whose turn it is changes from epoch to epoch.
 *
 * ret_lots[i] is what offers[i] buys or sells; with ret->pool they sum to exactly 0. Between 0 and the wish
 * for each that is not recalled. The result does not depend on the order of the offers. pool may be NULL.
 * O(n log n). Returns 0; -EINVAL, with nothing written, when n is 0 or above MARKET_OFFERS_MAX, an offer is
 * not as above or beyond MARKET_LOTS_MAX, or two have the same key; -ENOMEM. */
int market_clear(const Offer offers[], size_t n, const PoolOffer *pool, uint64_t epoch, int64_t ret_lots[],
                 Clearing *ret);

/* A moving price: the next number of slow blocks per lot, for terms_at_price(). One step up when more was
 * wished to buy than to sell, one down in the other case, within the policy's bounds; a price outside them
 * moves toward them.
 *
 * A position is a rental at the price of the day: at a new price all are worth their entitlement again, by
 * other slow memory (core/settlement.h). So who holds DRAM pays more for it when more is wanted, and who
 * lent it gets more. That is an incentive: within a clearing an untrue wish gains nothing at any price, but
 * the sign of all wishes together, of which a VM's is one, moves the next price by one step, and with it
 * what the VM's present position costs: one block of slow memory a lot. One that has bought gains so much by
 * not asking for more, or by offering what it would rather keep, if its wish decides the sign; it gives up,
 * for an epoch, the lots that it wanted, or risks that its offer is taken. The bounds of the price limit the
 * sum of it. A price that stands has no such thing, and is the default. */
uint32_t market_next_price(const MarketPolicy *p, const Terms *t, const Clearing *c);
