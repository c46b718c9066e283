/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See trade-internal.h: which price there should be, and when it may change. How it does is settlement.c's.
 */
#include "core/trade-internal.h"

/* So many steps of shrinking are taken of a VM for one change of the price: a guest does them well within
 * the time that it has, so that a configured price that is far away comes in several changes, and not never.
 */
#define GIVING_STEPS 8

const char *trade_price_to_string(TradePrice p) {
        static const char *const names[] = {
                [PRICE_STANDS] = "stands",
                [PRICE_CHANGES] = "changes",
                [PRICE_WAITS_TRADES] = "waits-for-trades",
                [PRICE_WAITS_BOUNDS] = "waits-for-bounds",
                [PRICE_WAITS_ROOM] = "waits-for-room",
                [PRICE_WAITS_FROZEN] = "waits-for-frozen",
                [PRICE_WAITS_TIME] = "waits",
                [PRICE_WAITS_POSITIONS] = "waits-for-positions",
        };

        return (unsigned) p < _PRICE_MAX ? names[p] : "unknown";
}

static bool is_same_lot(const Terms *a, const Terms *b) {
        return a->block_bytes == b->block_bytes && a->lot_dram_blocks == b->lot_dram_blocks;
}

/* Nobody has traded, and nobody asked for so many lots. */
static bool is_untouched(const Ledger *l) {
        bool touched =
                l->pool.ticket.lots != 0 || l->pool.position != 0 || l->repricing.lot_slow_blocks != 0;

        for (size_t i = 0; i < l->n_accounts && !touched; i++)
                touched = l->accounts[i].ticket.lots != 0 || l->accounts[i].position != 0 ||
                          l->accounts[i].command != 0;
        return !touched;
}

int trade_set_terms(Trade *t, const MarketPolicy *policy) {
        const Terms *now = &t->ledger.terms;
        Terms terms;
        int r;

        r = terms_make(policy, &terms);
        if (r < 0)
                return r;
        if (is_same_lot(&terms, now) &&
            (policy->moving_price || terms.lot_slow_blocks == now->lot_slow_blocks))
                return 1;
        t->next_terms = terms;
        t->price = is_same_lot(&terms, now) ? t->price : PRICE_WAITS_POSITIONS;
        if (!is_untouched(&t->ledger))
                return 0;
        t->ledger.terms = terms;
        t->changed = true;
        return 1;
}

TradePrice trade_price(const Trade *t, Terms *ret_next) {
        if (ret_next)
                *ret_next = t->next_terms;
        return t->price;
}

/* The terms that the price should come to: as configured or, where it moves, one step from here. */
static void price_aim(Trade *t, const MarketPolicy *policy) {
        const Ledger *l = &t->ledger;
        Terms aim = l->terms;

        (void) terms_make(policy, &aim);
        if (!repricing_terms(l, &aim) && policy->moving_price && is_same_lot(&aim, &l->terms))
                (void) terms_at_price(&l->terms, market_next_price(policy, &l->terms, &t->wished), &aim);
        t->next_terms = aim;
}

/* The next change on the way there. */
static Terms price_next(const Trade *t, const MarketPolicy *policy) {
        const Ledger *l = &t->ledger;
        uint64_t now = l->terms.lot_slow_blocks, aim = t->next_terms.lot_slow_blocks, lots = 1, most;
        Terms next = t->next_terms;

        for (size_t i = 0; i < l->n_accounts; i++)
                lots = MAX(lots, (uint64_t) llabs(l->accounts[i].position));
        most = MAX(GIVING_STEPS * policy->step_bytes / l->terms.block_bytes / lots, UINT64_C(1));
        aim = aim > now ? MIN(aim, now + most) : MAX(aim, now - MIN(most, now));
        if (l->repricing.lot_slow_blocks == 0)
                (void) terms_at_price(&l->terms, (uint32_t) aim, &next);
        return next;
}

static bool price_is_within_bounds(const Trade *t, const Terms *next) {
        for (size_t i = 0; i < t->ledger.n_accounts; i++) {
                const Account *a = &t->ledger.accounts[i];
                uint64_t bytes = account_holding(a, next, TIER_SLOW);

                if (a->position != 0 &&
                    (bytes < t->parties[i].least[TIER_SLOW] || bytes > t->parties[i].most[TIER_SLOW]))
                        return false;
        }
        return true;
}

/* After a price that was given up, or that turned round. */
static usec_t price_ready(const Ledger *l, const MarketPolicy *policy) {
        const Repricing *r = &l->repricing;

        return r->holds > 0 ? r->ended_at + (policy->settle_usec << r->holds) : 0;
}

TradePrice price_step(Trade *t, const MarketPolicy *policy, const SettleFacts seen[], size_t n,
                      uint64_t slow_capacity) {
        Ledger *l = &t->ledger;
        Terms next;

        price_aim(t, policy);
        if (!is_same_lot(&t->next_terms, &l->terms))
                return PRICE_WAITS_POSITIONS;
        if (t->next_terms.lot_slow_blocks == l->terms.lot_slow_blocks)
                return PRICE_STANDS;
        next = price_next(t, policy);
        if (!price_is_within_bounds(t, &next)) {
                if (l->repricing.lot_slow_blocks != 0) { /* they were changed meanwhile */
                        settlement_keep_price(l);
                        t->changed = true;
                }
                return PRICE_WAITS_BOUNDS;
        }
        if (l->repricing.lot_slow_blocks != 0)
                return PRICE_CHANGES;
        if (l->now < price_ready(l, policy))
                return PRICE_WAITS_TIME;
        switch (settlement_reprice(l, next.lot_slow_blocks, seen, n, slow_capacity, l->now)) {
        case 0:
                t->wished = (Clearing) { 0 }; /* the next step is the next clearing's to say */
                t->changed = true;
                return PRICE_CHANGES;
        case -EBUSY:
                return PRICE_WAITS_TRADES;
        case -ENOSPC:
                return PRICE_WAITS_ROOM;
        case -EAGAIN:
                return PRICE_WAITS_FROZEN;
        default:
                return PRICE_WAITS_BOUNDS;
        }
}
