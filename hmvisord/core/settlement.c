/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See settlement.h. A step is a row of passes over the accounts, each of which moves the ledger by what the
 * host has seen or the clock says; the sizes asked for follow from the ledger and the host's room alone.
 */
#include "core/settlement.h"

#include <inttypes.h>

typedef struct Step {
        Ledger *l;
        const MarketPolicy *policy;
        const SettleFacts *facts;
        size_t n_facts;
        const uint64_t *capacity;
        Settlement *out;
        size_t events_max;
} Step;

static usec_t ticket_age(const Step *s, const Ticket *t) {
        return s->l->now - MIN(t->opened_at, s->l->now);
}

static void tell(Step *s, SettleEventType type, const Account *a, uint64_t lots) {
        s->out->changed = true;
        if (s->out->n_events < s->events_max)
                s->out->events[s->out->n_events++] = (SettleEvent) {
                        .type = type,
                        .id = a->id,
                        .gives = ticket_gives(&a->ticket),
                        .lots = lots,
                        .ticket = a->ticket,
                        .waited = ticket_age(s, &a->ticket),
                        .refusals = a->refusals,
                };
}

static const SettleFacts *facts_find(const Step *s, AccountId id) {
        size_t low = 0, high = s->n_facts;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int order = memcmp(&s->facts[middle].id, &id, sizeof(id));

                if (order == 0)
                        return &s->facts[middle];
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

/* Sizes that no device can have say nothing: such a VM is left alone, and the others go on. */
static bool facts_are_usable(const SettleFacts *f) {
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                if (f->cells[tier].boot_bytes > BYTES_MAX || f->cells[tier].device_max_bytes > BYTES_MAX)
                        return false;
        return !f->frozen;
}

static uint64_t add_saturated(uint64_t a, uint64_t b) {
        return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* What a VM holds of a tier, or can have by itself at any time: the device's size, what it was asked for (a
 * guest may plug up to that), and QEMU's memory where that is more. Memory that was plugged and never
 * written is not resident, so being resident can only add. */
static uint64_t cell_held(const SettleCell *c) {
        uint64_t held = MAX(c->size_bytes, c->requested_bytes);

        return c->resident_bytes == UINT64_MAX ? held : MAX(held, c->resident_bytes);
}

/* ---- what the host sees ---- */

static void step_drop_gone(Step *s) {
        for (size_t i = s->l->n_accounts; i-- > 0;) {
                Account *a = &s->l->accounts[i];

                if (facts_find(s, a->id))
                        continue;
                tell(s, SETTLE_GONE, a, ticket_open_lots(&a->ticket));
                ledger_remove(s->l, a->id);
        }
}

/* there: lots that are with the host now. Fewer than in escrow: whoever gave them has them again, as a VM
 * that was started anew, so they were not given. */
static void ticket_see(Step *s, Account *a, uint64_t there) {
        Ticket *t = &a->ticket;
        uint64_t escrow = ticket_escrow(t), most = ticket_open_lots(t);

        there = MIN(there, most);
        if (there < escrow) {
                t->returned += escrow - there;
                tell(s, SETTLE_TAKEN_BACK, a, escrow - there);
        } else if (there > escrow) {
                t->delivered += there - escrow;
                a->refusals = 0;
                tell(s, SETTLE_DELIVERED, a, there - escrow);
        }
}

/* Of a VM that is frozen nothing new counts as given, but what is seen to be with it again was not given. */
static void step_see_vm(Step *s, Account *a) {
        const Terms *terms = &s->l->terms;
        const SettleFacts *f = facts_find(s, a->id);
        Ticket *t = &a->ticket;
        Tier gives = ticket_gives(t);
        uint64_t holding = account_holding(a, terms, gives), held = cell_held(&f->cells[gives]), there;

        if (t->lots == 0)
                return;
        there = holding > held ? (holding - held) / terms_lot_bytes(terms, gives) : 0;
        ticket_see(s, a, facts_are_usable(f) ? there : MIN(there, ticket_escrow(t)));
}

uint64_t settlement_free(const Ledger *l, const SettleFacts facts[], size_t n_facts, Tier tier,
                         uint64_t capacity_bytes) {
        uint64_t free = capacity_bytes;

        for (size_t i = 0; i < n_facts; i++) {
                const Account *a = ledger_find(l, facts[i].id);
                uint64_t used = cell_held(&facts[i].cells[tier]);

                if (a)
                        used = MAX(used, account_holding(a, &l->terms, tier));
                free -= MIN(free, used);
        }
        return free;
}

/* The pool gives at once what it has; what it has not, it will not have later. */
static void step_see_pool(Step *s) {
        Account *pool = &s->l->pool;
        Ticket *t = &pool->ticket;
        Tier gives = ticket_gives(t);
        uint64_t missing;

        if (t->lots == 0)
                return;
        ticket_see(s, pool, settlement_free(s->l, s->facts, s->n_facts, gives, s->capacity[gives]) /
                                    terms_lot_bytes(&s->l->terms, gives));
        missing = ticket_open_lots(t) - ticket_escrow(t);
        if (missing > 0) {
                tell(s, SETTLE_LATE, pool, missing);
                t->closing = true;
        }
}

/* The time is over, and it gave nothing. One that is frozen could not have; the pool has no facts, and is
 * none of the unwilling. Returns whether that counts. */
static bool count_refusal(const Step *s, Account *a) {
        const SettleFacts *f = facts_find(s, a->id);

        if (!f || !facts_are_usable(f))
                return false;
        a->refusals = MIN(a->refusals + 1, REFUSALS_MAX);
        return true;
}

/* ---- a new price ---- */

/* Whether an account has to give slow memory at other terms. */
static bool gives_at(const Account *a, const Terms *now, const Terms *next) {
        return account_holding(a, next, TIER_SLOW) < account_holding(a, now, TIER_SLOW);
}

/* Slow memory that is taken once all who have to give at other terms have given. */
static uint64_t used_at(const Ledger *l, const Terms *next, const SettleFacts facts[], size_t n_facts) {
        uint64_t used = 0;

        for (size_t i = 0; i < n_facts; i++) {
                const Account *a = ledger_find(l, facts[i].id);
                uint64_t after = a ? account_holding(a, next, TIER_SLOW) : 0;
                uint64_t held = cell_held(&facts[i].cells[TIER_SLOW]);

                used = add_saturated(used, a && gives_at(a, &l->terms, next) ? after : MAX(held, after));
        }
        return used;
}

int settlement_reprice(Ledger *l, uint32_t lot_slow_blocks, const SettleFacts facts[], size_t n_facts,
                       uint64_t slow_capacity_bytes, usec_t now) {
        const Step s = { .l = l, .facts = facts, .n_facts = n_facts };
        bool busy = l->repricing.lot_slow_blocks != 0 || l->pool.ticket.lots != 0;
        uint64_t blocks[_TIER_MAX];
        Terms next;
        int r;

        r = terms_at_price(&l->terms, lot_slow_blocks, &next);
        if (r < 0 || lot_slow_blocks == l->terms.lot_slow_blocks)
                return -EINVAL;
        for (size_t i = 0; i < l->n_accounts; i++) {
                const Account *a = &l->accounts[i];
                const SettleFacts *f = facts_find(&s, a->id);

                if (terms_holding(&next, a->entitlement_blocks, a->position, blocks) < 0 ||
                    blocks[TIER_SLOW] > BYTES_MAX / next.block_bytes)
                        return -ERANGE;
                if (f && !facts_are_usable(f) && gives_at(a, &l->terms, &next))
                        return -EAGAIN;
                busy = busy || a->ticket.lots != 0;
        }
        if (used_at(l, &next, facts, n_facts) > slow_capacity_bytes)
                return -ENOSPC;
        if (busy)
                return -EBUSY;
        l->repricing.lot_slow_blocks = lot_slow_blocks;
        l->repricing.began_at = now;
        return 0;
}

static void repricing_end(Ledger *l, bool hold) {
        Repricing *r = &l->repricing;

        r->holds = hold ? MIN(r->holds + 1, HOLDS_MAX) : 0;
        r->lot_slow_blocks = 0;
        r->ended_at = MAX(l->now, UINT64_C(1));
}

void settlement_keep_price(Ledger *l) {
        repricing_end(l, true);
}

/* Has it given what it holds beyond its holding at the price to come? */
static bool has_given(const Step *s, const Account *a, const Terms *next) {
        const SettleFacts *f = facts_find(s, a->id);

        return facts_are_usable(f) && cell_held(&f->cells[TIER_SLOW]) <= account_holding(a, next, TIER_SLOW);
}

static void reprice_late(Step *s, const Terms *next) {
        for (size_t i = 0; i < s->l->n_accounts; i++) {
                Account *a = &s->l->accounts[i];

                if (!gives_at(a, &s->l->terms, next) || has_given(s, a, next))
                        continue;
                if (count_refusal(s, a))
                        a->ended_at = MAX(s->l->now, UINT64_C(1));
                tell(s, SETTLE_KEPT, a, 0);
        }
        settlement_keep_price(s->l);
        tell(s, SETTLE_PRICE_KEPT, &s->l->pool, 0);
}

static void step_reprice(Step *s) {
        Ledger *l = s->l;
        bool all = true;
        int8_t direction;
        Terms next;

        if (!repricing_terms(l, &next))
                return;
        for (size_t i = 0; i < l->n_accounts; i++)
                all = all && (!gives_at(&l->accounts[i], &l->terms, &next) ||
                              has_given(s, &l->accounts[i], &next));
        if (all && used_at(l, &next, s->facts, s->n_facts) <= s->capacity[TIER_SLOW]) {
                direction = next.lot_slow_blocks > l->terms.lot_slow_blocks ? 1 : -1;
                repricing_end(l, s->policy->moving_price && l->repricing.last_direction == -direction);
                l->repricing.last_direction = direction;
                l->terms = next;
                tell(s, SETTLE_REPRICED, &l->pool, 0);
        } else if (l->now - MIN(l->repricing.began_at, l->now) >= s->policy->settle_usec)
                reprice_late(s, &next);
}

/* ---- exchange ---- */

/* The accounts and, as the last one, the pool. */
static Account *account_at(const Step *s, size_t i) {
        return i < s->l->n_accounts ? &s->l->accounts[i] : &s->l->pool;
}

static bool is_on_side(const Account *a, bool seller) {
        return a->ticket.lots != 0 && (a->ticket.lots < 0) == seller;
}

/* Lots in escrow that are paid when everybody is paid up to this level. */
static uint64_t lots_to_level(const Account *a, uint64_t level) {
        return level > a->ticket.paid ? MIN(level - a->ticket.paid, ticket_escrow(&a->ticket)) : 0;
}

static uint64_t side_to_level(const Step *s, bool seller, uint64_t level) {
        uint64_t lots = 0;

        for (size_t i = 0; i <= s->l->n_accounts; i++)
                if (is_on_side(account_at(s, i), seller))
                        lots += lots_to_level(account_at(s, i), level);
        return lots;
}

/* As if lot by lot: who was paid least is paid next, among equals the smaller id, the pool last. */
static void side_pay(Step *s, bool seller, uint64_t lots) {
        uint64_t level = 0, above = MARKET_LOTS_MAX + 1;

        while (above - level > 1) {
                uint64_t middle = level + (above - level) / 2;

                if (side_to_level(s, seller, middle) <= lots)
                        level = middle;
                else
                        above = middle;
        }
        lots -= side_to_level(s, seller, level);
        for (size_t i = 0; i <= s->l->n_accounts; i++) {
                Account *a = account_at(s, i);
                uint64_t n;

                if (!is_on_side(a, seller))
                        continue;
                n = lots_to_level(a, level);
                if (lots > 0 && a->ticket.paid + n == level && ticket_escrow(&a->ticket) > n) {
                        n++;
                        lots--;
                }
                if (n == 0)
                        continue;
                a->ticket.paid += n;
                a->position += seller ? -(int64_t) n : (int64_t) n;
                tell(s, SETTLE_PAID, a, n);
        }
}

static void step_exchange(Step *s) {
        uint64_t lots =
                MIN(side_to_level(s, true, MARKET_LOTS_MAX), side_to_level(s, false, MARKET_LOTS_MAX));

        if (lots == 0)
                return;
        side_pay(s, true, lots);
        side_pay(s, false, lots);
}

/* ---- the end ---- */

static bool side_is_open(const Step *s, bool seller) {
        for (size_t i = 0; i <= s->l->n_accounts; i++)
                if (is_on_side(account_at(s, i), seller) && ticket_open_lots(&account_at(s, i)->ticket) > 0)
                        return true;
        return false;
}

/* What is in escrow goes back when nobody is left who could pay for it, or when the time is over: tickets of
 * later clearings have partners of their own, and must not keep it waiting. */
static void step_unwind(Step *s) {
        const bool open[] = { side_is_open(s, false), side_is_open(s, true) }; /* [seller] */

        for (size_t i = 0; i <= s->l->n_accounts; i++) {
                Account *a = account_at(s, i);
                Ticket *t = &a->ticket;
                bool late = ticket_age(s, t) >= s->policy->settle_usec;
                uint64_t escrow = ticket_escrow(t), missing = ticket_open_lots(t) - escrow;

                if (t->lots == 0 || (!late && open[!is_on_side(a, true)]))
                        continue;
                if (late && missing > 0) {
                        if (t->delivered == 0)
                                (void) count_refusal(s, a);
                        tell(s, SETTLE_LATE, a, missing);
                }
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
                        a->last_direction = a->ticket.lots < 0 ? -1 : 1;
                a->ended_at = s->l->now;
                a->ticket = (Ticket) { 0 };
        }
}

/* ---- sizes ---- */

/* Down to whole blocks of the device. */
static uint64_t cell_round(const SettleCell *c, uint64_t block, uint64_t bytes) {
        uint64_t most = c->boot_bytes + c->device_max_bytes;

        bytes = MIN(bytes, most);
        return bytes <= c->boot_bytes ? c->boot_bytes
                                      : c->boot_bytes + (bytes - c->boot_bytes) / block * block;
}

/* The size that a cell should come to in the end: what the account owns, less what it still has to give. */
static uint64_t cell_goal(const Step *s, const Account *a, const SettleCell *c, Tier tier) {
        const Terms *terms = &s->l->terms;
        uint64_t goal = account_owned(a, terms, tier), to_come;
        Terms next;

        if (ticket_gives_of(&a->ticket, tier)) {
                to_come = ticket_open_lots(&a->ticket) - ticket_escrow(&a->ticket);
                goal -= MIN(to_come * terms_lot_bytes(terms, tier), goal);
        }
        if (tier == TIER_SLOW && repricing_terms(s->l, &next))
                goal = MIN(goal, account_holding(a, &next, tier));
        return cell_round(c, terms->block_bytes, goal);
}

/* One step at a time; the next one when the host has seen the last one done, and the guest has the room. A
 * step under way ends where it is when the room has become less than what is always kept. */
static uint64_t cell_shrink(const Step *s, const SettleFacts *f, const SettleCell *c, uint64_t goal) {
        uint64_t step = s->policy->step_bytes, block = s->l->terms.block_bytes;
        bool under_way = c->requested_bytes < c->size_bytes;

        if (c->size_bytes <= goal)
                return goal;
        if (f->lacks_bytes > (under_way ? step : 0))
                return c->size_bytes;
        if (under_way && c->requested_bytes >= goal)
                return c->requested_bytes;
        return MAX(goal, cell_round(c, block, c->size_bytes - MIN(step, c->size_bytes)));
}

/* Whether it has, or may take, more of another tier than it owns: then nothing of it grows, so that it never
 * holds more than it is worth. */
static bool owes(const Step *s, const Account *a, const SettleFacts *f, Tier grows) {
        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                const SettleCell *c = &f->cells[tier];
                uint64_t least = MAX(account_owned(a, &s->l->terms, tier), c->boot_bytes);

                if (tier != grows && MAX(c->size_bytes, c->requested_bytes) > least)
                        return true;
        }
        return false;
}

/* Growth waits until the host has the room, whatever the ledger says. */
static void step_ask(Step *s, Tier tier) {
        uint64_t used = 0, room;

        for (size_t i = 0; i < s->n_facts; i++)
                used = add_saturated(used, cell_held(&s->facts[i].cells[tier]));
        room = s->capacity[tier] - MIN(s->capacity[tier], used);
        for (size_t i = 0; i < s->l->n_accounts; i++) {
                const Account *a = &s->l->accounts[i];
                const SettleFacts *f = facts_find(s, a->id);
                const SettleCell *c = &f->cells[tier];
                uint64_t goal, held = cell_held(c);

                if (!facts_are_usable(f))
                        continue;
                goal = cell_goal(s, a, c, tier);
                if (goal > held) {
                        uint64_t grows = owes(s, a, f, tier) ? 0 : MIN(goal - held, room);

                        goal = MAX(cell_round(c, s->l->terms.block_bytes, held + grows), c->requested_bytes);
                        room -= goal > held ? goal - held : 0;
                } else
                        goal = cell_shrink(s, f, c, goal);
                if (goal != c->requested_bytes)
                        s->out->targets[s->out->n_targets++] = (SizeTarget) { a->id, tier, goal };
        }
}

/* ---- a step ---- */

static int facts_check(const Step *s) {
        const AccountId pool = { { 0 } };

        for (size_t i = 0; i < s->n_facts; i++)
                if (memcmp(&s->facts[i].id, i == 0 ? &pool : &s->facts[i - 1].id, sizeof(pool)) <= 0)
                        return -EINVAL;
        return s->policy->step_bytes < s->l->terms.block_bytes ? -EINVAL : 0;
}

void settlement_done(Settlement *s) {
        free(s->targets);
        free(s->events);
        *s = (Settlement) { 0 };
}

int settlement_step(Ledger *l, const MarketPolicy *policy, const SettleFacts facts[], size_t n_facts,
                    const uint64_t capacity_bytes[_TIER_MAX], usec_t now, Settlement *ret) {
        Settlement out = { 0 };
        Step s = { l, policy, facts, n_facts, capacity_bytes, &out, 0 };

        if (facts_check(&s) < 0)
                return -EINVAL;
        /* Each account may deliver, be paid, be late, be given back and end; or go; or keep the price. */
        s.events_max = 6 * (l->n_accounts + 1);
        out.events = calloc(s.events_max, sizeof(*out.events));
        out.targets = calloc(_TIER_MAX * l->n_accounts + 1, sizeof(*out.targets));
        if (!out.events || !out.targets) {
                settlement_done(&out);
                return -ENOMEM;
        }
        l->now = MAX(l->now, now);
        step_drop_gone(&s);
        for (size_t i = 0; i < l->n_accounts; i++)
                step_see_vm(&s, &l->accounts[i]);
        step_see_pool(&s);
        step_reprice(&s);
        step_exchange(&s);
        step_unwind(&s);
        step_end(&s);
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                step_ask(&s, tier);
        *ret = out;
        return 0;
}

/* ---- words ---- */

/* "1 lot of 32 MiB DRAM" */
typedef struct LotsText {
        char text[80];
} LotsText;

static LotsText lots_text(const SettleEvent *e, const Terms *t, uint64_t lots) {
        LotsText r;

        snprintf(r.text, sizeof(r.text), "%" PRIu64 " lot%s of %" PRIu64 " MiB %s", lots,
                 lots == 1 ? "" : "s", terms_lot_bytes(t, e->gives) >> 20,
                 e->gives == TIER_DRAM ? "DRAM" : "slow memory");
        return r;
}

int settle_event_describe(const SettleEvent *e, const Terms *t, char *buf, size_t size) {
        const Ticket *ticket = &e->ticket;
        LotsText some = lots_text(e, t, e->lots), all = lots_text(e, t, ticket_lots(ticket));
        int n = -1;

        switch (e->type) {
        case SETTLE_DELIVERED:
                n = snprintf(buf, size, "gave %s back to the host: %" PRIu64 " of %" PRIu64 " have come",
                             some.text, ticket->delivered - MIN(ticket->returned, ticket->delivered),
                             ticket_lots(ticket));
                break;
        case SETTLE_PAID:
                n = snprintf(buf, size, "was paid for %s: %" PRIu64 " of %" PRIu64 " are traded", some.text,
                             ticket->paid, ticket_lots(ticket));
                break;
        case SETTLE_RETURNED:
                n = snprintf(buf, size, "gets %s back, as nobody paid for it", some.text);
                break;
        case SETTLE_TAKEN_BACK:
                n = snprintf(buf, size, "has %s again that it had given: not traded", some.text);
                break;
        case SETTLE_LATE:
                n = snprintf(buf, size,
                             "did not give its memory back within %" PRIu64 " s: %" PRIu64
                             " of %s did not come",
                             e->waited / USEC_PER_SEC, e->lots, all.text);
                if (n >= 0 && (size_t) n < size && e->refusals > 1 && e->ticket.delivered == 0)
                        n = snprintf(buf + n, size - (size_t) n,
                                     ", and nothing of the last %u trades: it rests %u times as long",
                                     e->refusals, 1U << e->refusals);
                break;
        case SETTLE_ENDED:
                n = snprintf(buf, size, "ended its trade at %" PRIu64 " of %s, in %" PRIu64 " s", e->lots,
                             all.text, e->waited / USEC_PER_SEC);
                break;
        case SETTLE_GONE:
                n = snprintf(buf, size, "is gone; %s of its trade are void", some.text);
                break;
        case SETTLE_REPRICED:
                n = snprintf(buf, size,
                             "price is %" PRIu32 ":%" PRIu32 " now: %" PRIu64 " MiB of DRAM for %" PRIu64
                             " MiB of slow memory",
                             t->dram_price, t->slow_price, terms_lot_bytes(t, TIER_DRAM) >> 20,
                             terms_lot_bytes(t, TIER_SLOW) >> 20);
                break;
        case SETTLE_KEPT:
                n = snprintf(buf, size, "did not give in time what a new price takes of it");
                break;
        case SETTLE_PRICE_KEPT:
                n = snprintf(buf, size,
                             "price stays: not all who would have to give for a new one did so in time");
                break;
        case SETTLE_REFUSED:
                n = snprintf(buf, size,
                             "is not entitled to what its settings say: the host does not have that much "
                             "beside what others are entitled to");
                break;
        case _SETTLE_EVENT_MAX:
                break;
        }
        return n < 0 ? -EINVAL : 0;
}
