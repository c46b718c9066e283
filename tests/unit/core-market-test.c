/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of hmvisord/core/market.c and of the market's policy: terms, and markets small enough to clear by
 * hand. What holds for all markets is tested in ../sim.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/market.h"

#define MIB (UINT64_C(1) << 20)
#define FREE INT64_C(1000) /* bounds that do not matter */
#define UNTOUCHED INT64_C(77)

static void test_default_terms(void **state) {
        MarketPolicy p = market_policy_default();
        Terms t;

        assert_false(p.enabled);
        assert_int_equal(terms_make(&p, &t), 0);
        assert_int_equal(t.lot_dram_blocks, 16);
        assert_int_equal(t.lot_slow_blocks, 64);
        assert_int_equal(terms_lot_blocks(&t, TIER_SLOW), 64);
        assert_int_equal(terms_lot_bytes(&t, TIER_DRAM), 32 * MIB);
        assert_int_equal(terms_lot_bytes(&t, TIER_SLOW), 128 * MIB);
        p.moving_price = p.use_pool = p.enabled = true;
        assert_int_equal(terms_make(&p, &t), 0);
}

static void test_lots(void **state) {
        static const struct {
                uint32_t dram_price, slow_price;
                uint64_t min_trade_mib;
                uint32_t lot_dram, lot_slow;
        } cases[] = {
                { 4, 1, 0, 1, 4 },    /* no least: the smallest that the price allows */
                { 8, 2, 32, 16, 64 }, /* the same price */
                { 7, 2, 32, 16, 56 },
                { 7, 3, 32, 18, 42 }, /* 16 blocks are not a multiple of 3 */
                { 1, 4, 32, 16, 4 },
                { 1, 1, 2, 1, 1 },
                { 5, 2, 6, 4, 10 },          /* 3 blocks, rounded up to 4 */
                { 1000, 999, 2, 999, 1000 }, /* one lot of 2 GiB: an odd price, but possible */
                { 4000000000, 1000000000, 32, 16, 64 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                MarketPolicy p = market_policy_default();
                Terms t;

                p.dram_price = cases[i].dram_price;
                p.slow_price = cases[i].slow_price;
                p.min_trade_bytes = cases[i].min_trade_mib * MIB;
                p.max_trade_bytes = 4096 * MIB;
                assert_int_equal(terms_make(&p, &t), 0);
                assert_int_equal(t.lot_dram_blocks, cases[i].lot_dram);
                assert_int_equal(t.lot_slow_blocks, cases[i].lot_slow);
                assert_true((uint64_t) t.lot_dram_blocks * p.dram_price ==
                            (uint64_t) t.lot_slow_blocks * p.slow_price);
                assert_true((uint64_t) t.lot_dram_blocks * t.dram_price ==
                            (uint64_t) t.lot_slow_blocks * t.slow_price);
        }
}

static void expect_no_terms(MarketPolicy p) {
        Terms t, before;

        memset(&t, 0x5a, sizeof(t));
        before = t;
        assert_int_equal(terms_make(&p, &t), -EINVAL);
        assert_memory_equal(&t, &before, sizeof(t));
}

#define EXPECT_NO_TERMS(...)                                                                                \
        do {                                                                                                \
                MarketPolicy _p = market_policy_default();                                                  \
                MarketPolicy *p = &_p;                                                                      \
                __VA_ARGS__;                                                                                \
                expect_no_terms(_p);                                                                        \
        } while (0)

static void test_bad_policies(void **state) {
        EXPECT_NO_TERMS(p->dram_price = 0);
        EXPECT_NO_TERMS(p->slow_price = 0);
        EXPECT_NO_TERMS(p->block_bytes = 0);
        EXPECT_NO_TERMS(p->block_bytes = p->step_bytes = p->min_trade_bytes = 3 * MIB,
                        p->max_trade_bytes = 6 * MIB);
        EXPECT_NO_TERMS(p->block_bytes = 2048);
        EXPECT_NO_TERMS(p->block_bytes = p->step_bytes = p->min_trade_bytes = p->max_trade_bytes =
                                2048 * MIB);
        EXPECT_NO_TERMS(p->block_bytes = UINT64_C(1) << 63);
        EXPECT_NO_TERMS(p->min_trade_bytes++);
        EXPECT_NO_TERMS(p->max_trade_bytes += 4096);
        EXPECT_NO_TERMS(p->step_bytes = 3 * MIB);
        EXPECT_NO_TERMS(p->step_bytes = 0);
        EXPECT_NO_TERMS(p->max_trade_bytes = p->min_trade_bytes - p->block_bytes);
        EXPECT_NO_TERMS(p->max_trade_bytes = 0);
        EXPECT_NO_TERMS(p->max_trade_bytes = p->min_trade_bytes = UINT64_MAX - 2 * MIB + 1);
        EXPECT_NO_TERMS(p->max_trade_bytes = p->min_trade_bytes = LOT_BYTES_MAX + 2 * MIB);
        /* 64 GiB of DRAM are a lot that may be, but not the 256 GiB that it costs. */
        EXPECT_NO_TERMS(p->max_trade_bytes = p->min_trade_bytes = LOT_BYTES_MAX);
        EXPECT_NO_TERMS(p->dram_price = 1, p->slow_price = UINT32_MAX);
        EXPECT_NO_TERMS(p->dram_price = UINT32_MAX, p->slow_price = 1);
        EXPECT_NO_TERMS(p->dram_price = 1000,
                        p->slow_price = 999); /* a lot of 2 GiB, above max_trade_bytes */

        EXPECT_NO_TERMS(p->moving_price = true, p->dram_price_min = 0);
        EXPECT_NO_TERMS(p->moving_price = true, p->dram_price_min = 5);
        EXPECT_NO_TERMS(p->moving_price = true, p->dram_price_max = 3);
        EXPECT_NO_TERMS(p->moving_price = true, p->dram_price_max = UINT32_MAX);
}

static void test_holding(void **state) {
        static const uint64_t entitled[_TIER_MAX] = { 128, 384 };
        static const uint64_t much[_TIER_MAX] = { UINT64_MAX, 64 };
        MarketPolicy p = market_policy_default();
        uint64_t blocks[_TIER_MAX] = { 1, 2 };
        Terms t;

        assert_int_equal(terms_make(&p, &t), 0);
        for (int64_t z = -8; z <= 6; z++) {
                assert_int_equal(terms_holding(&t, entitled, z, blocks), 0);
                assert_int_equal(blocks[TIER_DRAM], 128 + 16 * z);
                assert_int_equal(blocks[TIER_SLOW], 384 - 64 * z);
                assert_true(terms_value(&t, blocks[TIER_DRAM], blocks[TIER_SLOW]) == 4 * 128 + 384);
        }
        assert_int_equal(terms_holding(&t, entitled, -9, blocks), -ERANGE);
        assert_int_equal(terms_holding(&t, entitled, 7, blocks), -ERANGE);
        assert_int_equal(terms_holding(&t, entitled, INT64_MAX, blocks), -ERANGE);
        assert_int_equal(terms_holding(&t, entitled, INT64_MIN, blocks), -ERANGE);
        assert_int_equal(blocks[TIER_DRAM], 128 + 16 * 6); /* not written */
        assert_int_equal(terms_holding(&t, much, 0, blocks), 0);
        assert_int_equal(terms_holding(&t, much, 1, blocks), -ERANGE);
        assert_true(terms_value(&t, UINT64_MAX, UINT64_MAX) == (unsigned __int128) UINT64_MAX * 5);
}

static void test_prices_move(void **state) {
        static const Clearing short_of_dram = { .demand = 2, .supply = 1 },
                              glut = { .demand = 1, .supply = 2 };
        static const Clearing balanced = { .demand = 5, .supply = 5 };
        MarketPolicy p = market_policy_default();
        Terms t, next;

        assert_int_equal(terms_make(&p, &t), 0);
        assert_int_equal(market_next_price(&p, &t, &balanced), 64);
        assert_int_equal(market_next_price(&p, &t, &short_of_dram), 65);
        assert_int_equal(market_next_price(&p, &t, &glut), 63);

        assert_int_equal(terms_at_price(&t, 65, &next), 0);
        assert_int_equal(next.lot_dram_blocks, 16);
        assert_int_equal(next.dram_price, 65);
        assert_int_equal(next.slow_price, 16);
        assert_int_equal(terms_at_price(&next, 64, &next), 0); /* back, in place */
        assert_memory_equal(&next, &t, sizeof(t));
        assert_int_equal(terms_at_price(&t, 0, &next), -EINVAL);
        assert_int_equal(terms_at_price(&t, (uint32_t) (LOT_BYTES_MAX / t.block_bytes) + 1, &next), -EINVAL);

        /* Bounds of 2 and 8 are 32 and 128 slow blocks; a price outside comes back, whatever is wished. */
        t.lot_slow_blocks = 128;
        assert_int_equal(market_next_price(&p, &t, &short_of_dram), 128);
        t.lot_slow_blocks = 32;
        assert_int_equal(market_next_price(&p, &t, &glut), 32);
        t.lot_slow_blocks = 140;
        assert_int_equal(market_next_price(&p, &t, &short_of_dram), 139);
        t.lot_slow_blocks = 20;
        assert_int_equal(market_next_price(&p, &t, &glut), 21);
        assert_int_equal(market_next_price(&p, &t, &balanced), 21);

        /* Bounds between points of the grid: 7:6 is 18.7 slow blocks for 16 of DRAM, 11:6 is 29.3. */
        p.dram_price = 9;
        p.slow_price = 6;
        p.dram_price_min = 7;
        p.dram_price_max = 11;
        assert_int_equal(terms_make(&p, &t), 0);
        t.lot_slow_blocks = 19;
        assert_int_equal(market_next_price(&p, &t, &glut), 19);
        t.lot_slow_blocks = 29;
        assert_int_equal(market_next_price(&p, &t, &short_of_dram), 29);
}

/* Wishes in, lots and the pool's part out; keys are 1, 2, ... */
typedef struct Market {
        Offer offers[8];
        size_t n;
        PoolOffer pool;
        uint64_t epoch;
        int64_t lots[8];
        Clearing c;
} Market;

static void wish(Market *m, int64_t lots) {
        m->offers[m->n] = (Offer){ .key = m->n + 1, .wish = lots, .low = -FREE, .high = FREE };
        m->n++;
}

static void withdraw(Market *m, int64_t position, int64_t lots) {
        wish(m, lots);
        m->offers[m->n - 1].position = position;
        m->offers[m->n - 1].withdraw = true;
}

/* A position of somebody who wishes nothing now, and could give so much of it back. */
static void hold(Market *m, int64_t position, int64_t low, int64_t high) {
        m->offers[m->n] = (Offer){ .key = m->n + 1, .low = low, .high = high, .position = position };
        m->n++;
}

static void clear(Market *m) {
        int64_t sum;

        assert_int_equal(market_clear(m->offers, m->n, &m->pool, m->epoch, m->lots, &m->c), 0);
        sum = m->c.pool;
        for (size_t i = 0; i < m->n; i++)
                sum += m->lots[i];
        assert_int_equal(sum, 0);
}

static void expect_lots(const Market *m, const int64_t lots[]) {
        for (size_t i = 0; i < m->n; i++)
                if (m->lots[i] != lots[i])
                        fail_msg("offer %zu: %lld lots, not %lld", i, (long long) m->lots[i],
                                 (long long) lots[i]);
}

#define EXPECT_LOTS(m, ...) expect_lots(m, (const int64_t[]){ __VA_ARGS__ })

static void test_one_offer(void **state) {
        Market m = { 0 };

        wish(&m, 5);
        clear(&m);
        EXPECT_LOTS(&m, 0);
        assert_int_equal(m.c.demand, 5);
        assert_int_equal(m.c.traded, 0);
        m.offers[0].wish = 0;
        clear(&m);
        EXPECT_LOTS(&m, 0);
}

static void test_balanced(void **state) {
        Market m = { 0 };

        wish(&m, 5);
        wish(&m, -3);
        wish(&m, -2);
        wish(&m, 0);
        clear(&m);
        EXPECT_LOTS(&m, 5, -3, -2, 0);
        assert_int_equal(m.c.traded, 5);
        assert_int_equal(m.c.pool, 0);
}

static void test_rationed(void **state) {
        Market m = { 0 };

        wish(&m, 2); /* below the level of 5: all of it */
        wish(&m, 40);
        wish(&m, 6);
        wish(&m, -12);
        clear(&m);
        EXPECT_LOTS(&m, 2, 5, 5, -12);
        for (size_t i = 0; i < m.n; i++) /* the other side of the market is its mirror */
                m.offers[i].wish = -m.offers[i].wish;
        clear(&m);
        EXPECT_LOTS(&m, -2, -5, -5, 12);
        assert_int_equal(m.c.supply, 48);
        assert_int_equal(m.c.traded, 12);
}

/* Three equals and four lots: everybody gets one, and the odd one goes to each of them at some epoch. */
static void test_odd_lot_rotates(void **state) {
        unsigned turns[3] = { 0 };

        for (uint64_t epoch = 0; epoch < 300; epoch++) {
                Market m = { .epoch = epoch };

                for (unsigned i = 0; i < 3; i++)
                        wish(&m, 2);
                wish(&m, -4);
                clear(&m);
                for (unsigned i = 0; i < 3; i++) {
                        assert_in_range(m.lots[i], 1, 2);
                        turns[i] += m.lots[i] == 2;
                }
        }
        assert_int_equal(turns[0] + turns[1] + turns[2], 300);
        for (unsigned i = 0; i < 3; i++)
                assert_in_range(turns[i], 70, 130); /* 100, give or take 3.7 standard deviations */
}

static void test_pool(void **state) {
        Market m = { .pool = { .buys_at_most = 3, .sells_at_most = 4 } };

        wish(&m, 6);
        wish(&m, 6);
        wish(&m, -2);
        clear(&m);
        EXPECT_LOTS(&m, 3, 3, -2); /* its limit, and the rest is rationed */
        assert_int_equal(m.c.pool, -4);
        assert_int_equal(m.c.traded, 6);
        m.offers[1].wish = -1;
        clear(&m);
        EXPECT_LOTS(&m, 6, -1, -2); /* no more than is left over */
        assert_int_equal(m.c.pool, -3);
        m.offers[0].wish = -1;
        clear(&m);
        EXPECT_LOTS(&m, -1, -1, -1);
        assert_int_equal(m.c.pool, 3);
        m.pool = (PoolOffer){ UINT64_MAX, UINT64_MAX };
        clear(&m);
        EXPECT_LOTS(&m, -1, -1, -2);
        assert_int_equal(m.c.pool, 4);
        assert_int_equal(market_clear(m.offers, m.n, NULL, 0, m.lots, &m.c), 0);
        EXPECT_LOTS(&m, 0, 0, 0);
        assert_int_equal(m.c.pool, 0);
}

static void test_withdrawals_first(void **state) {
        Market m = { 0 };

        wish(&m, 9);
        withdraw(&m, -4, 4);
        wish(&m, -5);
        clear(&m);
        EXPECT_LOTS(&m, 1, 4, -5);
        assert_int_equal(m.c.recalled, 0);
}

static void test_recall_largest_first(void **state) {
        Market m = { 0 };

        withdraw(&m, -8, 8);
        hold(&m, 8, -FREE, FREE);
        hold(&m, 4, -FREE, FREE);
        hold(&m, 1, -FREE, FREE);
        clear(&m);
        EXPECT_LOTS(&m, 8, -6, -2, 0); /* 8, 4, 1 come down to 2, 2, 1 */
        assert_int_equal(m.c.recalled, 8);
        m.offers[0].wish = 3;
        clear(&m);
        EXPECT_LOTS(&m, 3, -3, 0, 0);
}

static void test_recall_bounds(void **state) {
        Market m = { 0 };

        withdraw(&m, -9, 9);
        hold(&m, 8, -2, FREE);     /* a floor keeps the rest */
        hold(&m, 4, -FREE, FREE);  /* down to 0, and no further */
        hold(&m, -3, -FREE, FREE); /* on the same side: not its debt */
        hold(&m, 5, 0, 0);         /* frozen */
        clear(&m);
        EXPECT_LOTS(&m, 6, -2, -4, 0, 0);
        assert_int_equal(m.c.recalled, 6);
}

/* What a VM sells by itself counts against what it has to give back, and a wish to buy waits. */
static void test_recall_after_wishes(void **state) {
        Market m = { 0 };

        withdraw(&m, -11, 11);
        wish(&m, -3);
        m.offers[1].position = 8; /* at 5 after its sale */
        wish(&m, 4);
        m.offers[2].position = 5;
        wish(&m, -2); /* none of it is owed */
        clear(&m);
        EXPECT_LOTS(&m, 11, -3 - 3, -3, -2);
        assert_int_equal(m.c.recalled, 6);
        assert_int_equal(m.c.traded, 11);
}

static void test_recall_mirror(void **state) {
        Market m = { 0 };

        withdraw(&m, 7, -7);
        hold(&m, -6, -FREE, FREE);
        hold(&m, -4, -FREE, 1);
        clear(&m);
        EXPECT_LOTS(&m, -7, 6, 1);
        m.pool.buys_at_most = 4; /* the pool spares them */
        clear(&m);
        EXPECT_LOTS(&m, -7, 3, 0);
        assert_int_equal(m.c.pool, 4);
        assert_int_equal(m.c.recalled, 3);
}

/* When not even recalls suffice, withdrawals are rationed like wishes. */
static void test_withdrawals_rationed(void **state) {
        Market m = { 0 };

        withdraw(&m, -9, 9);
        withdraw(&m, -2, 2);
        wish(&m, 5);
        hold(&m, 11, -6, 0);
        clear(&m);
        EXPECT_LOTS(&m, 4, 2, 0, -6);
}

static void expect_refused(Market *m) {
        for (size_t i = 0; i < m->n; i++)
                m->lots[i] = UNTOUCHED;
        m->c.pool = UNTOUCHED;
        assert_int_equal(market_clear(m->offers, m->n, &m->pool, 0, m->lots, &m->c), -EINVAL);
        for (size_t i = 0; i < m->n; i++)
                assert_int_equal(m->lots[i], UNTOUCHED);
        assert_int_equal(m->c.pool, UNTOUCHED);
}

static void test_bad_offers(void **state) {
        static const Offer bad[] = {
                { .key = 9, .wish = 2, .low = -1, .high = 1 },
                { .key = 9, .wish = -2, .low = -1, .high = 1 },
                { .key = 9, .wish = 1, .low = 1, .high = 1 },
                { .key = 9, .wish = -1, .low = -1, .high = -1 },
                { .key = 9, .wish = INT64_MAX, .low = INT64_MIN, .high = INT64_MAX },
                { .key = 9, .wish = INT64_MIN, .low = INT64_MIN, .high = INT64_MAX },
                { .key = 9, .low = INT64_MIN },
                { .key = 9, .high = MARKET_LOTS_MAX + 1 },
                { .key = 9, .position = INT64_MIN },
                { .key = 9, .position = INT64_MAX },
                { .key = 9, .position = INT64_MIN, .withdraw = true },
                { .key = 9, .wish = 1, .low = -9, .high = 9, .position = 1, .withdraw = true },
                { .key = 9, .wish = -1, .low = -9, .high = 9, .position = -1, .withdraw = true },
                { .key = 9, .wish = -2, .low = -9, .high = 9, .position = 1, .withdraw = true },
                { .key = 9, .wish = 2, .low = -9, .high = 9, .position = -1, .withdraw = true },
                { .key = 9, .wish = 1, .low = -9, .high = 9, .position = 0, .withdraw = true },
                { .key = 1, .wish = 1, .low = -9, .high = 9 }, /* the key of another */
        };
        Market m = { 0 };

        expect_refused(&m); /* n is 0 */
        wish(&m, 3);
        wish(&m, -3);
        m.n = MARKET_OFFERS_MAX + 1;
        assert_int_equal(market_clear(m.offers, m.n, NULL, 0, m.lots, &m.c), -EINVAL);
        m.n = 2;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                m.offers[2] = bad[i];
                m.n = 3;
                expect_refused(&m);
        }
}

/* The largest that is let in: no sum overflows. */
static void test_extremes(void **state) {
        const int64_t most = MARKET_LOTS_MAX;
        Market m = { .epoch = UINT64_MAX };

        for (size_t i = 0; i < 8; i++)
                m.offers[i] = (Offer){ .key = UINT64_MAX - i, .wish = most, .low = -most, .high = most };
        m.n = 8;
        m.offers[7].wish = -most;
        m.offers[7].position = most;
        m.offers[6] = (Offer){ UINT64_MAX - 6, most, -most, most, -most, true };
        m.offers[5] = (Offer){ UINT64_MAX - 5, most, -most, most, -most, true };
        m.offers[4] = (Offer){ UINT64_MAX - 4, 0, -most, most, most, false };
        clear(&m);
        EXPECT_LOTS(&m, 0, 0, 0, 0, -most, most, most, -most);
        m.pool = (PoolOffer){ UINT64_MAX, UINT64_MAX };
        clear(&m);
        EXPECT_LOTS(&m, most, most, most, most, 0, most, most, -most);
        assert_int_equal(m.c.pool, -5 * most);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_default_terms),     cmocka_unit_test(test_lots),
                cmocka_unit_test(test_bad_policies),      cmocka_unit_test(test_holding),
                cmocka_unit_test(test_prices_move),       cmocka_unit_test(test_one_offer),
                cmocka_unit_test(test_balanced),          cmocka_unit_test(test_rationed),
                cmocka_unit_test(test_odd_lot_rotates),   cmocka_unit_test(test_pool),
                cmocka_unit_test(test_withdrawals_first), cmocka_unit_test(test_recall_largest_first),
                cmocka_unit_test(test_recall_bounds),     cmocka_unit_test(test_recall_after_wishes),
                cmocka_unit_test(test_recall_mirror),     cmocka_unit_test(test_withdrawals_rationed),
                cmocka_unit_test(test_bad_offers),        cmocka_unit_test(test_extremes),
        };

        return cmocka_run_group_tests_name("core-market", tests, NULL, NULL);
}
