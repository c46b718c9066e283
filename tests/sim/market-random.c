/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The generator of random markets: first what each VM has, then the bounds that follow, then an offer within
 * them.
 */
#include "market-random.h"

/* SplitMix64: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014. */
uint64_t random_next(Random *r) {
        uint64_t x = r->state += UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

int64_t random_between(Random *r, int64_t least, int64_t most) {
        return least + (int64_t) (random_next(r) % (uint64_t) (most - least + 1));
}

bool random_chance(Random *r, unsigned percent) {
        return random_next(r) % 100 < percent;
}

static Terms random_terms(Random *r) {
        MarketPolicy p = market_policy_default();
        Terms t;

        p.dram_price = (uint32_t) random_between(r, 1, 12);
        p.slow_price = (uint32_t) random_between(r, 1, 5);
        p.min_trade_bytes = p.block_bytes * (uint64_t) random_between(r, 0, 20);
        if (terms_make(&p, &t) < 0)
                abort();
        return t;
}

/* Room for so many lots either way round of its entitlement, and odd blocks besides. */
static void random_vm(Random *r, const Terms *t, int64_t lots, RandomVm *vm) {
        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                uint64_t lot = terms_lot_blocks(t, tier);
                uint64_t below = lot * (uint64_t) random_between(r, 0, lots) + random_next(r) % lot;
                uint64_t above = lot * (uint64_t) random_between(r, 0, lots) + random_next(r) % lot;

                vm->floor[tier] = random_next(r) % 50;
                vm->entitled[tier] = vm->floor[tier] + below;
                vm->ceiling[tier] = vm->entitled[tier] + above;
        }
}

/* The positions that floors and ceilings allow. Both include 0. */
static void vm_bounds(const RandomVm *vm, const Terms *t, int64_t *ret_low, int64_t *ret_high) {
        int64_t below[_TIER_MAX], above[_TIER_MAX];

        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                uint64_t lot = terms_lot_blocks(t, tier);

                below[tier] = (int64_t) ((vm->entitled[tier] - vm->floor[tier]) / lot);
                above[tier] = (int64_t) ((vm->ceiling[tier] - vm->entitled[tier]) / lot);
        }
        *ret_low = -MIN(below[TIER_DRAM], above[TIER_SLOW]);
        *ret_high = MIN(above[TIER_DRAM], below[TIER_SLOW]);
}

/* hindered: its devices allow only a part of the changes now, or none. */
static void random_offer(Random *r, int64_t low, int64_t high, bool hindered, Offer *o) {
        o->position = random_chance(r, 70) ? random_between(r, low, high) : 0;
        o->low = low - o->position;
        o->high = high - o->position;
        if (hindered) {
                o->low = random_between(r, o->low, 0);
                o->high = random_chance(r, 50) ? 0 : random_between(r, 0, o->high);
        }
        if (random_chance(r, 85))
                o->wish = random_between(r, o->low, o->high);
        if (random_chance(r, 30)) { /* back, all the way or a part */
                int64_t back = random_chance(r, 50) ? -o->position
                               : o->position > 0    ? random_between(r, -o->position, 0)
                                                    : random_between(r, 0, -o->position);

                o->wish = MAX(MIN(back, o->high), o->low);
                o->withdraw = true;
        }
}

static void random_pool(Random *r, RandomMarket *m) {
        for (size_t i = 0; i < m->n; i++)
                m->pool_position -= m->offers[i].position;
        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                /* What it owes or has got is there: it gave up the other tier for it. */
                int64_t has = tier == TIER_DRAM ? m->pool_position : -m->pool_position;
                uint64_t lots = (uint64_t) (MAX(has, INT64_C(0)) + random_between(r, 0, 10));

                m->pool_free[tier] = lots * terms_lot_blocks(&m->terms, tier) + random_next(r) % 7;
        }
        if (random_chance(r, 50)) {
                uint64_t dram = m->pool_free[TIER_DRAM] / m->terms.lot_dram_blocks;
                uint64_t slow = m->pool_free[TIER_SLOW] / m->terms.lot_slow_blocks;

                m->pool.sells_at_most = random_chance(r, 50) ? dram : random_next(r) % (dram + 1);
                m->pool.buys_at_most = random_chance(r, 50) ? slow : random_next(r) % (slow + 1);
        }
}

void random_market(RandomMarket *m, uint64_t seed, size_t n_most, int64_t lots_most) {
        Random r = { seed };
        uint64_t key = random_next(&r) % 1000;
        bool may_hinder = random_chance(&r, 50);
        bool is_tight = random_chance(&r, 30); /* small numbers make equals */

        *m = (RandomMarket){ .seed = seed, .terms = random_terms(&r), .entitlements_fit = true };
        m->n = (size_t) random_between(&r, 1, (int64_t) n_most);
        m->epoch = random_next(&r) % 100;
        for (size_t i = 0; i < m->n; i++) {
                bool hindered = may_hinder && random_chance(&r, 15);
                int64_t low, high;

                random_vm(&r, &m->terms, is_tight ? MIN(lots_most, INT64_C(3)) : lots_most, m->vms + i);
                vm_bounds(m->vms + i, &m->terms, &low, &high);
                key += 1 + random_next(&r) % (is_tight ? 1 : UINT64_C(1) << 58);
                m->offers[i].key = key;
                random_offer(&r, low, high, hindered, m->offers + i);
                m->entitlements_fit = m->entitlements_fit && !hindered;
        }
        random_pool(&r, m);
        if (m->pool_position > 0 ? m->pool.sells_at_most < (uint64_t) m->pool_position
                                 : m->pool.buys_at_most < (uint64_t) -m->pool_position)
                m->entitlements_fit = false;
}
