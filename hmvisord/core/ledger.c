/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See settlement.h: accounts, tickets, what they come to in bytes, and what must hold of them at any time.
 */
#include "core/settlement.h"

static int id_compare(const AccountId *a, const AccountId *b) {
        return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

void ledger_done(Ledger *l) {
        free(l->accounts);
        l->accounts = NULL;
        l->n_accounts = 0;
}

/* The index of the account, or where it belongs. */
static size_t ledger_place(const Ledger *l, AccountId id) {
        size_t low = 0, high = l->n_accounts;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (id_compare(&l->accounts[middle].id, &id) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

Account *ledger_find(const Ledger *l, AccountId id) {
        size_t i = ledger_place(l, id);

        return i < l->n_accounts && id_compare(&l->accounts[i].id, &id) == 0 ? &l->accounts[i] : NULL;
}

int ledger_add(Ledger *l, AccountId id, const uint64_t entitlement_blocks[_TIER_MAX], Account **ret) {
        size_t at = ledger_place(l, id);
        Account *accounts, added = { .id = id };

        if (id_compare(&id, &l->pool.id) == 0)
                return -EINVAL;
        if (ledger_find(l, id))
                return -EEXIST;
        for (Tier tier = 0; tier < _TIER_MAX; tier++) /* now: it may be another account's, which moves */
                added.entitlement_blocks[tier] = entitlement_blocks[tier];
        accounts = reallocarray(l->accounts, l->n_accounts + 1, sizeof(*accounts));
        if (!accounts)
                return -ENOMEM;
        memmove(accounts + at + 1, accounts + at, (l->n_accounts - at) * sizeof(*accounts));
        accounts[at] = added;
        l->accounts = accounts;
        l->n_accounts++;
        if (ret)
                *ret = &accounts[at];
        return 0;
}

void ledger_remove(Ledger *l, AccountId id) {
        Account *a = ledger_find(l, id);

        if (!a)
                return;
        l->pool.position += a->position;
        l->n_accounts--;
        memmove(a, a + 1, (size_t) (l->accounts + l->n_accounts - a) * sizeof(*a));
}

uint64_t ticket_lots(const Ticket *t) {
        return t->lots < 0 ? -(uint64_t) t->lots : (uint64_t) t->lots;
}

uint64_t ticket_escrow(const Ticket *t) {
        return t->delivered - t->paid - t->returned;
}

uint64_t ticket_open_lots(const Ticket *t) {
        return t->closing ? ticket_escrow(t) : ticket_lots(t) - t->paid - t->returned;
}

Tier ticket_gives(const Ticket *t) {
        return t->lots < 0 ? TIER_DRAM : TIER_SLOW;
}

bool ticket_gives_of(const Ticket *t, Tier tier) {
        return t->lots != 0 && ticket_gives(t) == tier;
}

uint64_t account_holding(const Account *a, const Terms *t, Tier tier) {
        uint64_t blocks[_TIER_MAX] = { 0 };

        (void) terms_holding(t, a->entitlement_blocks, a->position, blocks);
        return blocks[tier] * t->block_bytes;
}

uint64_t account_owned(const Account *a, const Terms *t, Tier tier) {
        uint64_t holding = account_holding(a, t, tier), escrow = 0;

        if (ticket_gives_of(&a->ticket, tier))
                escrow = ticket_escrow(&a->ticket) * terms_lot_bytes(t, tier);
        return holding - MIN(escrow, holding);
}

/* How far the position may go until holding, which moves by one lot of the tier each, leaves [least, most].
 */
static uint64_t steps_down(uint64_t holding, uint64_t least, uint64_t lot) {
        return holding > least ? (holding - least) / lot : 0;
}

static uint64_t steps_up(uint64_t holding, uint64_t most, uint64_t lot) {
        return most > holding ? (most - holding) / lot : 0;
}

bool account_bounds(const Account *a, const Terms *t, const uint64_t least_bytes[_TIER_MAX],
                    const uint64_t most_bytes[_TIER_MAX], int64_t *ret_low, int64_t *ret_high) {
        uint64_t dram = account_holding(a, t, TIER_DRAM), slow = account_holding(a, t, TIER_SLOW);
        uint64_t lot_dram = terms_lot_bytes(t, TIER_DRAM), lot_slow = terms_lot_bytes(t, TIER_SLOW);
        uint64_t down = MIN(steps_down(dram, least_bytes[TIER_DRAM], lot_dram),
                            steps_up(slow, most_bytes[TIER_SLOW], lot_slow));
        uint64_t up = MIN(steps_up(dram, most_bytes[TIER_DRAM], lot_dram),
                          steps_down(slow, least_bytes[TIER_SLOW], lot_slow));

        *ret_low = a->position - (int64_t) down;
        *ret_high = a->position + (int64_t) up;
        return dram >= least_bytes[TIER_DRAM] && dram <= most_bytes[TIER_DRAM] &&
               slow >= least_bytes[TIER_SLOW] && slow <= most_bytes[TIER_SLOW];
}

int settlement_open(Ledger *l, AccountId id, int64_t lots, usec_t now) {
        bool pool = id_compare(&id, &l->pool.id) == 0;
        Account *a = pool ? &l->pool : ledger_find(l, id);
        uint64_t blocks[_TIER_MAX];

        if (!a)
                return -ENOENT;
        if (a->ticket.lots != 0 || l->repricing.lot_slow_blocks != 0)
                return -EBUSY;
        if (lots == 0 || lots > MARKET_LOTS_MAX || lots < -MARKET_LOTS_MAX)
                return -ERANGE;
        if (!pool && terms_holding(&l->terms, a->entitlement_blocks, a->position + lots, blocks) < 0)
                return -ERANGE;
        a->ticket = (Ticket) { .lots = lots, .opened_at = now };
        return 0;
}

/* ---- what must hold ---- */

static const char *terms_fault(const Terms *t) {
        uint64_t block = t->block_bytes;

        if (block < 4096 || block > UINT64_C(1) << 30 || (block & (block - 1)) != 0)
                return "the block size is none";
        if (t->lot_dram_blocks == 0 || t->lot_slow_blocks == 0 || t->dram_price == 0 || t->slow_price == 0 ||
            terms_lot_bytes(t, TIER_DRAM) > LOT_BYTES_MAX || terms_lot_bytes(t, TIER_SLOW) > LOT_BYTES_MAX)
                return "a lot is nothing, or beyond all bounds";
        if ((uint64_t) t->lot_dram_blocks * t->dram_price != (uint64_t) t->lot_slow_blocks * t->slow_price)
                return "the two sides of a lot are not worth the same";
        return NULL;
}

static bool lots_are_bounded(int64_t lots) {
        return lots <= MARKET_LOTS_MAX && lots >= -MARKET_LOTS_MAX;
}

static const char *ticket_fault(const Ticket *t) {
        if (t->lots == 0)
                return t->delivered || t->paid || t->returned || t->closing ? "a ticket of no lots has some"
                                                                            : NULL;
        if (!lots_are_bounded(t->lots))
                return "a ticket is beyond all bounds";
        if (t->delivered > ticket_lots(t))
                return "more was delivered than the ticket is for";
        if (t->paid > t->delivered || t->returned > t->delivered - t->paid)
                return "more was paid or returned than was delivered";
        return NULL;
}

/* Whether it can hold what it will have at this position, in bytes of 62 bits. */
static bool account_can_hold(const Account *a, const Terms *t, int64_t position) {
        uint64_t blocks[_TIER_MAX];

        if (terms_holding(t, a->entitlement_blocks, position, blocks) < 0)
                return false;
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                if (blocks[tier] > BYTES_MAX / t->block_bytes)
                        return false;
        return true;
}

static const char *account_fault(const Account *a, const Terms *t) {
        const char *what = ticket_fault(&a->ticket);
        int64_t to_pay;

        if (!lots_are_bounded(a->position))
                return "a position is beyond all bounds";
        if (!account_can_hold(a, t, a->position))
                return "a position is more than its entitlement is worth";
        if (what)
                return what;
        to_pay = (int64_t) (ticket_lots(&a->ticket) - a->ticket.paid);
        if (!account_can_hold(a, t, a->position + (a->ticket.lots < 0 ? -to_pay : to_pay)))
                return "a ticket is for more than its account has";
        if (!lots_are_bounded(a->command) || (a->command != 0 && a->withdraws))
                return "a command is beyond all bounds, or two at once";
        if (a->refusals > REFUSALS_MAX)
                return "more refusals than are counted";
        return a->last_direction < -1 || a->last_direction > 1 ? "a direction is none" : NULL;
}

bool repricing_terms(const Ledger *l, Terms *ret) {
        return l->repricing.lot_slow_blocks != 0 &&
               terms_at_price(&l->terms, l->repricing.lot_slow_blocks, ret) >= 0;
}

/* Of a price on its way. */
static const char *repricing_fault(const Ledger *l) {
        const Repricing *r = &l->repricing;
        bool open = l->pool.ticket.lots != 0;
        Terms next;

        if (r->last_direction < -1 || r->last_direction > 1 || r->holds > HOLDS_MAX)
                return "a price moved in no direction, or waits too long";
        if (r->lot_slow_blocks == 0)
                return NULL;
        if (!repricing_terms(l, &next) || r->lot_slow_blocks == l->terms.lot_slow_blocks)
                return "the price to come is none";
        for (size_t i = 0; i < l->n_accounts; i++) {
                if (!account_can_hold(&l->accounts[i], &next, l->accounts[i].position))
                        return "a position is more than its entitlement is worth at the price to come";
                open = open || l->accounts[i].ticket.lots != 0;
        }
        return open ? "a trade is open while the price changes" : NULL;
}

int ledger_check(const Ledger *l, const char **ret_what) {
        int64_t sum = l->pool.position;
        const char *what = terms_fault(&l->terms);

        if (!what && !lots_are_bounded(sum))
                what = "the pool's position is beyond all bounds";
        if (!what)
                what = ticket_fault(&l->pool.ticket);
        if (!what && l->n_accounts > MARKET_OFFERS_MAX)
                what = "there are too many accounts";
        for (size_t i = 0; !what && i < l->n_accounts; i++) {
                const Account *a = &l->accounts[i];

                what = id_compare(&a->id, i == 0 ? &l->pool.id : &l->accounts[i - 1].id) <= 0
                               ? "the accounts are not in order"
                               : account_fault(a, &l->terms);
                sum += a->position;
        }
        if (!what && sum != 0)
                what = "the positions do not sum to zero";
        if (!what)
                what = repricing_fault(l);
        if (ret_what)
                *ret_what = what;
        return what ? -EINVAL : 0;
}
