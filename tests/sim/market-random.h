/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Random markets: VMs with entitlements, positions, floors and ceilings, a pool, and offers that they might
 * make. Owns the generator, which gives the same markets from the same seed everywhere; never clears them.
 */
#pragma once

#include "core/market.h"

#define RANDOM_VMS_MAX 16

typedef struct Random {
        uint64_t state;
} Random;

uint64_t random_next(Random *r);

/* A number from least to most, both included; biased by next to nothing for small ranges. */
int64_t random_between(Random *r, int64_t least, int64_t most);
bool random_chance(Random *r, unsigned percent);

typedef struct RandomVm {
        uint64_t entitled[_TIER_MAX], floor[_TIER_MAX], ceiling[_TIER_MAX]; /* blocks */
} RandomVm;

typedef struct RandomMarket {
        uint64_t seed; /* makes this market again */
        Terms terms;
        RandomVm vms[RANDOM_VMS_MAX];
        Offer offers[RANDOM_VMS_MAX];
        size_t n;
        PoolOffer pool;
        uint64_t pool_free[_TIER_MAX]; /* blocks */
        int64_t pool_position;
        uint64_t epoch;
        bool entitlements_fit; /* everybody can go back: within its bounds, and the pool does its part */
} RandomMarket;

/* n_most VMs, and changes of at most lots_most each. Positions, the pool's included, sum to 0. */
void random_market(RandomMarket *m, uint64_t seed, size_t n_most, int64_t lots_most);
