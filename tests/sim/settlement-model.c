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
#include "core/settlement.h"

#define VMS 3 /* at most */
#define BLOCK (UINT64_C(2) << 20)
#define STATES_MAX (1U << 22)
#define BASE (1000 * USEC_PER_SEC)
#define LIVES UINT32_MAX /* effects that a daemon which does not die has before it */

typedef enum Fault {
        FAULT_NONE,
        FAULT_TRUSTS_REQUESTS,
        FAULT_LATE_JOURNAL,
        FAULT_EARLY_PRICE,
} Fault;

/* What a step of the daemon begins beside. */
typedef enum Begins {
        BEGINS_NOTHING,
        BEGINS_TRADES,
        BEGINS_A_PRICE,
} Begins;

typedef struct Lots {
        int8_t vm[VMS], pool; /* of each one's ticket */
} Lots;

/* One small world. */
typedef struct Instance {
        const char *name;
        unsigned vms, price; /* slow blocks per lot of one DRAM block */
        bool hostile;        /* guests also shrink and grow by themselves */
        uint8_t crashes, returns;
        uint64_t entitled[_TIER_MAX], spare[_TIER_MAX]; /* blocks; spare: of the host */
        Lots starts[6]; /* states that the search begins with; a zero one is the end */
        Lots later;     /* one more clearing, whenever all of its parties are without a ticket */
        Lots positions; /* that all begin with, instead of tickets */
        uint8_t prices[3]; /* to come, last one first, whenever that is allowed */
} Instance;

/* All bytes, without gaps: compared and hashed as such. */
typedef struct Acct {
        int8_t present, position, lots;
        uint8_t delivered, paid, returned, closing, expired;
} Acct;

typedef struct Book {
        Acct acct[VMS + 1]; /* the last one is the pool */
        uint8_t lot, next, expired; /* slow blocks per lot; of the price on its way, 0: none */
} Book;

typedef struct State {
        Book memory, disk;
        uint8_t requested[VMS][_TIER_MAX], size[VMS][_TIER_MAX]; /* blocks */
        uint8_t gone[VMS], frozen[VMS];
        uint8_t crashes, returns, later, reprices; /* left */
        uint8_t returned;                /* a VM came back: the host may be oversold by it */
} State;

typedef struct Search {
        const Instance *in;
        Fault fault;
        MarketPolicy policy;
        Terms terms;
        uint64_t capacity[_TIER_MAX];
        State *states;
        uint32_t *table; /* index + 1 of a state; 0: none */
        uint32_t n;
        const char *broken; /* the first invariant that did not hold */
} Search;

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
static void ledger_of(const Search *s, const Book *book, Account accounts[VMS], Ledger *ret) {
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

static void ledger_keep(const Ledger *l, Book *ret) {
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

static const char *state_fault(const Search *s, const State *st) {
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

static bool lots_open(Ledger *l, const Lots *lots) {
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

/* One step of the daemon, which dies after so many effects (LIVES: never). An effect is the journal or one
 * request. Returns whether it got to the effect that it was to die after, or -EBUSY when that which it
 * should begin cannot begin now. */
static int daemon_step(Search *s, State *st, Begins begins, unsigned dies_after) {
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
