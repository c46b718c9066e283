/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What holds in every market: 100,000 random ones are cleared, and each result is held against what the
 * rules say of it, not against another program that computes it. For each property one rule is planted that
 * breaks it, which its check must find out. A failure names the seed that makes the market again.
 *
 *   market-properties [SEED]
 */
#include "market-random.h"

#define MARKETS 100000
#define MOST RANDOM_VMS_MAX

typedef struct Result {
        int64_t lots[MOST];
        Clearing c;
        uint64_t blocks[MOST][_TIER_MAX]; /* what each owns then */
} Result;

typedef void (*Rule)(const RandomMarket *m, Result *ret);

static void must(bool ok) {
        if (!ok)
                abort();
}

static void swap(int64_t *a, int64_t *b) {
        int64_t c = *a;

        *a = *b;
        *b = c;
}

static void market_make(uint64_t seed, RandomMarket *ret) {
        Random r = { ~seed };

        random_market(ret, seed, MOST, random_chance(&r, 6) ? INT64_C(1) << 30 : random_between(&r, 1, 12));
        if (random_chance(&r, 50))
                return;
        for (size_t i = 1; i < ret->n; i++) /* equals; positions do not sum to 0 any more */
                if (random_chance(&r, 40)) {
                        uint64_t key = ret->offers[i].key;

                        ret->offers[i] = ret->offers[i - 1];
                        ret->offers[i].key = key;
                        ret->vms[i] = ret->vms[i - 1];
                        ret->entitlements_fit = false;
                }
}

/* ---- the shipped rule, and one for each property that breaks it ---- */

/* A planted rule may leave somebody less than nothing; it has nothing then. */
static void settle(const RandomMarket *m, Result *r) {
        memset(r->blocks, 0, sizeof(r->blocks));
        for (size_t i = 0; i < m->n; i++)
                (void) terms_holding(&m->terms, m->vms[i].entitled, m->offers[i].position + r->lots[i],
                                     r->blocks[i]);
}

static void clear(const RandomMarket *m, Result *ret) {
        must(market_clear(m->offers, m->n, &m->pool, m->epoch, ret->lots, &ret->c) == 0);
        settle(m, ret);
}

static void clear_gift(const RandomMarket *m, Result *ret) {
        clear(m, ret);
        ret->blocks[m->n / 2][TIER_SLOW]++;
}

/* Two VMs' trades are exchanged between them, so that the sum stays. */
static void clear_beyond_wish(const RandomMarket *m, Result *ret) {
        clear(m, ret);
        ret->lots[0]++;
        ret->lots[m->n - 1]--;
        settle(m, ret);
}

/* The pool sells what it has not. */
static void clear_short_sale(const RandomMarket *m, Result *ret) {
        RandomMarket rich = *m;

        rich.pool.sells_at_most = m->pool_free[TIER_DRAM] / m->terms.lot_dram_blocks + 1;
        clear(&rich, ret);
}

static void clear_lost_lot(const RandomMarket *m, Result *ret) {
        clear(m, ret);
        ret->c.pool++;
}

/* Who has the odd lot has a second one, of somebody who is its equal. */
static void clear_favour(const RandomMarket *m, Result *ret) {
        clear(m, ret);
        for (size_t i = 1; i < m->n; i++)
                if (ret->lots[i - 1] > ret->lots[i] && ret->lots[i] > 0 &&
                    ret->lots[i - 1] < m->offers[i - 1].wish) {
                        ret->lots[i - 1]++;
                        ret->lots[i]--;
                        break;
                }
        settle(m, ret);
}

static void clear_same_turn(const RandomMarket *m, Result *ret) {
        RandomMarket same = *m;

        same.epoch = 1;
        clear(&same, ret);
}

static void clear_by_place(const RandomMarket *m, Result *ret) {
        RandomMarket placed = *m;

        for (size_t i = 0; i < m->n; i++)
                placed.offers[i].key = i;
        clear(&placed, ret);
}

/* One lot less is traded than could be. */
static void clear_wasteful(const RandomMarket *m, Result *ret) {
        size_t buyer = MOST, seller = MOST;

        clear(m, ret);
        for (size_t i = 0; i < m->n; i++)
                if (ret->lots[i] > 0)
                        buyer = i;
                else if (ret->lots[i] < 0)
                        seller = i;
        if (buyer == MOST || seller == MOST)
                return;
        ret->lots[buyer]--;
        ret->lots[seller]++;
        ret->c.traded--;
        settle(m, ret);
}

/* The smaller wish gets what the larger one would. */
static void clear_upside_down(const RandomMarket *m, Result *ret) {
        const Offer *o = m->offers;

        clear(m, ret);
        for (size_t i = 1; i < m->n; i++)
                if (ret->c.recalled == 0 && o[i].wish > o[i - 1].wish && o[i - 1].wish > 0)
                        swap(ret->lots + i, ret->lots + i - 1);
        settle(m, ret);
}

static void clear_no_rights(const RandomMarket *m, Result *ret) {
        RandomMarket none = *m;

        for (size_t i = 0; i < m->n; i++)
                none.offers[i].withdraw = false;
        clear(&none, ret);
}

/* What is recalled from the largest position is taken from the smallest instead. */
static void clear_small_debtors(const RandomMarket *m, Result *ret) {
        const Offer *o = m->offers;

        clear(m, ret);
        for (size_t i = 1; i < m->n; i++)
                if (o[i].wish == 0 && o[i - 1].wish == 0 && ret->lots[i] * ret->lots[i - 1] > 0)
                        swap(ret->lots + i, ret->lots + i - 1);
        settle(m, ret);
}

/* ---- the properties; each returns what is wrong, or NULL ---- */

/* Lots that were taken from it beyond its wish. */
static uint64_t recalled_from(const Offer *o, int64_t lots) {
        int64_t least = MIN(o->wish, INT64_C(0)), most = MAX(o->wish, INT64_C(0));

        return lots < least ? (uint64_t) (least - lots) : lots > most ? (uint64_t) (lots - most) : 0;
}

/* The side that may be rationed: 1 buyers, -1 sellers, 0 neither. */
static int long_side(const Clearing *c) {
        return c->demand > c->supply ? 1 : c->demand < c->supply ? -1 : 0;
}

static const char *check_value(const RandomMarket *m, const Result *r, Rule rule) {
        int64_t pool[_TIER_MAX] = { r->c.pool * m->terms.lot_dram_blocks,
                                    -r->c.pool * m->terms.lot_slow_blocks };
        __int128 sum[_TIER_MAX] = { pool[TIER_DRAM], pool[TIER_SLOW] };

        for (size_t i = 0; i < m->n; i++) {
                const uint64_t *had = m->vms[i].entitled, *has = r->blocks[i];
                int64_t z = m->offers[i].position;

                if ((unsigned __int128) has[TIER_DRAM] * m->terms.dram_price +
                            (unsigned __int128) has[TIER_SLOW] * m->terms.slow_price !=
                    (unsigned __int128) had[TIER_DRAM] * m->terms.dram_price +
                            (unsigned __int128) had[TIER_SLOW] * m->terms.slow_price)
                        return "somebody's memory is not worth its entitlement";
                sum[TIER_DRAM] += (__int128) has[TIER_DRAM] - had[TIER_DRAM] -
                                  (__int128) z * m->terms.lot_dram_blocks;
                sum[TIER_SLOW] += (__int128) has[TIER_SLOW] - had[TIER_SLOW] +
                                  (__int128) z * m->terms.lot_slow_blocks;
        }
        return sum[TIER_DRAM] != 0 || sum[TIER_SLOW] != 0 ? "memory came or went" : NULL;
}

/* Floors and ceilings to the block, and what the host has. */
static const char *check_memory(const RandomMarket *m, const Result *r, Rule rule) {
        __int128 free[_TIER_MAX] = { m->pool_free[TIER_DRAM], m->pool_free[TIER_SLOW] };

        for (size_t i = 0; i < m->n; i++) {
                const RandomVm *vm = m->vms + i;
                uint64_t before[_TIER_MAX];

                must(terms_holding(&m->terms, vm->entitled, m->offers[i].position, before) == 0);
                for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                        if (r->blocks[i][tier] < vm->floor[tier] || r->blocks[i][tier] > vm->ceiling[tier])
                                return "a holding below its floor, or above its ceiling";
                        free[tier] += (__int128) before[tier] - r->blocks[i][tier];
                }
        }
        return free[TIER_DRAM] < 0 || free[TIER_SLOW] < 0 ? "more memory than the host has" : NULL;
}

static const char *check_bounds(const RandomMarket *m, const Result *r, Rule rule) {
        const PoolOffer *p = &m->pool;
        uint64_t recalled = 0;

        for (size_t i = 0; i < m->n; i++) {
                const Offer *o = m->offers + i;
                int64_t lots = r->lots[i], after = o->position + lots;

                if (lots < o->low || lots > o->high)
                        return "a change beyond its bounds";
                if (recalled_from(o, lots) > 0 && (lots > 0 ? after > 0 : after < 0))
                        return "a recall beyond the entitlement, or from who owes nothing";
                recalled += recalled_from(o, lots);
        }
        if (recalled != r->c.recalled)
                return "recalls are not what is said";
        if (r->c.pool > 0 ? (uint64_t) r->c.pool > p->buys_at_most
                          : (uint64_t) -r->c.pool > p->sells_at_most)
                return "the pool beyond its limits";
        return NULL;
}

static const char *check_sum(const RandomMarket *m, const Result *r, Rule rule) {
        int64_t sum = r->c.pool, bought = MAX(r->c.pool, INT64_C(0));
        uint64_t demand = 0, supply = 0;

        for (size_t i = 0; i < m->n; i++) {
                sum += r->lots[i];
                bought += MAX(r->lots[i], INT64_C(0));
                demand += (uint64_t) MAX(m->offers[i].wish, INT64_C(0));
                supply += (uint64_t) MAX(-m->offers[i].wish, INT64_C(0));
        }
        if (sum != 0)
                return "lots do not sum to 0";
        if (demand != r->c.demand || supply != r->c.supply)
                return "demand or supply is wrong";
        return (uint64_t) bought != r->c.traded ? "traded is wrong" : NULL;
}

static bool equals(const Offer *a, const Offer *b) {
        return a->wish == b->wish && a->low == b->low && a->high == b->high && a->position == b->position &&
               a->withdraw == b->withdraw;
}

static const char *check_equals(const RandomMarket *m, const Result *r, Rule rule) {
        for (size_t i = 1; i < m->n; i++)
                if (equals(m->offers + i, m->offers + i - 1) &&
                    (r->lots[i] > r->lots[i - 1] + 1 || r->lots[i] < r->lots[i - 1] - 1))
                        return "equals differ by more than a lot";
        return NULL;
}

/* Who had the odd lot must be without it at another epoch, when its equal has it. */
static const char *check_turns(const RandomMarket *m, const Result *r, Rule rule) {
        for (size_t i = 1; i < m->n; i++) {
                RandomMarket later = *m;
                Result then;
                unsigned epochs = 0;

                if (!equals(m->offers + i, m->offers + i - 1) || r->lots[i] == r->lots[i - 1])
                        continue;
                do {
                        later.epoch++;
                        rule(&later, &then);
                        if (++epochs > 2000)
                                return "the odd lot is always the same one's";
                } while ((then.lots[i] > then.lots[i - 1]) == (r->lots[i] > r->lots[i - 1]) ||
                         then.lots[i] == then.lots[i - 1]);
                return NULL; /* one pair of each market is enough */
        }
        return NULL;
}

static const char *check_order(const RandomMarket *m, const Result *r, Rule rule) {
        RandomMarket other = *m;
        size_t from[MOST];
        Random s = { m->epoch };
        Result then;

        for (size_t i = 0; i < m->n; i++) {
                size_t j = (size_t) random_between(&s, 0, (int64_t) i);

                from[i] = from[j];
                from[j] = i;
        }
        for (size_t i = 0; i < m->n; i++) {
                other.offers[i] = m->offers[from[i]];
                other.vms[i] = m->vms[from[i]];
        }
        rule(&other, &then);
        for (size_t i = 0; i < m->n; i++)
                if (then.lots[i] != r->lots[from[i]])
                        return "the order of offers matters";
        return memcmp(&then.c, &r->c, sizeof(then.c)) != 0 ? "the sums depend on the order of offers" : NULL;
}

/* The short side gets its wishes, and the pool gives the other one all that it may. */
static const char *check_short_side(const RandomMarket *m, const Result *r, Rule rule) {
        int side = long_side(&r->c);
        uint64_t lacks = side > 0 ? r->c.demand - r->c.supply : r->c.supply - r->c.demand;
        uint64_t limit = side > 0 ? m->pool.sells_at_most : m->pool.buys_at_most;

        for (size_t i = 0; i < m->n; i++) {
                int64_t wish = m->offers[i].wish, lots = r->lots[i];

                if (wish * side <= 0 && (wish > 0 ? lots < wish : wish < 0 && lots > wish))
                        return "somebody of the short side gets less than its wish";
                if (wish * side <= 0 && r->c.recalled == 0 && lots != wish)
                        return "somebody of the short side does not get its wish";
        }
        return r->c.pool != -side * (int64_t) MIN(lacks, limit) ? "the pool does not do what it can" : NULL;
}

/* All pairs on the rationed side: min(wish, level) for one level, and one lot for whose turn it is. */
static const char *check_monotone(const RandomMarket *m, const Result *r, Rule rule) {
        int side = long_side(&r->c);

        for (size_t i = 0; i < m->n; i++)
                for (size_t j = 0; j < m->n; j++) {
                        const Offer *a = m->offers + i, *b = m->offers + j;
                        int64_t x = r->lots[i] * side, y = r->lots[j] * side;

                        if (a->wish * side <= 0 || b->wish * side <= 0 || a->withdraw != b->withdraw ||
                            recalled_from(a, r->lots[i]) > 0 || recalled_from(b, r->lots[j]) > 0)
                                continue;
                        if (a->wish * side > b->wish * side && x < y - 1)
                                return "a bigger wish gets less";
                        if (x < a->wish * side && y > x + 1)
                                return "somebody is rationed, and another one gets more";
                }
        return NULL;
}

/* Lots that could still be taken from it for buyers (side 1) or sellers (-1). */
static int64_t still_owes(const Offer *o, int64_t lots, int side) {
        int64_t position = (o->position + lots) * side;
        int64_t room = side > 0 ? lots - o->low : o->high - lots;

        return MAX(MIN(position, room), INT64_C(0));
}

static const char *check_rights(const RandomMarket *m, const Result *r, Rule rule) {
        for (size_t i = 0; i < m->n; i++) {
                const Offer *w = m->offers + i;
                int side = w->wish > 0 ? 1 : -1;

                if (r->c.recalled > 0 && !w->withdraw && w->wish * long_side(&r->c) > 0 &&
                    r->lots[i] * side > 0)
                        return "something is recalled for a wish";
                if (!w->withdraw || w->wish == 0 || r->lots[i] * side >= w->wish * side)
                        continue; /* more than it asked for, when it is recalled itself */
                if (m->entitlements_fit)
                        return "all could go back, and one does not";
                for (size_t j = 0; j < m->n; j++) {
                        const Offer *o = m->offers + j;

                        if (!o->withdraw && o->wish * side > 0 && r->lots[j] * side > 0)
                                return "a wish comes before a right";
                        if (still_owes(o, r->lots[j], side) > 0)
                                return "a right is not served by who could be recalled";
                }
        }
        return NULL;
}

static const char *check_debtors(const RandomMarket *m, const Result *r, Rule rule) {
        for (size_t i = 0; i < m->n; i++)
                for (size_t j = 0; j < m->n; j++) {
                        const Offer *a = m->offers + i, *b = m->offers + j;
                        int side = r->lots[i] < 0 ? 1 : -1;

                        if (recalled_from(a, r->lots[i]) > 0 && still_owes(b, r->lots[j], side) > 0 &&
                            (b->position + r->lots[j]) * side > (a->position + r->lots[i]) * side + 1)
                                return "a smaller position is recalled before a larger one";
                }
        return NULL;
}

static const struct {
        const char *name;
        const char *(*check)(const RandomMarket *m, const Result *r, Rule rule);
        const char *planted_name;
        Rule planted;
} properties[] = {
        { "value is kept to the byte", check_value, "a block for free", clear_gift },
        { "floors, ceilings and the host's memory hold", check_memory, "a short sale", clear_short_sale },
        { "bounds hold", check_bounds, "a lot beyond the wish", clear_beyond_wish },
        { "lots sum to 0", check_sum, "a lot too many for the pool", clear_lost_lot },
        { "equals are served alike", check_equals, "a second odd lot", clear_favour },
        { "turns rotate", check_turns, "the same turn at all epochs", clear_same_turn },
        { "the order of offers does not matter", check_order, "turns by place", clear_by_place },
        { "the short side gets its wishes", check_short_side, "one lot less traded", clear_wasteful },
        { "wishes are served to one level", check_monotone, "the smaller wish first", clear_upside_down },
        { "withdrawals are served", check_rights, "no withdrawals", clear_no_rights },
        { "the largest positions are recalled first", check_debtors, "the smallest first",
          clear_small_debtors },
};

/* Prints the result of one property. The shipped rule must keep it in all markets, a planted one not. */
static bool property_test(size_t p, uint64_t seed, bool planted) {
        Rule rule = planted ? properties[p].planted : clear;
        const char *wrong = NULL;
        uint64_t i;

        for (i = 0; i < MARKETS && !wrong; i++) {
                Result r = { 0 };
                RandomMarket m;

                market_make(seed + i, &m);
                rule(&m, &r);
                wrong = properties[p].check(&m, &r, rule);
        }
        printf("%sok %zu - ", (wrong != NULL) == planted ? "" : "not ", 2 * p + planted + 1);
        if (planted)
                printf("%s is found out", properties[p].planted_name);
        else
                printf("%s", properties[p].name);
        if (wrong)
                printf(": %s, in market %llu", wrong, (unsigned long long) (seed + i - 1));
        printf("\n");
        return (wrong != NULL) == planted;
}

/* How often what could go wrong had its chance: a property of what never comes up says nothing. */
static bool chances_test(unsigned number, uint64_t seed) {
        uint64_t rationed = 0, from_pool = 0, recalled = 0, equal = 0, lacking = 0;

        for (uint64_t i = 0; i < MARKETS; i++) {
                bool has_equals = false, lacks = false;
                Result r = { 0 };
                RandomMarket m;

                market_make(seed + i, &m);
                clear(&m, &r);
                for (size_t k = 0; k < m.n; k++) {
                        has_equals |= k > 0 && equals(m.offers + k, m.offers + k - 1) &&
                                      r.lots[k] != r.lots[k - 1];
                        lacks |= m.offers[k].withdraw && llabs(r.lots[k]) < llabs(m.offers[k].wish);
                }
                rationed += r.c.demand != r.c.supply && r.c.traded < MAX(r.c.demand, r.c.supply);
                from_pool += r.c.pool != 0;
                recalled += r.c.recalled > 0;
                equal += has_equals;
                lacking += lacks;
        }
        bool ok = rationed > MARKETS / 10 && from_pool > MARKETS / 10 && recalled > MARKETS / 50 &&
                  equal > MARKETS / 50 && lacking > MARKETS / 200;
        printf("%sok %u - of %d markets %llu are rationed, %llu with the pool, %llu with recalls, %llu "
               "short of "
               "them, %llu with an odd lot between equals\n",
               ok ? "" : "not ", number, MARKETS, (unsigned long long) rationed,
               (unsigned long long) from_pool, (unsigned long long) recalled, (unsigned long long) lacking,
               (unsigned long long) equal);
        return ok;
}

/* Over many epochs nobody has more odd lots than chance gives: seven equals, of which three get one more.
 * The planted rule has the same epoch for ever. */
static bool turns_are_fair(bool planted) {
        enum { VMS = 7, ODD = 3, EPOCHS = 7000 };
        uint64_t turns[VMS] = { 0 };
        bool fair = true;

        for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
                Offer offers[VMS + 1] = { { .key = 99, .wish = -2 * VMS - ODD, .low = -100 } };
                int64_t lots[VMS + 1];
                Clearing c;

                for (uint64_t i = 1; i <= VMS; i++)
                        offers[i] = (Offer){ .key = i, .wish = 9, .high = 9 };
                must(market_clear(offers, VMS + 1, NULL, planted ? 1 : epoch, lots, &c) == 0);
                for (size_t i = 1; i <= VMS; i++)
                        turns[i - 1] += lots[i] == 3;
        }
        for (size_t i = 0; i < VMS; i++) /* 3000 each, and 41 is one standard deviation */
                fair = fair && turns[i] > 2800 && turns[i] < 3200;
        return fair;
}

int main(int argc, char *argv[]) {
        uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
        unsigned n = 2 * ELEMENTSOF(properties);
        bool ok = true, fair = turns_are_fair(false), seen = !turns_are_fair(true);

        printf("1..%u\n", n + 3);
        for (size_t p = 0; p < ELEMENTSOF(properties); p++) {
                ok &= property_test(p, seed, false);
                ok &= property_test(p, seed, true);
        }
        ok &= chances_test(n + 1, seed);
        printf("%sok %u - odd lots come to all equally often\n", fair ? "" : "not ", n + 2);
        printf("%sok %u - odd lots that come to the same ones are found out\n", seen ? "" : "not ", n + 3);
        return ok && fair && seen ? 0 : 1;
}
