/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A fixture: one VM and what it wishes, second by second. Included by one source of a test.
 */
#pragma once

#include "core/wish.h"

#define MIB (UINT64_C(1) << 20)
#define LOT_PAGES UINT64_C(8192)  /* 32 MiB of DRAM, against 128 MiB of slow memory */
#define IN_DRAM (UINT64_C(61440)) /* pages of 256 MiB less one part in 16 */
#define SECONDS(n) ((n) *USEC_PER_SEC)

/* A VM of 256 MiB DRAM and 768 MiB slow memory, all of it cold. */
typedef struct Rig {
        Terms terms;
        MarketPolicy policy;
        WishFacts facts;
        Wish wish;
        usec_t now;
        WishDecision d;
} Rig;

static inline int set_up(void **state) {
        Rig *g = calloc(1, sizeof(*g));

        if (!g)
                return -1;
        g->policy = market_policy_default();
        assert_int_equal(terms_make(&g->policy, &g->terms), 0);
        g->facts = (WishFacts){
                .terms = &g->terms,
                .policy = &g->policy,
                .trading = true,
                .moved = true,
                .has_heat = true,
                .size_bytes = { 256 * MIB, 768 * MIB },
                .swap_wait_usec = UINT64_MAX,
                .said_swap_in_bytes = UINT64_MAX,
                .said_stall_usec = UINT64_MAX,
                .resident_bytes = UINT64_MAX,
                .available_bytes = UINT64_MAX,
        };
        g->facts.heat[TIER_DRAM][0] = 65536;
        g->facts.heat[TIER_SLOW][0] = 3 * 65536;
        g->now = SECONDS(1000);
        *state = g;
        return 0;
}

static inline int tear_down(void **state) {
        free(*state);
        return 0;
}

static inline void run(Rig *g, unsigned seconds) {
        while (seconds-- > 0) {
                g->now += USEC_PER_SEC;
                wish_step(&g->wish, &g->facts, g->now, &g->d);
        }
}

static inline void heat_pages(Rig *g, Tier tier, unsigned heat, uint64_t n) {
        g->facts.heat[tier][0] -= n;
        g->facts.heat[tier][heat] += n;
}

static inline void assert_wish(const Rig *g, WishReason reason, int64_t lots) {
        assert_string_equal(wish_reason_to_string(g->d.reason), wish_reason_to_string(reason));
        assert_int_equal(g->d.lots, lots);
}

#define WITH_RIG(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
