/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whether an untrue wish can pay. In random markets every VM has single-peaked preferences: some change is
 * best, and each lot more or less is worse, by a slope of its own on either side. For each VM in turn all
 * wishes that it could state are tried, with the others' given, and none may leave it better off than its
 * true one. It is taken to know everything: the others' wishes, the epoch, whose turn the odd lot is.
 *
 * A withdrawal is a command of the VM's owner, not a wish that the host guesses: a VM that has one is tried
 * with every smaller withdrawal and with every wish without; a VM that has none is not given one.
 *
 * That the search can find a gain is shown by three rules that are known to have one: first come, first
 * served, shares in proportion to the wishes, and the largest wish first.
 *
 * First come, first served has one where requests are served whole or not at all, as memory mostly is: one
 * that does not fit any more is passed over, so who comes late does better by asking for what is left than
 * for what it wants. Where a request may also be served in part, the rule is unfair, and truthful: everybody
 * gets the lesser of its wish and what those before it left, and by its wish nobody moves forward. The
 * search must find that, too: no gain.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "market-random.h"

#define MARKETS 50000
#define VMS_MOST 6
#define LOTS_MOST 20

typedef int (*Rule)(const Offer offers[], size_t n, const PoolOffer *pool, uint64_t epoch,
                    int64_t ret_lots[], Clearing *ret);

/* What the long side wants, and how much there is for it. The planted rules know no withdrawals. */
static int side_of(const Offer offers[], size_t n, const PoolOffer *pool, int64_t *ret_wanted,
                   int64_t *ret_there) {
        int64_t demand = 0, supply = 0;

        for (size_t i = 0; i < n; i++) {
                demand += MAX(offers[i].wish, INT64_C(0));
                supply += MAX(-offers[i].wish, INT64_C(0));
        }
        *ret_wanted = MAX(demand, supply);
        *ret_there = MIN(demand, supply) +
                     (int64_t) (demand >= supply ? pool->sells_at_most : pool->buys_at_most);
        *ret_there = MIN(*ret_there, *ret_wanted);
        return demand >= supply ? 1 : -1;
}

/* In the order of the offers; whole: one that does not fit is passed over. What is taken comes from the
 * other side, first come, first served as well. */
static void clear_first_come(const Offer offers[], size_t n, const PoolOffer *pool, bool whole,
                             int64_t ret_lots[]) {
        int64_t wanted, there, taken = 0, from_pool;
        int side = side_of(offers, n, pool, &wanted, &there);

        from_pool = (int64_t) (side > 0 ? pool->sells_at_most : pool->buys_at_most);
        for (size_t i = 0; i < n; i++) {
                int64_t wish = MAX(offers[i].wish * side, INT64_C(0));
                int64_t gets = wish <= there - taken ? wish : whole ? 0 : there - taken;

                ret_lots[i] = gets * side;
                taken += gets;
        }
        taken = whole ? MAX(taken - from_pool, INT64_C(0)) : INT64_MAX;
        for (size_t i = 0; i < n; i++)
                if (offers[i].wish * side < 0) {
                        int64_t gives = MIN(-offers[i].wish * side, taken);

                        ret_lots[i] = -gives * side;
                        taken -= gives;
                }
}

static int clear_first_come_whole(const Offer offers[], size_t n, const PoolOffer *pool, uint64_t epoch,
                                  int64_t ret_lots[], Clearing *ret) {
        clear_first_come(offers, n, pool, true, ret_lots);
        return 0;
}

static int clear_first_come_in_part(const Offer offers[], size_t n, const PoolOffer *pool, uint64_t epoch,
                                    int64_t ret_lots[], Clearing *ret) {
        clear_first_come(offers, n, pool, false, ret_lots);
        return 0;
}

static int clear_in_proportion(const Offer offers[], size_t n, const PoolOffer *pool, uint64_t epoch,
                               int64_t ret_lots[], Clearing *ret) {
        int64_t wanted, there;
        int side = side_of(offers, n, pool, &wanted, &there);

        for (size_t i = 0; i < n; i++)
                ret_lots[i] = offers[i].wish * side > 0 ? offers[i].wish * there / wanted : offers[i].wish;
        return 0;
}

static int clear_largest_first(const Offer offers[], size_t n, const PoolOffer *pool, uint64_t epoch,
                               int64_t ret_lots[], Clearing *ret) {
        bool served[RANDOM_VMS_MAX] = { 0 };
        int64_t wanted, there;
        int side = side_of(offers, n, pool, &wanted, &there);

        for (size_t k = 0; k < n; k++) {
                size_t next = n;

                for (size_t i = 0; i < n; i++)
                        if (!served[i] && (next == n || offers[i].wish * side > offers[next].wish * side))
                                next = i;
                served[next] = true;
                if (offers[next].wish * side <= 0) {
                        ret_lots[next] = offers[next].wish;
                        continue;
                }
                ret_lots[next] = side * MIN(offers[next].wish * side, there);
                there -= ret_lots[next] * side;
        }
        return 0;
}

/* What a VM would have: its peak is the offer's wish. */
typedef struct Taste {
        int64_t below, above; /* loss by lot on either side of the peak */
} Taste;

static int64_t loss(const Taste *taste, int64_t peak, int64_t lots) {
        return lots < peak ? (peak - lots) * taste->below : (lots - peak) * taste->above;
}

typedef struct Search {
        Rule rule;
        uint64_t reports;
        uint64_t gains;
        uint64_t seed; /* of the first market with a gain, and what was stated there */
        size_t vm;
        int64_t peak, stated, honest, got;
} Search;

static int64_t outcome(const Search *s, const RandomMarket *m, size_t vm) {
        int64_t lots[RANDOM_VMS_MAX];
        Clearing c;

        assert_int_equal(s->rule(m->offers, m->n, &m->pool, m->epoch, lots, &c), 0);
        return lots[vm];
}

static void try_report(Search *s, RandomMarket *m, size_t vm, const Taste *taste, int64_t peak,
                       int64_t honest) {
        int64_t got = outcome(s, m, vm);

        s->reports++;
        if (loss(taste, peak, got) >= loss(taste, peak, honest))
                return;
        if (s->gains++ == 0) {
                s->seed = m->seed;
                s->vm = vm;
                s->peak = peak;
                s->stated = m->offers[vm].wish;
                s->honest = honest;
                s->got = got;
        }
}

/* All that this VM could state, the truth included. */
static void search_vm(Search *s, RandomMarket *m, size_t vm, const Taste *taste) {
        const Offer truth = m->offers[vm];
        int64_t honest = outcome(s, m, vm);
        Offer *o = m->offers + vm;

        if (truth.withdraw) {
                int64_t back = -truth.position;

                for (o->wish = MIN(back, INT64_C(0)); o->wish <= MAX(back, INT64_C(0)); o->wish++)
                        if (o->wish >= o->low && o->wish <= o->high)
                                try_report(s, m, vm, taste, truth.wish, honest);
                o->withdraw = false;
        }
        for (o->wish = o->low; o->wish <= o->high; o->wish++)
                try_report(s, m, vm, taste, truth.wish, honest);
        *o = truth;
}

static Search search(Rule rule, uint64_t n_markets, bool withdrawals) {
        Search s = { .rule = rule };

        for (uint64_t seed = 1; seed <= n_markets; seed++) {
                Random r = { ~seed };
                RandomMarket m;

                random_market(&m, seed, VMS_MOST, LOTS_MOST);
                for (size_t i = 0; i < m.n; i++)
                        m.offers[i].withdraw = m.offers[i].withdraw && withdrawals;
                for (size_t i = 0; i < m.n; i++) {
                        Taste taste = { random_between(&r, 1, 20), random_between(&r, 1, 20) };

                        search_vm(&s, &m, i, &taste);
                }
        }
        return s;
}

static void describe(const Search *s) {
        print_message("# %llu reports tried, %llu gains\n", (unsigned long long) s->reports,
                      (unsigned long long) s->gains);
        if (s->gains > 0)
                print_message("# the first: seed %llu, VM %zu, peak %lld: got %lld by the truth, %lld by "
                              "stating %lld\n",
                              (unsigned long long) s->seed, s->vm, (long long) s->peak,
                              (long long) s->honest, (long long) s->got, (long long) s->stated);
}

static void test_no_gain(void **state) {
        Search s = search(market_clear, MARKETS, true);

        describe(&s);
        assert_int_equal(s.gains, 0);
        assert_true(s.reports > 10 * MARKETS);
}

static void test_finds_gain_first_come(void **state) {
        Search s = search(clear_first_come_whole, MARKETS / 10, false);

        describe(&s);
        assert_true(s.gains > 0);
        assert_true(llabs(s.stated) < llabs(s.peak)); /* by asking for less than it wants */
}

static void test_first_come_in_part_has_none(void **state) {
        Search s = search(clear_first_come_in_part, MARKETS / 10, false);

        describe(&s);
        assert_int_equal(s.gains, 0);
}

static void test_finds_gain_in_proportion(void **state) {
        Search s = search(clear_in_proportion, MARKETS / 10, false);

        describe(&s);
        assert_true(s.gains > 0);
}

static void test_finds_gain_largest_first(void **state) {
        Search s = search(clear_largest_first, MARKETS / 10, false);

        describe(&s);
        assert_true(s.gains > 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_no_gain),
                cmocka_unit_test(test_finds_gain_first_come),
                cmocka_unit_test(test_first_come_in_part_has_none),
                cmocka_unit_test(test_finds_gain_in_proportion),
                cmocka_unit_test(test_finds_gain_largest_first),
        };

        return cmocka_run_group_tests_name("market-truth", tests, NULL, NULL);
}
