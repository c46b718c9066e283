/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What holds in every market: random ones are cleared, and each result is held against what the rules say of
 * it, not against another program that computes it. A failure names the seed that makes the market again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "market-random.h"

#define MARKETS 300000

/* How often what could go wrong had its chance. */
typedef struct Tally {
        uint64_t rationed, odd, recalled, from_pool, served, short_of_recalls;
        uint64_t first_favoured, last_favoured; /* of two equals, by key */
} Tally;

typedef struct Result {
        int64_t lots[RANDOM_VMS_MAX];
        Clearing c;
        int side; /* that is rationed, if any: 1 buys, -1 sells */
} Result;

#define CHECK(m, condition)                                                                                 \
        do {                                                                                                \
                if (!(condition))                                                                           \
                        fail_msg("seed %llu: not so: %s", (unsigned long long) (m)->seed, #condition);      \
        } while (0)

static Result clear(const RandomMarket *m) {
        Result x = { 0 };

        CHECK(m, market_clear(m->offers, m->n, &m->pool, m->epoch, x.lots, &x.c) == 0);
        x.side = x.c.demand >= x.c.supply ? 1 : -1;
        return x;
}

/* The sums, and what the figures of the clearing say of them. */
static void check_sums(const RandomMarket *m, const Result *x) {
        uint64_t demand = 0, supply = 0, bought = 0, sold = 0;
        int64_t sum = x->c.pool;

        for (size_t i = 0; i < m->n; i++) {
                demand += (uint64_t) MAX(m->offers[i].wish, INT64_C(0));
                supply += (uint64_t) MAX(-m->offers[i].wish, INT64_C(0));
                bought += (uint64_t) MAX(x->lots[i], INT64_C(0));
                sold += (uint64_t) MAX(-x->lots[i], INT64_C(0));
                sum += x->lots[i];
        }
        CHECK(m, sum == 0);
        CHECK(m, x->c.demand == demand && x->c.supply == supply);
        bought += (uint64_t) MAX(x->c.pool, INT64_C(0));
        sold += (uint64_t) MAX(-x->c.pool, INT64_C(0));
        CHECK(m, x->c.traded == bought && bought == sold);
}

/* Blocks, to the last one: each VM's worth, its floors and ceilings, and what the host has. */
static void check_memory(const RandomMarket *m, const Result *x) {
        const Terms *t = &m->terms;
        int64_t free[_TIER_MAX]; /* of the pool, afterwards */

        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                free[tier] = (int64_t) m->pool_free[tier];
        for (size_t i = 0; i < m->n; i++) {
                const RandomVm *vm = m->vms + i;
                uint64_t before[_TIER_MAX], after[_TIER_MAX];

                CHECK(m, terms_holding(t, vm->entitled, m->offers[i].position, before) == 0);
                CHECK(m, terms_holding(t, vm->entitled, m->offers[i].position + x->lots[i], after) == 0);
                CHECK(m,
                      terms_value(t, after[TIER_DRAM] * t->block_bytes, after[TIER_SLOW] * t->block_bytes) ==
                              terms_value(t, vm->entitled[TIER_DRAM] * t->block_bytes,
                                          vm->entitled[TIER_SLOW] * t->block_bytes));
                for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                        CHECK(m, after[tier] >= vm->floor[tier] && after[tier] <= vm->ceiling[tier]);
                        free[tier] += (int64_t) before[tier] - (int64_t) after[tier];
                }
                CHECK(m, x->lots[i] >= m->offers[i].low && x->lots[i] <= m->offers[i].high);
        }
        CHECK(m, free[TIER_DRAM] ==
                         (int64_t) m->pool_free[TIER_DRAM] + x->c.pool * (int64_t) t->lot_dram_blocks);
        CHECK(m, free[TIER_SLOW] ==
                         (int64_t) m->pool_free[TIER_SLOW] - x->c.pool * (int64_t) t->lot_slow_blocks);
        CHECK(m, free[TIER_DRAM] >= 0 && free[TIER_SLOW] >= 0);
}

/* What was taken from a VM beyond what it offered. */
static uint64_t recalled_from(const RandomMarket *m, const Result *x, size_t i) {
        int64_t offered = m->offers[i].wish * x->side < 0 ? m->offers[i].wish : 0;
        int64_t more = (offered - x->lots[i]) * x->side;

        return more > 0 ? (uint64_t) more : 0;
}

static bool is_on_side(const RandomMarket *m, const Result *x, size_t i, bool withdraw) {
        return m->offers[i].wish * x->side > 0 && m->offers[i].withdraw == withdraw;
}

/* The side that wants less gets it all; nobody gets what it did not wish for, recalls aside. */
static void check_wishes(const RandomMarket *m, const Result *x) {
        uint64_t recalled = 0;

        for (size_t i = 0; i < m->n; i++) {
                const Offer *o = m->offers + i;
                uint64_t from = recalled_from(m, x, i);

                recalled += from;
                if (from > 0) { /* toward its entitlement, not beyond */
                        int64_t after = (o->position + x->lots[i]) * x->side;

                        CHECK(m, after >= 0 && after < o->position * x->side);
                        continue;
                }
                if (o->wish * x->side <= 0)
                        CHECK(m, x->lots[i] == o->wish);
                CHECK(m, x->lots[i] >= MIN(o->wish, INT64_C(0)) && x->lots[i] <= MAX(o->wish, INT64_C(0)));
        }
        CHECK(m, x->c.recalled == recalled);
}

/* Who gets less than its wish sees nobody of its class with more than one lot more than it has. This is the
 * uniform rule: equals are treated as such, and a bigger claim never comes before a smaller one. */
static bool check_rationing(const RandomMarket *m, const Result *x, bool withdraw, Tally *tally) {
        bool rationed = false;

        for (size_t i = 0; i < m->n; i++) {
                if (!is_on_side(m, x, i, withdraw) || x->lots[i] == m->offers[i].wish)
                        continue;
                rationed = true;
                if (recalled_from(m, x, i) > 0) /* a debtor, whatever it wished for */
                        continue;
                for (size_t j = 0; j < m->n; j++) {
                        if (!is_on_side(m, x, j, withdraw) || i == j)
                                continue;
                        CHECK(m, x->lots[j] * x->side <= x->lots[i] * x->side + 1);
                        if (m->offers[i].wish != m->offers[j].wish || x->lots[i] == x->lots[j])
                                continue;
                        tally->odd++;
                        if (j < i) /* keys ascend */
                                tally->first_favoured++;
                        else
                                tally->last_favoured++;
                }
        }
        return rationed;
}

/* Nothing is left undone: each class waits only for what could not be had at all. */
static void check_priorities(const RandomMarket *m, const Result *x, Tally *tally) {
        uint64_t limit = x->side > 0 ? m->pool.sells_at_most : m->pool.buys_at_most;
        bool voluntary = check_rationing(m, x, false, tally);
        bool withdrawals = check_rationing(m, x, true, tally);

        CHECK(m, -x->c.pool * x->side >= 0); /* the pool trades with that side only */
        CHECK(m, (uint64_t) (-x->c.pool * x->side) <= limit);
        if (voluntary || withdrawals || x->c.recalled > 0)
                CHECK(m, (uint64_t) (-x->c.pool * x->side) == limit);
        for (size_t i = 0; i < m->n; i++) {
                int64_t left = (m->offers[i].position + x->lots[i]) * x->side;
                int64_t bound = x->side > 0 ? m->offers[i].low : m->offers[i].high;

                if ((withdrawals || x->c.recalled > 0) && is_on_side(m, x, i, false))
                        CHECK(m, x->lots[i] == 0 || recalled_from(m, x, i) > 0);
                if (withdrawals) /* all that could be recalled was */
                        CHECK(m, left <= 0 || x->lots[i] == bound);
                for (size_t j = 0; j < m->n && recalled_from(m, x, i) > 0; j++) {
                        int64_t other = (m->offers[j].position + x->lots[j]) * x->side;

                        /* Whoever could still give holds at most one lot more than who had to. */
                        if (x->lots[j] != (x->side > 0 ? m->offers[j].low : m->offers[j].high))
                                CHECK(m, other <= left + 1);
                }
        }
        if (m->entitlements_fit)
                CHECK(m, !withdrawals);
        tally->rationed += voluntary;
        tally->recalled += x->c.recalled > 0;
        tally->from_pool += x->c.pool != 0;
        tally->served += m->entitlements_fit && x->c.recalled > 0;
        tally->short_of_recalls += withdrawals;
}

/* The same offers in another order: the same lots for each. */
static void check_order(const RandomMarket *m, const Result *x) {
        Random r = { m->seed ^ 1 };
        RandomMarket other = *m;
        size_t from[RANDOM_VMS_MAX];
        Result y;

        for (size_t i = 0; i < m->n; i++) {
                size_t j = (size_t) random_between(&r, 0, (int64_t) i);

                from[i] = from[j];
                from[j] = i;
        }
        for (size_t i = 0; i < m->n; i++)
                other.offers[i] = m->offers[from[i]];
        y = clear(&other);
        for (size_t i = 0; i < m->n; i++)
                CHECK(m, y.lots[i] == x->lots[from[i]]);
        CHECK(m, memcmp(&x->c, &y.c, sizeof(y.c)) == 0);
}

static void test_random_markets(void **state) {
        Tally tally = { 0 };
        uint64_t favoured;

        for (uint64_t seed = 1; seed <= MARKETS; seed++) {
                RandomMarket m;
                Result x;

                random_market(&m, seed, seed % 10 == 0 ? RANDOM_VMS_MAX : 6, seed % 3 == 0 ? 40 : 8);
                x = clear(&m);
                check_sums(&m, &x);
                check_memory(&m, &x);
                check_wishes(&m, &x);
                check_priorities(&m, &x, &tally);
                check_order(&m, &x);
        }
        print_message(
                "# %d markets: %llu rationed, %llu with the pool, %llu with recalls, %llu short of them\n",
                MARKETS, (unsigned long long) tally.rationed, (unsigned long long) tally.from_pool,
                (unsigned long long) tally.recalled, (unsigned long long) tally.short_of_recalls);
        assert_true(tally.rationed > MARKETS / 10);
        assert_true(tally.from_pool > MARKETS / 10);
        assert_true(tally.recalled > MARKETS / 50);
        assert_true(tally.served > MARKETS / 200);
        assert_true(tally.short_of_recalls > MARKETS / 200);

        /* Of two equals neither is favoured. */
        favoured = tally.first_favoured + tally.last_favoured;
        assert_int_equal(favoured, tally.odd);
        assert_true(favoured > 1000);
        assert_true(tally.first_favoured * 100 > favoured * 45 && tally.last_favoured * 100 > favoured * 45);
}

/* Over many epochs nobody has more odd lots than chance gives: seven equals, of which three get one more. */
static void test_turns_are_fair(void **state) {
        enum { VMS = 7, ODD = 3, EPOCHS = 7000 };
        uint64_t turns[VMS] = { 0 }, changes = 0;
        int64_t last[VMS + 1] = { 0 };

        for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
                Offer offers[VMS + 1] = { { .key = 99, .wish = -2 * VMS - ODD, .low = -100 } };
                int64_t lots[VMS + 1];
                Clearing c;

                for (uint64_t i = 1; i <= VMS; i++)
                        offers[i] = (Offer){ .key = i, .wish = 9, .high = 9 };
                assert_int_equal(market_clear(offers, VMS + 1, NULL, epoch, lots, &c), 0);
                for (size_t i = 1; i <= VMS; i++)
                        turns[i - 1] += lots[i] == 3;
                changes += memcmp(last, lots, sizeof(last)) != 0;
                memcpy(last, lots, sizeof(last));
        }
        for (size_t i = 0; i < VMS; i++) /* 3000 each, and 41 is one standard deviation */
                assert_in_range(turns[i], 2800, 3200);
        assert_true(changes > EPOCHS * 9 / 10); /* one in 35 is as the one before */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_random_markets),
                cmocka_unit_test(test_turns_are_fair),
        };

        return cmocka_run_group_tests_name("market-properties", tests, NULL, NULL);
}
