/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See settlement.h. A step is a row of passes over the accounts, each of which moves the ledger by what the
 * host has seen or the clock says; the sizes asked for follow from the ledger alone.
 */
#include "core/settlement.h"

#include <inttypes.h>

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
        Account *accounts;

        if (id_compare(&id, &l->pool.id) == 0)
                return -EINVAL;
        if (ledger_find(l, id))
                return -EEXIST;
        accounts = reallocarray(l->accounts, l->n_accounts + 1, sizeof(*accounts));
        if (!accounts)
                return -ENOMEM;
        memmove(accounts + at + 1, accounts + at, (l->n_accounts - at) * sizeof(*accounts));
        accounts[at] = (Account) { .id = id };
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                accounts[at].entitlement_blocks[tier] = entitlement_blocks[tier];
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

static uint64_t ticket_lots(const Ticket *t) {
        return t->lots < 0 ? (uint64_t) -t->lots : (uint64_t) t->lots;
}

uint64_t ticket_escrow(const Ticket *t) {
        return t->delivered - t->paid - t->returned;
}

/* Lots that it has not done with: to come, or in escrow. */
static uint64_t ticket_open_lots(const Ticket *t) {
        return t->closing ? ticket_escrow(t) : ticket_lots(t) - t->paid - t->returned;
}

Tier ticket_gives(const Ticket *t) {
        return t->lots < 0 ? TIER_DRAM : TIER_SLOW;
}

/* What the position stands for, escrow included. */
static uint64_t account_holding(const Account *a, const Terms *t, Tier tier) {
        uint64_t blocks[_TIER_MAX] = { 0 };

        (void) terms_holding(t, a->entitlement_blocks, a->position, blocks);
        return blocks[tier] * t->block_bytes;
}

uint64_t account_owned(const Account *a, const Terms *t, Tier tier) {
        uint64_t holding = account_holding(a, t, tier), escrow = 0;

        if (a->ticket.lots != 0 && ticket_gives(&a->ticket) == tier)
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
        if (a->ticket.lots != 0)
                return -EBUSY;
        if (lots == 0 || lots > MARKET_LOTS_MAX || lots < -MARKET_LOTS_MAX)
                return -ERANGE;
        if (!pool && terms_holding(&l->terms, a->entitlement_blocks, a->position + lots, blocks) < 0)
                return -ERANGE;
        a->ticket = (Ticket) { .lots = lots, .opened_at = now };
        return 0;
}

/* ---- a step ---- */

typedef struct Step {
        Ledger *l;
        const MarketPolicy *policy;
        const SettleFacts *facts;
        size_t n_facts;
        const uint64_t *capacity;
        uint64_t *paid_before; /* of each account and the pool */
        Settlement *out;
        size_t events_max;
} Step;

static void tell(Step *s, SettleEventType type, const Account *a, uint64_t lots) {
        s->out->changed = true;
        if (s->out->n_events < s->events_max)
                s->out->events[s->out->n_events++] = (SettleEvent) {
                        .type = type,
                        .id = a->id,
                        .gives = ticket_gives(&a->ticket),
                        .lots = lots,
                        .ticket = a->ticket,
                };
}

static const SettleFacts *facts_find(const Step *s, AccountId id) {
        size_t low = 0, high = s->n_facts;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int order = id_compare(&s->facts[middle].id, &id);

                if (order == 0)
                        return &s->facts[middle];
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

static void step_drop_gone(Step *s) {
        for (size_t i = s->l->n_accounts; i-- > 0;) {
                Account *a = &s->l->accounts[i];

                if (facts_find(s, a->id))
                        continue;
                tell(s, SETTLE_GONE, a, ticket_open_lots(&a->ticket));
                ledger_remove(s->l, a->id);
        }
}

/* What the host has of a cell: the device's word, or QEMU's memory where that is more. Memory that was
 * plugged and never written is not resident, so only more than the size counts. */
static uint64_t cell_seen(const SettleCell *c) {
        return c->resident_bytes == UINT64_MAX ? c->size_bytes : MAX(c->size_bytes, c->resident_bytes);
}

/* Lots of the tier that it gives which have come back, by what the host sees now. */
static uint64_t lots_seen(const Step *s, const Account *a, const SettleFacts *f) {
        Tier gives = ticket_gives(&a->ticket);
        uint64_t holding = account_holding(a, &s->l->terms, gives), seen = cell_seen(&f->cells[gives]);

        return holding > seen ? (holding - seen) / terms_lot_bytes(&s->l->terms, gives) : 0;
}

static void ticket_deliver(Step *s, Account *a, uint64_t in_escrow) {
        Ticket *t = &a->ticket;
        uint64_t before = ticket_escrow(t);

        if (in_escrow <= before)
                return; /* what is in escrow cannot come back by itself: no device was asked to grow */
        t->delivered += in_escrow - before;
        tell(s, SETTLE_DELIVERED, a, in_escrow - before);
}

/* The clock runs for a frozen VM too: others wait for it. */
static void step_see_vm(Step *s, Account *a) {
        const SettleFacts *f = facts_find(s, a->id);
        Ticket *t = &a->ticket;

        if (t->lots == 0 || t->closing)
                return;
        if (!f->frozen)
                ticket_deliver(s, a, MIN(lots_seen(s, a, f), ticket_open_lots(t)));
        if (s->l->now - t->opened_at < s->policy->settle_usec || ticket_escrow(t) == ticket_open_lots(t))
                return;
        tell(s, SETTLE_LATE, a, ticket_open_lots(t) - ticket_escrow(t));
        t->closing = true;
}

uint64_t settlement_free(const Ledger *l, const SettleFacts facts[], size_t n_facts, Tier tier,
                         uint64_t capacity_bytes) {
        uint64_t free = capacity_bytes;

        for (size_t i = 0; i < n_facts; i++) {
                const SettleCell *c = &facts[i].cells[tier];
                const Account *a = ledger_find(l, facts[i].id);
                uint64_t used = MAX(cell_seen(c), c->requested_bytes);

                if (a)
                        used = MAX(used, account_holding(a, &l->terms, tier));
                free -= MIN(free, used);
        }
        return free;
}

/* The pool gives at once what it has. */
static void step_see_pool(Step *s) {
        Ticket *t = &s->l->pool.ticket;
        uint64_t lots;

        if (t->lots == 0 || t->closing)
                return;
        lots = settlement_free(s->l, s->facts, s->n_facts, ticket_gives(t), s->capacity[ticket_gives(t)]) /
               terms_lot_bytes(&s->l->terms, ticket_gives(t));
        ticket_deliver(s, &s->l->pool, MIN(lots, ticket_open_lots(t)));
        if (ticket_escrow(t) < ticket_open_lots(t)) {
                tell(s, SETTLE_LATE, &s->l->pool, ticket_open_lots(t) - ticket_escrow(t));
                t->closing = true;
        }
}

/* The accounts and, as the last one, the pool. */
static Account *account_at(const Step *s, size_t i) {
        return i < s->l->n_accounts ? &s->l->accounts[i] : &s->l->pool;
}

static bool sells(const Account *a) {
        return a->ticket.lots < 0;
}

/* Whose lot is exchanged next: who has been paid least; among equals the smaller id. */
static Account *next_to_pay(const Step *s, bool seller) {
        Account *best = NULL;

        for (size_t i = 0; i <= s->l->n_accounts; i++) {
                Account *a = account_at(s, i);

                if (a->ticket.lots != 0 && sells(a) == seller && ticket_escrow(&a->ticket) > 0 &&
                    (!best || a->ticket.paid < best->ticket.paid))
                        best = a;
        }
        return best;
}

static void step_exchange(Step *s) {
        Account *seller, *buyer;

        for (size_t i = 0; i <= s->l->n_accounts; i++)
                s->paid_before[i] = account_at(s, i)->ticket.paid;
        while ((seller = next_to_pay(s, true)) && (buyer = next_to_pay(s, false))) {
                seller->ticket.paid++;
                seller->position--;
                buyer->ticket.paid++;
                buyer->position++;
        }
        for (size_t i = 0; i <= s->l->n_accounts; i++) {
                const Account *a = account_at(s, i);

                if (a->ticket.paid > s->paid_before[i])
                        tell(s, SETTLE_PAID, a, a->ticket.paid - s->paid_before[i]);
        }
}

static uint64_t open_lots_of_side(const Step *s, bool seller) {
        uint64_t lots = 0;

        for (size_t i = 0; i <= s->l->n_accounts; i++) {
                const Account *a = account_at(s, i);

                if (a->ticket.lots != 0 && sells(a) == seller)
                        lots += ticket_open_lots(&a->ticket);
        }
        return lots;
}

/* Nobody left who could pay: what is in escrow goes back, and nothing more is waited for. */
static void step_unwind(Step *s) {
        for (size_t i = 0; i <= s->l->n_accounts; i++) {
                Account *a = account_at(s, i);
                Ticket *t = &a->ticket;
                uint64_t escrow = ticket_escrow(t);

                if (t->lots == 0 || open_lots_of_side(s, !sells(a)) > 0)
                        continue;
                if (!t->closing) {
                        t->closing = true;
                        s->out->changed = true;
                }
                if (escrow > 0) {
                        t->returned += escrow;
                        tell(s, SETTLE_RETURNED, a, escrow);
                }
        }
}

static void step_end(Step *s) {
        for (size_t i = 0; i <= s->l->n_accounts; i++) {
                Account *a = account_at(s, i);

                if (a->ticket.lots == 0 || ticket_open_lots(&a->ticket) > 0)
                        continue;
                tell(s, SETTLE_ENDED, a, a->ticket.paid);
                if (a->ticket.paid > 0)
                        a->last_direction = sells(a) ? -1 : 1;
                a->ended_at = s->l->now;
                a->ticket = (Ticket) { 0 };
        }
}

/* The size that a cell should have now: what the account owns; less, step by step, while lots are to come.
 */
static uint64_t cell_goal(const Step *s, const Account *a, const SettleFacts *f, Tier tier) {
        const Terms *terms = &s->l->terms;
        const SettleCell *c = &f->cells[tier];
        uint64_t goal = account_owned(a, terms, tier), step = s->policy->step_bytes;
        uint64_t most = c->boot_bytes + c->device_max_bytes;

        if (a->ticket.lots != 0 && ticket_gives(&a->ticket) == tier) {
                uint64_t come = (ticket_open_lots(&a->ticket) - ticket_escrow(&a->ticket)) *
                                terms_lot_bytes(terms, tier);

                goal -= MIN(come, goal);
        }
        goal = MAX(MIN(goal, most), c->boot_bytes);
        if (goal < c->size_bytes && c->size_bytes - goal > step)
                goal = (c->size_bytes - step + terms->block_bytes - 1) / terms->block_bytes *
                       terms->block_bytes;
        return goal;
}

/* Growth waits until the host has the room, whatever the ledger says: what was asked for and what is seen
 * counts for every VM, so that a size is never asked for twice over. */
static void step_ask(Step *s, Tier tier) {
        uint64_t used = 0, free;

        for (size_t i = 0; i < s->n_facts; i++)
                used += MAX(cell_seen(&s->facts[i].cells[tier]), s->facts[i].cells[tier].requested_bytes);
        free = s->capacity[tier] - MIN(s->capacity[tier], used);
        for (size_t i = 0; i < s->l->n_accounts; i++) {
                const Account *a = &s->l->accounts[i];
                const SettleFacts *f = facts_find(s, a->id);
                const SettleCell *c = &f->cells[tier];
                uint64_t goal, now = MAX(cell_seen(c), c->requested_bytes);

                if (f->frozen)
                        continue;
                goal = cell_goal(s, a, f, tier);
                if (goal > now) {
                        goal = now +
                               MIN(goal - now, free) / s->l->terms.block_bytes * s->l->terms.block_bytes;
                        free -= goal - now;
                }
                if (goal != c->requested_bytes)
                        s->out->targets[s->out->n_targets++] = (SizeTarget) { a->id, tier, goal };
        }
}

static int facts_check(const Step *s) {
        const AccountId pool = { { 0 } };

        for (size_t i = 0; i < s->n_facts; i++) {
                const SettleFacts *f = &s->facts[i];

                if (id_compare(&f->id, i == 0 ? &pool : &s->facts[i - 1].id) <= 0)
                        return -EINVAL;
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        if (f->cells[tier].boot_bytes > INT64_MAX / 4 ||
                            f->cells[tier].device_max_bytes > INT64_MAX / 4)
                                return -EINVAL;
        }
        return s->policy->step_bytes < s->l->terms.block_bytes ? -EINVAL : 0;
}

void settlement_done(Settlement *s) {
        free(s->targets);
        free(s->events);
        *s = (Settlement) { 0 };
}

int settlement_step(Ledger *l, const MarketPolicy *policy, const SettleFacts facts[], size_t n_facts,
                    const uint64_t capacity_bytes[_TIER_MAX], usec_t now, Settlement *ret) {
        _cleanup_free_ uint64_t *paid_before = calloc(l->n_accounts + 1, sizeof(*paid_before));
        Settlement out = { 0 };
        Step s = { l, policy, facts, n_facts, capacity_bytes, paid_before, &out, 0 };

        if (facts_check(&s) < 0)
                return -EINVAL;
        /* Each account may deliver, be late, be paid, be given back and end; or go. */
        s.events_max = 5 * (l->n_accounts + 1);
        out.events = calloc(s.events_max, sizeof(*out.events));
        out.targets = calloc(_TIER_MAX * l->n_accounts + 1, sizeof(*out.targets));
        if (!paid_before || !out.events || !out.targets) {
                settlement_done(&out);
                return -ENOMEM;
        }
        l->now = MAX(l->now, now);
        step_drop_gone(&s);
        for (size_t i = 0; i < l->n_accounts; i++)
                step_see_vm(&s, &l->accounts[i]);
        step_see_pool(&s);
        step_exchange(&s);
        step_unwind(&s);
        step_end(&s);
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                step_ask(&s, tier);
        *ret = out;
        return 0;
}

/* ---- checks and words ---- */

static const char *ticket_fault(const Ticket *t) {
        if (t->lots == 0)
                return t->delivered || t->paid || t->returned || t->closing ? "a ticket of no lots has some"
                                                                            : NULL;
        if (t->lots > MARKET_LOTS_MAX || t->lots < -MARKET_LOTS_MAX)
                return "a ticket is beyond all bounds";
        if (t->delivered > ticket_lots(t))
                return "more was delivered than the ticket is for";
        if (t->paid > t->delivered || t->returned > t->delivered - t->paid)
                return "more was paid or returned than was delivered";
        return NULL;
}

int ledger_check(const Ledger *l, const char **ret_what) {
        int64_t sum = l->pool.position;
        const char *what = ticket_fault(&l->pool.ticket);

        for (size_t i = 0; i < l->n_accounts && !what; i++) {
                const Account *a = &l->accounts[i];
                uint64_t blocks[_TIER_MAX];

                if (id_compare(&a->id, i == 0 ? &l->pool.id : &l->accounts[i - 1].id) <= 0)
                        what = "the accounts are not in order";
                else if (a->position > MARKET_LOTS_MAX || a->position < -MARKET_LOTS_MAX)
                        what = "a position is beyond all bounds";
                else if (terms_holding(&l->terms, a->entitlement_blocks, a->position, blocks) < 0)
                        what = "a position is more than its entitlement is worth";
                else
                        what = ticket_fault(&a->ticket);
                sum += a->position;
        }
        if (!what && sum != 0)
                what = "the positions do not sum to zero";
        if (ret_what)
                *ret_what = what;
        return what ? -EINVAL : 0;
}

int settle_event_describe(const SettleEvent *e, const Terms *t, char *buf, size_t size) {
        static const char *const formats[] = {
                [SETTLE_DELIVERED] = "gave %" PRIu64 " lots of %" PRIu64 " MiB %s back to the host",
                [SETTLE_PAID] = "was paid for %" PRIu64 " lots of %" PRIu64 " MiB %s",
                [SETTLE_RETURNED] =
                        "gets %" PRIu64 " lots of %" PRIu64 " MiB %s back, as nobody can pay for them",
                [SETTLE_LATE] = "did not give %" PRIu64 " lots of %" PRIu64 " MiB %s back in time",
                [SETTLE_ENDED] = "ended its trade, in which it sold %" PRIu64 " lots of %" PRIu64 " MiB %s",
                [SETTLE_GONE] = "is gone, with %" PRIu64 " lots of %" PRIu64 " MiB %s still to be traded",
        };
        int n;

        if ((unsigned) e->type >= _SETTLE_EVENT_MAX)
                return -EINVAL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        n = snprintf(buf, size, formats[e->type], e->lots, terms_lot_bytes(t, e->gives) >> 20,
                     tier_to_string(e->gives));
#pragma GCC diagnostic pop
        return n < 0 ? -EINVAL : 0;
}
