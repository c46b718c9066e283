/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every state that settlement can get into, with guests that do whatever they can and a daemon that may die
 * at any instant: a breadth-first search over the shipped settlement_step(), in a small instance.
 *
 * Two VMs and the pool trade up to three lots; a lot is one block of DRAM against two of slow memory. A
 * guest moves its devices' sizes toward what was asked for, block by block, whenever it likes or never; a VM
 * may be frozen, thawed, or gone for good; time may be over at any moment; the daemon may die before the
 * journal is written, and behind each request to QEMU.
 *
 * In every state: what the VMs hold, and may yet plug, fits the host; no VM holds more than its entitlement
 * is worth; both ledgers, in memory and on disk, keep their invariants. And from every state an ordinary
 * daemon and obedient guests get to the end: no ticket, nothing in escrow, each VM with what it owns.
 *
 * That the search can see a fault is shown by two daemons that have one: one trusts what it asked for
 * instead of what the host sees, one writes its journal too late. Both must be found out.
 */
#include "core/settlement.h"

#define VMS 2
#define BLOCK (UINT64_C(2) << 20)
#define STATES_MAX (1U << 22)
#define BASE (1000 * USEC_PER_SEC)
#define CRASHES 2

typedef enum Fault {
        FAULT_NONE,
        FAULT_TRUSTS_REQUESTS,
        FAULT_LATE_JOURNAL,
} Fault;

/* All bytes, without gaps: compared and hashed as such. */
typedef struct Acct {
        int8_t present, position, lots;
        uint8_t delivered, paid, returned, closing, expired;
} Acct;

typedef struct State {
        Acct memory[VMS + 1], disk[VMS + 1]; /* the last one is the pool */
        uint8_t requested[VMS][_TIER_MAX], size[VMS][_TIER_MAX]; /* blocks */
        uint8_t gone[VMS], frozen[VMS];
        uint8_t crashes; /* left */
} State;

typedef struct Search {
        Fault fault;
        MarketPolicy policy;
        Terms terms;
        uint64_t capacity[_TIER_MAX];
        State *states;
        uint32_t *table; /* index + 1 of a state; 0: none */
        uint32_t n;
        const char *broken; /* the first invariant that did not hold */
} Search;

static const uint64_t entitled[_TIER_MAX] = { 3, 6 }, device_max[_TIER_MAX] = { 6, 12 };

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

/* accounts: room for VMS of them; the ledger must not be freed. */
static void ledger_of(const Search *s, const Acct accts[VMS + 1], Account accounts[VMS], Ledger *ret) {
        *ret = (Ledger) { .terms = s->terms, .accounts = accounts, .now = BASE };
        for (unsigned i = 0; i < VMS; i++) {
                if (!accts[i].present)
                        continue;
                accounts[ret->n_accounts] =
                        (Account){ .id = id_of(i), .entitlement_blocks = { entitled[0], entitled[1] } };
                acct_to_account(s, &accts[i], &accounts[ret->n_accounts++]);
        }
        acct_to_account(s, &accts[VMS], &ret->pool);
}

static void ledger_keep(const Ledger *l, Acct ret[VMS + 1]) {
        memset(ret, 0, (VMS + 1) * sizeof(*ret));
        for (size_t i = 0; i < l->n_accounts; i++)
                ret[l->accounts[i].id.bytes[0] - 1] = acct_of(&l->accounts[i]);
        ret[VMS] = acct_of(&l->pool);
}

/* ---- what must hold ---- */

static uint64_t held(const State *st, unsigned vm, Tier tier) {
        return st->gone[vm] ? 0 : MAX(st->size[vm][tier], st->requested[vm][tier]);
}

static const char *state_fault(const Search *s, const State *st) {
        Account accounts[VMS];
        const char *what;
        Ledger l;

        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                if ((held(st, 0, tier) + held(st, 1, tier)) * BLOCK > s->capacity[tier])
                        return "the host is oversold";
        for (unsigned i = 0; i < VMS; i++)
                if (!st->gone[i] && terms_value(&s->terms, held(st, i, TIER_DRAM), held(st, i, TIER_SLOW)) >
                                            terms_value(&s->terms, entitled[TIER_DRAM], entitled[TIER_SLOW]))
                        return "a VM holds more than its entitlement is worth";
        ledger_of(s, st->memory, accounts, &l);
        if (ledger_check(&l, &what) < 0)
                return what;
        ledger_of(s, st->disk, accounts, &l);
        if (ledger_check(&l, &what) < 0)
                return what;
        return NULL;
}

/* ---- what may happen ---- */

/* One step of the daemon, which dies after so many effects (UINT_MAX: lives). An effect is the journal or
 * one request. Returns whether it got to the effect that it was to die after. */
static bool daemon_step(const Search *s, State *st, unsigned dies_after) {
        SettleFacts facts[VMS];
        Account accounts[VMS];
        Settlement out = { 0 };
        unsigned done = 0;
        size_t n = 0;
        Ledger l;

        for (unsigned i = 0; i < VMS; i++) {
                if (st->gone[i])
                        continue;
                facts[n] = (SettleFacts) { .id = id_of(i), .frozen = st->frozen[i] };
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        facts[n].cells[tier] = (SettleCell){
                                .device_max_bytes = device_max[tier] * BLOCK,
                                .requested_bytes = st->requested[i][tier] * BLOCK,
                                .size_bytes = (s->fault == FAULT_TRUSTS_REQUESTS ? st->requested[i][tier]
                                                                                 : st->size[i][tier]) *
                                              BLOCK,
                                .resident_bytes = UINT64_MAX,
                        };
                n++;
        }
        ledger_of(s, st->memory, accounts, &l);
        if (settlement_step(&l, &s->policy, facts, n, s->capacity, BASE, &out) < 0)
                abort();
        for (size_t i = 0; i <= out.n_targets && done < dies_after; i++) {
                bool journal = i == (s->fault == FAULT_LATE_JOURNAL ? out.n_targets : 0);
                const SizeTarget *t = &out.targets[s->fault == FAULT_LATE_JOURNAL ? i : i - 1];

                if (journal && out.changed)
                        ledger_keep(&l, st->disk);
                else if (!journal)
                        st->requested[t->id.bytes[0] - 1][t->tier] = (uint8_t) (t->bytes / BLOCK);
                done++;
        }
        if (dies_after == UINT32_MAX)
                ledger_keep(&l, st->memory);
        else {
                memcpy(st->memory, st->disk, sizeof(st->memory));
                for (unsigned i = 0; i <= VMS; i++)
                        st->memory[i].expired = 0; /* clocks start anew */
        }
        settlement_done(&out);
        return done == dies_after;
}

static void guests_obey(State *st) {
        for (unsigned i = 0; i < VMS; i++)
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        st->size[i][tier] = st->requested[i][tier];
}

static void time_is_over(State *st) {
        for (unsigned i = 0; i <= VMS; i++)
                st->memory[i].expired = st->memory[i].lots != 0;
}

/* Nobody dies or refuses any more: does it come to an end, each VM with what it owns? */
static const char *state_strands(const Search *s, const State *from) {
        State st = *from, before;
        Account accounts[VMS];
        Ledger l;

        memset(st.frozen, 0, sizeof(st.frozen));
        for (unsigned round = 0; round < 100; round++) {
                before = st;
                if (round > 20)
                        time_is_over(&st);
                (void) daemon_step(s, &st, UINT32_MAX);
                guests_obey(&st);
                if (state_fault(s, &st))
                        return state_fault(s, &st);
                if (round > 22 && memcmp(&before, &st, sizeof(st)) == 0)
                        break;
        }
        for (unsigned i = 0; i <= VMS; i++)
                if (st.memory[i].lots != 0)
                        return "a ticket, and its escrow, stays for ever";
        ledger_of(s, st.memory, accounts, &l);
        for (size_t i = 0; i < l.n_accounts; i++)
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        if (account_owned(&l.accounts[i], &s->terms, tier) !=
                            st.size[l.accounts[i].id.bytes[0] - 1][tier] * BLOCK)
                                return "a VM does not get what it owns";
        return NULL;
}

/* ---- the search ---- */

static uint64_t hash_of(const State *st) {
        const uint8_t *p = (const uint8_t *) st;
        uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

        for (size_t i = 0; i < sizeof(*st); i++)
                hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
        return hash ^ hash >> 29;
}

static void visit(Search *s, const State *st) {
        uint32_t mask = 2 * STATES_MAX - 1, at = (uint32_t) hash_of(st) & mask;

        for (; s->table[at]; at = (at + 1) & mask)
                if (memcmp(&s->states[s->table[at] - 1], st, sizeof(*st)) == 0)
                        return;
        if (s->n == STATES_MAX) {
                s->broken = "there are more states than the search has room for";
                return;
        }
        s->states[s->n++] = *st;
        s->table[at] = s->n;
        if (!s->broken)
                s->broken = state_fault(s, st);
}

static void visit_guests(Search *s, const State *st) {
        for (unsigned i = 0; i < VMS; i++) {
                State next;

                if (st->gone[i])
                        continue;
                for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                        next = *st;
                        if (next.size[i][tier] == next.requested[i][tier] || next.frozen[i])
                                continue;
                        next.size[i][tier] =
                                (uint8_t) (next.size[i][tier] +
                                           (next.size[i][tier] < next.requested[i][tier] ? 1 : -1));
                        visit(s, &next);
                }
                next = *st;
                next.frozen[i] = !next.frozen[i];
                visit(s, &next);
                next = *st;
                next.gone[i] = 1;
                memset(next.size[i], 0, sizeof(next.size[i]));
                memset(next.requested[i], 0, sizeof(next.requested[i]));
                visit(s, &next);
        }
}

static void visit_daemon(Search *s, const State *st) {
        State next = *st;

        (void) daemon_step(s, &next, UINT32_MAX);
        visit(s, &next);
        next = *st;
        time_is_over(&next);
        visit(s, &next);
        for (unsigned dies_after = 0; st->crashes > 0; dies_after++) {
                bool got_there;

                next = *st;
                next.crashes--;
                got_there = daemon_step(s, &next, dies_after);
                visit(s, &next);
                if (!got_there)
                        break;
        }
}

static void search_begin(Search *s, int seller_lots, int buyer_lots, int pool_lots) {
        State st = { .crashes = CRASHES };
        Account accounts[VMS];
        Ledger l = { .terms = s->terms, .accounts = accounts, .n_accounts = VMS };

        for (unsigned i = 0; i < VMS; i++) {
                accounts[i] =
                        (Account){ .id = id_of(i), .entitlement_blocks = { entitled[0], entitled[1] } };
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        st.size[i][tier] = st.requested[i][tier] = (uint8_t) entitled[tier];
        }
        if (settlement_open(&l, id_of(0), -seller_lots, BASE) < 0 ||
            (buyer_lots != 0 && settlement_open(&l, id_of(1), buyer_lots, BASE) < 0) ||
            (pool_lots != 0 && settlement_open(&l, (AccountId) { { 0 } }, pool_lots, BASE) < 0))
                abort();
        ledger_keep(&l, st.memory);
        memcpy(st.disk, st.memory, sizeof(st.disk));
        visit(s, &st);
}

/* Returns the number of states, or 0 with what is wrong in *ret_broken. */
static uint32_t explore(Fault fault, const char **ret_broken) {
        Search s = { .fault = fault, .policy = market_policy_default() };
        uint32_t n;

        s.policy.dram_price = 2;
        s.policy.slow_price = 1;
        s.policy.block_bytes = s.policy.step_bytes = s.policy.min_trade_bytes = BLOCK;
        if (terms_make(&s.policy, &s.terms) < 0)
                abort();
        s.capacity[TIER_DRAM] = (2 * entitled[TIER_DRAM] + 1) * BLOCK;
        s.capacity[TIER_SLOW] = (2 * entitled[TIER_SLOW] + 2) * BLOCK;
        s.states = calloc(STATES_MAX, sizeof(*s.states));
        s.table = calloc(2 * STATES_MAX, sizeof(*s.table));
        if (!s.states || !s.table)
                abort();
        search_begin(&s, 1, 1, 0);
        search_begin(&s, 3, 3, 0);
        search_begin(&s, 3, 2, 1);
        search_begin(&s, 2, 3, -1);
        search_begin(&s, 1, 0, 1);
        for (uint32_t i = 0; i < s.n && !s.broken; i++) {
                const State st = s.states[i];

                visit_guests(&s, &st);
                visit_daemon(&s, &st);
                if (!s.broken)
                        s.broken = state_strands(&s, &st);
        }
        n = s.broken ? 0 : s.n;
        *ret_broken = s.broken;
        free(s.states);
        free(s.table);
        return n;
}

int main(void) {
        static const char *const faults[] = {
                [FAULT_TRUSTS_REQUESTS] = "a daemon that trusts what it asked for",
                [FAULT_LATE_JOURNAL] = "a daemon that writes its journal too late",
        };
        const char *broken;
        uint32_t n;

        printf("1..3\n");
        n = explore(FAULT_NONE, &broken);
        printf("%sok 1 - %s%u states\n", broken ? "not " : "", broken ? broken : "all is well in ", n);
        for (Fault f = FAULT_TRUSTS_REQUESTS; f <= FAULT_LATE_JOURNAL; f++) {
                (void) explore(f, &broken);
                printf("%sok %d - %s is found out: %s\n", broken ? "" : "not ", f + 1, faults[f],
                       broken ? broken : "it was not");
        }
        return 0;
}
