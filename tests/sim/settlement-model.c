/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every state that settlement can get into, with guests that do whatever they can and a daemon that may die
 * at any instant: a breadth-first search over the shipped settlement_step(), in small instances.
 *
 * Two or three VMs and the pool trade up to three lots. A guest moves its devices' sizes toward what was
 * asked for, block by block, whenever it likes or never; a hostile one also gives up any part that nobody
 * asked for, and takes it again. A VM may be frozen, thawed, gone, and back at the sizes that it is
 * configured with; time may be over at any moment; there may be one more clearing; the daemon may die before
 * the journal is written, and behind each request to QEMU, and starts anew from the journal.
 *
 * In every state: what the VMs hold, and may yet plug, fits the host (a VM that libvirt starts into room
 * that was sold is not settlement's doing: from there on, no request may make it worse); no VM holds more
 * than its entitlement is worth; none was asked to have more than the journal gives it; both ledgers, in
 * memory and on disk, keep their invariants. And from every state an ordinary daemon and obedient guests get
 * to the end: no ticket, nothing in escrow, each VM with what it owns.
 *
 * That the search can see a fault is shown by three daemons that have one: one trusts what it asked for
 * instead of what the host sees, one writes its journal too late, one lets a new price count before all have
 * given what it takes of them. All must be found out.
 */
#include "settlement-world.h"

/* ---- the search ---- */

static uint64_t hash_of(const State *st) {
        const uint8_t *p = (const uint8_t *) st;
        uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

        for (size_t i = 0; i < sizeof(*st); i++)
                hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
        return hash ^ hash >> 29;
}

/* Where the table has the state, or would have it. */
static uint32_t *table_place(const Search *s, const State *st) {
        uint32_t mask = 2 * STATES_MAX - 1, at = (uint32_t) hash_of(st) & mask;

        while (s->table[at] && memcmp(&s->states[s->table[at] - 1], st, sizeof(*st)) != 0)
                at = (at + 1) & mask;
        return &s->table[at];
}

static void visit(Search *s, const State *st) {
        uint32_t *place = table_place(s, st);

        if (*place || s->broken)
                return;
        if (s->n == STATES_MAX) {
                s->broken = "there are more states than the search has room for";
                return;
        }
        s->states[s->n++] = *st;
        *place = s->n;
        s->broken = state_fault(s, st);
}

static void time_is_over(State *st) {
        for (unsigned i = 0; i <= VMS; i++)
                st->memory.acct[i].expired = st->memory.acct[i].lots != 0;
        st->memory.expired = st->memory.next != 0;
}

static void sizes_configured(const Search *s, State *st, unsigned i) {
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                st->size[i][tier] = st->requested[i][tier] = (uint8_t) s->in->entitled[tier];
}

static void visit_sizes(Search *s, const State *st, unsigned i, Tier tier) {
        State next = *st;
        uint8_t size = st->size[i][tier], requested = st->requested[i][tier];

        if (size < requested) {
                next.size[i][tier]++;
                visit(s, &next);
                next = *st;
        }
        if (size > requested || (s->in->hostile && size > 0)) {
                next.size[i][tier]--;
                visit(s, &next);
        }
}

static void visit_vms(Search *s, const State *st) {
        for (unsigned i = 0; i < s->in->vms; i++) {
                State next = *st;

                if (st->returns > 0) { /* off and on again, be it that the daemon did not even see it */
                        next.returns--;
                        next.returned = 1;
                        next.gone[i] = 0;
                        sizes_configured(s, &next, i);
                        visit(s, &next);
                        next = *st;
                }
                if (st->gone[i])
                        continue;
                for (Tier tier = 0; tier < _TIER_MAX && !st->frozen[i]; tier++)
                        visit_sizes(s, st, i, tier);
                next.frozen[i] = !next.frozen[i];
                visit(s, &next);
                next = *st;
                next.gone[i] = 1;
                next.frozen[i] = 0;
                memset(next.size[i], 0, sizeof(next.size[i]));
                memset(next.requested[i], 0, sizeof(next.requested[i]));
                visit(s, &next);
        }
}

static void visit_daemon(Search *s, const State *st) {
        const bool can[] = { [BEGINS_NOTHING] = true,
                             [BEGINS_TRADES] = st->later > 0,
                             [BEGINS_A_PRICE] = st->reprices > 0 };
        State next = *st;

        time_is_over(&next);
        visit(s, &next);
        for (Begins begins = BEGINS_NOTHING; begins <= BEGINS_A_PRICE; begins++) {
                next = *st;
                if (can[begins] && daemon_step(s, &next, begins, LIVES) >= 0)
                        visit(s, &next);
                for (unsigned dies_after = 0,
                              more = st->crashes > 0 && can[begins] && begins != BEGINS_TRADES;
                     more > 0; dies_after++) {
                        int r;

                        next = *st;
                        next.crashes--;
                        r = daemon_step(s, &next, begins, dies_after);
                        if (r >= 0)
                                visit(s, &next);
                        more = r > 0;
                }
        }
}

/* ---- from every state, the end ---- */

/* Nobody dies or refuses any more: the daemon steps, the guests obey; when that changes nothing, the time is
 * over. All of that may happen in the search too, so the next state is one of its states. */
static State fair_next(Search *s, const State *st) {
        State next = *st;

        memset(next.frozen, 0, sizeof(next.frozen));
        (void) daemon_step(s, &next, BEGINS_NOTHING, LIVES);
        for (unsigned i = 0; i < s->in->vms; i++)
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        next.size[i][tier] = next.requested[i][tier];
        if (memcmp(&next, st, sizeof(next)) == 0)
                time_is_over(&next);
        return next;
}

/* Nothing happens any more. */
static const char *end_fault(const Search *s, const State *st) {
        Account accounts[VMS];
        Ledger l;

        for (unsigned i = 0; i <= VMS; i++)
                if (st->memory.acct[i].lots != 0)
                        return "a ticket, and its escrow, stays for ever";
        if (st->memory.next != 0)
                return "a price is on its way for ever";
        ledger_of(s, &st->memory, accounts, &l);
        for (size_t i = 0; i < l.n_accounts && !st->returned; i++)
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        if (account_owned(&l.accounts[i], &l.terms, tier) !=
                            st->size[l.accounts[i].id.bytes[0] - 1][tier] * BLOCK)
                                return "a VM does not get what it owns";
        return NULL;
}

/* Follows each state to the end, or to one that was followed before; a round trip would be a stranding. */
static void check_ends(Search *s) {
        uint32_t *seen_in = calloc(s->n, sizeof(*seen_in)); /* which walk came by, counted from 1 */

        if (!seen_in)
                abort();
        for (uint32_t i = 0; i < s->n && !s->broken; i++) {
                uint32_t at = i;

                while (!seen_in[at] && !s->broken) {
                        State next = fair_next(s, &s->states[at]);
                        uint32_t found = *table_place(s, &next);

                        seen_in[at] = i + 1;
                        if (!found)
                                s->broken = "the search did not come by a state that can be";
                        else if (found - 1 == at) {
                                s->broken = end_fault(s, &next);
                                break;
                        } else if (seen_in[found - 1] == i + 1)
                                s->broken = "it goes round and round";
                        else
                                at = found - 1;
                }
        }
        free(seen_in);
}

/* ---- instances ---- */

#define FIRST_WITH_PRICE 3

static const Instance instances[] = {
        { "two VMs, unequal blocks", .vms = 2, .price = 2, .crashes = 2,
          .entitled = { 3, 6 }, .spare = { 1, 2 },
          .starts = { { { -1, 1 }, 0 }, { { -3, 3 }, 0 }, { { -3, 2 }, 1 }, { { -2, 3 }, -1 },
                      { { -1, 0 }, 1 } } },
        { "two hostile VMs, off and on again", .vms = 2, .price = 1, .hostile = true, .crashes = 1,
          .returns = 1, .entitled = { 2, 2 }, .spare = { 1, 1 },
          .starts = { { { -2, 2 }, 0 }, { { -2, 1 }, 1 } }, .later = { { 1, -1 }, 0 } },
        { "three VMs, a second clearing", .vms = 3, .price = 1, .crashes = 1,
          .entitled = { 2, 2 }, .spare = { 1, 1 },
          .starts = { { { -2, 1, 1 }, 0 }, { { -2, 1, 0 }, 1 } }, .later = { { 0, 0, -1 }, 1 } },
        { "two VMs, a price that goes up and down", .vms = 2, .price = 2, .crashes = 2,
          .entitled = { 3, 6 }, .spare = { 1, 1 }, .positions = { { -1, 2 }, -1 },
          .prices = { 1, 2, 3 } },
        { "two hostile VMs, off and on again, a price and a trade", .vms = 2, .price = 1, .hostile = true,
          .crashes = 1, .returns = 1, .entitled = { 2, 2 }, .spare = { 0, 0 },
          .positions = { { 1, -1 }, 0 }, .prices = { 2 }, .later = { { -1, 1 }, 0 } },
        { "three VMs, a price, the pool gives", .vms = 3, .price = 2, .crashes = 1, .entitled = { 2, 3 },
          .spare = { 0, 3 }, .positions = { { 1, -1, -1 }, 1 }, .prices = { 3, 1 } },
};

static void search_begin(Search *s, const Lots *lots) {
        const Instance *in = s->in;
        State st = { .crashes = in->crashes, .returns = in->returns };
        Account accounts[VMS];
        Ledger l;

        for (unsigned i = 0; i < VMS; i++)
                st.later = st.later || in->later.vm[i] != 0;
        while (st.reprices < ELEMENTSOF(in->prices) && in->prices[st.reprices] > 0)
                st.reprices++;
        for (unsigned i = 0; i < in->vms; i++) {
                st.memory.acct[i].present = 1;
                st.memory.acct[i].position = in->positions.vm[i];
        }
        st.memory.acct[VMS].present = 1;
        st.memory.acct[VMS].position = in->positions.pool;
        st.memory.lot = (uint8_t) s->terms.lot_slow_blocks;
        ledger_of(s, &st.memory, accounts, &l);
        for (unsigned i = 0; i < in->vms; i++)
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        st.size[i][tier] = st.requested[i][tier] =
                                (uint8_t) (account_holding(&accounts[i], &l.terms, tier) / BLOCK);
        if (!lots_open(&l, lots))
                abort();
        ledger_keep(&l, &st.memory);
        st.disk = st.memory;
        visit(s, &st);
}

/* Returns the number of states; *ret_broken: what is wrong, or NULL. */
static uint32_t explore(const Instance *in, Fault fault, const char **ret_broken) {
        Search s = { .in = in, .fault = fault, .policy = market_policy_default() };

        s.policy.dram_price = in->price;
        s.policy.slow_price = 1;
        s.policy.block_bytes = s.policy.step_bytes = s.policy.min_trade_bytes = BLOCK;
        if (terms_make(&s.policy, &s.terms) < 0)
                abort();
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                s.capacity[tier] = (in->vms * in->entitled[tier] + in->spare[tier]) * BLOCK;
        s.states = malloc(STATES_MAX * sizeof(*s.states));
        s.table = calloc(2 * STATES_MAX, sizeof(*s.table));
        if (!s.states || !s.table)
                abort();
        if (in->starts[0].vm[0] == 0)
                search_begin(&s, &in->starts[0]);
        for (const Lots *lots = in->starts; lots->vm[0] != 0; lots++)
                search_begin(&s, lots);
        for (uint32_t i = 0; i < s.n && !s.broken; i++) {
                const State st = s.states[i];

                visit_vms(&s, &st);
                visit_daemon(&s, &st);
        }
        if (!s.broken)
                check_ends(&s);
        *ret_broken = s.broken;
        free(s.states);
        free(s.table);
        return s.n;
}

int main(void) {
        static const struct {
                const char *name;
                size_t instance;
        } faults[] = {
                [FAULT_TRUSTS_REQUESTS] = { "a daemon that trusts what it asked for", 0 },
                [FAULT_LATE_JOURNAL] = { "a daemon that writes its journal too late", 0 },
                [FAULT_EARLY_PRICE] = { "a daemon whose price comes before all have given",
                                        FIRST_WITH_PRICE },
        };
        unsigned test = 0;
        const char *broken;
        uint32_t n;

        printf("1..%zu\n", ELEMENTSOF(instances) + ELEMENTSOF(faults) - 1);
        for (size_t i = 0; i < ELEMENTSOF(instances); i++) {
                n = explore(&instances[i], FAULT_NONE, &broken);
                printf("%sok %u - %s: %s in %u states\n", broken ? "not " : "", ++test, instances[i].name,
                       broken ? broken : "all is well", n);
                fflush(stdout);
        }
        for (Fault f = FAULT_TRUSTS_REQUESTS; f < ELEMENTSOF(faults); f++) {
                n = explore(&instances[faults[f].instance], f, &broken);
                printf("%sok %u - %s is found out: %s, in %u states\n", broken ? "" : "not ", ++test,
                       faults[f].name, broken ? broken : "it was not", n);
        }
        return 0;
}
