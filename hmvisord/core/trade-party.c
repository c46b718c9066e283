/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See trade-internal.h: accounts that are opened for VMs, what these are entitled to, and the bounds that
 * they set.
 */
#include "core/trade-internal.h"

static int id_compare(const void *a, const void *b) {
        return memcmp(a, b, sizeof(AccountId));
}

Party *party_of(const Trade *t, const Account *a) {
        return &t->parties[a - t->ledger.accounts];
}

static bool is_entitled(const TradeFacts *f) {
        return f->entitled_bytes[TIER_DRAM] > 0 || f->entitled_bytes[TIER_SLOW] > 0;
}

static int account_open(Trade *t, const TradeFacts *f) {
        uint64_t blocks[_TIER_MAX];
        Party *parties;
        Account *a;
        size_t at;
        int r;

        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                uint64_t bytes = f->entitled_bytes[tier];

                if (!is_entitled(f))
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

/* Whether the host holds what it is said to be entitled to, beside what all others are: else some could not
 * go back to theirs. What a VM has when it comes is there, whatever others are entitled to. */
static bool entitlement_fits(const Trade *t, const TradeFacts *f, const uint64_t capacity[_TIER_MAX]) {
        const Ledger *l = &t->ledger;

        if (!is_entitled(f))
                return true;
        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                uint64_t left = capacity[tier] / l->terms.block_bytes;
                uint64_t wanted = f->entitled_bytes[tier] / l->terms.block_bytes;

                for (size_t i = 0; i < l->n_accounts; i++)
                        if (memcmp(&l->accounts[i].id, &f->seen.id, sizeof(AccountId)) != 0)
                                left -= MIN(left, l->accounts[i].entitlement_blocks[tier]);
                if (wanted > left)
                        return false;
        }
        return true;
}

/* An entitlement that was changed counts from when it can hold the position. */
static void account_entitle(Trade *t, Account *a, const TradeFacts *f) {
        uint64_t wanted[_TIER_MAX], blocks[_TIER_MAX];

        if (!is_entitled(f) || a->ticket.lots != 0 || t->ledger.repricing.lot_slow_blocks != 0)
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

static bool has_entitlement(const Trade *t, const Account *a, const TradeFacts *f) {
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                if (a->entitlement_blocks[tier] != f->entitled_bytes[tier] / t->ledger.terms.block_bytes)
                        return false;
        return true;
}

int parties_update(Trade *t, const TradeFacts facts[], size_t n_facts, const uint64_t capacity[_TIER_MAX],
                   AccountId refused[]) {
        int n = 0;

        for (size_t i = 0; i < n_facts; i++) {
                Account *a = ledger_find(&t->ledger, facts[i].seen.id);
                bool fits =
                        (a && has_entitlement(t, a, &facts[i])) || entitlement_fits(t, &facts[i], capacity);
                int r;

                if (!fits)
                        refused[n++] = facts[i].seen.id;
                if (!a && !fits)
                        continue;
                if (!a) {
                        r = account_open(t, &facts[i]);
                        if (r < 0)
                                return r;
                        a = ledger_find(&t->ledger, facts[i].seen.id);
                }
                if (fits)
                        account_entitle(t, a, &facts[i]);
                party_bound(t, a, party_of(t, a), &facts[i]);
        }
        return n;
}

bool trade_is_refused(const Trade *t, AccountId id) {
        return t->n_refused > 0 && bsearch(&id, t->refused, t->n_refused, sizeof(id), id_compare);
}

int parties_refuse(Trade *t, AccountId **refused, size_t n, Settlement *s) {
        SettleEvent *events = reallocarray(s->events, s->n_events + n + 1, sizeof(*events));
        AccountId *before = t->refused;

        if (!events)
                return -ENOMEM;
        s->events = events;
        for (size_t i = 0; i < n; i++)
                if (!trade_is_refused(t, (*refused)[i]))
                        s->events[s->n_events++] =
                                (SettleEvent) { .type = SETTLE_REFUSED, .id = (*refused)[i] };
        t->refused = TAKE_PTR(*refused);
        t->n_refused = n;
        free(before);
        return 0;
}

void parties_forget(Trade *t) {
        size_t kept = 0;

        for (size_t i = 0; kept < t->ledger.n_accounts; i++)
                if (memcmp(&t->parties[i].id, &t->ledger.accounts[kept].id, sizeof(AccountId)) == 0)
                        t->parties[kept++] = t->parties[i];
}
