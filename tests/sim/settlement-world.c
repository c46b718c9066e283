/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Between a state's bytes and a ledger, what must hold, and the daemon with the faults that can be planted.
 */
#include "settlement-world.h"

static AccountId id_of(unsigned i) {
        return (AccountId) { { [0] = (uint8_t) (i + 1) } };
}

/* ---- between a state's bytes and a ledger ---- */

static void acct_to_account(const Search *s, const Acct *a, Account *ret) {
        ret->position = a->position;
        ret->ticket = (Ticket) {
                .lots = a->lots,
                .delivered = a->delivered,
                .paid = a->paid,
                .returned = a->returned,
                .closing = a->closing,
                .opened_at = a->lots == 0 ? 0 : a->expired ? BASE - s->policy.settle_usec : BASE,
        };
}

static Acct acct_of(const Account *a) {
        return (Acct) {
                .present = 1,
                .position = (int8_t) a->position,
                .lots = (int8_t) a->ticket.lots,
                .delivered = (uint8_t) a->ticket.delivered,
                .paid = (uint8_t) a->ticket.paid,
                .returned = (uint8_t) a->ticket.returned,
                .closing = a->ticket.closing,
                .expired = a->ticket.lots != 0 && a->ticket.opened_at < BASE,
        };
}

void ledger_of(const Search *s, const Book *book, Account accounts[VMS], Ledger *ret) {
        const uint64_t *entitled = s->in->entitled;
        const Acct *accts = book->acct;

        *ret = (Ledger) { .accounts = accounts, .now = BASE };
        if (terms_at_price(&s->terms, book->lot, &ret->terms) < 0)
                abort();
        ret->repricing.lot_slow_blocks = book->next;
        ret->repricing.began_at = book->expired ? BASE - s->policy.settle_usec : BASE;
        for (unsigned i = 0; i < s->in->vms; i++) {
                if (!accts[i].present)
                        continue;
                accounts[ret->n_accounts] =
                        (Account){ .id = id_of(i), .entitlement_blocks = { entitled[0], entitled[1] } };
                acct_to_account(s, &accts[i], &accounts[ret->n_accounts++]);
        }
        acct_to_account(s, &accts[VMS], &ret->pool);
}

void ledger_keep(const Ledger *l, Book *ret) {
        memset(ret, 0, sizeof(*ret));
        for (size_t i = 0; i < l->n_accounts; i++)
                ret->acct[l->accounts[i].id.bytes[0] - 1] = acct_of(&l->accounts[i]);
        ret->acct[VMS] = acct_of(&l->pool);
        ret->lot = (uint8_t) l->terms.lot_slow_blocks;
        ret->next = (uint8_t) l->repricing.lot_slow_blocks;
        ret->expired = ret->next != 0 && l->repricing.began_at < BASE;
}

/* ---- what must hold ---- */

static uint64_t held(const State *st, unsigned vm, Tier tier) {
        return st->gone[vm] ? 0 : MAX(st->size[vm][tier], st->requested[vm][tier]);
}

static uint64_t held_by_all(const Search *s, const State *st, Tier tier) {
        uint64_t blocks = 0;

        for (unsigned i = 0; i < s->in->vms; i++)
                blocks += held(st, i, tier);
        return blocks * BLOCK;
}

/* What they hold, and what the ledger promises them, escrow included. */
static uint64_t promised(const Search *s, const State *st, Tier tier) {
        Account accounts[VMS];
        uint64_t bytes = 0;
        Ledger l;

        ledger_of(s, &st->memory, accounts, &l);
        for (unsigned i = 0; i < s->in->vms; i++) {
                const Account *a = st->gone[i] ? NULL : ledger_find(&l, id_of(i));

                bytes += MAX(held(st, i, tier) * BLOCK, a ? account_holding(a, &l.terms, tier) : 0);
        }
        return bytes;
}

static const char *vm_fault(const Search *s, const State *st, const Ledger *disk, unsigned i) {
        const uint64_t *entitled = s->in->entitled;
        const Account *a = ledger_find(disk, id_of(i));

        if (terms_value(&disk->terms, held(st, i, TIER_DRAM), held(st, i, TIER_SLOW)) >
            terms_value(&disk->terms, entitled[TIER_DRAM], entitled[TIER_SLOW]))
                return "a VM holds more than its entitlement is worth";
        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                uint64_t owned = a ? account_owned(a, &disk->terms, tier) / BLOCK : 0;

                if (st->requested[i][tier] > MAX(owned, entitled[tier]))
                        return "a VM was asked to have more than the journal gives it";
        }
        return NULL;
}

const char *state_fault(const Search *s, const State *st) {
        const char *what = NULL;
        Account accounts[VMS];
        Ledger l;

        for (Tier tier = 0; tier < _TIER_MAX && !st->returned; tier++) {
                if (held_by_all(s, st, tier) > s->capacity[tier])
                        return "the host is oversold";
                if (promised(s, st, tier) > s->capacity[tier])
                        return "more is promised than the host has";
        }
        ledger_of(s, &st->memory, accounts, &l);
        if (ledger_check(&l, &what) < 0)
                return what;
        ledger_of(s, &st->disk, accounts, &l);
        if (ledger_check(&l, &what) < 0)
                return what;
        for (unsigned i = 0; i < s->in->vms && !what; i++)
                if (!st->gone[i])
                        what = vm_fault(s, st, &l, i);
        return what;
}

/* ---- the daemon ---- */

static size_t facts_of(const Search *s, const State *st, SettleFacts ret[VMS]) {
        size_t n = 0;

        for (unsigned i = 0; i < s->in->vms; i++) {
                if (st->gone[i])
                        continue;
                ret[n] = (SettleFacts) { .id = id_of(i), .frozen = st->frozen[i] };
                for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                        uint8_t size = st->size[i][tier], requested = st->requested[i][tier];

                        ret[n].cells[tier] = (SettleCell){
                                .device_max_bytes = 4 * s->in->entitled[tier] * BLOCK,
                                .requested_bytes = requested * BLOCK,
                                .size_bytes = (s->fault == FAULT_TRUSTS_REQUESTS ? requested : size) * BLOCK,
                                .resident_bytes = UINT64_MAX,
                        };
                }
                n++;
        }
        return n;
}

bool lots_open(Ledger *l, const Lots *lots) {
        for (unsigned i = 0; i < VMS; i++)
                if (lots->vm[i] != 0 && settlement_open(l, id_of(i), lots->vm[i], BASE) < 0)
                        return false;
        return lots->pool == 0 || settlement_open(l, l->pool.id, lots->pool, BASE) >= 0;
}

/* The journal and the requests, up to the effect that it dies after. Returns how many there were. */
static unsigned carry_out(const Search *s, State *st, const Ledger *l, const Settlement *out, bool changed,
                          unsigned dies_after) {
        unsigned done = 0;

        for (size_t i = 0; i <= out->n_targets && done < dies_after; i++, done++) {
                bool late = s->fault == FAULT_LATE_JOURNAL;
                const SizeTarget *t;

                if (i == (late ? out->n_targets : 0)) {
                        if (changed)
                                ledger_keep(l, &st->disk);
                        continue;
                }
                t = &out->targets[late ? i : i - 1];
                st->requested[t->id.bytes[0] - 1][t->tier] = (uint8_t) (t->bytes / BLOCK);
        }
        return done;
}

/* Whether what is to begin can begin now. */
static bool daemon_begins(const Search *s, State *st, Begins begins, const SettleFacts facts[], size_t n,
                          Ledger *l) {
        if (begins == BEGINS_TRADES) {
                st->later = 0;
                return lots_open(l, &s->in->later);
        }
        return settlement_reprice(l, s->in->prices[--st->reprices], facts, n, s->capacity[TIER_SLOW],
                                  BASE) >= 0;
}

/* The planted one: the new price counts from when it was begun. */
static void price_comes_early(Ledger *l) {
        if (l->repricing.lot_slow_blocks == 0)
                return;
        (void) terms_at_price(&l->terms, l->repricing.lot_slow_blocks, &l->terms);
        l->repricing.lot_slow_blocks = 0;
}

static const char *targets_fault(const Search *s, const State *st, const Settlement *out) {
        for (size_t i = 0; i < out->n_targets; i++) {
                const SizeTarget *t = &out->targets[i];

                if (st->frozen[t->id.bytes[0] - 1])
                        return "a frozen VM was asked for a size";
                if (t->bytes % BLOCK != 0 || t->bytes > 4 * s->in->entitled[t->tier] * BLOCK)
                        return "a size is none that the device can have";
        }
        return NULL;
}

int daemon_step(Search *s, State *st, Begins begins, unsigned dies_after) {
        State before = *st;
        SettleFacts facts[VMS];
        Account accounts[VMS];
        Settlement out = { 0 };
        bool changed = begins != BEGINS_NOTHING;
        unsigned done;
        size_t n;
        Ledger l;

        for (unsigned i = 0; i < s->in->vms; i++)
                if (!st->gone[i] && !st->memory.acct[i].present) {
                        st->memory.acct[i].present = 1; /* it came back, and has an account again */
                        changed = true;
                }
        n = facts_of(s, st, facts);
        ledger_of(s, &st->memory, accounts, &l);
        if (begins != BEGINS_NOTHING && !daemon_begins(s, st, begins, facts, n, &l))
                return -EBUSY;
        if (s->fault == FAULT_EARLY_PRICE)
                price_comes_early(&l);
        if (settlement_step(&l, &s->policy, facts, n, s->capacity, BASE, &out) < 0)
                abort();
        if (!s->broken)
                s->broken = targets_fault(s, st, &out);
        done = carry_out(s, st, &l, &out, changed || out.changed, dies_after);
        if (dies_after == LIVES)
                ledger_keep(&l, &st->memory);
        else {
                st->memory = st->disk;
                for (unsigned i = 0; i <= VMS; i++)
                        st->memory.acct[i].expired = 0; /* clocks start anew */
                st->memory.expired = 0;
        }
        settlement_done(&out);
        for (Tier tier = 0; tier < _TIER_MAX && !s->broken; tier++) {
                if (held_by_all(s, st, tier) > MAX(s->capacity[tier], held_by_all(s, &before, tier)))
                        s->broken = "a VM was asked to grow into room that is not there";
                else if (promised(s, st, tier) > MAX(s->capacity[tier], promised(s, &before, tier)))
                        s->broken = "a VM was sold what is not there";
        }
        return done == dies_after;
}
