/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See trade.h. Beside the ledger, each account has a Party: what its VM allows and wants, of the last tick.
 */
#include "core/trade.h"

typedef struct Party {
        AccountId id;
        uint64_t least[_TIER_MAX], most[_TIER_MAX]; /* bytes */
        TradeStanding standing;
        int64_t offer;
        int64_t low, high; /* positions */
        usec_t rests_until;
} Party;

struct Trade {
        Ledger ledger;
        Party *parties; /* as ledger.accounts */
        bool changed;   /* since the last step that was handed out */
        usec_t next_clearing;
        uint64_t epoch;
        Clearing clearing; /* the last one */
        Clearing wished;   /* what it would have been of wishes alone: without rests and caps */
        TradePrice price;
        Terms next_terms; /* that the price should come to */
        TradeRecord history[TRADE_HISTORY];
        uint64_t n_history; /* ever */
};

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

static Party *party_find(const Trade *t, AccountId id) {
        const Account *a = ledger_find(&t->ledger, id);

        return a ? &t->parties[a - t->ledger.accounts] : NULL;
}

int trade_view(const Trade *t, AccountId id, TradeView *ret) {
        const Account *a = ledger_find(&t->ledger, id);
        const Party *p = party_find(t, id);

        if (!a)
                return -ENOENT;
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
        const Party *p = party_find(t, id);

        if (!a)
                return -ENOENT;
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

/* ---- the price ---- */

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
        if (l->repricing.lot_slow_blocks != 0)
                (void) terms_at_price(&l->terms, l->repricing.lot_slow_blocks, &aim);
        else if (policy->moving_price && is_same_lot(&aim, &l->terms))
                (void) terms_at_price(&l->terms, market_next_price(policy, &l->terms, &t->wished), &aim);
        t->next_terms = aim;
}

static bool price_is_within_bounds(const Trade *t) {
        for (size_t i = 0; i < t->ledger.n_accounts; i++) {
                const Account *a = &t->ledger.accounts[i];
                uint64_t bytes = account_holding(a, &t->next_terms, TIER_SLOW);

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

static TradePrice price_step(Trade *t, const MarketPolicy *policy, const SettleFacts seen[], size_t n,
                             uint64_t slow_capacity) {
        Ledger *l = &t->ledger;

        price_aim(t, policy);
        if (!is_same_lot(&t->next_terms, &l->terms))
                return PRICE_WAITS_POSITIONS;
        if (t->next_terms.lot_slow_blocks == l->terms.lot_slow_blocks)
                return PRICE_STANDS;
        if (!price_is_within_bounds(t)) {
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
        switch (settlement_reprice(l, t->next_terms.lot_slow_blocks, seen, n, slow_capacity, l->now)) {
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

/* ---- accounts ---- */

static int account_open(Trade *t, const TradeFacts *f) {
        uint64_t blocks[_TIER_MAX];
        Party *parties;
        Account *a;
        size_t at;
        int r;

        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                uint64_t bytes = f->entitled_bytes[tier];

                if (f->entitled_bytes[TIER_DRAM] == 0 && f->entitled_bytes[TIER_SLOW] == 0)
                        bytes = MAX(f->seen.cells[tier].requested_bytes, f->seen.cells[tier].boot_bytes);
                blocks[tier] = bytes / t->ledger.terms.block_bytes;
        }
        parties = reallocarray(t->parties, t->ledger.n_accounts + 1, sizeof(*parties));
        if (!parties)
                return -ENOMEM;
        t->parties = parties;
        r = ledger_add(&t->ledger, f->seen.id, blocks, &a);
        if (r < 0)
                return r;
        at = (size_t) (a - t->ledger.accounts);
        memmove(parties + at + 1, parties + at, (t->ledger.n_accounts - 1 - at) * sizeof(*parties));
        parties[at] = (Party) { .id = f->seen.id };
        t->changed = true;
        return 0;
}

/* An entitlement that was changed counts from when it can hold the position. */
static void account_entitle(Trade *t, Account *a, const TradeFacts *f) {
        uint64_t wanted[_TIER_MAX], blocks[_TIER_MAX];

        if ((f->entitled_bytes[TIER_DRAM] == 0 && f->entitled_bytes[TIER_SLOW] == 0) ||
            a->ticket.lots != 0 || t->ledger.repricing.lot_slow_blocks != 0)
                return;
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                wanted[tier] = f->entitled_bytes[tier] / t->ledger.terms.block_bytes;
        if (memcmp(wanted, a->entitlement_blocks, sizeof(wanted)) == 0 ||
            terms_holding(&t->ledger.terms, wanted, a->position, blocks) < 0)
                return;
        memcpy(a->entitlement_blocks, wanted, sizeof(wanted));
        t->changed = true;
}

static void party_bound(const Trade *t, const Account *a, Party *p, const TradeFacts *f) {
        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                const SettleCell *c = &f->seen.cells[tier];

                p->least[tier] = MAX(f->floor_bytes[tier], c->boot_bytes);
                p->most[tier] = c->boot_bytes + c->device_max_bytes;
                if (f->ceiling_bytes[tier] > 0)
                        p->most[tier] = MIN(p->most[tier], f->ceiling_bytes[tier]);
        }
        /* Where it is out of bounds already, nothing but the way back is open. */
        if (!account_bounds(a, &t->ledger.terms, p->least, p->most, &p->low, &p->high)) {
                p->low = MIN(a->position, INT64_C(0));
                p->high = MAX(a->position, INT64_C(0));
        }
}

static int parties_update(Trade *t, const TradeFacts facts[], size_t n_facts) {
        for (size_t i = 0; i < n_facts; i++) {
                Account *a = ledger_find(&t->ledger, facts[i].seen.id);
                int r;

                if (!a) {
                        r = account_open(t, &facts[i]);
                        if (r < 0)
                                return r;
                        a = ledger_find(&t->ledger, facts[i].seen.id);
                }
                account_entitle(t, a, &facts[i]);
                party_bound(t, a, &t->parties[a - t->ledger.accounts], &facts[i]);
        }
        return 0;
}

/* settlement_step() removes the accounts of VMs that are gone: so do the parties. */
static void parties_forget(Trade *t) {
        size_t kept = 0;

        for (size_t i = 0; kept < t->ledger.n_accounts; i++)
                if (memcmp(&t->parties[i].id, &t->ledger.accounts[kept].id, sizeof(AccountId)) == 0)
                        t->parties[kept++] = t->parties[i];
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

/* What of a wish counts: within the VM's bounds and the cap of an epoch. */
static int64_t offer_limit(const Trade *t, const MarketPolicy *policy, const Account *a, const Party *p,
                           int64_t lots) {
        int64_t cap = (int64_t) (policy->max_trade_bytes / terms_lot_bytes(&t->ledger.terms, TIER_DRAM));

        lots = MAX(MIN(lots, cap), -cap);
        return MAX(MIN(lots, p->high - a->position), p->low - a->position);
}

/* What a VM would have of the price: without rests and caps, which pass, or a price would move on while
 * those who agree to it rest. */
static void wish_count(Trade *t, const Account *a, const Party *p, int64_t lots) {
        lots = MAX(MIN(lots, p->high - a->position), p->low - a->position);
        if (lots > 0)
                t->wished.demand += (uint64_t) lots;
        else
                t->wished.supply += -(uint64_t) lots;
}

/* key: the rank of its id, for tie-breaks. */
static void party_offer(Trade *t, const MarketPolicy *policy, const TradeFacts *f, uint64_t key,
                        Offer *ret) {
        Account *a = ledger_find(&t->ledger, f->seen.id);
        Party *p = &t->parties[a - t->ledger.accounts];
        int64_t wish = 0;
        bool done;

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
        int r;

        if (!seen)
                return -ENOMEM;
        r = facts_check(facts, n_facts);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_facts; i++)
                seen[i] = facts[i].seen;
        t->ledger.now = MAX(t->ledger.now, now);
        r = parties_update(t, facts, n_facts);
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
        ret->changed = ret->changed || t->changed;
        t->changed = false;
        return 0;
}
