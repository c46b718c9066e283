/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The small world of settlement-model.c: what a state of it is, what must hold in each, and what a step of
 * the daemon makes of one. Knows nothing of which states there are.
 */
#pragma once

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

/* accounts: room for VMS of them; the ledger must not be freed. */
void ledger_of(const Search *s, const Book *book, Account accounts[VMS], Ledger *ret);
void ledger_keep(const Ledger *l, Book *ret);

/* What is wrong with a state, or NULL. */
const char *state_fault(const Search *s, const State *st);

/* Opens tickets for these lots; false: the ledger refuses. */
bool lots_open(Ledger *l, const Lots *lots);

/* One step of the daemon, which dies after so many effects (LIVES: never). An effect is the journal or one
 * request. Returns whether it got to the effect that it was to die after, or -EBUSY when that which it
 * should begin cannot begin now. */
int daemon_step(Search *s, State *st, Begins begins, unsigned dies_after);
