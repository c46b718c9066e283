/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See trade.h: lives, commands, clearings and ticks. Accounts that come and go are in trade-party.c, the
 * price in trade-price.c.
 */
#include "core/trade-internal.h"

const char *trade_standing_to_string(TradeStanding s) {
        static const char *const names[] = {
                [STANDING_WISH] = "wish",           [STANDING_COMMAND] = "command",
                [STANDING_WITHDRAWS] = "withdraws", [STANDING_OFF] = "off",
                [STANDING_FROZEN] = "frozen",       [STANDING_BUSY] = "busy",
                [STANDING_COOLING] = "cooling-down", [STANDING_UNWILLING] = "unwilling",
                [STANDING_DWELLING] = "dwelling", [STANDING_AT_BOUND] = "at-bound",
        };

        return (unsigned) s < _STANDING_MAX ? names[s] : "unknown";
}

int trade_new(const MarketPolicy *policy, Trade **ret) {
        Trade *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        r = terms_make(policy, &t->ledger.terms);
        if (r < 0) {
                free(t);
                return r;
        }
        t->next_terms = t->ledger.terms;
        *ret = t;
        return 0;
}

/* No clock of an earlier life says anything in this one. A rest starts anew, in full: how long the daemon
 * was away is not known, and a rest that is too long costs less than one that a crash cuts short. */
static void account_restart(Account *a, usec_t now) {
        if (a->ticket.lots != 0)
                a->ticket.opened_at = now;
        if (a->ended_at > 0)
                a->ended_at = MAX(now, UINT64_C(1));
}

int trade_resume(const MarketPolicy *policy, Ledger *ledger, usec_t now, Trade **ret) {
        _cleanup_(trade_freep) Trade *t = NULL;
        int r;

        if (ledger_check(ledger, NULL) < 0)
                return -EINVAL;
        r = trade_new(policy, &t);
        if (r < 0)
                return r;
        t->parties = calloc(ledger->n_accounts + 1, sizeof(*t->parties));
        if (!t->parties)
                return -ENOMEM;
        t->ledger = *ledger;
        *ledger = (Ledger) { 0 };
        t->ledger.now = now;
        t->next_terms = t->ledger.terms;
        t->ledger.repricing.began_at = now;
        if (t->ledger.repricing.ended_at > 0)
                t->ledger.repricing.ended_at = MAX(now, UINT64_C(1));
        account_restart(&t->ledger.pool, now);
        for (size_t i = 0; i < t->ledger.n_accounts; i++) {
                account_restart(&t->ledger.accounts[i], now);
                t->parties[i].id = t->ledger.accounts[i].id;
        }
        *ret = TAKE_PTR(t);
        return 0;
}

Trade *trade_free(Trade *t) {
        if (!t)
                return NULL;
        ledger_done(&t->ledger);
        free(t->parties);
        free(t->refused);
        free(t);
        return NULL;
}

const Ledger *trade_ledger(const Trade *t) {
        return &t->ledger;
}

const Clearing *trade_last_clearing(const Trade *t) {
        return &t->clearing;
}

uint64_t trade_epoch(const Trade *t) {
        return t->epoch;
}

const TradeRecord *trade_history(const Trade *t, size_t n) {
        if (n >= t->n_history || n >= TRADE_HISTORY)
                return NULL;
        return &t->history[(t->n_history - 1 - n) % TRADE_HISTORY];
}

int trade_view(const Trade *t, AccountId id, TradeView *ret) {
        const Account *a = ledger_find(&t->ledger, id);
        const Party *p;

        if (!a)
                return -ENOENT;
        p = party_of(t, a);
        *ret = (TradeView) {
                .account = *a,
                .standing = p->standing,
                .offer = p->offer,
                .low = p->low,
                .high = p->high,
                .rests_usec = p->rests_until - MIN(p->rests_until, t->ledger.now),
        };
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                ret->owned_bytes[tier] = account_owned(a, &t->ledger.terms, tier);
        return 0;
}

int trade_command(Trade *t, AccountId id, TradeCommandType type, int64_t lots) {
        Account *a = ledger_find(&t->ledger, id);
        const Party *p;

        if (!a)
                return -ENOENT;
        p = party_of(t, a);
        if (type == TRADE_WITHDRAW)
                lots = 0;
        else if (lots == 0 || lots > MARKET_LOTS_MAX || lots < -MARKET_LOTS_MAX ||
                 a->position + lots > p->high || a->position + lots < p->low)
                return -ERANGE;
        a->withdraws = type == TRADE_WITHDRAW;
        a->command = lots;
        t->changed = true;
        return 0;
}

/* ---- a clearing ---- */

/* When it has rested: twice as long for each trade in a row for which it gave nothing. A guest may refuse
 * whatever it is asked for; what others may not lose by it is their time, which they spend waiting for it.
 */
static usec_t rest_end(const Account *a, const MarketPolicy *policy) {
        if (a->ended_at == 0)
                return 0;
        if (a->refusals == 0)
                return a->ended_at + policy->cooldown_usec;
        return a->ended_at + (MAX(policy->cooldown_usec, policy->epoch_usec) << a->refusals);
}

static usec_t dwell_end(const Account *a, const MarketPolicy *policy, int64_t wish) {
        return a->ended_at > 0 && a->last_direction * wish < 0 ? a->ended_at + policy->dwell_usec : 0;
}

static TradeStanding standing_of(const Account *a, const TradeFacts *f, const MarketPolicy *policy,
                                 usec_t now) {
        if (f->seen.frozen)
                return STANDING_FROZEN;
        if (a->ticket.lots != 0)
                return STANDING_BUSY;
        if (a->withdraws)
                return STANDING_WITHDRAWS;
        if (a->command != 0)
                return STANDING_COMMAND;
        if (!f->trading)
                return STANDING_OFF;
        if (now < rest_end(a, policy))
                return a->refusals > 0 ? STANDING_UNWILLING : STANDING_COOLING;
        if (now < dwell_end(a, policy, f->wish))
                return STANDING_DWELLING;
        return STANDING_WISH;
}

/* What of a wish the VM's bounds allow. */
static int64_t within_bounds(const Account *a, const Party *p, int64_t lots) {
        return MAX(MIN(lots, p->high - a->position), p->low - a->position);
}

/* What of it counts: within the cap of an epoch, too. */
static int64_t offer_limit(const Trade *t, const MarketPolicy *policy, const Account *a, const Party *p,
                           int64_t lots) {
        int64_t cap = (int64_t) (policy->max_trade_bytes / terms_lot_bytes(&t->ledger.terms, TIER_DRAM));

        return within_bounds(a, p, MAX(MIN(lots, cap), -cap));
}

/* What a VM would have of the price: without rests and caps, which pass, or a price would move on while
 * those who agree to it rest. */
static void wish_count(Trade *t, const Account *a, const Party *p, int64_t lots) {
        lots = within_bounds(a, p, lots);
        if (lots > 0)
                t->wished.demand += (uint64_t) lots;
        else
                t->wished.supply += -(uint64_t) lots;
}

/* key: the rank of its id, for tie-breaks. */
static void party_offer(Trade *t, const MarketPolicy *policy, const TradeFacts *f, uint64_t key,
                        Offer *ret) {
        Account *a = ledger_find(&t->ledger, f->seen.id);
        int64_t wish = 0;
        Party *p;
        bool done;

        *ret = (Offer) { .key = key };
        if (!a) /* it was refused */
                return;
        p = party_of(t, a);
        p->standing = standing_of(a, f, policy, t->ledger.now);
        p->rests_until = MAX(rest_end(a, policy), dwell_end(a, policy, f->wish));
        done = p->standing == STANDING_COMMAND || (p->standing == STANDING_WITHDRAWS && a->position == 0);
        if (p->standing == STANDING_WITHDRAWS)
                wish = -a->position;
        else if (p->standing == STANDING_COMMAND)
                wish = a->command;
        else if (p->standing == STANDING_WISH)
                wish = f->wish;
        if (wish != 0)
                wish_count(t, a, p, wish);
        else if (f->trading && p->standing != STANDING_FROZEN)
                wish_count(t, a, p, f->wish);
        p->offer = offer_limit(t, policy, a, p, wish);
        if (wish != 0 && p->offer == 0)
                p->standing = STANDING_AT_BOUND;
        *ret = (Offer) {
                .key = key,
                .wish = p->offer,
                .low = MIN(p->low - a->position, INT64_C(0)),
                .high = MAX(p->high - a->position, INT64_C(0)),
                .position = a->position,
                .withdraw = p->standing == STANDING_WITHDRAWS && p->offer != 0,
        };
        /* Nothing is recalled from one that gives nothing while it rests: whoever withdraws would wait for
         * it again and again, as the largest positions are recalled first. */
        if (p->standing == STANDING_FROZEN || p->standing == STANDING_BUSY ||
            (p->offer == 0 && a->refusals > 0 && t->ledger.now < rest_end(a, policy)))
                ret->low = ret->high = ret->wish = 0;
        if (done) { /* a command had its clearing */
                a->command = 0;
                a->withdraws = false;
                t->changed = true;
        }
}

static int clear_open(Trade *t, const TradeFacts facts[], size_t n, const int64_t lots[]) {
        for (size_t i = 0; i < n; i++)
                if (lots[i] != 0 &&
                    settlement_open(&t->ledger, facts[i].seen.id, lots[i], t->ledger.now) < 0)
                        return -EINVAL;
        if (t->clearing.pool != 0 &&
            settlement_open(&t->ledger, t->ledger.pool.id, t->clearing.pool, t->ledger.now) < 0)
                return -EINVAL;
        t->changed = t->changed || t->clearing.traded > 0;
        return 0;
}

static uint64_t free_lots(const Trade *t, const SettleFacts seen[], size_t n, Tier tier, uint64_t capacity) {
        return settlement_free(&t->ledger, seen, n, tier, capacity) /
               terms_lot_bytes(&t->ledger.terms, tier);
}

/* The host's free memory, as a party. It takes any side where it trades itself. Else it has a position only
 * of VMs that are gone, and withdraws from it: what they had traded away is recalled, so that there is room
 * for them when they start again, at what they are entitled to. */
static void pool_offer(const Trade *t, const MarketPolicy *policy, const SettleFacts seen[], size_t n,
                       const uint64_t capacity[_TIER_MAX], PoolOffer *ret, Offer *ret_withdrawal) {
        int64_t position = t->ledger.pool.position;
        PoolOffer can = { 0 };

        if (t->ledger.pool.ticket.lots == 0) {
                can.buys_at_most =
                        MIN(free_lots(t, seen, n, TIER_SLOW, capacity[TIER_SLOW]), MARKET_LOTS_MAX);
                can.sells_at_most =
                        MIN(free_lots(t, seen, n, TIER_DRAM, capacity[TIER_DRAM]), MARKET_LOTS_MAX);
        }
        *ret = policy->use_pool ? can : (PoolOffer){ 0 };
        *ret_withdrawal = (Offer) { .key = n };
        if (policy->use_pool || position == 0)
                return;
        ret_withdrawal->low = -(int64_t) can.sells_at_most;
        ret_withdrawal->high = (int64_t) can.buys_at_most;
        ret_withdrawal->position = position;
        ret_withdrawal->wish = MAX(MIN(-position, ret_withdrawal->high), ret_withdrawal->low);
        ret_withdrawal->withdraw = true;
}

static int trade_clear(Trade *t, const MarketPolicy *policy, const TradeFacts facts[],
                       const SettleFacts seen[], size_t n, const uint64_t capacity[_TIER_MAX]) {
        _cleanup_free_ Offer *offers = calloc(n + 1, sizeof(*offers));
        _cleanup_free_ int64_t *lots = calloc(n + 1, sizeof(*lots));
        PoolOffer pool;
        int r;

        if (!offers || !lots)
                return -ENOMEM;
        t->wished = (Clearing) { 0 };
        for (size_t i = 0; i < n; i++)
                party_offer(t, policy, &facts[i], i, &offers[i]);
        pool_offer(t, policy, seen, n, capacity, &pool, &offers[n]);
        t->epoch++;
        t->clearing = (Clearing) { 0 };
        if (n == 0)
                return 0;
        r = market_clear(offers, n + 1, &pool, t->epoch, lots, &t->clearing);
        if (r < 0)
                return r;
        t->clearing.pool += lots[n];
        return clear_open(t, facts, n, lots);
}

static void history_keep(Trade *t, const Settlement *s) {
        for (size_t i = 0; i < s->n_events; i++) {
                const SettleEvent *e = &s->events[i];
                int64_t paid = (int64_t) e->ticket.paid;

                if (e->type == SETTLE_ENDED && memcmp(&e->id, &t->ledger.pool.id, sizeof(e->id)) != 0)
                        t->history[t->n_history++ % TRADE_HISTORY] = (TradeRecord) {
                                .when = t->ledger.now,
                                .id = e->id,
                                .wanted = e->ticket.lots,
                                .got = e->ticket.lots < 0 ? -paid : paid,
                                .terms = t->ledger.terms,
                        };
        }
}

static int facts_check(const TradeFacts facts[], size_t n) {
        for (size_t i = 1; i < n; i++)
                if (memcmp(&facts[i - 1].seen.id, &facts[i].seen.id, sizeof(AccountId)) >= 0)
                        return -EINVAL;
        return 0;
}

int trade_step(Trade *t, const MarketPolicy *policy, const TradeFacts facts[], size_t n_facts,
               const uint64_t capacity_bytes[_TIER_MAX], usec_t now, Settlement *ret) {
        _cleanup_free_ SettleFacts *seen = calloc(n_facts + 1, sizeof(*seen));
        _cleanup_free_ AccountId *refused = calloc(n_facts + 1, sizeof(*refused));
        size_t n_refused = 0;
        int r;

        if (!seen || !refused)
                return -ENOMEM;
        r = facts_check(facts, n_facts);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_facts; i++)
                seen[i] = facts[i].seen;
        t->ledger.now = MAX(t->ledger.now, now);
        r = parties_update(t, facts, n_facts, capacity_bytes, refused);
        n_refused = r >= 0 ? (size_t) r : 0;
        if (r >= 0)
                t->price = price_step(t, policy, seen, n_facts, capacity_bytes[TIER_SLOW]);
        if (r >= 0 && t->ledger.now >= t->next_clearing && t->price != PRICE_CHANGES &&
            t->price != PRICE_WAITS_TRADES) {
                t->next_clearing = t->ledger.now + policy->epoch_usec;
                r = trade_clear(t, policy, facts, seen, n_facts, capacity_bytes);
        }
        if (r >= 0)
                r = settlement_step(&t->ledger, policy, seen, n_facts, capacity_bytes, now, ret);
        if (r < 0)
                return r;
        parties_forget(t);
        history_keep(t, ret);
        (void) parties_refuse(t, &refused, n_refused, ret); /* at the next tick, then */
        ret->changed = ret->changed || t->changed;
        t->changed = false;
        return 0;
}
