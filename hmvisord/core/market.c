/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The market's arithmetic: terms, and the uniform rule on integers. One routine deals wishes and recalls
 * alike: each claim says from which level on it is served, one lot a level, and how much at most; wishes all
 * start at level 0, positions to be recalled start the earlier the larger they are.
 */
#include "core/market.h"

#define BLOCK_BYTES_MIN (UINT64_C(1) << 12)
#define BLOCK_BYTES_MAX (UINT64_C(1) << 30)

static uint32_t gcd(uint32_t a, uint32_t b) {
        while (b > 0) {
                uint32_t rest = a % b;

                a = b;
                b = rest;
        }
        return a;
}

/* a * b / c, rounded up or down; b and c are far from overflowing with a. */
static uint64_t scale_down(uint64_t a, uint64_t b, uint64_t c) {
        return (uint64_t) ((unsigned __int128) a * b / c);
}

static uint64_t scale_up(uint64_t a, uint64_t b, uint64_t c) {
        return (uint64_t) (((unsigned __int128) a * b + c - 1) / c);
}

static bool policy_is_sound(const MarketPolicy *p) {
        uint64_t block = p->block_bytes;

        if (block < BLOCK_BYTES_MIN || block > BLOCK_BYTES_MAX || (block & (block - 1)) != 0)
                return false;
        if (p->dram_price == 0 || p->slow_price == 0)
                return false;
        if (p->min_trade_bytes % block != 0 || p->max_trade_bytes % block != 0 ||
            p->step_bytes % block != 0 || p->step_bytes == 0)
                return false;
        return !p->moving_price || (p->dram_price_min > 0 && p->dram_price_min <= p->dram_price &&
                                    p->dram_price <= p->dram_price_max);
}

int terms_make(const MarketPolicy *p, Terms *ret) {
        uint64_t most = LOT_BYTES_MAX / MAX(p->block_bytes, BLOCK_BYTES_MIN); /* blocks */
        uint64_t dram, slow, times;
        uint32_t divisor;

        if (!policy_is_sound(p))
                return -EINVAL;

        /* Value is the same on both sides of any multiple of slow_price : dram_price blocks, and of no
         * other. */
        divisor = gcd(p->dram_price, p->slow_price);
        dram = p->slow_price / divisor;
        slow = p->dram_price / divisor;
        times = MAX(scale_up(p->min_trade_bytes / p->block_bytes, 1, dram), UINT64_C(1));
        /* The first product is below 2^53, so the second, if it comes to that, is below 2^32 * 2^24. */
        if (dram * times > most || slow * times > most)
                return -EINVAL;
        if (dram * times > p->max_trade_bytes / p->block_bytes)
                return -EINVAL;
        if (p->moving_price && scale_down(dram * times, p->dram_price_max, p->slow_price) > most)
                return -EINVAL;

        *ret = (Terms){
                .block_bytes = p->block_bytes,
                .dram_price = (uint32_t) slow,
                .slow_price = (uint32_t) dram,
                .lot_dram_blocks = (uint32_t) (dram * times),
                .lot_slow_blocks = (uint32_t) (slow * times),
        };
        return 0;
}

int terms_at_price(const Terms *t, uint32_t lot_slow_blocks, Terms *ret) {
        Terms next = *t;
        uint32_t divisor;

        if (lot_slow_blocks == 0 || lot_slow_blocks > LOT_BYTES_MAX / t->block_bytes)
                return -EINVAL;
        divisor = gcd(lot_slow_blocks, t->lot_dram_blocks);
        next.lot_slow_blocks = lot_slow_blocks;
        next.dram_price = lot_slow_blocks / divisor;
        next.slow_price = t->lot_dram_blocks / divisor;
        *ret = next;
        return 0;
}

uint64_t terms_lot_blocks(const Terms *t, Tier tier) {
        return tier == TIER_DRAM ? t->lot_dram_blocks : t->lot_slow_blocks;
}

uint64_t terms_lot_bytes(const Terms *t, Tier tier) {
        return terms_lot_blocks(t, tier) * t->block_bytes;
}

unsigned __int128 terms_value(const Terms *t, uint64_t dram_bytes, uint64_t slow_bytes) {
        return (unsigned __int128) t->dram_price * dram_bytes +
               (unsigned __int128) t->slow_price * slow_bytes;
}

int terms_holding(const Terms *t, const uint64_t entitlement_blocks[_TIER_MAX], int64_t position,
                  uint64_t ret_blocks[_TIER_MAX]) {
        __int128 dram = (__int128) position * t->lot_dram_blocks + entitlement_blocks[TIER_DRAM];
        __int128 slow = entitlement_blocks[TIER_SLOW] - (__int128) position * t->lot_slow_blocks;

        if (dram < 0 || slow < 0 || dram > UINT64_MAX || slow > UINT64_MAX)
                return -ERANGE;
        ret_blocks[TIER_DRAM] = (uint64_t) dram;
        ret_blocks[TIER_SLOW] = (uint64_t) slow;
        return 0;
}

/* Whose turn the odd lot is. One to one in the key at any epoch, so different keys never tie; every bit of
 * both counts (the finalizer of G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number
 * generators", 2014). */
static uint64_t mix(uint64_t key, uint64_t epoch) {
        for (unsigned i = 0; i < 2; i++) {
                uint64_t x = i == 0 ? epoch + UINT64_C(0x9e3779b97f4a7c15) : key ^ epoch;

                x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
                x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
                epoch = x ^ x >> 31;
        }
        return epoch;
}

/* What one VM may get or have to give: nothing up to a level, then one lot a level, up to most. */
typedef struct Claim {
        uint64_t turn; /* mix of key and epoch */
        size_t offer;
        uint64_t from, most;
} Claim;

static int claim_compare(const void *a, const void *b) {
        const Claim *x = a, *y = b;

        return x->turn < y->turn ? -1 : x->turn > y->turn;
}

static uint64_t claim_at(const Claim *c, uint64_t level) {
        return level <= c->from ? 0 : MIN(level - c->from, c->most);
}

static uint64_t claims_at(const Claim claims[], size_t n, uint64_t level) {
        uint64_t sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += claim_at(claims + i, level);
        return sum;
}

/* Deals an amount: to everybody what it claims at one level, the highest for which that is not too much, and
 * the rest, less than one lot for each that claims more at the next level, in turn. Claims are sorted by
 * turn. Adds to lots, times sign. Returns what was dealt: the amount, or the sum of all claims when that is
 * less. */
static uint64_t deal(const Claim claims[], size_t n, uint64_t amount, int sign, int64_t lots[]) {
        uint64_t level = UINT64_MAX, above = 0, all = 0, left;

        for (size_t i = 0; i < n; i++) {
                all += claims[i].most;
                level = MIN(level, claims[i].from);
                above = MAX(above, claims[i].from + claims[i].most);
        }
        /* Nothing is claimed at the lowest level, and everything at the highest. */
        if (all <= amount)
                level = above;
        while (above > level + 1) {
                uint64_t middle = level + (above - level) / 2;

                if (claims_at(claims, n, middle) <= amount)
                        level = middle;
                else
                        above = middle;
        }
        amount = MIN(amount, all);
        left = amount - claims_at(claims, n, level);
        for (size_t i = 0; i < n; i++) {
                uint64_t dealt = claim_at(claims + i, level);

                if (left > 0 && claim_at(claims + i, level + 1) > dealt) {
                        dealt++;
                        left--;
                }
                lots[claims[i].offer] += sign * (int64_t) dealt;
        }
        return amount;
}

static bool offer_is_sound(const Offer *o) {
        if (o->low > 0 || o->low < -MARKET_LOTS_MAX || o->high < 0 || o->high > MARKET_LOTS_MAX)
                return false;
        if (o->wish < o->low || o->wish > o->high)
                return false;
        if (o->position < -MARKET_LOTS_MAX || o->position > MARKET_LOTS_MAX)
                return false;
        if (!o->withdraw)
                return true;
        return o->position >= 0 ? o->wish <= 0 && o->wish >= -o->position
                                : o->wish >= 0 && o->wish <= -o->position;
}

/* All claims, sorted by turn; what they claim comes later. Returns -EINVAL for a bad offer or equal keys. */
static int claims_new(const Offer offers[], size_t n, uint64_t epoch, Claim **ret) {
        _cleanup_free_ Claim *claims = NULL;

        if (n == 0 || n > MARKET_OFFERS_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n; i++)
                if (!offer_is_sound(offers + i))
                        return -EINVAL;
        claims = calloc(n, sizeof(*claims));
        if (!claims)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                claims[i] = (Claim){ .turn = mix(offers[i].key, epoch), .offer = i };
        qsort(claims, n, sizeof(*claims), claim_compare);
        for (size_t i = 1; i < n; i++)
                if (claims[i].turn == claims[i - 1].turn)
                        return -EINVAL;
        *ret = TAKE_PTR(claims);
        return 0;
}

/* Sets each claim to the wish that its offer has on one side, withdrawals or voluntary ones, else to
 * nothing. */
static uint64_t claims_set_wishes(Claim claims[], size_t n, const Offer offers[], int side, bool withdraw) {
        uint64_t sum = 0;

        for (size_t i = 0; i < n; i++) {
                const Offer *o = offers + claims[i].offer;

                claims[i].from = 0;
                claims[i].most =
                        o->withdraw == withdraw && o->wish * side > 0 ? (uint64_t) (o->wish * side) : 0;
                sum += claims[i].most;
        }
        return sum;
}

/* Sets each claim to what can be recalled for a side: of a position on the other side, what is left of it
 * after the lots dealt so far, as far as the bounds allow. */
static void claims_set_recalls(Claim claims[], size_t n, const Offer offers[], int side,
                               const int64_t lots[]) {
        for (size_t i = 0; i < n; i++) {
                const Offer *o = offers + claims[i].offer;
                int64_t dealt = lots[claims[i].offer];
                int64_t position = (o->position + dealt) * side;
                int64_t room = (side > 0 ? -o->low : o->high) + dealt * side;

                claims[i].most = position > 0 && room > 0 ? (uint64_t) MIN(position, room) : 0;
                claims[i].from = position > 0 ? (uint64_t) (MARKET_LOTS_MAX - position) : 0;
        }
}

int market_clear(const Offer offers[], size_t n, const PoolOffer *pool, uint64_t epoch, int64_t ret_lots[],
                 Clearing *ret) {
        static const PoolOffer no_pool = { 0 };
        _cleanup_free_ Claim *claims = NULL;
        uint64_t wanted, offered, from_pool, available, withdrawn, recalled = 0;
        Clearing c = { 0 };
        int side, r;

        r = claims_new(offers, n, epoch, &claims);
        if (r < 0)
                return r;
        if (!pool)
                pool = &no_pool;
        for (size_t i = 0; i < n; i++)
                if (offers[i].wish > 0)
                        c.demand += (uint64_t) offers[i].wish;
                else
                        c.supply += (uint64_t) -offers[i].wish;

        /* The side that wants less gets it all; side is the other one. */
        side = c.demand >= c.supply ? 1 : -1;
        wanted = MAX(c.demand, c.supply);
        offered = MIN(c.demand, c.supply);
        for (size_t i = 0; i < n; i++)
                ret_lots[i] = offers[i].wish * side < 0 ? offers[i].wish : 0;

        from_pool = MIN(wanted - offered, side > 0 ? pool->sells_at_most : pool->buys_at_most);
        available = offered + from_pool;
        withdrawn = claims_set_wishes(claims, n, offers, side, true);
        if (withdrawn > available) {
                claims_set_recalls(claims, n, offers, side, ret_lots);
                recalled = deal(claims, n, withdrawn - available, -side, ret_lots);
                available += recalled;
                (void) claims_set_wishes(claims, n, offers, side, true);
        }
        available -= deal(claims, n, available, side, ret_lots);
        (void) claims_set_wishes(claims, n, offers, side, false);
        (void) deal(claims, n, available, side, ret_lots);

        c.pool = -side * (int64_t) from_pool;
        c.recalled = recalled;
        c.traded = offered + from_pool + recalled;
        *ret = c;
        return 0;
}

uint32_t market_next_price(const MarketPolicy *p, const Terms *t, const Clearing *c) {
        uint64_t least = MAX(scale_up(t->lot_dram_blocks, p->dram_price_min, p->slow_price), UINT64_C(1));
        uint64_t most = scale_down(t->lot_dram_blocks, p->dram_price_max, p->slow_price);
        uint32_t now = t->lot_slow_blocks;

        if (now < least || (c->demand > c->supply && now < most))
                return now + 1;
        if (now > most || (c->demand < c->supply && now > least))
                return now - 1;
        return now;
}
